"""Errors of other libraries, in one line that says what to do; how commands end after them."""

import errno
import re
import zipfile
from pickle import UnpicklingError

import datasets.exceptions
import torch
import torch.distributed
import yaml
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, StrictDataclassError
from safetensors import SafetensorError

FAILED, WRONG_USE = 1, 2  # exit codes
# Of files that are damaged, or not of the kind that they are called.
DAMAGE = (SafetensorError, UnpicklingError, zipfile.BadZipFile, EOFError, yaml.YAMLError)
ENVIRONMENT = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer --dataloader_num_workers",
    errno.EIO: "the disk failed",
}
CONNECTION = "the Hub could not be reached: check the network, or work with what is in the cache by HF_HUB_OFFLINE=1"
MEMORY = "not enough memory: lower --per_device_train_batch_size or --max_batch_length, or choose a smaller model"
OTHER_PROCESS = (
    "another process of this run has ended, or its machine can't be reached: see what it said; the same command with "
    "--resume goes on from the last checkpoint"
)
GONE = ("Connection closed by peer", "Connection reset by peer", "timed out connecting")  # as gloo says it
OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory")


class SaveError(OSError):
    """A run could not save what it has; it says why, and what remains."""


def first_line(error: BaseException) -> str:
    """What an error says first, and what a server says in it."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = getattr(error, "server_message", None)
    return f"{line} ({said})" if said and said not in line else line


# What huggingface_hub says before a config's own message.
VALIDATOR = re.compile(r"(Class validation error for validator|Validation error for field) '\w+': \w+: ")


def in_one_line(error: BaseException) -> tuple[str, int] | None:
    """An error that is nobody's mistake in the code: what to say, and the exit code; None for any other.

    Example:
        >>> in_one_line(IsADirectoryError(errno.EISDIR, "Is a directory", "runs"))
        ('runs: Is a directory', 2)
        >>> in_one_line(TypeError("unsupported operand")) is None
        True
    """
    if isinstance(error, datasets.exceptions.DatasetBuildError):
        return _of_data(error), WRONG_USE
    if isinstance(error, HfHubHTTPError | OfflineModeIsEnabled | LocalEntryNotFoundError):
        return _of_hub(error)
    if isinstance(error, ValueError | StrictDataclassError | datasets.exceptions.DatasetsError):
        return _whole(error), WRONG_USE
    if isinstance(error, SaveError):
        return _whole(error), FAILED
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, DAMAGE):
        return f"a file is damaged or incomplete ({type(error).__name__}: {first_line(error)})", WRONG_USE
    if isinstance(error, ImportError) and not str(error.name).startswith("modeling_data2vec"):
        return f"a package is missing: {_whole(error)}", WRONG_USE
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    ):
        return f"{MEMORY} ({first_line(error)})", FAILED
    if isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in GONE)
    ):
        return f"{OTHER_PROCESS} ({first_line(error)})", FAILED
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests"):
        return f"{CONNECTION} ({first_line(error)})", FAILED
    return None


def _whole(error: BaseException) -> str:
    return VALIDATOR.sub("", " ".join(str(error).split())) or type(error).__name__


def _of_data(error: BaseException) -> str:
    """What `datasets` says, and the cause below it, which says where."""
    last = error
    while (cause := last.__cause__ or last.__context__) is not None:
        last = cause
    return _whole(error) if last is error else f"the data can't be read: {_whole(last)} ({first_line(error)})"


def _of_hub(error: BaseException) -> tuple[str, int]:
    response = getattr(error, "response", None)
    if response is None:
        return f"{CONNECTION} ({_whole(error)})", FAILED
    known = response.status_code in (401, 403, 404)  # of a name or token that was given
    return f"the Hub answers: {_whole(error)}", WRONG_USE if known else FAILED


def _of_system(error: OSError) -> tuple[str, int]:
    if isinstance(error, ConnectionError | TimeoutError):
        return f"{CONNECTION} ({_whole(error)})", FAILED
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    said = f"{files}: {error.strerror}" if files and error.strerror else _whole(error)
    if error.errno in ENVIRONMENT:
        return f"{said}: {ENVIRONMENT[error.errno]}", FAILED
    return said, WRONG_USE
