"""The page as a Hugging Face Space: a folder that starts by itself, with the model, some data, and this package."""

import json
import re
import shutil
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import datasets

import modeling_data2vec
from modeling_data2vec import hub_configs, trainers

from ..files.output_checks import check_output_file
from ..files.writing import new_folder
from ..hub.outgoing import prepare
from ..runs.checkpoints import STATE_FILE, last_checkpoint, read_state
from .explorer import Explorer

APP = '''"""A page to look at a model: what it is shown, the colors of its features, and neighbors among some data."""

from modeling_data2vec.trainers.exploring.run import open_page

page = open_page({model!r}, {data!r}, title={title!r})

if __name__ == "__main__":
    page.launch(share=False)
'''
README = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
---

# {title}

A page to look at a model. Put a sample of your own in, or take one of the data, and see masks as the student sees
them, features as colors, and the nearest of {number:,} samples, beside random weights of the same architecture.

- Model: {model}
- Data: {number:,} samples, in `data/`.
- `modeling_data2vec/` is the package that made this page, as it was then (Apache-2.0).

On your own machine: `pip install -r requirements.txt`, then `python app.py`.
"""
EXTRA = re.compile(r"""^(?P<name>.+?)\s*;\s*extra\s*==\s*["']explore["']$""")


def check_space_folder(folder: Path) -> None:
    """Require that a Space can be written, before the work that it is for begins.

    Raises:
        ValueError: it is there already, or its place can't be written to.
    """
    if folder.exists():
        raise ValueError(f"--export {folder} is there already: choose another folder, or remove it")
    check_output_file(folder / "app.py", "--export")


def write_space(folder: Path, model: str, explorers: list[Explorer], *, title: str, gradio: str) -> None:
    """Write a folder that `python app.py` and a Space of the Hub start from.

    The model's files go along as they would be pushed, without pickles; a Hub id stays one. The teacher goes along
    where several modalities may search each other, by its latents. So do the samples of the page, and whoever sees the
    Space sees them.

    Args:
        folder: does not exist yet.
        model: folder or Hub id.
        explorers: one for each modality.
        title: of the page.
        gradio: version of it.

    Raises:
        ValueError: a kind of data comes from a file of one's own.
    """
    for explorer in explorers:
        if not type(explorer.kind).__module__.startswith("modeling_data2vec."):
            raise ValueError(
                f"--export takes the package's own kinds of data along, and not {explorer.kind.name} from a plugin: "
                "serve the page yourself"
            )
    local = Path(model).is_dir()
    with new_folder(folder) as unfinished:
        if local:
            prepare(Path(model), unfinished / "model", with_teacher=len(explorers) > 1)
            _copy_log(Path(model), unfinished / "model")
        sources = [_write_samples(explorer, unfinished / "data") for explorer in explorers]
        data = [f"{name}={path}" if len(explorers) > 1 else path for name, path in sources]
        facts: dict[str, Any] = {"title": title, "model": "model" if local else model}
        (unfinished / "app.py").write_text(APP.format(**facts, data=data), encoding="utf-8")
        number = sum(map(len, explorers))
        card = README.format(**facts | {"model": f"`{facts['model']}`"}, gradio=gradio, number=number)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        (unfinished / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
        _copy_package(unfinished)


def requirements() -> list[str]:
    """What the page needs, as the installed package says it."""
    found = []
    for line in requires("data2vec") or ():
        extra = EXTRA.match(line)
        if extra or "extra ==" not in line:
            found.append(extra["name"] if extra else line)
    return found


def _copy_log(model: Path, target: Path) -> None:
    """The run's log alone, which curves and diagnosis are made of."""
    checkpoint = last_checkpoint(model)
    if checkpoint is not None:
        state = read_state(checkpoint)
        kept = {name: state[name] for name in ("global_step", "log_history")}
        (target / STATE_FILE).write_text(json.dumps(kept), encoding="utf-8")


def _write_samples(explorer: Explorer, folder: Path) -> tuple[str, str]:
    """Write the page's samples as a table that holds them whole: (name of the modality, path in the Space)."""
    folder.mkdir(exist_ok=True)
    dataset = explorer.stream.dataset
    rows = [_whole(dataset[sample.row]) for sample in explorer.samples]
    path = folder / f"{explorer.kind.name}.parquet"
    datasets.Dataset.from_list(rows, features=dataset.features).to_parquet(path)
    return explorer.kind.name, f"{folder.name}/{path.name}"


def _whole(example: dict[str, Any]) -> dict[str, Any]:
    """An example with the bytes of its files in place of where they lie."""
    return {
        column: {"bytes": Path(value["path"]).read_bytes(), "path": Path(value["path"]).name}
        if isinstance(value, dict) and value.get("path") and value.get("bytes") is None
        else value
        for column, value in example.items()
    }


def _copy_package(folder: Path) -> None:
    for module, place in ((modeling_data2vec, ""), (trainers, "trainers"), (hub_configs, "hub_configs")):
        source = Path(str(module.__file__)).parent
        shutil.copytree(
            source,
            folder / "modeling_data2vec" / place,
            ignore=shutil.ignore_patterns("__pycache__", *("trainers", "hub_configs") * (not place)),
            dirs_exist_ok=True,
        )
