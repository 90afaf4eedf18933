"""One run at a time in a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers.utils import logging

from ..files.writing import LOCK, UNFINISHED, clear_unfinished

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.get_logger(__name__)

_held: set[Path] = set()  # folders that this process has locked


@contextmanager
def only_run_in(folder: Path, main_process: bool = True) -> Iterator[None]:
    """Keep other runs out of a folder, and remove what killed ones left unfinished in it.

    The lock goes with the process, however it ends. Where the file system has no locks, a warning says so.

    Args:
        folder: is made, and removed if it is empty at the end.
        main_process: whether this is the one process of the run that locks.

    Raises:
        ValueError: another run writes there, or the folder can't be written to.
    """
    folder = folder.absolute()
    if not main_process or folder in _held:
        yield
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / UNFINISHED / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except OSError as error:
        _remove_empty(path.parent, *missing)
        raise ValueError(f"{folder} can't be written to: {error.strerror or error}") from error
    _held.add(folder)
    try:
        clear_unfinished(folder)
        yield
    finally:
        _held.discard(folder)
        path.unlink(missing_ok=True)
        os.close(file)
        _remove_empty(path.parent, *missing)


def _locked(path: Path) -> int:
    """A file descriptor that holds the lock, with this process's name in the file."""
    while True:
        # POSIX locks, unlike those of flock, don't pass to worker processes, which may outlive this one for a moment.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        except BlockingIOError as error:
            whose = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            raise ValueError(
                f"another run ({whose}) is writing to {path.parent.parent}: wait until it is done, or choose another "
                "output_dir"
            ) from error
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the run before removed the file meanwhile


def _lock(file: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # systems say either
        raise BlockingIOError(*error.args) from error
    except OSError as error:
        logger.warning(f"This file system has no locks ({error.strerror}): see that only one run writes here.")


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
