"""Layouts of data as people have them: each gives its samples, in their splits, or is refused by its name."""

import io
import json
import re
import tarfile
import unicodedata
from pathlib import Path

import datasets
import pytest
from PIL import Image
from source_folders import clip, files, photo, transcripts, write

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.media.image_transform import decode_image
from modeling_data2vec.trainers.modalities.image import load_images
from modeling_data2vec.trainers.modalities.pairs import load_pairs
from modeling_data2vec.trainers.modalities.speech import TRANSCRIBED, load_audio
from modeling_data2vec.trainers.modalities.text import TEXTS, load_text
from modeling_data2vec.trainers.sources.loading import load_source
from modeling_data2vec.trainers.sources.shards import shard_sizes

pytestmark = pytest.mark.usefixtures("datasets_cache")


# ---- folders of files ----


@pytest.mark.parametrize("name", ["photos [2021]", "photos*", "photos?", "a::b", "file:", " ü", "{x}"])
def test_a_folder_of_any_name(tmp_path, name, streaming):
    for place in (name, "photos-private"):
        for file in ("cat/0.png", "dog/[1].png", "__other__/train*.png"):
            photo(tmp_path / place / file)
    opened = load_images(str(tmp_path / name), streaming=streaming)
    assert files(opened, tmp_path / name) == ["__other__/train*.png", "cat/0.png", "dog/[1].png"]
    assert opened[0].features["label"].names == ["__other__", "cat", "dog"]
    assert [row["label"] for row in opened[0]] == [0, 1, 2]
    assert files(load_images(f"{tmp_path / name}/dog/[1].png"), tmp_path / name) == ["dog/[1].png"]


def test_classes_with_accents_from_two_systems_are_the_same(tmp_path):
    """On a Mac, a letter and its accent are two characters."""
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("caf\u00e9", "th\u00e9"):
            photo(tmp_path / split / unicodedata.normalize(form, name) / "0.png")
    for split in ("train", "test"):
        dataset, _ = load_images(str(tmp_path), split=split)
        assert dataset.features["label"].names == ["caf\u00e9", "th\u00e9"] and list(dataset["label"]) == [0, 1]


def test_photos_and_classes_of_the_name_train(tmp_path):
    for name in ("car.png", "cat.png", "dog.png", "test tubes.png", "train.png"):
        photo(tmp_path / "photos" / name)
    assert len(load_images(str(tmp_path / "photos"))[0]) == 5
    for name in ("dog", "rain", "train"):
        for index in range(3):
            photo(tmp_path / "classes" / name / f"{index}.png")
    dataset, _ = load_images(str(tmp_path / "classes"))
    assert dataset.features["label"].names == ["dog", "rain", "train"] and len(dataset) == 9


def test_a_home_a_slash_and_a_link(tmp_path, monkeypatch):
    photo(tmp_path / "photos" / "cat" / "0.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for source in ("~/photos", "~/photos/", f"{tmp_path}/photos//", str(tmp_path / "link"), "~/photos/cat/0.png"):
        assert files(load_images(source), tmp_path) == ["photos/cat/0.png"]
    write(tmp_path / "list.csv", "image", "photos/cat/0.png")
    assert files(load_images("~/list.csv"), tmp_path) == ["photos/cat/0.png"]


def test_sources_of_the_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "cats").mkdir()
    photo(tmp_path / "cats" / "0.png")
    write(tmp_path / "cats" / "list.csv", "image", "0.png")
    monkeypatch.chdir(tmp_path / "cats")
    for source in (".", "./", "0.png", "../cats"):
        dataset, column = load_images(source)
        assert files((dataset, column), tmp_path) == ["cats/0.png"] and dataset.features["label"].names == ["cats"]
    assert files(load_images("list.csv"), tmp_path) == ["cats/0.png"]


def test_the_named_table_alone(tmp_path, streaming):
    write(tmp_path / "notes*.csv", "text,label", "hello,0")
    write(tmp_path / "notes-private.csv", "text,label", "secret,1")
    dataset, _ = load_text(str(tmp_path / "notes*.csv"), streaming=streaming)
    assert [row["text"] for row in dataset] == ["hello"]


def test_a_folder_of_photos_is_no_text(tmp_path):
    for index in range(3):
        photo(tmp_path / f"{index}.png")
    write(tmp_path / "notes.txt", "a note")
    with pytest.raises(ValueError, match=r"holds 3 images, but only 1 text \(notes.txt\): it is no text corpus"):
        load_text(str(tmp_path))
    assert len(load_images(str(tmp_path))[0]) == 3
    assert load_text(str(tmp_path / "notes.txt"))[0]["text"] == ["a note\n"]


@pytest.mark.parametrize("name", ["data.zip", "shard-000.tar", "data.tar.gz", "data.tgz"])
def test_archives_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ValueError, match=rf"{name} is an archive, which is not read: unpack it"):
        load_images(str(tmp_path / name))
    with pytest.raises(ValueError, match=rf"holds no audio files .* but 1 archive \({name}\): unpack them"):
        load_audio(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["data/photos", "a/b/c", "photos [2021]", "no such", "-", "~/none", "", "csv", "https://a.b/c.csv"]
)
def test_a_missing_path_is_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"there is no file or folder {source!r} here")):
        load_images(source)


def test_an_address_is_not_read():
    with pytest.raises(ValueError, match="addresses are not read; download the files, .* or a Hub id"):
        load_images("https://a.b/c.csv")


# ---- tables about files ----


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("medium", ["images", "clips"])
def test_metadata_beside_each_split(tmp_path, kind, medium):
    make, load, suffix = (photo, load_images, "png") if medium == "images" else (clip, load_audio, "wav")
    for split in ("train", "test"):
        rows = [{"file_name": f"{split}{index}.{suffix}", "text": f"{split} {index}"} for index in range(2)]
        for row in rows:
            make(tmp_path / split / row["file_name"])
        path = tmp_path / split / f"metadata.{kind}"
        if kind == "parquet":
            datasets.Dataset.from_list(rows).to_parquet(path)
        elif kind == "jsonl":
            write(path, *map(json.dumps, rows))
        else:
            write(path, "file_name,text", *(",".join(row.values()) for row in rows))
    make(tmp_path / "test" / f"not listed.{suffix}")
    for split in ("train", "test"):
        dataset, column = load(str(tmp_path), split=split)
        assert files((dataset, column), tmp_path) == [f"{split}/{split}{index}.{suffix}" for index in range(2)]
        assert list(dataset["text"]) == [f"{split} {index}" for index in range(2)]
        assert transcripts(tmp_path, tmp_path, split) if medium == "clips" else True


def test_rows_of_one_table_are_in_the_splits_of_their_files(tmp_path, caplog):
    """A table above `train` and `test` must not bring the one into the other."""
    names = ["train/cat/0.png", "train/dog/1.png", "test/cat/2.png"]
    for name in [*names, "train/dog/3.png"]:
        photo(tmp_path / name)
    write(tmp_path / "metadata.csv", "file_name,caption", *(f"{name},007" for name in names))
    for split in ("train", "test"):
        dataset, column = load_images(str(tmp_path), split=split)
        assert files((dataset, column), tmp_path) == [name for name in names if name.startswith(split)]
        assert set(dataset["caption"]) == {"007"}
        assert dataset.features["label"].names == ["cat", "dog"]
    assert "Leaving out 1 of 3 images" in caplog.text and "no table lists" in caplog.text
    dataset, column = load_images(str(tmp_path), split="test", streaming=True)
    assert files((dataset, column), tmp_path) == ["test/cat/2.png"]


@pytest.mark.parametrize("name", ["metadata.csv", "list.csv"])
def test_a_column_divides_the_rows_of_one_table(tmp_path, name, caplog):
    """A table with test data in it was trained on as a whole, without a word."""
    names = ["a/0.png", "b/1.png", "a/2.png", "b/3.png", "a/4.png"]
    for file in names:
        photo(tmp_path / file)
    cells = ["Train", "test", "train", "extra", ""]
    source = tmp_path if name == "metadata.csv" else tmp_path / name
    write(tmp_path / name, "file_name,split", *map(",".join, zip(names, cells, strict=True)))
    for split, rows in (("train", (0, 2)), ("Testing", (1,)), ("extra", (3,))):
        opened = load_images(str(source), split=split)
        assert files(opened, tmp_path) == [names[row] for row in rows]
        if name == "metadata.csv":
            assert opened[0].features["label"].names == ["a", "b"]
            assert opened[0]["label"] == [row % 2 for row in rows]
    with pytest.raises(ValueError, match=r"no split 'dev', only \['extra', 'test', 'train'\]: .* by a column 'split'"):
        load_images(str(source), split="dev")
    assert "no table lists" not in caplog.text
    for other in (["train"] * 5, ["left", "right", "left", "right", "left"]):
        write(tmp_path / name, "file_name,split", *map(",".join, zip(names, other, strict=True)))
        assert len(load_images(str(source))[0]) == 5
        with pytest.raises(ValueError, match=r"no split 'test', only \['train'\]"):
            load_images(str(source), split="test")


def test_a_column_does_not_divide_a_stream(tmp_path, caplog):
    write(tmp_path / "list.csv", "text,Split", "a,train", "b,test")
    assert [row["text"] for row in load_text(str(tmp_path / "list.csv"), split="test")[0]] == ["b"]
    assert len(list(load_text(str(tmp_path / "list.csv"), streaming=True)[0])) == 2
    assert "has a column 'Split', which is not read in a stream" in caplog.text


def test_labels_of_metadata_are_those_of_the_table(tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    write(tmp_path / "metadata.csv", "file_name,label", "b.png,7", "a.png,")
    dataset, column = load_images(str(tmp_path))
    assert column == "image" and list(dataset["label"]) == ["7", None]
    assert files((dataset, column), tmp_path) == ["b.png", "a.png"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_path_is_relative_to_its_own_table(tmp_path, kind, streaming):
    for folder in ("data/a", "data/b"):
        clip(tmp_path / folder / "0.wav")
        datasets.Dataset.from_dict({"path": ["0.wav"], "text": [folder]}).to_parquet(tmp_path / folder / "list.parquet")
        write(tmp_path / folder / "list.csv", "path,text", f"0.wav,{folder}")
        (tmp_path / folder / f"list.{'csv' if kind == 'parquet' else 'parquet'}").unlink()
    dataset, column = load_source(str(tmp_path), TRANSCRIBED, streaming=streaming)
    assert files((dataset, column), tmp_path) == ["data/a/0.wav", "data/b/0.wav"]
    assert [row["text"] for row in dataset] == ["data/a", "data/b"]


def test_pairs_are_relative_to_their_own_table(tmp_path):
    photo(tmp_path / "data" / "0.png")
    clip(tmp_path / "data" / "clips" / "0.wav")
    write(tmp_path / "data" / "pairs.csv", "image,audio,text", "0.png,clips/0.wav,null")
    dataset, columns = load_pairs(str(tmp_path))
    assert [Path(dataset[0][columns[name]]["path"]).is_file() for name in ("vision", "audio")] == [True, True]
    assert dataset[0]["text"] == "null"


def test_numbers_for_text_are_an_error(tmp_path):
    photo(tmp_path / "0.png")
    write(tmp_path / "pairs.jsonl", '{"image": "0.png", "text": 7}')
    for load in (load_pairs, load_text):
        with pytest.raises(ValueError, match=r"column 'text' of .* holds .*int64.*, not text: .* in JSON in quotes"):
            load(str(tmp_path / "pairs.jsonl"))


# ---- odd files ----


def test_a_text_corpus_with_a_licence(tmp_path, caplog):
    write(tmp_path / "a.txt", "one")
    write(tmp_path / "README.txt", "about")
    write(tmp_path / "LICENSE", "free")
    assert load_source(str(tmp_path), TEXTS)[0]["text"] == ["one\n"]
    assert "Leaving out README.txt" in caplog.text


@pytest.mark.parametrize(
    "name, content",
    [("a.csv", ""), ("a.csv", "\n\n"), ("a.tsv", "text\n"), ("a.jsonl", ""), ("a.json", "[]"), ("a.txt", "")],
)
def test_nothing_in_a_file(tmp_path, name, content, streaming):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} \(split 'train'\) is empty: there is nothing to train on"):
        load_text(str(tmp_path / name), streaming=streaming)


def test_a_table_without_a_header(tmp_path):
    write(tmp_path / "a.csv", "0.wav,hello", "1.wav,bye")
    with pytest.raises(ValueError, match=r"0 audio columns among \['0.wav', 'hello'\]: .*the first line of a CSV"):
        load_audio(str(tmp_path / "a.csv"))


def test_a_readme_beside_tables_is_no_corpus(tmp_path, caplog):
    write(tmp_path / "README.txt", "about")
    write(tmp_path / "data.csv", "text", "007")
    assert load_text(str(tmp_path))[0]["text"] == ["007"]
    write(tmp_path / "book.txt", "a book")
    assert load_text(str(tmp_path))[0]["text"] == ["a book\n"]
    assert "Leaving out 1 table (data.csv) beside the texts of" in caplog.text


def test_figures_about_photos_do_not_replace_them(tmp_path):
    photo(tmp_path / "a" / "0.png")
    datasets.Dataset.from_dict({"distance": [1.0]}).to_parquet(tmp_path / "figures.parquet")
    write(tmp_path / "a" / "train.json", "{", '  "images": []', "}")
    assert files(load_images(str(tmp_path)), tmp_path) == ["a/0.png"]


def test_damaged_saved_datasets(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(ValueError, match="saved is no whole saved dataset"):
        load_text(str(tmp_path / "saved"))


def test_a_broken_table_is_one_line_and_leaves_nothing(tmp_path, capsys):
    write(tmp_path / "ragged.csv", "text,label", "good,1", "bad,0,3")
    assert run("tokenizer", ["--dataset", str(tmp_path / "ragged.csv"), "--output_dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(
        f"data2vec tokenizer: {tmp_path}/ragged.csv, line 3, has 3 cells, but the first line names"
    )
    assert not (tmp_path / "out").exists()


# ---- shards of WebDataset ----


def write_shard(path, names, suffix="png"):
    """A tar file with a grey picture and a class of each name."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for number, name in enumerate(names):
            picture = io.BytesIO()
            Image.new("L", (8, 8), 10 * number).save(picture, "png")
            for ending, content in ((suffix, picture.getvalue()), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def test_shards_of_webdataset_are_read_as_a_stream(tmp_path):
    for number, name in enumerate(["train-000[0].tar", "train-001.tar.gz", "test-000.tgz"]):
        write_shard(tmp_path / name, [f"{number}/{sample}" for sample in "abc"])
    (tmp_path / "train_stats.json").write_text('{"count": 6}')  # as img2dataset leaves it
    (tmp_path / "notes.csv").write_text("url\nhttps://example.com/a.png\n")
    for split, number in (("train", 6), ("test", 3)):
        dataset, column = load_images(str(tmp_path), split=split, streaming=True)
        assert column == "png" and [row["cls"] for row in dataset] == number // 3 * [0, 1, 2]
        assert sum(shard_sizes(dataset)) == number
    alone, column = load_images(str(tmp_path / "train-000[0].tar"), streaming=True)
    sample = next(iter(alone))[column]
    assert sample["path"] == "0/a.png" and decode_image(sample, 1).size == (8, 8)
    with pytest.raises(ValueError, match="or, if it is a shard of WebDataset, read it as a stream"):
        load_images(str(tmp_path / "test-000.tgz"))
    for content in (b"", b"no archive at all"):
        (tmp_path / "broken.tar").write_bytes(content)
        with pytest.raises(ValueError, match="broken.tar is no shard of WebDataset"):
            load_images(str(tmp_path / "broken.tar"), streaming=True)
