"""A hundred files that are built to do harm or are damaged; as a script, commands that meet them, watched.

`python tests/support/hostile_files.py FOLDER NAME...` makes each file, runs the command that reads it, and prints a
line of JSON for each: exit code, errors, seconds, the most memory held so far, and what was called that no file may
call.
"""

import io
import json
import pickle
import resource
import struct
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from hostile_checkpoints import CHECKPOINT, MAKERS, MUTATED

ADDRESS_SPACE = 12 * 2**30  # a bomb ends here instead of taking the machine down
# What the commands import when they are called.
COMMAND_MODULES = ("cli", "conversion.run", "conversion.merge", "evaluation.run", "export.run", "finetuning.run")
COMMAND_MODULES += ("hub.publishing", "inspection.report", "pretraining.run", "recipes.published", "transcription.run")
# What Python tells before it runs another program or code that came as text.
CALLS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "ctypes.dlopen")


# ---- yaml and JSON ----

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}, *a{i}]\n" for i in range(40))
RECIPE = """name: x
config: data2vec2-vision-base
source: x
training: {{max_steps: {steps}, per_device_train_batch_size: {size}}}
num_gpus: {gpus}
data: {{num_examples: {examples}}}
global_batch: {batch}
epochs: {epochs}
"""
for _name, _text in {
    "aliases": BOMB,
    "an alias of itself": "name: &a [*a]\n",
    "merged keys": "a: &a {b: 1}\nname: {<<: *a}\n",
    "nested": "name: " + "[" * 100_000,
    "a list": "- 1\n- 2\n",
    "a call": "!!python/object/apply:os.system ['touch attacked']\n",
    "a number of 5,000 digits": f"name: {'9' * 5000}\n",
    "a number with colons": f"name: {'1:' * 90_000}1\n",
    "too long": "name: x\n" * 100_000,
    "no text": "name: \x00\n",
    "keys that are lists": "? [a]\n: b\n",
    "wrong kinds": RECIPE.format(steps="[1]", size="x", gpus="x", examples="{}", batch="x", epochs="[]"),
    "enormous numbers": RECIPE.format(
        steps="1.0e308", size="9" * 12, gpus="9" * 11, examples="1.0e308", batch="1.0e308", epochs=".nan"
    ),
}.items():

    def _recipe(folder: Path, content: str = _text) -> list[str]:
        (folder / "bad.yaml").write_text(content)
        return ["inspect", str(folder / "bad.yaml")]

    MAKERS[f"yaml: {_name}"] = _recipe


def model(folder: Path, kind: str = "images 2.0") -> Path:
    from tiny_runs import tiny_model

    tiny_model(kind).save_pretrained(folder / "model")
    return folder / "model"


def commands(folder: Path) -> dict[str, list[str]]:
    place, out = str(folder / "model"), str(folder / "out")
    (folder / "x.wav").write_bytes(b"RIFF")
    return {
        "inspect": ["inspect", place],
        "push": ["push", place, "anna/tiny"],
        "convert": ["convert", place, out, "--to", "fairseq"],
        "export": ["export", place, out],
        "merge": ["merge", f"vision={place}", "--output_dir", out],
        "probe": ["probe", "--model", place, "--dataset", "digits"],
        "finetune": [
            *("finetune", "--task", "image-classification", "--model", place, "--dataset", "digits"),
            *("--max_steps", "1", "--output_dir", out),
        ],
        "transcribe": ["transcribe", place, str(folder / "x.wav")],
    }


def damaged(name: str, command: str, file: str, content: bytes | str | Callable[[bytes], bytes]) -> None:
    def make(folder: Path) -> list[str]:
        path = model(folder) / file
        old = path.read_bytes() if path.is_file() else b""
        new = content(old) if callable(content) else content
        path.write_bytes(new if isinstance(new, bytes) else new.encode())
        return commands(folder)[command]

    MAKERS[f"{file}: {name} ({command})"] = make


DEEP = "[" * 100_000 + "]" * 100_000
for _command in ("inspect", "push", "convert", "export", "merge", "probe", "finetune", "transcribe"):
    damaged("nested", _command, "config.json", '{"model_type": ' + DEEP + "}")
for _command in ("inspect", "finetune", "transcribe", "export"):
    damaged("a list", _command, "config.json", "[1, 2]")
damaged("no UTF-8", "inspect", "config.json", b'{"model_type": "\xff"}')
damaged("numbers of 5,000 digits", "merge", "config.json", '{"hidden_size": ' + "9" * 5000 + "}")
damaged("a billion layers", "export", "config.json", lambda old: _with(old, num_hidden_layers=10**9))
damaged("a billion decoder layers", "inspect", "config.json", lambda old: _with(old, decoder_layers=10**9))
damaged("text for a width", "probe", "config.json", lambda old: _with(old, hidden_size="wide"))
damaged("a list", "push", "provenance.json", "[1]")
damaged("unknown keys", "push", "provenance.json", '{"evil": 1}')
damaged("wrong kinds", "push", "probe.json", '{"rows": 5}')
damaged("nested", "push", "probe.json", DEEP)
damaged("aliases", "push", "README.md", f"---\n{BOMB}\n---\n# x\n")
damaged("nested", "push", "README.md", "---\na: " + "[" * 50_000 + "\n---\n")
damaged("no UTF-8", "push", "README.md", b"---\na: b\n---\n\xff\xfe")
damaged("half", "probe", "preprocessor_config.json", '{"size": ')
damaged("a list", "finetune", "preprocessor_config.json", "[]")
damaged("no tokenizer", "export", "tokenizer.json", '{"model": 5}')
damaged("nested", "transcribe", "tokenizer.json", DEEP)
for _command, _index in {
    "push": '{"weight_map": {"a": "../../x.safetensors"}}',
    "export": '{"weight_map": [1]}',
    "merge": DEEP,
    "probe": '{"weight_map": {"a": "/etc/x.safetensors"}}',
    "convert": '{"weight_map": {"a": "C:x.safetensors"}}',
}.items():
    damaged("leads elsewhere", _command, "model.safetensors.index.json", _index)


def _with(old: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(old) | changes).encode()


def _header(old: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with other claims about the same bytes."""
    length = struct.unpack("<Q", old[:8])[0]
    header = json.loads(old[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + old[8 + length :]


def _first(header: dict[str, Any]) -> dict[str, Any]:
    return next(value for name, value in header.items() if name != "__metadata__")


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "a header of 2**63": lambda old: struct.pack("<Q", 2**63) + old[8:],
    "a header of 90 MB": lambda old: struct.pack("<Q", 90_000_000) + old[8:],
    "a nested header": lambda old: struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995,
    "overlapping weights": lambda old: _header(old, lambda header: _first(header).update(data_offsets=[0, 8])),
    "weights beyond the end": lambda old: _header(old, lambda h: _first(h).update(data_offsets=[0, 10**15])),
    "a shape that does not fit": lambda old: _header(old, lambda header: _first(header).update(shape=[10**9, 10**9])),
    "an unknown type": lambda old: _header(old, lambda header: _first(header).update(dtype="F1024")),
    "cut off": lambda old: old[: len(old) // 2],
    "empty": lambda old: b"",
    "a pickle": lambda old: pickle.dumps({"a": 1}),
}
for _number, (_name, _change) in enumerate(WEIGHTS.items()):
    for _command in (("push", "convert"), ("export", "merge"), ("probe", "finetune"))[_number % 3]:
        damaged(_name, _command, "model.safetensors", _change)
for _option, _content in {"--labels": DEEP, "--dictionary": "no count\n", "--check": "no weights"}.items():

    def _beside(folder: Path, option: str = _option, content: str = _content) -> list[str]:
        name = {"--labels": "bad.json", "--dictionary": "bad.txt", "--check": "bad.safetensors"}[option]
        (folder / name).write_text(content)
        source = CHECKPOINT.with_name("v1_audio.pt") if option == "--dictionary" else CHECKPOINT
        return ["convert", str(source), str(folder / "out"), "--license", "mit", option, str(folder / name)]

    MAKERS[f"beside a checkpoint: {_option}"] = _beside


# ---- the watched run ----


def bad_names(folder: Path) -> list[str]:
    """What a message may name: the files that were made, and the folder of the model."""
    return [file.name for file in folder.rglob("*") if file.is_file()] + [str(folder / "model")]


def attempt(name: str, folder: Path, called: list[str]) -> dict[str, Any]:
    from modeling_data2vec.trainers.cli import run

    folder.mkdir(parents=True)
    command = (MAKERS | MUTATED)[name](folder)
    names = bad_names(folder)
    called.clear()
    out, err = io.StringIO(), io.StringIO()
    start = time.perf_counter()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(command[0], command[1:])
    lines = [line for line in err.getvalue().splitlines() if line.startswith(f"data2vec {command[0]}:")]
    return {
        "name": name,
        "code": code,
        "error": err.getvalue()[-2000:],
        "lines": len(lines),
        "named": bool(lines) and any(one in lines[-1] for one in names),
        "seconds": time.perf_counter() - start,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "called": list(called),
        "left": [file.name for file in folder.glob("*") if file.name.startswith(("out", ".incomplete", "attacked"))]
        + (["attacked"] if Path("attacked").exists() else []),
    }


def main() -> None:
    called: list[str] = []
    names = sys.argv[2:]
    root = Path(sys.argv[1])
    for module in COMMAND_MODULES:  # before anything is watched
        import_module(f"modeling_data2vec.trainers.{module}")

    model(root / "warm")
    sys.addaudithook(lambda event, arguments: called.append(event) if event in CALLS else None)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for index, name in enumerate(names):
        sys.stdout.write(json.dumps({"begins": name}) + "\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(attempt(name, root / str(index), called)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
