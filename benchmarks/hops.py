"""How many functions of the package an image, and the option --dataset, pass on their way from the command to the loss.

    python benchmarks/hops.py

Runs one step of `data2vec pretrain` on scikit-learn's digits and looks at the arguments of every call of our own
functions: those that hold `pixel_values` (by name, or as a key), and those that hold the name of the data set.
"""

import inspect
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import modeling_data2vec

PACKAGE = (str(Path(modeling_data2vec.__file__).parent), str(Path(modeling_data2vec.__file__).parents[1] / "trainers"))
INPUT, DATASET = "pixel_values", "digits"


def holds_input(name: str, value: Any) -> bool:
    """Whether an argument is the images of a sample or a batch, or a mapping or list that has them."""
    if isinstance(value, list) and value:
        value = value[0]
    return (name == INPUT and value is not None) or (isinstance(value, Mapping) and INPUT in value)


def holds_dataset(name: str, value: Any) -> bool:
    """Whether an argument is the value of --dataset, or an object that has it as `dataset`."""
    if isinstance(value, str | list):
        return value in (DATASET, [DATASET])
    return not isinstance(value, type) and getattr(value, "__dict__", {}).get("dataset") in (DATASET, [DATASET])


class Watch:
    """A profile function: (file, function) of our calls in the order of their first time, for each of the two."""

    def __init__(self) -> None:
        self.hops: dict[str, dict[tuple[str, str], None]] = {f"`{INPUT}`": {}, "`--dataset`": {}}

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "return" and code.co_name == "compute_loss":
            sys.setprofile(None)  # there is a loss
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
            return
        values = inspect.getargvalues(frame)
        arguments = {name: values.locals[name] for name in values.args}
        if values.keywords:
            arguments[values.keywords] = values.locals[values.keywords]
        for found, holds in zip(self.hops.values(), (holds_input, holds_dataset), strict=True):
            if any(holds(name, value) for name, value in arguments.items() if name != "self"):
                found[code.co_filename, code.co_qualname if sys.version_info >= (3, 11) else code.co_name] = None


def main() -> None:
    import data2vec_cli

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        argv = ["pretrain", "--recipe", "data2vec2-vision-tiny", "--dataset", DATASET, "--use_cpu"]
        argv += ["--output_dir", f"{folder}/run", "--max_steps", "1", "--warmup_steps", "0", "--report_to", "none"]
        sys.setprofile(watch)
        try:
            code = data2vec_cli.main(argv)
        finally:
            sys.setprofile(None)
    assert code == 0
    root = Path(modeling_data2vec.__file__).parents[1]
    print("\n| on the way from command to loss | files | functions |\n|---|---:|---:|")
    for name, found in watch.hops.items():
        print(f"| {name} | {len({file for file, _ in found})} | {len(found)} |")
    for name, found in watch.hops.items():
        print(f"\n{name}: " + ", ".join(f"{Path(file).relative_to(root)} {function}" for file, function in found))


if __name__ == "__main__":
    main()
