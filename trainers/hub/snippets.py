"""Python that loads a model, as its card prints it: by transformers, and by sentence-transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import transformers

from ..modalities.base import Modality

PACKAGE = "import modeling_data2vec  # of the package data2vec"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json")


class _Part(NamedTuple):
    """A modality of a model whose processor is in the folder."""

    kind: type[Modality]
    variable: str
    subfolder: str


def loading_snippet(folder: Path, facts: dict[str, Any]) -> str:
    """Code that loads a model and its processors, and gives it a sample that is made up.

    Args:
        folder: of the model.
        facts: of its card: also `place`, a Hub id, and `with_code`, whether its code lies there.
    """
    place, trust = facts["place"], _trust(facts)
    auto_class = facts["task"][1] if facts["task"] else "AutoModel"
    needed, classes, lines = [PACKAGE] if _needs_package(facts) else [], {auto_class}, []
    lines.append(f'model = {auto_class}.from_pretrained("{place}"{trust})')
    for kind, variable, subfolder in _parts(folder, facts):
        loader = kind.processor_class.__name__
        if not hasattr(transformers, loader) and facts["with_code"]:
            loader = "AutoFeatureExtractor"
        if hasattr(transformers, loader):
            classes.add(loader)
        else:
            needed.append(f"from {kind.__module__} import {loader}  # the file that the model was trained with")
        where = f', subfolder="{subfolder}"' if subfolder else ""
        lines.append(f'{variable} = {loader}.from_pretrained("{place}"{where}{trust})')
    call = "outputs = model(**inputs)"
    if not facts["task"] and facts["version"] == "2.0":
        call = "vectors = model(**inputs).pooler_output  # [1, width]"
    elif not facts["task"]:
        call = "states = model(**inputs).last_hidden_state  # [1, positions, width]"
    for kind, variable, _ in _parts(folder, facts):
        if (sample := kind.made_up(_config(kind, facts))) is not None:
            needed.append(sample.imports)
            lines += [f'inputs = {variable}({sample.value}{sample.options}, return_tensors="pt")', call]
    imports = [*_sorted(needed), f"from transformers import {', '.join(sorted(classes))}"]
    return "\n".join([*imports, "", *lines])


def vectors_snippet(folder: Path, facts: dict[str, Any]) -> str | None:
    """Code that takes vectors by sentence-transformers; None for models of 1.0 and for tasks, or without processor."""
    parts = _parts(folder, facts)
    if facts["task"] or facts["version"] != "2.0" or not parts:
        return None
    kind, _, subfolder = parts[0]
    if (sample := kind.made_up(_config(kind, facts))) is None:
        return None
    where = f', processor_kwargs={{"subfolder": "{subfolder}"}}' if subfolder else ""
    needed = _sorted([*([PACKAGE] if _needs_package(facts) else []), sample.imports])
    return "\n".join(
        [
            *needed,
            "from sentence_transformers import SentenceTransformer  # 6.0 or newer",
            "",
            f'encoder = SentenceTransformer("{facts["place"]}"{where}{_trust(facts)})',
            f"vectors = encoder.encode([{sample.value}])",
        ]
    )


def _config(kind: type[Modality], facts: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = facts["config"]
    return config[f"{kind.name}_config"] if facts["joint"] else config


def _needs_package(facts: dict[str, Any]) -> bool:
    return bool(facts["version"] == "2.0" and not facts["with_code"])


def _trust(facts: dict[str, Any]) -> str:
    return ", trust_remote_code=True" if facts["with_code"] else ""


def _parts(folder: Path, facts: dict[str, Any]) -> list[_Part]:
    def found() -> Iterator[_Part]:
        for kind in facts["modalities"]:
            name, subfolder = (kind.name, kind.name) if facts["joint"] else ("processor", "")
            if any((folder / subfolder / file).is_file() for file in PROCESSOR_FILES):
                yield _Part(kind, name, subfolder)

    return list(found())


def _sorted(lines: list[str]) -> list[str]:
    """Imports without repetitions, whole modules first."""
    return sorted({line for line in lines if line}, key=lambda line: (line.startswith("from "), line))
