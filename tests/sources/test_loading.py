"""Sources as people have them, whatever they hold: tables, folders, splits, and what is said when something lacks."""

import gzip
import json
from pathlib import Path

import datasets
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from modeling_data2vec.trainers.data.samples import IterableSampleDataset
from modeling_data2vec.trainers.modalities.image import IMAGES, load_images
from modeling_data2vec.trainers.sources.loading import (
    Medium,
    list_files,
    load_source,
    open_source,
    prepare_column,
)

pytestmark = pytest.mark.usefixtures("datasets_cache")

NOTES = Medium(noun="note", suffixes=frozenset({".txt"}), columns=("text", "note"))


def rows(num: int = 6) -> list[dict]:
    return [{"note": f"note {i}", "number": i} for i in range(num)]


def write_table(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.split(".", 1)[1]
    if kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif kind.startswith("json"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode())) if kind.endswith("gz") else path.write_text(text)
    else:
        lines = [list(rows[0]), *(map(str, row.values()) for row in rows)]
        path.write_text("".join({"csv": ",", "tsv": "\t"}[kind].join(line) + "\n" for line in lines))
    return path


# ---- tables ----


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "tsv", "jsonl.gz"])
def test_tables_of_every_format(tmp_path, kind, streaming):
    path = write_table(tmp_path / "data" / f"notes.{kind}", rows())
    for source in (path, path.parent):
        dataset, column = load_source(str(source), NOTES, streaming=streaming)
        assert column == "note"
        assert isinstance(dataset, datasets.IterableDataset) == streaming
        assert [row["note"] for row in dataset] == [row["note"] for row in rows()]
        written = str if path.suffix in (".csv", ".tsv") else int
        assert [row["number"] for row in dataset] == [written(number) for number in range(6)]


@pytest.mark.parametrize("streaming", [False, True])
def test_paths_in_a_table_are_relative_to_it(tmp_path, streaming):
    for i in range(3):
        (tmp_path / "files").mkdir(exist_ok=True)
        Image.new("L", (4, 4), i).save(tmp_path / "files" / f"{i}.png")
    names = ["files/0.png", str(tmp_path / "files" / "1.png"), "files/2.png"]
    write_table(tmp_path / "list.csv", [{"image": name, "label": 0} for name in names])
    dataset, column = load_images(str(tmp_path / "list.csv"), streaming=streaming)
    paths = [row[column]["path"] for row in dataset]
    assert paths == [str(tmp_path / "files" / f"{i}.png") for i in range(3)]


def test_paths_without_files_are_an_error():
    dataset = datasets.Dataset.from_dict({"image": ["a.png"]})
    with pytest.raises(ValueError, match="column 'image' of someone/pictures holds paths, but the files don't come"):
        prepare_column(dataset, "someone/pictures", IMAGES)


def test_tables_of_several_formats_are_an_error(tmp_path):
    write_table(tmp_path / "a.csv", rows())
    write_table(tmp_path / "b.jsonl", rows())
    with pytest.raises(ValueError, match=r"several formats, \.csv, \.jsonl: name one file"):
        load_source(str(tmp_path), NOTES)


def test_an_empty_table_is_an_error(tmp_path):
    (tmp_path / "none.csv").write_text("note,number\n")
    with pytest.raises(ValueError, match=r"none.csv \(split 'train'\) is empty: there is nothing to train on"):
        load_source(str(tmp_path / "none.csv"), NOTES)


def test_a_column_that_is_not_there(tmp_path):
    write_table(tmp_path / "notes.csv", rows())
    for streaming in (False, True):
        with pytest.raises(ValueError, match=r"notes.csv has no column 'body', only \['note', 'number'\]"):
            load_source(str(tmp_path / "notes.csv"), NOTES, column="body", streaming=streaming)
        with pytest.raises(ValueError, match=r"0 image columns among \['note', 'number'\]: name one with image_column"):
            load_source(str(tmp_path / "notes.csv"), IMAGES, streaming=streaming)


# ---- folders ----


def test_files_of_the_medium_go_before_tables_and_hidden_files_do_not_count(tmp_path):
    write_table(tmp_path / "about.csv", rows())
    for name in ("b.txt", "deep/er/a.TXT", ".hidden.txt", ".cache/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    dataset, column = load_source(str(tmp_path), NOTES)
    assert (dataset[column], column) == (["b.txt\n", "deep/er/a.TXT\n"], "text")
    assert [path.name for path in list_files(tmp_path)] == ["about.csv", "b.txt", "a.TXT"]


def test_one_file(tmp_path):
    (tmp_path / "one.txt").write_text("one\n\ntwo\n")
    (tmp_path / "other.txt").write_text("three\n")
    assert load_source(str(tmp_path / "one.txt"), NOTES)[0]["text"] == ["one", "two\n"]
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert len(load_images(str(tmp_path / "a.png"))[0]) == 1


def test_sources_that_are_not_there(tmp_path):
    for source in (str(tmp_path / "none"), "./none"):
        with pytest.raises(ValueError, match=r"no file or folder '.*none' here: give a folder of notes"):
            load_source(source, NOTES)
    (tmp_path / "binary.dat").write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"holds no notes \(\.txt\), no tables \(.*\.csv.*\) and no saved dataset"):
        load_source(str(tmp_path), NOTES)


# ---- splits ----


@pytest.mark.parametrize(
    "names",
    [
        ["train.jsonl", "test.jsonl"],
        ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"],
        ["data/train/a.jsonl", "data/train/b.jsonl", "data/test/a.jsonl"],
    ],
)
def test_splits_by_name(tmp_path, names):
    for name in names:
        write_table(tmp_path / name, [{"note": name, "number": 0}])
    for split in ("train", "test"):
        found = load_source(str(tmp_path), NOTES, split=split)[0]["note"]
        assert sorted(found) == sorted(name for name in names if split in name)
    with pytest.raises(ValueError, match=r"no split 'validation', only \['test', 'train'\]"):
        load_source(str(tmp_path), NOTES, split="validation")


def test_what_has_no_splits_is_all_for_training(tmp_path):
    """Else a probe would train and be tested on the same data without a word."""
    path = write_table(tmp_path / "notes.parquet", rows())
    datasets.Dataset.from_list(rows()).save_to_disk(tmp_path / "saved")
    for source in (path, tmp_path, tmp_path / "saved"):
        with pytest.raises(ValueError, match=r"no split 'test', only \['train'\]"):
            load_source(str(source), NOTES, split="test")


# ---- streams ----


@pytest.mark.parametrize("workers", [0, 2])
def test_saved_datasets_stream_to_every_worker_once(tmp_path, workers):
    datasets.Dataset.from_list(rows(40)).save_to_disk(tmp_path / "saved")
    dataset = open_source(str(tmp_path / "saved"), NOTES, streaming=True)
    assert isinstance(dataset, datasets.IterableDataset)

    class Numbers:
        noun = "number"

        def __call__(self, example, rng):
            return {"number": example["number"]}

        def name(self, example):
            return None

    loader = DataLoader(IterableSampleDataset(dataset, Numbers()), batch_size=None, num_workers=workers)
    samples = list(loader)
    assert sorted(sample["number"] for sample in samples) == list(range(40))
    assert len({sample["key"] for sample in samples}) == 40
