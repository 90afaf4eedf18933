"""Which files of a folder are data, and what is said of those that are left out."""

import os
from pathlib import Path

import pytest

from modeling_data2vec.trainers.modalities.image import IMAGES
from modeling_data2vec.trainers.modalities.speech import AUDIO
from modeling_data2vec.trainers.modalities.text import TEXTS
from modeling_data2vec.trainers.sources.source_files import list_files, without_companions


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in list_files(folder)]


# ---- files ----


def test_only_a_leading_dot_hides_a_name(tmp_path):
    shown = ["[1].png", "__other__/a.png", "a*b/c.png", "train::x.png", "ü ?.png"]
    make(tmp_path, *shown, ".DS_Store", ".cache/a.png", "__MACOSX/._a.png", "a*b/._c.png")
    assert listed(tmp_path) == sorted(shown)


def test_the_source_itself_may_be_hidden(tmp_path):
    assert listed(make(tmp_path / ".data", "a.png")) == ["a.png"]


def test_links_to_folders_are_followed_once(tmp_path):
    """Else a corpus on another disk is empty, `latest` doubles a year, and a link to a parent has no end."""
    outside = make(tmp_path / "disk", "train/a.png", "test/b.png")
    source = make(tmp_path / "source", "2021/c.png")
    links = {
        "train": outside / "train",
        "test": outside / "test",
        "latest": source / "2021",
        "2021/up": source,
        "2021/higher": tmp_path,
    }
    for name, target in links.items():
        (source / name).symlink_to(target)
    (outside / "train" / "back").symlink_to(outside)
    assert listed(source) == ["2021/c.png", "test/b.png", "train/a.png"]
    (tmp_path / "link").symlink_to(source)
    assert listed(tmp_path / "link") == listed(source)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to the administrator")
def test_a_folder_that_cannot_be_read_is_named(tmp_path, caplog):
    make(tmp_path, "a.png", "lost+found/b.png")
    (tmp_path / "lost+found").chmod(0)
    assert listed(tmp_path) == ["a.png"]
    assert "Leaving out the folder" in caplog.text and "lost+found" in caplog.text
    (tmp_path / "lost+found").chmod(0o700)


# ---- what else is there ----


def companions(folder: Path, medium, *names: str) -> list[str]:
    found = list_files(make(folder, *names))
    files = [file for file in found if file.suffix in medium.suffixes]
    return [file.name for file in without_companions(files, found, medium, folder)]


def test_photos_with_a_note_are_no_text_corpus(tmp_path, caplog):
    names = ["1.jpg", "2.jpg", "3.wav", "notes.txt"]
    with pytest.raises(ValueError, match=r"holds 2 images and 1 audio file, but only 1 text \(notes.txt\): it is no"):
        companions(tmp_path, TEXTS, *names)
    assert companions(tmp_path, IMAGES, *names) == ["1.jpg", "2.jpg"] and not caplog.text
    assert companions(tmp_path, AUDIO, *names) == ["3.wav"]
    assert "Reading 1 audio file of" in caplog.text and "leaving out 2 images" in caplog.text


def test_texts_about_a_corpus_are_no_part_of_it(tmp_path, caplog):
    assert companions(tmp_path, TEXTS, "a.txt", "LICENSE.txt", "README.txt", "licensed.txt") == [
        "a.txt",
        "licensed.txt",
    ]
    assert "Leaving out LICENSE.txt, README.txt of" in caplog.text
    assert companions(tmp_path / "alone", TEXTS, "readme.txt") == ["readme.txt"]


def test_photos_that_cannot_be_read_are_counted(tmp_path, caplog):
    assert companions(tmp_path, IMAGES, "1.jpg", "2.jpg", "3.heic") == ["1.jpg", "2.jpg"]
    assert "leaving out 1 HEIC, raw or vector image" in caplog.text
