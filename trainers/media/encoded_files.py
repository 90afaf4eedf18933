"""A file in a cell of a data set: its path, or its bytes in any of the forms that tables use."""

import errno
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.samples import UnreadableError
from ..sources.located_files import ADDRESS_ADVICE, BASE64_ADVICE, is_base64


class EncodedFile(NamedTuple):
    """A path, or a file in memory; and its path or name, if that is known."""

    source: str | io.BytesIO
    path: str | None

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix.lower() if self.path else ""

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.path or "a file without a name"

    @property
    def is_empty(self) -> bool:
        """Whether there is not a single byte in it, as an interrupted copy leaves files."""
        if isinstance(self.source, str):
            return os.path.isfile(self.source) and not os.path.getsize(self.source)
        return not self.source.getbuffer().nbytes

    def not_decoded(self, why: str) -> UnreadableError:
        """The error of content that no decoder takes: that there is none, or `why`."""
        return UnreadableError("the file is empty: get it again" if self.is_empty else why)


def encoded_file(value: Any, noun: str, otherwise: str) -> EncodedFile:
    """Find the file in a cell of a data set.

    Args:
        value: a path; encoded bytes, also as bytearray, memoryview or whole numbers from 0 to 255; or a dict with
            "bytes" and "path", as an undecoded column of `datasets` has.
        noun: what the file holds, for messages: "image" or "audio".
        otherwise: for messages: what the caller takes besides files, e.g. "an array [H, W, C]".

    Raises:
        UnreadableError: the cell is empty.
        ValueError: it holds something else.

    Example:
        >>> encoded_file({"bytes": [82, 73, 70, 70], "path": "clip.wav"}, "audio", "").source.getvalue()
        b'RIFF'
    """
    data, path = value, None
    if isinstance(value, dict):
        if not {"bytes", "path"} & set(value):
            raise ValueError(
                f"{noun} is held as a dict with {sorted(map(str, value))}, but must be {_allowed(otherwise)}"
            )
        data, path = value.get("bytes"), value.get("path")
    elif isinstance(value, (str, Path)):
        data, path = None, value
    if data is not None:
        return EncodedFile(io.BytesIO(_as_bytes(data, noun, otherwise)), path and str(path))
    if not path:
        raise UnreadableError(f"the dataset holds no {noun} here")
    return EncodedFile(str(path), str(path))


def array_of(value: Any) -> np.ndarray:
    """Values that a cell holds themselves, as lists, an array or a tensor of any kind, as an array."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(value)


def not_opened(error: OSError, path: str | None, noun: str) -> ValueError:
    """Why a file could not be opened: an `UnreadableError`, or that the cell holds base64 text instead of a path."""
    absent = error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR)
    if path and absent and is_base64(path):
        return ValueError(f"{noun} is held as {BASE64_ADVICE}")
    if path and absent and "://" in path:
        return UnreadableError(ADDRESS_ADVICE)
    return UnreadableError(f"it cannot be opened: {error.strerror or error}")


def _as_bytes(data: Any, noun: str, otherwise: str) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, (list, tuple, np.ndarray)) and len(data):
        numbers = np.asarray(data) if isinstance(data[0], (int, np.integer)) else np.empty(0)
        if numbers.ndim == 1 and numbers.dtype.kind in "iu" and numbers.min() >= 0 and numbers.max() <= 255:
            return numbers.astype(np.uint8).tobytes()
    raise ValueError(f"{noun} is held as {type(data).__name__}, but must be {_allowed(otherwise)}")


def _allowed(otherwise: str) -> str:
    return f'a file, its bytes, {{"bytes": ..., "path": ...}}, or {otherwise}'
