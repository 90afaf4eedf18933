"""Choice of the files of a model folder that are published, so that nothing else goes with them."""

import fnmatch
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from safetensors import safe_open

import modeling_data2vec
from modeling_data2vec.auto import auto_classes
from modeling_data2vec.model_files import EMBEDDING_FILES, is_file_name, read_json, write_embedding_files
from modeling_data2vec.modeling_data2vec2 import is_foreign
from modeling_data2vec.modeling_data2vec2_pretraining import modality_models
from modeling_data2vec.weight_files import check_finite, read_model_weights, read_weights, weight_paths

from ..files.model_folders import check_model_folder, part_names
from ..modalities.names import modalities
from .card_text import ADAPTER_FILE, card_facts
from .eval_results import write_eval_results
from .model_card import card_of, check_card, measured
from .model_code import auto_name, copy_code
from .preflight import PublishError
from .public_names import make_public, without_places

# Everything else stays at home: pickles above all, and what only this machine needs.
PUBLISHED = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "README.md", "LICENSE*", "provenance.json", "probe*.json", "*.png", *EMBEDDING_FILES),
)
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
WITH_TEACHER = ("fairseq.json", "fairseq.safetensors")  # what makes a converted file whole again


class FolderError(PublishError, ValueError):
    """A folder that can't be published as it is."""


class CodeError(FolderError):
    """A folder whose code can't be published along with it."""


def check_outgoing(folder: Path, *, with_teacher: bool = False) -> None:
    """Require that a folder holds a whole model and no links, before anything is asked of the Hub.

    Raises:
        FolderError: it is no model folder, has links, or weights that are not numbers.
        ValueError: a file is damaged.
    """
    model_config(folder)
    for file in _outgoing(folder, with_teacher):
        if not is_file_name(file.name):
            raise FolderError(f"{str(file)!r} has a name that leads elsewhere on some systems: rename or remove it")
    for path in (*_part_folders(folder), *_outgoing(folder, with_teacher)):
        if path.is_symlink():
            raise FolderError(
                f"{path} is a link to {path.readlink()}: only files of the folder itself are published. Replace "
                "the link by a copy, or remove it"
            )
        if path.suffix == ".json":
            read_json(path, dict | list)
    try:
        weights = weight_paths(folder)
    except ValueError as error:
        raise FolderError(str(error)) from error
    check_model_folder(folder)
    check_card(folder / "README.md")
    card_of(folder)
    for file in weights:
        check_finite(read_weights(file), file)
        _check_metadata(file)


def prepare(folder: Path, staging: Path, *, with_teacher: bool = False, with_code: bool = False) -> None:
    """Copy what is to be published, without the names of places on this machine: see `PUBLISHED`.

    Args:
        folder: of the model.
        staging: where to.
        with_teacher: also what only pretraining needs.
        with_code: also the modules of a 2.0 model; plain transformers loads others, and adapters need this package.

    Raises:
        CodeError: the code can't go along.
        FolderError, ValueError: as `check_outgoing`.
    """
    check_outgoing(folder, with_teacher=with_teacher)
    staging.mkdir(parents=True, exist_ok=True)
    for file in _outgoing(folder, with_teacher):
        if with_teacher or not _is_one_of(file.name, WEIGHTS):
            target = staging / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    if not with_teacher:
        kept = {name: value for name, value in read_model_weights(folder).items() if not name.startswith("teacher.")}
        save_torch_state_dict(kept, staging, max_shard_size="5GB", metadata={"format": "pt"})
    config = model_config(staging)
    classes = {} if (folder / ADAPTER_FILE).is_file() else auto_classes(str(config.get("model_type")))
    if classes:
        _add_embedding_files(staging, classes)
    config.pop("auto_map", None)  # of where the run's model came from
    if classes and with_code:
        _add_code(folder, staging, config, classes, with_teacher)
    if config != model_config(staging):
        (staging / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_eval_results(staging, measured(card_facts(folder)))
    make_public(staging)


def model_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.json.

    Raises:
        FolderError: there is none.
    """
    try:
        return read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise FolderError(f"{folder} has no readable config.json, so it is no model folder ({error})") from error


def _outgoing(folder: Path, with_teacher: bool) -> Iterator[Path]:
    """The files to publish, and links by such names, whether they lead anywhere or not."""
    patterns = PUBLISHED + WEIGHTS + (WITH_TEACHER if with_teacher else ())
    for place in (folder, *_part_folders(folder)):
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            if _is_one_of(file.name, patterns if place == folder else PUBLISHED) and (
                file.is_file() or file.is_symlink()
            ):
                yield file


def _part_folders(folder: Path) -> list[Path]:
    """Sub-folders of a joint model with the processor of each modality, whether they are there or not."""
    return [folder / name for name in part_names(model_config(folder))]


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_metadata(file: Path) -> None:
    with safe_open(file, framework="pt") as tensors:
        metadata = tensors.metadata() or {}
    if without_places(metadata, all_paths=True) != metadata:
        raise FolderError(f"{file} names a local path in its metadata: save the model again with save_pretrained")


def _add_embedding_files(staging: Path, classes: dict[str, Any]) -> None:
    """Write what sentence-transformers reads, if the model was saved before there was such a thing."""
    if not (staging / EMBEDDING_FILES[0]).is_file():
        write_embedding_files(staging, classes["AutoModel"].input_modalities)


def _add_code(folder: Path, staging: Path, config: dict[str, Any], classes: dict[str, Any], with_teacher: bool) -> None:
    """The modules of the model and its processor, as far as they need them, and their names in the configs."""
    if own := [name for name in part_names(config) if is_foreign(modality_models()[name])]:
        raise CodeError(
            f"{folder} reads {own[0]}, which stands in a file of its own: of several modalities the code can't be sent "
            f"along. Publish its part: Data2Vec2Model.from_pretrained(folder, modality={own[0]!r}).save_pretrained(...)"
            ", or all of it without code: --with_code false"
        )
    if not with_teacher:  # then there is nothing to continue, and what pretrains stays at home
        classes = {auto: one for auto, one in classes.items() if auto != "AutoModelForPreTraining"}
    config["auto_map"] = {auto: auto_name(one) for auto, one in classes.items()}
    processors = [one for place in (staging, *_part_folders(staging)) if (one := _add_processor(place, classes))]
    try:
        copy_code([*classes.values(), *processors], staging)
    except ValueError as error:
        raise CodeError(f"the code of {folder} can't be published: {error}") from error


def _add_processor(place: Path, classes: dict[str, Any]) -> type | None:
    """Name the class of a feature extractor in its config, if it stands beside the model's and not in transformers."""
    file = place / "preprocessor_config.json"
    values = read_json(file) if file.is_file() else {}
    name = values.get("feature_extractor_type")
    home = modeling_data2vec if place.name in modalities() else sys.modules[classes["AutoModel"].__module__]
    one = getattr(home, str(name), None) or getattr(modeling_data2vec, str(name), None)
    if one is None or one.__module__.startswith("transformers."):
        return None
    values["auto_map"] = {"AutoFeatureExtractor": auto_name(one)}
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    return one
