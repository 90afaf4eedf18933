"""Which files of a folder are data, in which split, and what is said of those that are left out."""

import os
from pathlib import Path

import pytest

from modeling_data2vec.trainers.modalities.audio import AUDIO
from modeling_data2vec.trainers.modalities.images import IMAGES
from modeling_data2vec.trainers.modalities.text import TEXTS
from modeling_data2vec.trainers.sources.source_files import list_files, split_files, split_tables, without_companions


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


# ---- splits ----


def splits(folder: Path, *names: str, split=split_files, **options) -> dict[str, list[str]]:
    make(folder, *names)
    return {name: listed_in(folder, part) for name, part in split(list_files(folder), folder, **options).items()}


def listed_in(folder: Path, files: list[Path]) -> list[str]:
    return [str(file.relative_to(folder)) for file in files]


def test_photos_of_any_name_are_one_set(tmp_path, caplog):
    names = ["car.png", "dog.png", "test tubes.png", "test.png", "train.png"]
    assert splits(tmp_path, *names) == {"train": names}
    assert not caplog.text


def test_classes_of_any_name_are_one_set(tmp_path, caplog):
    names = ["dog/1.png", "rain/1.png", "train/1.png"]
    assert splits(tmp_path, *names) == {"train": names}
    assert not caplog.text


def test_folders_of_splits_among_others_are_told(tmp_path, caplog):
    names = ["extra/1.png", "test/1.png", "train/1.png"]
    assert splits(tmp_path, *names) == {"train": names}
    assert "holds test, train, which are names of splits, and extra, which are not: all are read as" in caplog.text


def test_texts_of_splits_among_others_are_an_error(tmp_path, caplog):
    assert splits(tmp_path / "books", "rain.txt", "train.txt", hold_many=True) == {"train": ["rain.txt", "train.txt"]}
    assert not caplog.text
    assert splits(tmp_path / "one", "rain.txt", "test.txt", hold_many=True) == {"train": ["rain.txt", "test.txt"]}
    assert "holds test.txt, which are names of splits, and rain.txt" in caplog.text
    with pytest.raises(ValueError, match="holds test.txt, train.txt, which are names of splits, and notes.txt"):
        splits(tmp_path / "more", "notes.txt", "test.txt", "train.txt", hold_many=True)


def test_tables_that_are_named_as_splits_are_the_splits(tmp_path, caplog):
    names = ["dev.tsv", "invalidated.tsv", "test.tsv", "train.tsv", "validated.tsv"]
    found = splits(tmp_path, *names, split=split_tables)
    assert found == {"dev": ["dev.tsv"], "test": ["test.tsv"], "train": ["train.tsv"]}
    assert "Leaving out 2 tables" in caplog.text and "invalidated.tsv, validated.tsv" in caplog.text
    assert splits(tmp_path / "parts", "a.tsv", "b.tsv", split=split_tables) == {"train": ["a.tsv", "b.tsv"]}


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
