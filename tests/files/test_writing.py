"""Files and folders appear whole or not at all, whoever writes them, and nothing else stays behind."""

import errno
import os
import stat
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from modeling_data2vec.trainers.files.writing import (
    clear_unfinished,
    disk_is_full,
    new_file,
    new_files,
    new_folder,
    publish_checkpoint,
    rotate_checkpoints,
    save_error,
    write_text,
)
from modeling_data2vec.trainers.monitoring.curves import save_figure


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


class Broken(BaseException):
    """As a signal is: no Exception."""


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "table.json"
    write_text(path, "first ü")
    assert path.read_bytes() == "first ü".encode()
    with pytest.raises(Broken), new_file(path) as unfinished:
        unfinished.write_text("hal")
        assert path.read_text() == "first ü"
        raise Broken
    assert tree(tmp_path) == {"new/table.json": "first ü"}


@pytest.mark.parametrize("make", [new_file, new_folder, new_files])
def test_no_folder_is_left_of_a_failure(tmp_path, make):
    with pytest.raises(Broken), make(tmp_path / "a" / "b") as unfinished:
        assert unfinished.parent.is_dir()
        raise Broken
    assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    path = save_figure(Figure(), tmp_path / "curves.png")
    before = path.read_bytes()

    def half(self, path, **options):
        Path(path).write_bytes(before[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="No space"):
        save_figure(Figure(), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["curves.png"]


def test_rights_are_those_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
        with new_folder(tmp_path / "folder") as unfinished:
            (unfinished / "x").write_text("x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_what_is_no_plain_file_is_written_through(tmp_path):
    with new_file("/dev/null") as path:
        assert path == Path("/dev/null")
    assert Path("/dev/null").is_char_device()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "elsewhere.txt")
    write_text(link, "x")
    assert link.is_symlink() and (tmp_path / "elsewhere.txt").read_text() == "x"


def test_a_folder_is_there_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "model") as unfinished:
        (unfinished / "config.json").write_text("{}")
        assert not (tmp_path / "model").exists()
    assert tree(tmp_path) == {"model/config.json": "{}"}


def test_what_a_killed_process_left_is_not_taken_for_new(tmp_path):
    """Half a checkpoint, and half a file of an earlier try, in the places where new ones are prepared."""
    for name in ("files/checkpoint-8/model.safetensors", "files/half.txt"):
        (tmp_path / ".incomplete" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".incomplete" / name).write_text("half")
    (tmp_path / ".incomplete-model").mkdir()
    (tmp_path / ".incomplete-model" / "half.txt").write_text("half")
    with new_files(tmp_path) as unfinished:
        (unfinished / "audio").mkdir()
        (unfinished / "audio" / "config.json").write_text("{}")
    with new_folder(tmp_path / "model") as unfinished:
        (unfinished / "config.json").write_text("{}")
    assert tree(tmp_path) == {"audio/config.json": "{}", "model/config.json": "{}"}


def test_files_move_in_beside_others(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("old")
    with new_files(tmp_path) as unfinished:
        (unfinished / "config.json").write_text("new")
        assert (tmp_path / "config.json").read_text() == "old"
    assert tree(tmp_path) == {"notes.txt": "mine", "config.json": "new"}
    assert not (tmp_path / ".incomplete").exists()


def test_leftovers_go_and_the_lock_stays(tmp_path):
    for name in (".incomplete/checkpoint-4/x", ".incomplete/run.lock", ".incomplete-masks.png", ".gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    clear_unfinished(tmp_path)
    assert sorted(tree(tmp_path)) == [".gitignore", ".incomplete/run.lock"]


# ---- checkpoints ----


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("keep", "limit", "left"),
    [
        ({"checkpoint-16"}, 2, ["checkpoint-12", "checkpoint-16"]),
        ({"checkpoint-16", "checkpoint-4"}, 2, ["checkpoint-16", "checkpoint-4"]),
        ({"checkpoint-16", "checkpoint-4"}, 1, ["checkpoint-16", "checkpoint-4"]),
        ({"checkpoint-8"}, 1, ["checkpoint-8"]),  # just written by a run that went on from checkpoint-4
        ({"checkpoint-16"}, None, ["checkpoint-12", "checkpoint-16", "checkpoint-4", "checkpoint-8"]),
        ({"checkpoint-16"}, 0, ["checkpoint-12", "checkpoint-16", "checkpoint-4", "checkpoint-8"]),
    ],
)
def test_the_oldest_checkpoints_above_the_limit_go(tmp_path, keep, limit, left):
    for step in (4, 8, 12, 16):
        write_text(tmp_path / f"checkpoint-{step}" / "trainer_state.json", "{}")
    (tmp_path / ".incomplete").mkdir()
    rotate_checkpoints(tmp_path, limit, keep=keep)
    assert checkpoints(tmp_path) == left
    assert not list((tmp_path / ".incomplete").iterdir())


def test_a_checkpoint_half_removed_has_lost_its_name(tmp_path, monkeypatch):
    for step in (4, 8):
        write_text(tmp_path / f"checkpoint-{step}" / "trainer_state.json", "{}")
    (tmp_path / ".incomplete").mkdir()

    def killed(*arguments, **options):
        raise Broken

    monkeypatch.setattr("modeling_data2vec.trainers.files.writing.shutil.rmtree", killed)
    with pytest.raises(Broken):
        rotate_checkpoints(tmp_path, 1, keep={"checkpoint-8"})
    assert checkpoints(tmp_path) == ["checkpoint-8"]


def test_a_step_saved_twice_is_never_away(tmp_path, monkeypatch):
    final, staged = tmp_path / "checkpoint-4", tmp_path / ".incomplete" / "checkpoint-4"
    for folder, text in ((final, "old"), (staged, "new")):
        write_text(folder / "trainer_state.json", text)
        write_text(folder / "model.safetensors", text)
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append(sorted(os.listdir(final))), replace(*paths)))
    publish_checkpoint(staged, final)
    assert all(names == ["model.safetensors", "trainer_state.json"] for names in seen) and len(seen) == 2
    assert tree(tmp_path) == {"checkpoint-4/trainer_state.json": "new", "checkpoint-4/model.safetensors": "new"}


# ---- what went wrong ----

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
]
OTHER = [
    PermissionError(errno.EACCES, "Permission denied"),
    RuntimeError("Some tensors share memory"),
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),  # and there is room
    OSError(errno.EIO, "Input/output error"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_named_last(tmp_path, error):
    assert disk_is_full(error, tmp_path)
    text = str(save_error("checkpoint-8", tmp_path, error, "Complete so far: checkpoint-4."))
    assert text.startswith(f"checkpoint-8 could not be saved to {tmp_path}: ") and "Complete so far" in text
    assert text.endswith("The disk or quota is full: free some space, or choose another output_dir.")


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_faults_are_not_a_full_disk(tmp_path, error):
    assert not disk_is_full(error, tmp_path)
    text = str(save_error("checkpoint-8", tmp_path, error))
    assert str(error) in text and "space" not in text
    assert not list(tmp_path.iterdir())
