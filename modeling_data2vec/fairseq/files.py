"""Checkpoint files of fairseq's trainer, without fairseq: read so that nothing in them can run, and written again.

A `.pt` file is a zip archive with a pickle, which can call whatever it names. What a file may name is a short list
here: tensors and containers are rebuilt, configuration objects and dictionaries become `Inert`, and any other name is
refused before anything is loaded. torch's own restricted unpickler then does the loading.
"""

import os
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .archive import DEFAULTDICT, INERT, UnsafeFileError, allowed_names, check_extent, items_of

REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # what OmegaConf replaces by another option's value


class Inert:
    """A stand-in for an object of a class that a file names: it keeps the object's state and runs none of its code.

    Attributes:
        arguments: what the object would have been made with.
        state: its attributes.
    """

    arguments: tuple = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> "Inert":
        inert = object.__new__(cls)
        inert.arguments = arguments
        return inert

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _placeholder(name: str) -> type[Inert]:
    """A class that goes by a name of a file; torch's unpickler compares names."""
    module, _, attribute = name.rpartition(".")
    return type(attribute, (Inert,), {"__module__": module, "__qualname__": attribute})


def _empty_dict(*arguments: Any) -> dict:
    """Build a plain dict where a file says defaultdict."""
    return {}


_empty_dict.__module__, _empty_dict.__qualname__ = DEFAULTDICT.split(".")
_empty_dict.__name__ = _empty_dict.__qualname__  # which torch 2.6 compares


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file: plain dicts, lists, numbers, text and tensors, which stay in the file until used.

    Args:
        path: a file that `torch.save` wrote, as fairseq's trainer does.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFileError: the file names something that it may not, or is built to do harm. Nothing of it was run.
        ValueError: it is no such file, or incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    names = allowed_names(path)
    allowed: list[Any] = [_placeholder(name) for name in names if INERT.fullmatch(name)]
    allowed.append(_empty_dict)
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        check_extent(content, str(path), _contents)
        content = plain(content)
    except RecursionError as error:
        raise UnsafeFileError(f"{path} holds objects inside each other without end: it is not loaded") from error
    except pickle.UnpicklingError as error:
        # Only the cause: torch goes on with how to load the file in spite of it.
        cause = re.search(r"WeightsUnpickler error: ([^\n]*)", str(error))
        reason = cause[1] if cause else "it holds what no checkpoint needs"
        raise UnsafeFileError(f"{path} is not loaded: {reason}") from error
    except UnsafeFileError:
        raise
    except Exception as error:  # whatever damage leads to
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} can't be read; is it complete? ({reason})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a fairseq checkpoint is a dict")
    _check_sizes(content, path)
    return content


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint file that `read_checkpoint` and fairseq read; it appears when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".incomplete")
    try:
        with _dictionaries_importable():
            torch.save(dict(content), unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class Dictionary:
    """Pickles as fairseq's dictionary, whose attributes it has."""


Dictionary.__module__ = "fairseq.data.dictionary"


def as_fairseq_dictionary(state: Mapping[str, Any]) -> Dictionary:
    """Turn a plain dictionary back into fairseq's class, so that `write_checkpoint` writes what fairseq expects."""
    dictionary = Dictionary()
    dictionary.__dict__.update(state)
    return dictionary


@contextmanager
def _dictionaries_importable() -> Iterator[None]:
    """Let pickle find the class by fairseq's name, where fairseq is not installed: it only looks."""
    names = ("fairseq", "fairseq.data", "fairseq.data.dictionary")
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = ModuleType(name)
    sys.modules[names[-1]].Dictionary = Dictionary  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def plain(value: Any) -> Any:
    """`value` with every `Inert` replaced by what it stands for: dicts, lists, numbers, text.

    Of OmegaConf's objects it is their content, of namespaces and other objects their attributes, of enumerations the
    value or name they are made with.
    """
    if isinstance(value, Inert):
        return plain(_stands_for(value))
    if isinstance(value, Mapping):
        items = ((plain(key), plain(item)) for key, item in value.items())
        return OrderedDict(items) if isinstance(value, OrderedDict) else dict(items)
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, type) and issubclass(value, Inert):
        return value.__name__
    return value


def _stands_for(value: Inert) -> Any:
    state, name = value.state, type(value).__name__
    if name in ("DictConfig", "ListConfig"):
        return state["_content"]
    if name.endswith("Node") and isinstance(state, dict) and "_val" in state:
        return state["_val"]
    return state if state is not None else next(iter(value.arguments), None)


def _contents(value: Any) -> list[Any]:
    return [_stands_for(value)] if isinstance(value, Inert) else items_of(value)


def resolved(config: Any, root: Mapping[str, Any] | None = None) -> Any:
    """A config in which references to other options, "${section.option}", are replaced by their values.

    Raises:
        ValueError: a reference leads nowhere, or in a circle.

    Example:
        >>> resolved({"a": {"b": 3}, "c": "${a.b}"})
        {'a': {'b': 3}, 'c': 3}
    """
    root = config if root is None else root
    if isinstance(config, Mapping):
        return {key: resolved(value, root) for key, value in config.items()}
    if isinstance(config, list):
        return [resolved(value, root) for value in config]
    seen = []
    while isinstance(config, str) and (match := REFERENCE.fullmatch(config)):
        seen.append(config)
        config = root
        for part in match[1].split("."):
            if not isinstance(config, Mapping) or part not in config:
                raise ValueError(f"the file's config refers to {match[1]!r}, which it does not have")
            config = config[part]
        if config in seen:
            raise ValueError(f"the file's config refers to itself: {' -> '.join(seen)}")
    return config


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _check_sizes(content: Mapping[str, Any], path: Path) -> None:
    """A tensor can claim to be larger than what it is a view of, or many can be views of the same."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content.get("model", {})))
    if total > path.stat().st_size:
        raise UnsafeFileError(f"{path} describes weights of {total:,} bytes, more than the file has")
