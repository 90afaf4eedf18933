"""Checks that the files of a model folder can be read, before the model is loaded; damage is named by file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING
from transformers.utils import CONFIG_NAME

from modeling_data2vec.configuration_data2vec2_joint import PREFIX
from modeling_data2vec.model_files import is_file_name, read_json
from modeling_data2vec.weight_files import count_weights

from ..errors import first_line

# Files of any model, processor or adapter; those of others are not looked at.
OBJECTS = (
    *(CONFIG_NAME, "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "adapter_config.json"),
    *("provenance.json", "probe.json", "fairseq.json"),
)
TOKENIZER = "tokenizer.json"


@contextmanager
def loading(source: str | Path) -> Iterator[None]:
    """Name the file when a model's config, weights or processor is damaged or contradicts itself.

    Args:
        source: folder or Hub id.

    Raises:
        ValueError: it can't be loaded, and why.
        OSError: it, or a file of it, is not there.
    """
    if not str(source):
        raise FileNotFoundError("no model is named")
    check_model_folder(source)
    if not (here := Path(source).is_dir()):
        _require_hub_id(source)
    try:
        yield
    except (ValueError, StrictDataclassError) as error:
        if here and not any((Path(source) / name).is_file() for name in (*OBJECTS, TOKENIZER)):
            raise ValueError(f"{source} holds no model: there is no config.json in it") from error
        if str(source) in str(error):
            raise
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error
    except OSError as error:
        if here:
            raise
        raise OSError(
            f"there is no folder {source} here, and the Hub gives no such model ({first_line(error)})"
        ) from error
    except Exception as error:  # transformers and its libraries answer contradictions with whatever they lead to
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{source} can't be loaded: what its files say does not go together ({reason})") from error


def _require_hub_id(source: str | Path) -> None:
    """Require that a name which is no folder can be a Hub id: transformers' error says nothing of folders."""
    if Path(source).exists():
        raise NotADirectoryError(f"{source} is a file, not a folder with a model")
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        raise FileNotFoundError(f"there is no folder {source}") from error


def check_model_folder(source: str | Path) -> None:
    """Require that the files of a model in a folder can be read, as far as that is quickly seen.

    Args:
        source: a folder. What is none, such as a Hub id, is left to whoever loads it.

    Raises:
        ValueError: names the file that is damaged, and says how.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    config = read_json(folder / CONFIG_NAME) if (folder / CONFIG_NAME).is_file() else {}
    found: dict[str, Any] = {}
    for part in ("", *part_names(config)):
        for name in OBJECTS:
            path = folder / part / name
            if path.is_file():
                found[f"{part}/{name}"] = read_json(path)
        if (path := folder / part / TOKENIZER).is_file():
            _check_tokenizer(path)
    _check_type(config, folder)
    _check_layers(config, folder / CONFIG_NAME, count_weights(folder))


def _check_type(config: dict[str, Any], folder: Path) -> None:
    """Refuse a model for a kind of data that no imported file knows: transformers would advise an update."""
    types = [config.get("model_type"), *(config[f"{name}_config"].get("model_type") for name in part_names(config))]
    for model_type in types:
        if str(model_type).startswith(PREFIX) and model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"{folder} is of type {model_type!r}, which stands in a file of its own: name that file by --plugin, "
                "or import it"
            )


def part_names(config: Mapping[str, Any]) -> list[str]:
    """Names of the modalities of a joint model, by its `config.json`; each has a folder with its processor.

    Example:
        >>> part_names({"model_type": "data2vec2", "audio_config": {}, "text_config": {}, "vision_config": None})
        ['audio', 'text']
    """
    return [
        key.removesuffix("_config")
        for key, value in config.items()
        if key.endswith("_config") and isinstance(value, dict) and is_file_name(key)
    ]


def _check_layers(config: dict[str, Any], path: Path, num_weights: int) -> None:
    """Refuse a config with more layers than there are weights, before a model of a billion layers is built."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_layers(value, path, num_weights)
        elif key.endswith("layers") and isinstance(value, int) and 0 < num_weights < value:
            raise ValueError(
                f"{path} has {key} {value:,}, but the weights beside it are {num_weights:,} tensors: they are not of "
                "one model"
            )


def _check_tokenizer(path: Path) -> None:
    read_json(path)
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"{path} is no tokenizer: {error}") from error
