"""Files and folders that are complete or not there.

Everything that is written here is written to a hidden place beside its own, `.incomplete...`, and renamed when all of
it is there. A killed process leaves such a place behind at most; the next one that writes there removes it.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformers.trainer_utils import sort_checkpoints

from ..errors import SaveError

UNFINISHED = ".incomplete"
LOCK = "run.lock"  # in a run's folder of unfinished things: whose they are
# errno of what can't be written for lack of room, and the numbers that Rust and C++ put into texts.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LITTLE = 2**20  # bytes that any disk with room has

# ---- writing ----


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a place to write a file to; it gets its own name, instead of an older one, when the block is through.

    What is no plain file, such as /dev/stdout or a link, is written through.

    Args:
        path: the file; its folder is made.

    Example:
        >>> with new_file("/tmp/example.txt") as unfinished:
        ...     _ = unfinished.write_text("whole")
        >>> Path("/tmp/example.txt").read_text()
        'whole'
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield path
        return
    unfinished = path.with_name(f"{UNFINISHED}-{path.name}")
    with _parents_of(path):
        try:
            yield unfinished
            _flush(unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with new_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill, which gets its own name when the block is through; after an error nothing is left.

    Args:
        path: a folder that does not exist yet.
    """
    path = Path(path)
    unfinished = path.with_name(f"{UNFINISHED}-{path.name}")
    with _parents_of(path):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            _flush(unfinished)
            os.replace(unfinished, path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def new_files(folder: str | Path, last: str = "") -> Iterator[Path]:
    """Give a folder to fill, whose files move into `folder` when the block is through, beside others that stay.

    Args:
        folder: is made.
        last: the file that says to others that all are there.
    """
    folder = Path(folder)
    unfinished = folder / UNFINISHED / "files"
    with _parents_of(unfinished):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            _flush(unfinished)
            _move_in(unfinished, folder, last)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            with suppress(OSError):  # a run's lock is in it
                unfinished.parent.rmdir()


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left in a folder."""
    kept = (folder / UNFINISHED, folder / UNFINISHED / LOCK)
    for path in (*folder.glob(f"{UNFINISHED}*"), *(folder / UNFINISHED).glob("*")):
        if path not in kept:
            _remove(path)


def _move_in(unfinished: Path, folder: Path, last: str = "") -> None:
    files = [path for path in unfinished.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda file: (file.name == last, file.stat().st_size < LITTLE, file)):
        target = folder / file.relative_to(unfinished)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


@contextmanager
def _parents_of(path: Path) -> Iterator[None]:
    """Make the folders above a path; after an error, those that are new and empty are removed."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def _flush(path: Path) -> None:
    """Write a file, or all in a folder, through to the disk before it is renamed: a power cut may leave it empty."""
    for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        with file.open("rb") as content:
            try:
                os.fsync(content.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't
                    raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---- checkpoints ----


def publish_checkpoint(staged: Path, final: Path) -> None:
    """Give a complete checkpoint its name; an earlier one of the same step is replaced file by file."""
    _flush(staged)
    if final.exists():
        _move_in(staged, final, last="trainer_state.json")
        shutil.rmtree(staged)
    else:
        os.replace(staged, final)


def rotate_checkpoints(run_dir: Path, limit: int | None, *, keep: set[str]) -> None:
    """Remove the oldest checkpoints above a limit; `keep` names those that stay in any case.

    A folder first leaves its name, so that a kill never leaves half a checkpoint under it.
    """
    found = [Path(path) for path in sort_checkpoints(str(run_dir))]
    surplus = len(found) - max(limit, len(keep)) if limit and limit > 0 else 0
    for checkpoint in [one for one in found if one.name not in keep][: max(0, surplus)]:
        leaving = run_dir / UNFINISHED / f"old-{checkpoint.name}"
        _remove(leaving)
        os.replace(checkpoint, leaving)
        shutil.rmtree(leaving, ignore_errors=True)


# ---- what went wrong ----


def disk_is_full(error: BaseException | None, folder: Path) -> bool:
    """Whether an error means that the disk is full, whichever library raised it."""
    while error is not None:
        text = str(error)
        if getattr(error, "errno", None) in FULL or any(f"os error {number}" in text for number in FULL):
            return True
        if "PytorchStreamWriter" in text and not _has_room(folder):  # it does not say why
            return True
        error = error.__cause__ or error.__context__
    return False


def _has_room(folder: Path) -> bool:
    probe = folder / f"{UNFINISHED}-room"
    try:
        probe.write_bytes(bytes(LITTLE))
    except OSError as error:
        return error.errno not in FULL
    finally:
        probe.unlink(missing_ok=True)
    return True


def save_error(what: str, folder: Path, error: BaseException, remains: str = "") -> SaveError:
    """Make the error for something that could not be saved: why, what remains and, for a full disk, what to do."""
    cause = str(error).strip() or type(error).__name__
    lines = [f"{what} could not be saved to {folder}: {cause.rstrip('.')}.", remains]
    if disk_is_full(error, folder):
        lines.append("The disk or quota is full: free some space, or choose another output_dir.")
    return SaveError(" ".join(line for line in lines if line))
