"""Checks of the checkpoint that a run resumes from: is it whole, and does it belong to the same run?"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

from ..errors import first_line
from .sharding import SHARDED_OPTIMIZER, SHARDED_WEIGHTS, class_name

STATE_FILE = "trainer_state.json"
OBJECTS = (STATE_FILE, "config.json", "adapter_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", SHARDED_WEIGHTS)
NOT_COMPARED = (
    # What says nothing about the model, or is filled in while it trains.
    *("transformers_version", "dtype", "problem_type", "pad_token_id", "bos_token_id", "eos_token_id"),
    # A longer run wants another schedule of the teacher.
    *("ema_decay", "ema_end_decay", "ema_anneal_end_step"),
)


def last_checkpoint(output: Path) -> Path | None:
    """The checkpoint of a run that has the most steps."""
    last = get_last_checkpoint(str(output)) if output.is_dir() else None
    return None if last is None else Path(last)


def check_files(checkpoint: Path) -> None:
    """Require that all files are there and can be read.

    Raises:
        ValueError: names the file, and says what to do.
    """
    if not checkpoint.is_dir():
        raise ValueError(f"there is no checkpoint {checkpoint} to go on from")
    for needed in ((STATE_FILE,), WEIGHTS):
        if not any((checkpoint / name).exists() for name in needed):
            raise ValueError(f"{checkpoint} has no {needed[0]}: {_advice(checkpoint)}")
    for names in (("optimizer.pt", SHARDED_OPTIMIZER), ("scheduler.pt",)):
        if not any((checkpoint / name).exists() for name in names):
            raise ValueError(
                f"{checkpoint} has no {names[0]}, as with --save_only_model, so no run can go on from it: begin "
                "another one from its weights, with --model and another --output_dir"
            )
    for file in sorted(checkpoint.iterdir()):
        try:
            _read(file)
        except (OSError, ValueError, RecursionError, SafetensorError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{file} is damaged ({first_line(error)}): {_advice(checkpoint)}") from error


def _read(file: Path) -> None:
    """Read a file just far enough to see that it is whole; pickles are not unpickled."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt"):
            pass
    elif file.suffix in (".pt", ".pth"):
        with zipfile.ZipFile(file) as parts:
            if broken := parts.testzip():
                raise ValueError(f"{broken} in it has another checksum")
    elif file.suffix == ".json":
        values = json.loads(file.read_text(encoding="utf-8"))
        if file.name in OBJECTS and not isinstance(values, dict):
            raise ValueError("it holds no object, {...}")
        if file.name == STATE_FILE and not (
            isinstance(values.get("global_step"), int) and isinstance(values.get("log_history"), list)
        ):
            raise ValueError("it holds no global_step or no log_history")


@contextmanager
def loading(checkpoint: Path, names: str) -> Iterator[None]:
    """Turn errors while files of a checkpoint are loaded into one line that names them.

    Args:
        checkpoint: the folder.
        names: of the files.

    Raises:
        ValueError: they can't be loaded.
    """
    try:
        yield
    except Exception as error:  # libraries answer what does not fit with whatever it leads to
        raise ValueError(
            f"{names} of {checkpoint} can't be loaded for this run ({type(error).__name__}: {first_line(error)}): "
            f"{_advice(checkpoint)}"
        ) from error


def _advice(checkpoint: Path) -> str:
    others = [Path(one) for one in sort_checkpoints(str(checkpoint.parent)) if Path(one) != checkpoint]
    then = f"go on from {others[-1].name}" if others else "start anew"
    return f"remove the folder {checkpoint} to {then}"


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's `trainer_state.json`."""
    return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))


def check_same_model(checkpoint: Path, model: Any) -> None:
    """Require that a checkpoint is of a model like this one.

    Raises:
        ValueError: names what differs.
    """
    adapter = getattr(model, "peft_config", None)
    if (adapter is not None) != (checkpoint / "adapter_config.json").exists():
        there, now = ("the whole model", "an adapter") if adapter is not None else ("an adapter", "the whole model")
        raise ValueError(f"{checkpoint} holds {there}, but the run trains {now}: {_start_again(checkpoint)}")
    if adapter is None:
        own = json.loads(model.config.to_json_string(use_diff=False)) | {"architectures": [class_name(model)]}
        _check_equal(checkpoint, json.loads((checkpoint / "config.json").read_text(encoding="utf-8")), own)
        return
    there = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    own = next(iter(adapter.values())).to_dict()
    fields = ("peft_type", "r", "lora_alpha", "target_modules", "modules_to_save")
    _check_equal(checkpoint, *({name: _plain(values.get(name)) for name in fields} for values in (there, own)))


def _check_equal(checkpoint: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in ("model_type", "architectures"):  # all else differs as well
        if name in now and there.get(name) != now[name]:
            raise ValueError(_differs(checkpoint, {name: (there.get(name), now[name])}))
    changed = {
        name: (there[name], now[name])
        for name in sorted(there.keys() & now.keys())
        if there[name] != now[name] and not name.startswith("_") and name not in NOT_COMPARED
    }
    parts = {name: pair for name, pair in changed.items() if all(isinstance(one, dict) for one in pair)}
    for name in parts:
        if name.endswith("_config"):  # of a modality of a joint model
            _check_equal(checkpoint, *changed.pop(name))
    if changed:
        raise ValueError(_differs(checkpoint, changed))


def check_same_run(checkpoint: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Require that settings are equal which a run can't change while it goes on.

    Args:
        checkpoint: where the first are from.
        there, now: values by name; names that are only in one of them are not compared.

    Raises:
        ValueError: names what differs.
    """
    changed = {name: (there[name], now[name]) for name in there.keys() & now.keys() if there[name] != now[name]}
    if changed:
        raise ValueError(_differs(checkpoint, dict(sorted(changed.items()))))


def _differs(checkpoint: Path, changed: Mapping[str, tuple[Any, Any]]) -> str:
    pairs = ", ".join(f"{name} {_shown(a)} in {checkpoint}, {_shown(b)} now" for name, (a, b) in changed.items())
    return f"a resumed run goes on as it began, but this one differs: {pairs}. {_start_again(checkpoint)}"


def _start_again(checkpoint: Path) -> str:
    return "Resume with the same settings, or begin another run in another output_dir"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"({len(value)} entries: {text[:50]}...)"


def _plain(value: Any) -> Any:
    if isinstance(value, set | list | tuple):
        return sorted(map(str, value))
    return getattr(value, "value", value)  # enumerations
