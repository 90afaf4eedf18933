"""`data2vec convert`: the authors' checkpoint files to model folders, and model folders to such files."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedConfig
from transformers.utils import logging

from modeling_data2vec.auto import pretraining_models
from modeling_data2vec.fairseq.checkpoint_from_model import to_fairseq
from modeling_data2vec.fairseq.files import read_checkpoint, write_checkpoint
from modeling_data2vec.fairseq.model_from_checkpoint import from_fairseq, with_weights
from modeling_data2vec.fairseq.source import Source
from modeling_data2vec.fairseq.tasks import FINE_TUNED_MODELS
from modeling_data2vec.model_files import interpreting, read_json, read_text
from modeling_data2vec.weight_files import check_finite, read_model_weights, read_weights

from ..files.model_folders import loading
from ..files.output_checks import check_output_file
from ..files.writing import disk_is_full, new_folder
from ..hub.model_card import write_card
from ..hub.provenance import Provenance
from ..recipes.published import published_model
from .options import ConvertOptions
from .processors import converted_processor

logger = logging.get_logger(__name__)

# What a model has no place for, and what is needed to write its file again.
SOURCE_FILE, REST_FILE = "fairseq.json", "fairseq.safetensors"
TOLERANCE = 1e-4  # of `--check`, as a share of the largest activation
# The names of inputs in a file of stored activations, by the model's main input.
CHECK_INPUTS = {
    "input_values": ("input.source",),
    "input_features": ("input.source",),
    "pixel_values": ("input.img", "input.source"),
    "input_ids": ("input.target_tokens_full", "input.source", "input.src_tokens"),
}


def convert(source: str | Path, destination: str | Path, options: ConvertOptions) -> Any:
    """Convert one file or folder; see `data2vec convert --help`.

    Returns:
        The converted model, or None for a file that was written for fairseq.

    Raises:
        ValueError: the source can't be converted, options don't fit, or the destination exists.
        FileNotFoundError: the source does not exist.
    """
    source, destination = Path(source), Path(destination)
    if destination.exists():
        raise ValueError(f"{destination} exists already: choose another destination, or remove it")
    check_output_file(destination, "destination")
    if options.to == "fairseq":
        model, origin = load_converted(source)
        check_finite(model.state_dict(), source)
        content = to_fairseq(model, origin)
        with _written(destination):
            write_checkpoint(destination, content)
        return None
    chosen_license = _license(options)
    content = read_checkpoint(source)
    with interpreting(source):
        model, origin = from_fairseq(content)
    check_finite(model.state_dict(), source)
    processor = converted_processor(model, origin, options.dictionary, options.bpe)
    _name_labels(model.config, options.labels)
    with new_folder(destination) as unfinished:
        with _written(destination):
            save_converted(model, origin, unfinished)
            if processor is not None:
                processor.save_pretrained(unfinished)
        if options.check is not None:
            with interpreting(options.check):
                difference = check(unfinished, options.check)
            logger.info(f"Largest difference to {options.check}: {difference:.1e}.")
        origin_of = {"file": source.name, "sha256": _sha256(source)}
        Provenance(license=chosen_license, converted_from=origin_of).save(unfinished)
        write_card(unfinished, destination.name)
    return model


@contextmanager
def _written(destination: Path) -> Iterator[None]:
    """Turn errors while a file is written into one line with advice."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        full = disk_is_full(error, destination.parent)
        advice = "free some space, or choose another destination" if full else "choose another destination"
        raise ValueError(
            f"{destination} could not be written ({str(error).splitlines()[0]}). Nothing is left of it: {advice}"
        ) from error


def save_converted(model: Any, source: Source, folder: Path) -> None:
    """Save a model, and beside it what `load_converted` needs to write its file again.

    Weights keep the file's precision; a config that says fp32 makes `from_pretrained` load them so.
    """
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    origin = {entry.name: getattr(source, entry.name) for entry in fields(source) if entry.name != "rest"}
    (folder / SOURCE_FILE).write_text(json.dumps(origin, indent=1, default=str) + "\n")
    if source.rest:
        save_file({name: value.contiguous() for name, value in source.rest.items()}, folder / REST_FILE)


def load_converted(folder: str | Path) -> tuple[Any, Source | None]:
    """Load a saved model in its stored precision and, if it was converted, its origin.

    Raises:
        ValueError: the folder holds no model that fairseq has.
    """
    folder = Path(folder)
    with loading(folder):
        model_class = _model_class(folder)
        config = model_class.config_class.from_pretrained(folder)
        model = with_weights(config, read_model_weights(folder), lambda _: model_class)
    if not (folder / SOURCE_FILE).is_file():
        return model, None
    rest = read_weights(folder / REST_FILE) if (folder / REST_FILE).is_file() else {}
    with interpreting(folder / SOURCE_FILE):
        return model, Source(**read_json(folder / SOURCE_FILE), rest=rest)


def check(folder: str | Path, activations: str | Path) -> float:
    """Compare a converted model with stored activations; returns the largest difference.

    Args:
        folder: the model.
        activations: a safetensors file with the raw input as `input.source`, `input.img` or `input.src_tokens`,
            optionally `input.padding_mask` (True at padding), and the encoder's output without extra tokens as `eval.x`
            or the head's as `eval.logits`.

    Raises:
        ValueError: the file lacks them, or the model gives something else.
    """
    model = _model_class(Path(folder)).from_pretrained(folder, dtype=torch.float32).eval()
    stored = read_weights(activations)
    inputs = next((stored[name] for name in CHECK_INPUTS[model.main_input_name] if name in stored), None)
    expected = stored.get("eval.logits", stored.get("eval.x"))
    if inputs is None or expected is None:
        raise ValueError(
            f"{activations} must hold {' or '.join(CHECK_INPUTS[model.main_input_name])}, and eval.x or eval.logits; "
            f"it holds {', '.join(sorted(stored))}"
        )
    if model.main_input_name == "input_features" and inputs.ndim == 4:
        inputs = inputs.squeeze(1)  # EAT's one channel
    attention_mask = None
    if model.main_input_name == "input_ids":
        attention_mask = inputs != model.config.pad_token_id
    elif "input.padding_mask" in stored:
        attention_mask = ~stored["input.padding_mask"].bool()
    given = {} if attention_mask is None or attention_mask.all() else {"attention_mask": attention_mask}
    with torch.no_grad():
        if "eval.logits" in stored:
            actual = model(inputs, **given).logits
        else:
            actual = model.base_model(inputs, **given).last_hidden_state
    if actual.ndim == 3:
        actual = actual[:, actual.shape[1] - expected.shape[1] :]  # without extra tokens
        real = torch.ones(expected.shape[:2], dtype=torch.bool)
        if "eval.padding_mask" in stored:
            real = ~stored["eval.padding_mask"].bool()
        elif model.main_input_name == "input_ids" and attention_mask is not None:
            real = attention_mask
        actual, expected = actual[real], expected[real]
    if actual.shape != expected.shape:
        raise ValueError(f"the model gives {list(actual.shape)} where {activations} has {list(expected.shape)}")
    difference = float((actual - expected).abs().max())
    if not difference <= TOLERANCE * float(expected.abs().max()):
        raise ValueError(
            f"the converted model differs from {activations} by {difference:.2g}, and activations reach "
            f"{float(expected.abs().max()):.2g}: the weights or the config are not those that made them"
        )
    return difference


def _model_class(folder: Path) -> Any:
    try:
        values, _ = PreTrainedConfig.get_config_dict(folder)
    except OSError as error:
        raise ValueError(f"{folder} holds no model: {str(error).splitlines()[0]}") from error
    architecture = next(iter(values.get("architectures") or ["none"]))
    classes = {one.__name__: one for one in (*pretraining_models().values(), *FINE_TUNED_MODELS)}
    if architecture not in classes:
        raise ValueError(
            f"{folder} holds a model of the class {architecture}, but for fairseq there are only "
            f"{', '.join(sorted(classes))}"
        )
    return classes[architecture]


def _license(options: ConvertOptions) -> str:
    if options.license is None and options.published is None:
        raise ValueError(
            "whose weights are these? --license says under which licence they may be used (mit, cc-by-nc-4.0, ...); "
            "--published NAME takes that of a model that the authors published (`data2vec recipes` lists them)"
        )
    if options.license is not None:
        return options.license
    return published_model(str(options.published)).license


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name_labels(config: Any, path: str | None) -> None:
    if path is None:
        return
    lines = read_text(path).splitlines()
    names = read_json(path, dict | list) if path.endswith(".json") else [line.strip() for line in lines if line.strip()]
    if isinstance(names, dict):
        with interpreting(path):
            names = [names[key] for key in sorted(names, key=int)]
    if not_names := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"{path} must hold names of classes, but holds {not_names[0]!r}")
    if len(names) != config.num_labels:
        raise ValueError(f"{path} names {len(names)} classes, but the model has {config.num_labels}")
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
