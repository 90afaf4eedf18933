"""The generated part of a model card, from the files of the model's folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from jinja2 import Environment, StrictUndefined, UndefinedError

from modeling_data2vec.model_files import interpreting, read_json

from ..evaluation.probe_table import ProbeRow, ProbeTable
from ..files.model_folders import part_names
from ..modalities.base import Modality
from ..modalities.names import modalities, modality
from .provenance import SHOWN_HEALTH, Provenance
from .public_names import HUB_ID, public_name
from .snippets import loading_snippet, vectors_snippet

PROBE_FILE = "probe.json"
ADAPTER_FILE = "adapter_config.json"
PLACE = "REPOSITORY"  # of a model that is not on the Hub
PIPELINES = {  # the Hub's names of tasks, by the Auto class that leads to their models
    "AutoModelForCTC": "automatic-speech-recognition",
    "AutoModelForAudioClassification": "audio-classification",
    "AutoModelForAudioFrameClassification": "voice-activity-detection",
    "AutoModelForAudioXVector": "audio-classification",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForSemanticSegmentation": "image-segmentation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
}
TEXT_TASKS = {"AutoModelForSequenceClassification", "AutoModelForTokenClassification"}  # by their names, of anything
PAPERS = {
    "1.0": ("2202.03555", "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language"),
    "2.0": (
        "2212.07525",
        "Efficient Self-supervised Learning with Contextualized Target Representations for Vision, Speech and Language",
    ),
}

TEMPLATE = Path(__file__).with_name("model_card.md")


def card_facts(folder: Path, name: str | None = None, with_code: bool | None = None) -> dict[str, Any]:
    """Collect the facts of a card: config, task, provenance and probes of a model folder.

    Args:
        folder: of the model.
        name: its id, where that is one of the Hub.
        with_code: whether its code lies or will lie there with it; default: whether it lies in the folder.

    Raises:
        ValueError: it is no folder of a data2vec model.
    """
    try:
        config = read_json(folder / "config.json")
    except OSError as error:
        raise ValueError(f"{folder} has no config.json: it is no model folder") from error
    provenance = Provenance.load(folder)
    architecture = (config.get("architectures") or [""])[0]
    family, _, own_name = str(config.get("model_type")).partition("-")
    joint = config.get("model_type") == "data2vec2"
    names = part_names(config) if joint else [own_name]
    version = {"data2vec": "1.0", "data2vec2": "2.0"}.get(family) if set(names) <= modalities().keys() else None
    if version is None:
        model_class = getattr(transformers, architecture, None)  # of another family, fine-tuned here
        if provenance.task is None or model_class is None:
            raise ValueError(
                f"{folder} holds a model of type {config.get('model_type')!r}, not one of data2vec, or for data whose "
                "file is not imported (--plugin)"
            )
        names = [modality(model_class).name]
    return {
        "config": config,
        "version": version,
        "modalities": [modalities()[name] for name in names],
        "joint": joint,
        "trunk": config[f"{names[0]}_config"] if joint else config,
        "architecture": architecture,
        "task": _task(architecture, modalities()[names[0]]),
        "adapter": read_json(folder / ADAPTER_FILE) if (folder / ADAPTER_FILE).is_file() else None,
        "provenance": provenance,
        "probes": _probes(folder, names),
        "place": name if name and HUB_ID.fullmatch(name) else PLACE,
        "with_code": _has_code(folder, config) if with_code is None else with_code,
    }


def _has_code(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the module that a config names lies beside it; a config may also have been loaded from elsewhere."""
    module, _, _ = str((config.get("auto_map") or {}).get("AutoConfig")).partition(".")
    return (folder / f"{module}.py").is_file()


def _task(architecture: str, kind: type[Modality]) -> tuple[str, str] | None:
    """The Hub's name of what a model class is for, and the Auto class that leads to it; None for a bare encoder."""
    for auto_name, task in PIPELINES.items():
        mapping = getattr(transformers, auto_name)._model_mapping
        known = [*mapping._model_mapping.values(), *(one.__name__ for one in mapping._extra_content.values())]
        if architecture in known:
            of_text = auto_name in TEXT_TASKS and not kind.takes_tokenizer
            return (kind.pipeline_tag if of_text else task), auto_name
    return None


def _probes(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Tables of probes by modality; the table of a model with one modality has the empty name."""
    files = {"": folder / PROBE_FILE} | {name: folder / f"probe_{name}.json" for name in names}
    found = {}
    for name, file in files.items():
        if file.is_file():
            found[name] = read_json(file)
            with interpreting(file):
                _table(found[name]).to_markdown()
    return found


def _table(probe: dict[str, Any]) -> ProbeTable:
    return ProbeTable(**probe | {"rows": [ProbeRow(**row) for row in probe["rows"]]})


def card_text(folder: Path, facts: dict[str, Any]) -> str:
    """The part of a card that is generated: `model_card.md`, filled in.

    Raises:
        LookupError: the folder's files lack a value.
    """
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    try:
        text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(_shown(folder, facts))
    except UndefinedError as error:
        raise LookupError(str(error)) from error
    return text.rstrip("\n")


def _shown(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Values of the names in the template."""
    trunk, version, adapter = facts["trunk"], facts["version"], facts["adapter"]
    return facts | {
        "layers": trunk["num_hidden_layers"] + trunk.get("num_prenet_layers", 0) if version else None,
        "paper": PAPERS.get(version),
        "base_model": public_name(adapter["base_model_name_or_path"]) if adapter else None,
        "loading": loading_snippet(folder, facts),
        "vectors": vectors_snippet(folder, facts),
        "training": list(_training(facts["provenance"])),
        "health": _health(facts),
        "pictures": [
            (label, file.name)
            for name, label in (("curves*.png", "Loss and health over the run"), ("pca*.png", "Features, as colours"))
            for file in sorted(folder.glob(name))
        ],
        "probes": [
            (modalities()[name].title.capitalize() if name else "", _table(probe).to_markdown())
            for name, probe in facts["probes"].items()
        ],
    }


def _training(provenance: Provenance) -> Iterator[str]:
    """Facts of the run, one line each."""
    if provenance.dataset:
        yield f"Data: {provenance.dataset}"
    if provenance.base_model:
        yield f"Started from: {provenance.base_model}"
    if provenance.recipe:
        yield f"Recipe: {provenance.recipe['name']} ({provenance.recipe['source']})"
    if provenance.steps is not None:
        yield f"Optimizer steps: {provenance.steps:,}"
    if provenance.hardware:
        yield f"Hardware: {provenance.hardware}"
    if provenance.seconds is not None:
        yield f"Time: {_duration(provenance.seconds)}"
    if provenance.versions:
        yield ", ".join(f"{name} {version}" for name, version in provenance.versions.items())


def _duration(seconds: float) -> str:
    for limit, unit in ((7200, 3600), (120, 60)):
        if seconds >= limit:
            return f"{seconds / unit:.1f} {'hours' if unit == 3600 else 'minutes'}"
    return f"{seconds:.0f} seconds"


def _health(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and figures at the end of the run; those of a joint model's modalities have their name before them."""
    health = facts["provenance"].health
    return [
        (f"{part}: {label}" if part else label, form.format(health[key]))
        for part in ("", *(kind.name for kind in facts["modalities"]))
        for name, label, form in SHOWN_HEALTH
        if (key := f"{part}/{name}" if part else name) in health
    ]
