"""What a model card says, from what its folder holds."""

from pathlib import Path
from typing import Any

import transformers

from modeling_data2vec.model_files import interpreting, read_json

from ..evaluation.probe_table import ProbeRow, ProbeTable
from ..files.model_folders import part_names
from ..modalities.base import Modality
from ..modalities.names import modalities, modality
from .provenance import SHOWN_HEALTH, Provenance
from .public_names import public_name

PROBE_FILE = "probe.json"
ADAPTER_FILE = "adapter_config.json"
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


CITATIONS = """@inproceedings{baevski2022data2vec,
  title     = {data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language},
  author    = {Baevski, Alexei and Hsu, Wei-Ning and Xu, Qiantong and Babu, Arun and Gu, Jiatao and Auli, Michael},
  booktitle = {International Conference on Machine Learning},
  year      = {2022},
}
@inproceedings{baevski2023efficient,
  title     = {Efficient Self-supervised Learning with Contextualized Target Representations for Vision, Speech and
               Language},
  author    = {Baevski, Alexei and Babu, Arun and Hsu, Wei-Ning and Auli, Michael},
  booktitle = {International Conference on Machine Learning},
  year      = {2023},
}"""


def card_facts(folder: Path) -> dict[str, Any]:
    """What a model folder says of itself.

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
    }


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
    """The tables of probes by what they are called in the card, which is nothing for the only one."""
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
    """The part of a card that is generated."""
    sections = (
        _introduction(folder, facts),
        _usage(folder, facts),
        _training(facts),
        _health(folder, facts),
        _evaluation(facts),
        _limits(facts),
        _licence(facts),
        f"## Citation\n\n```bibtex\n{CITATIONS}\n```" if facts["version"] else "",
    )
    return "\n\n".join(section for section in sections if section)


def _introduction(folder: Path, facts: dict[str, Any]) -> str:
    config, version, provenance = facts["trunk"], facts["version"], facts["provenance"]
    kinds = [kind.title for kind in facts["modalities"]]
    if version is None:
        return f"A model for {kinds[0]} (`{facts['architecture']}`), fine-tuned for {provenance.task}."
    paper, title = PAPERS[version]
    layers = config["num_hidden_layers"] + config.get("num_prenet_layers", 0)
    lines = [
        f"A data2vec {version} model for {' and '.join(kinds)} (`{facts['architecture']}`): {layers} layers, "
        f"width {config['hidden_size']}, {config['num_attention_heads']} heads"
        f"{', shared by the modalities' if facts['joint'] else ''}. "
        f"Method: [{title}](https://arxiv.org/abs/{paper})."
    ]
    if provenance.task:
        lines.append(f"Fine-tuned for {provenance.task}.")
    converted = provenance.converted_from
    if converted:
        lines.append(
            f"Converted with `data2vec convert` from `{converted['file']}` (SHA-256 `{converted['sha256'][:16]}…`), "
            "weights unchanged."
        )
    return "\n\n".join(lines)


def _usage(folder: Path, facts: dict[str, Any]) -> str:
    if facts["adapter"]:
        return (
            f"## Use\n\nThese are an adapter ({facts['adapter']['peft_type']}) and a head for "
            f"`{public_name(facts['adapter']['base_model_name_or_path'])}`, which they are loaded with:\n\n```python\n"
            "from modeling_data2vec import load_adapter  # pip install data2vec\n\n"
            'model = load_adapter("REPOSITORY")\n```\n\n'
            "`REPOSITORY` is this repository's id, or the folder it was downloaded to."
        )
    auto_class = facts["task"][1] if facts["task"] else "AutoModel"
    with_code = "auto_map" in facts["config"]
    needed = "" if facts["version"] != "2.0" or with_code else "import modeling_data2vec  # pip install data2vec\n"
    trust = ", trust_remote_code=True" if with_code else ""
    loaded, auto_classes = [], {auto_class}
    for kind in facts["modalities"]:
        variable, where = (kind.name, f', subfolder="{kind.name}"') if facts["joint"] else ("processor", "")
        loader = kind.processor_class.__name__
        if hasattr(transformers, loader):
            auto_classes.add(loader)
        elif with_code:
            loader, where = "AutoFeatureExtractor", where + trust
            auto_classes.add(loader)
        else:
            needed += f"from {kind.__module__} import {loader}  # the file that the model was trained with\n"
        loaded.append(f'{variable} = {loader}.from_pretrained("REPOSITORY"{where})')
    lines = "\n".join(loaded)
    return (
        "## Use\n\n```python\n"
        f"{needed}from transformers import {', '.join(sorted(auto_classes))}\n\n"
        f'model = {auto_class}.from_pretrained("REPOSITORY"{trust})\n'
        f"{lines}\n```\n\n"
        "`REPOSITORY` is this repository's id, or the folder it was downloaded to."
    )


def _training(facts: dict[str, Any]) -> str:
    provenance: Provenance = facts["provenance"]
    lines = []
    if provenance.dataset:
        lines.append(f"- Data: {provenance.dataset}")
    if provenance.base_model:
        lines.append(f"- Started from: {provenance.base_model}")
    if provenance.recipe:
        lines.append(f"- Recipe: {provenance.recipe['name']} ({provenance.recipe['source']})")
    if provenance.steps is not None:
        lines.append(f"- Optimizer steps: {provenance.steps:,}")
    if provenance.hardware:
        lines.append(f"- Hardware: {provenance.hardware}")
    if provenance.seconds is not None:
        lines.append(f"- Time: {_duration(provenance.seconds)}")
    if provenance.versions:
        lines.append("- " + ", ".join(f"{name} {version}" for name, version in provenance.versions.items()))
    if not lines:
        return ""
    text = "## Training\n\n" + "\n".join(lines)
    if provenance.hyperparameters:
        rows = "\n".join(f"| {name} | {value} |" for name, value in provenance.hyperparameters.items())
        text += f"\n\n| hyperparameter | value |\n|---|---|\n{rows}"
    return text


def _duration(seconds: float) -> str:
    for limit, unit in ((7200, 3600), (120, 60)):
        if seconds >= limit:
            return f"{seconds / unit:.1f} {'hours' if unit == 3600 else 'minutes'}"
    return f"{seconds:.0f} seconds"


def _health(folder: Path, facts: dict[str, Any]) -> str:
    health = facts["provenance"].health
    rows = [
        f"| {f'{part}: ' if part else ''}{label} | {form.format(health[key])} |"
        for part in ("", *(kind.name for kind in facts["modalities"]))
        for name, label, form in SHOWN_HEALTH
        if (key := f"{part}/{name}" if part else name) in health
    ]
    pictures = [
        f"![{label}]({file.name})"
        for name, label in (("curves*.png", "Loss and health over the run"), ("pca*.png", "Features, as colours"))
        for file in sorted(folder.glob(name))
    ]
    if not rows and not pictures:
        return ""
    table = "| at the end of the run | |\n|---|---:|\n" + "\n".join(rows) if rows else ""
    return "\n\n".join(part for part in ("## Health of the run", table, *pictures) if part)


def _evaluation(facts: dict[str, Any]) -> str:
    if measured := facts["provenance"].metrics:
        figures = [(role, name, value) for role in measured for name, value in measured[role].items()]
        rows = [f"| {role} | {name} | {value:.4g} |" for role, name, value in figures]
        return "## Evaluation\n\n| split | figure | |\n|---|---|---:|\n" + "\n".join(rows)
    if not facts["probes"]:
        return "## Evaluation\n\nNot evaluated: `data2vec probe` measures a model beside its baselines."
    parts = ["## Evaluation"]
    for name, probe in facts["probes"].items():
        parts += [*([f"### {modalities()[name].title.capitalize()}"] if name else []), _table(probe).to_markdown()]
    return "\n\n".join(parts)


def _limits(facts: dict[str, Any]) -> str:
    lines = ["The model knows what its data show, with their gaps and biases."]
    if facts["task"] is None:
        lines.append("It gives features and no answers: a task needs a head that is fine-tuned for it.")
    lines += [kind.limits for kind in facts["modalities"] if kind.limits]
    if facts["config"].get("padding") == "reference":
        lines.append(
            "Padding enters its computations as in the authors' code, so that features depend a little on the batch."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _licence(facts: dict[str, Any]) -> str:
    licence = facts["provenance"].license
    return f"## Licence\n\n{licence}" if licence else "## Licence\n\nNot stated by whoever trained it."
