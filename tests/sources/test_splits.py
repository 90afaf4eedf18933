"""Splits by the names of files and folders, as people write them; test data are never trained on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_data2vec.trainers.sources.splits import choose_split, split_files, split_tables

SOURCE = Path("source")


def splits(*names: str, split=split_files, **options) -> dict[str, list[str]]:
    """Names of files below a source, by splits."""
    found = split([SOURCE / name for name in names], SOURCE, **options)
    return {name: [str(file.relative_to(SOURCE)) for file in part] for name, part in found.items()}


def test_photos_of_any_name_are_one_set(caplog):
    names = ["car.png", "dog.png", "test tubes.png", "test.png", "train.png"]
    assert splits(*names) == {"train": names}
    assert not caplog.text


@pytest.mark.parametrize("names", [["dog", "rain", "train"], ["bullet train", "eye test", "trains"]])
def test_classes_of_any_name_are_one_set(names, caplog):
    names = [f"{name}/1.png" for name in names]
    assert splits(*names) == {"train": names}
    assert not caplog.text


@pytest.mark.parametrize(
    "train, test",
    [
        ("train", "test"),
        ("Training", "Testing"),  # many of Kaggle's
        ("training_set", "test_set"),
        ("TRAIN", "TEST"),
        ("train2017", "test2017"),  # COCO
        ("train-clean-100", "test-clean"),  # LibriSpeech
        ("seg_train", "seg_test"),
        ("my train set", "my test set"),
        ("trainset", "testset"),
        ("data/v1/train", "data/v1/test"),
    ],
)
def test_spellings_of_splits(train, test):
    """All were one set for training once, without a word."""
    for folder in ("cat/1.png", "2.png"):
        assert splits(f"{train}/{folder}", f"{test}/{folder}") == {
            "train": [f"{train}/{folder}"],
            "test": [f"{test}/{folder}"],
        }
    tables = [f"{train}.csv", f"{test}.csv"]
    assert splits(*tables, split=split_tables) == {"train": tables[:1], "test": tables[1:]}


def test_folders_for_training_and_test_are_splits_among_others(caplog):
    names = ["cover.png", "seg_pred/1.png", "seg_test/1.png", "seg_train/1.png"]
    assert splits(*names) == {"test": names[2:3], "train": names[3:]}
    assert "Leaving out 2 files of source without the name of a split: cover.png, seg_pred/1.png." in caplog.text


def test_one_name_of_a_split_among_others_is_told(caplog):
    names = ["dog/1.png", "test/1.png"]
    assert splits(*names) == {"train": names}
    assert "holds test, which are names of splits, and dog, which are not: all are read as training" in caplog.text


@given(st.lists(st.tuples(st.sampled_from(["train", "dev-clean", "dog", "rain"]), st.integers(0, 3)), min_size=1))
def test_files_are_divided_or_all_for_training(names):
    files = [SOURCE / top / f"{number}.wav" for top, number in dict.fromkeys(names)]
    found = split_files(files, SOURCE)
    tops = {file.parent.name for file in files}
    if tops <= {"train", "dev-clean"} or tops >= {"train", "dev-clean"}:
        files = [file for file in files if file.parent.name in ("train", "dev-clean")]
        assert set(found) == {top.split("-")[0] for top in tops & {"train", "dev-clean"}}
    else:
        assert set(found) == {"train"}
    assert sorted(file for part in found.values() for file in part) == sorted(files)


def test_splits_within_classes_are_refused():
    """They would all be for training, with the classes `train` and `test`."""
    names = [f"{name}/{split}/1.png" for name in ("cat", "dog") for split in ("train", "test")]
    with pytest.raises(ValueError, match=r"source.cat is divided into test and train, which .* name source.cat as"):
        splits(*names)
    with pytest.raises(ValueError, match="de is divided into test.csv and train.csv"):
        splits("de/test.csv", "de/train.csv", "en/train.csv", split=split_tables)
    assert splits("a/train.png", "a/test.png", "b/c.png")["train"]  # single photos may have any name


def test_texts_of_splits_among_others_are_an_error(caplog):
    assert splits("rain.txt", "train.txt", hold_many=True) == {"train": ["rain.txt", "train.txt"]}
    assert not caplog.text
    assert splits("rain.txt", "test.txt", hold_many=True) == {"train": ["rain.txt", "test.txt"]}
    assert "holds test.txt, which are names of splits, and rain.txt" in caplog.text
    with pytest.raises(ValueError, match="holds test.txt, train.txt, which are names of splits, and notes.txt"):
        splits("notes.txt", "test.txt", "train.txt", hold_many=True)


@pytest.mark.parametrize("folder", ["", "cv-corpus/de/"])
def test_tables_that_are_named_as_splits_are_the_splits(folder, caplog):
    names = [f"{folder}{name}.tsv" for name in ("dev", "invalidated", "test", "train", "validated")]
    assert splits(*names, split=split_tables) == {"dev": names[:1], "test": names[2:3], "train": names[3:4]}
    assert "Leaving out 2 tables" in caplog.text and "invalidated.tsv, validated.tsv" in caplog.text
    assert splits("a.tsv", "b.tsv", split=split_tables) == {"train": ["a.tsv", "b.tsv"]}


def test_a_split_is_found_by_another_spelling():
    found = {"train": 1, "test": 2, "Dev": 3}
    assert [choose_split(found, name, SOURCE) for name in ("train", "Test", "testing", "Dev")] == [1, 2, 2, 3]
    for name in ("dev", "other"):
        with pytest.raises(ValueError, match=f"source has no split '{name}', only"):
            choose_split(found, name, SOURCE)
