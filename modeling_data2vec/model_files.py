"""The files of a model folder, read so that damage is named and nothing outside of the folder is touched.

Weights are loaded from safetensors alone, since pickles can run code. What sentence-transformers reads is written here.
"""

import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

TEXT_BYTES = 50_000_000  # more than any tokenizer has; JSON takes up to 25 times as much memory
EMBEDDING_FILES = ("modules.json", "sentence_bert_config.json")  # of sentence-transformers
OBJECT, OBJECT_OR_LIST = "an object, {...}", "an object, {...}, or a list, [...]"


def read_text(path: str | Path) -> str:
    """A text file in UTF-8.

    Raises:
        ValueError: it is none, or too large.
    """
    path = Path(path)
    if path.stat().st_size > TEXT_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, but at most {TEXT_BYTES:,} are read as text")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error})") from error


def read_json(path: str | Path, kind: Any = dict) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: `dict`, or `dict | list`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too large, damaged, nested without end, or holds something of another kind.
    """
    path = Path(path)
    text = read_text(path)
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is no file of a model: its JSON is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}. Is it complete?") from error
    if not isinstance(value, kind):
        wanted = OBJECT if kind is dict else OBJECT_OR_LIST
        raise ValueError(f"{path} must hold {wanted}, but holds {reprlib.repr(value)}")
    return value


def write_embedding_files(folder: str | Path, modalities: Iterable[str]) -> None:
    """Write how sentence-transformers (6 and up) takes vectors of a model: a sample's is its `pooler_output`.

    Args:
        folder: of the model.
        modalities: that the model takes, as transformers calls them. Of others than audio, image and text nothing is
            written.
    """
    taken = [one for one in modalities if one in ("audio", "image", "text")]
    vector = {"method": "forward", "method_output_name": "pooler_output"}
    settings: dict[str, Any] = {"transformer_task": "feature-extraction", "module_output_name": "sentence_embedding"}
    settings["modality_config"] = dict.fromkeys(taken, vector)
    if "audio" in taken:  # no vector may depend on the padding
        settings["processing_kwargs"] = {"audio": {"return_attention_mask": True}}
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    for name, value in zip(EMBEDDING_FILES, ([module], settings), strict=True):
        if taken:
            Path(folder, name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def interpreting(path: str | Path) -> Iterator[None]:
    """Name the file in errors of code that uses its values: a value of a wrong kind is the file's mistake.

    Raises:
        ValueError: names the file.
    """
    try:
        yield
    except (TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"{path} holds a value of a kind that can't be meant ({reason})") from error
    except (ValueError, StrictDataclassError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


@contextmanager
def reading_weights(path: str | Path) -> Iterator[None]:
    """Name the file whose weights turn out to be damaged.

    Raises:
        ValueError: they are.
    """
    try:
        yield
    except (SafetensorError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}): download or save it again") from error


def is_file_name(name: Any) -> bool:
    """Whether something names a file in a folder, and none anywhere else, on any system.

    Example:
        >>> is_file_name("model-00001-of-00002.safetensors"), is_file_name("../model.safetensors")
        (True, False)
    """
    return isinstance(name, str) and name.strip(". ") != "" and not re.search(r"[/\\:\x00-\x1f]", name)


def weight_names(folder: str | Path) -> list[str]:
    """Names of the safetensors that make up a folder's model: one, or those that its index lists.

    Raises:
        ValueError: the index is damaged, or names something that is no file of the folder.
    """
    index = Path(folder) / SAFE_WEIGHTS_INDEX_NAME
    return names_in_index(index) if index.is_file() else [SAFE_WEIGHTS_NAME]


def names_in_index(index: Path) -> list[str]:
    """Names of the files that an index lists.

    Raises:
        ValueError: as `weight_names`.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} has no weight_map, which says which file each weight is in")
    for name in names.values():
        if not is_file_name(name) or not name.endswith(".safetensors"):
            raise ValueError(f"{index} names {name!r}, but must name safetensors of its own folder")
    return sorted(set(names.values()))


class SafeLoading:
    """A mixin of every model class: what is loaded is safe, and what is saved is whole.

    `from_pretrained` takes safetensors, or pickles by `use_safetensors=False`; `save_pretrained` refuses weights that
    are sharded over processes.
    """

    def save_pretrained(
        self, save_directory: Any, is_main_process: bool = True, state_dict: Any = None, **kwargs: Any
    ) -> None:
        """Save the model, as transformers does.

        Raises:
            ValueError: its weights are sharded over processes, by a Trainer with FSDP.
        """
        sharded = any(hasattr(weight, "full_tensor") for weight in self.parameters())  # type: ignore[attr-defined]
        if sharded and state_dict is None and getattr(self.config, "distributed_config", None) is None:  # type: ignore[attr-defined]
            raise ValueError(
                "the weights are sharded over processes (FSDP), and one alone can't save them: call "
                "trainer.save_model(folder) in all processes, which gathers them"
            )
        super().save_pretrained(save_directory, is_main_process, state_dict, **kwargs)  # type: ignore[misc]

    def _initialize_weights(self, module: Any, is_custom_code: bool = False) -> None:
        """Initialize every module, as transformers does for its own models.

        Of other packages' models it takes a module without weights of its own, such as a decoder of several layers, for
        one whose weights were loaded, and passes it over. Ours needs no such care: it sets weights by functions that
        leave loaded ones alone.
        """
        super()._initialize_weights(module)  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model from safetensors. transformers would also unpickle, or ask a service to convert pickles.

        Raises:
            OSError: there is no such model, or it has no safetensors.
            ValueError: they are damaged, or their index names files of other folders.
        """
        folder = Path(str(pretrained_model_name_or_path), kwargs.get("subfolder") or "")
        if folder.is_dir():
            weight_names(folder)
        safe = kwargs.setdefault("use_safetensors", True) is not False
        before = os.environ.get("DISABLE_SAFETENSORS_CONVERSION")
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        try:
            with reading_weights(pretrained_model_name_or_path):
                return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)  # type: ignore[misc]
        except OSError as error:
            if safe and ("with `safetensors`" in str(error) or "Error no file named" in str(error)):
                raise OSError(
                    f"{pretrained_model_name_or_path} has no weights as safetensors. Pickles (pytorch_model.bin, .pt) "
                    "can run code when they are loaded, so they are not: `data2vec convert` turns the authors' files "
                    "into safetensors; load others, if you trust their source, with use_safetensors=False, and save "
                    "them with save_pretrained"
                ) from error
            raise
        finally:
            if before is None:
                del os.environ["DISABLE_SAFETENSORS_CONVERSION"]
            else:
                os.environ["DISABLE_SAFETENSORS_CONVERSION"] = before
