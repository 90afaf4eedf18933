"""Paths in tables: relative to their own table, as people have written them, and told of when nothing is there."""

from pathlib import Path

import pytest

from modeling_data2vec.trainers.sources.located_files import FileFinder, locate

SUFFIXES = {".wav", ".mp3", ".flac"}


def find(folder: Path, path: str) -> str | None:
    found = FileFinder(SUFFIXES)(str(folder), path)
    return found and str(Path(found).relative_to(folder))


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "clips/b.mp3", "clips/v1.2.flac", "clips/deep/c.wav", "d.wav", "d.flac", "d.txt"):
        (tmp_path / "cv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cv" / name).write_text(name)
    return tmp_path / "cv"


@pytest.mark.parametrize(
    "path, file",
    [
        ("a.wav", "a.wav"),
        ("./a.wav", "./a.wav"),
        ("clips/b.mp3", "clips/b.mp3"),
        ("b.mp3", "clips/b.mp3"),  # Common Voice
        ("b", "clips/b.mp3"),  # Common Voice as it was
        ("a.mp3", "a.wav"),  # converted
        ("v1.2", "clips/v1.2.flac"),
        ("clips\\b.mp3", "clips/b.mp3"),
        ("deep/c.wav", "clips/deep/c.wav"),
        ("d.wav", "d.wav"),
        ("d.mp3", None),  # either of two
        ("d", None),
        ("c.wav", None),
        ("", None),
        ("clips", None),
    ],
)
def test_the_file_that_a_path_means(folder, path, file):
    found = find(folder, path)
    assert (found and Path(found)) == (file and Path(file))


def test_accents_of_another_system(folder):
    """Archives that a Mac packed hold names in two characters a letter; tables have them in one."""
    for name in ("cafe\u0301.wav", "u\u0308.flac"):
        (folder / name).write_text(name)
    assert find(folder, "caf\u00e9.wav") == "cafe\u0301.wav"
    assert find(folder, "\u00fc") == "u\u0308.flac"


def test_absolute_paths_and_parents(folder, tmp_path):
    finder = FileFinder(SUFFIXES)
    assert finder(str(tmp_path / "lists"), str(folder / "a.wav")) == str(folder / "a.wav")
    (tmp_path / "lists").mkdir()
    assert Path(finder(str(tmp_path / "lists"), "../cv/a.wav")).samefile(folder / "a.wav")
    assert finder(str(folder), "/nowhere/a.wav") is None


def test_a_name_in_two_folders_beside_the_table_is_none(folder):
    (folder / "other").mkdir()
    (folder / "other" / "b.mp3").write_text("another")
    assert find(folder, "b.mp3") is None


def test_missing_files_are_counted_and_looked_for(folder, caplog):
    message = rf"2 of 2 files in column 'path' of x.tsv are missing; the first is {folder}/c.wav. A file of that name "
    with pytest.raises(
        ValueError, match=message + rf"lies in {folder}/clips/deep: write clips/deep/c.wav in the table"
    ):
        locate([str(folder)] * 2, ["c.wav", "e.wav"], SUFFIXES, what="column 'path' of x.tsv")
    with pytest.raises(
        ValueError, match=rf"1 of 1 file .*e.wav: paths are relative to the folder of their table, {folder}"
    ):
        locate([str(folder)], ["e.wav"], SUFFIXES, what="x.tsv")
    with pytest.raises(ValueError, match="addresses are not read; download the files"):
        locate([str(folder)], ["https://example.org/e.wav"], SUFFIXES, what="x.tsv")
    found = locate([str(folder)] * 3, ["a.wav", None, "e.wav"], SUFFIXES, what="x.tsv")
    assert found == [str(folder / "a.wav"), None, str(folder / "e.wav")]
    assert "1 of 2 files in x.tsv are missing; the first is" in caplog.text and "passed over" in caplog.text
