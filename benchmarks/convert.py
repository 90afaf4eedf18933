"""What it takes to convert a file of the real size: memory and time of `data2vec convert`, beside the file's size.

    python benchmarks/convert.py                                  # ViT-L of data2vec 2.0
    python benchmarks/convert.py --recipe data2vec-audio-base     # any other recipe

The file has random weights and what the authors' trainer writes beside them: the teacher, and Adam's two moments of
every trained weight. The conversion runs in a process of its own; measured are elapsed and CPU time, the most memory
that it held, and how much of that is its own rather than pages of the file, which the system takes back when it needs
them. Reading the file once, to compute its SHA-256, is part of it.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from modeling_data2vec.fairseq.checkpoint_from_model import to_fairseq
from modeling_data2vec.fairseq.files import write_checkpoint
from modeling_data2vec.trainers.recipes.recipe import load_recipe

GIB = 2**30


def write_file(recipe_name: str, path: Path) -> None:
    """A checkpoint with random weights, and optimizer state of the size that a real one has."""
    recipe = load_recipe(recipe_name)
    model = recipe.model_class(recipe.model_config())
    content = to_fairseq(model)
    moments = {
        number: {"step": 1, "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)}
        for number, value in enumerate(parameter for parameter in model.parameters() if parameter.requires_grad)
    }
    content["last_optimizer_state"] = {"state": moments, "param_groups": [{"params": list(moments)}]}
    write_checkpoint(path, content)


def own_memory() -> int:
    """Bytes that this process holds and that are no pages of files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


def convert_alone(path: str, destination: str) -> None:
    """In a process of its own: convert, and print the figures."""
    from modeling_data2vec.trainers.conversion.run import ConvertOptions, convert

    before, most, ended = own_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    convert(path, destination, ConvertOptions(license="other"))
    elapsed = time.perf_counter() - start
    ended.set()
    watcher.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "elapsed": elapsed,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "own": most,
        "before": before,
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="data2vec2-vision-large")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return convert_alone(*options.alone)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        # In a process of its own as well, so that its memory is gone afterwards.
        code = "import sys; sys.path.insert(0, sys.argv[1]); from convert import write_file; from pathlib import Path\n"
        code += "write_file(sys.argv[2], Path(sys.argv[3]))"
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", code, here, options.recipe, str(path)], check=True)
        size = path.stat().st_size
        command = [sys.executable, __file__, "--alone", str(path), f"{folder}/model"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        weights = sum(file.stat().st_size for file in Path(folder, "model").glob("model*.safetensors"))
    print(f"{options.recipe}: a file of {size / GIB:.2f} GiB becomes {weights / GIB:.2f} GiB of safetensors")
    print(f"elapsed {figures['elapsed']:.1f} s, CPU {figures['cpu']:.1f} s, with imports")
    for name, label in (("peak", "most memory held"), ("own", "of it, its own")):
        print(f"{label}: {figures[name] / GIB:.2f} GiB, {figures[name] / size:.2f} x the file")
    print(f"before it read the file: {figures['before'] / GIB:.2f} GiB")


if __name__ == "__main__":
    main()
