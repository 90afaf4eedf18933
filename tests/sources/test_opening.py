"""Layouts of data as people have them: each gives its samples, in their splits, or is refused by its name."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.media.image_transform import decode_image
from modeling_data2vec.trainers.modalities.image import load_images
from modeling_data2vec.trainers.modalities.pairs import load_pairs
from modeling_data2vec.trainers.modalities.speech import TRANSCRIBED, AudioReader, clip_lengths, load_audio
from modeling_data2vec.trainers.modalities.text import TEXTS, load_text
from modeling_data2vec.trainers.sources.loading import load_source, open_source
from modeling_data2vec.trainers.sources.shards import shard_sizes

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture(params=[False, True], ids=["indexed", "streamed"])
def streaming(request):
    return request.param


def photo(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path)
    return path


def clip(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(round(seconds * 16_000)) / 10), 16_000)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def files(opened, root: Path) -> list[str]:
    """Files of an opened source below a folder; all exist."""
    dataset, column = opened
    found = [Path(row[column]["path"]).resolve() for row in dataset]
    assert all(file.is_file() for file in found)
    return [str(file.relative_to(root.resolve())) for file in found]


def transcripts(source: Path, root: Path, split: str = "train") -> dict[str, str]:
    dataset, column = load_source(str(source), TRANSCRIBED, split=split)
    text = next(name for name in ("text", "sentence", "transcription") if name in dataset.column_names)
    return dict(zip(files((dataset, column), root), dataset[text], strict=True))


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
    with pytest.raises(
        ValueError, match="no file or folder 'data/photos' here|not a folder of images.*does not exist"
    ) as e:
        load_images(source)
    assert source in str(e.value)


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


# ---- corpora of speech ----


@pytest.fixture
def common_voice(tmp_path):
    folder = tmp_path / "cv"
    for index in range(4):
        clip(folder / "clips" / f"{index}.mp3")
    for name, rows in {"train": [0, 1], "dev": [2], "test": [3], "validated": [0, 1, 2, 3], "invalidated": []}.items():
        lines = [f'x\t{index}.mp3\t"hello {index}' for index in rows]
        write(folder / f"{name}.tsv", "client_id\tpath\tsentence", *lines)
    return folder


def test_common_voice_as_downloaded(common_voice, caplog):
    expected = {"train": [0, 1], "dev": [2], "test": [3]}
    for split, rows in expected.items():
        said = {f"clips/{index}.mp3": f'"hello {index}' for index in rows}
        assert transcripts(common_voice, common_voice, split) == said
        assert transcripts(common_voice / f"{split}.tsv", common_voice) == said
        assert files(load_audio(str(common_voice), split=split), common_voice) == list(said)
    assert "Leaving out 2 tables" in caplog.text and "invalidated.tsv, validated.tsv" in caplog.text
    assert len(transcripts(common_voice / "validated.tsv", common_voice)) == 4
    assert len(load_audio(str(common_voice / "clips"))[0]) == 4
    with pytest.raises(ValueError, match=r"no split 'validated', only \['dev', 'test', 'train'\]"):
        load_audio(str(common_voice), split="validated")


def test_common_voice_without_suffixes(common_voice, streaming):
    write(common_voice / "old.tsv", "path\tsentence", "0\ta", "3\tb")
    opened = load_audio(str(common_voice / "old.tsv"), streaming=streaming)
    assert files(opened, common_voice) == ["clips/0.mp3", "clips/3.mp3"]


def test_files_of_a_table_that_are_elsewhere(common_voice, streaming):
    (common_voice / "clips").rename(common_voice.parent / "sound")
    place = common_voice.parent / "sound"
    message = rf"2 of 2 files in .*column 'path' of .*train.tsv are missing; the first is {common_voice}/0.mp3"
    with pytest.raises(ValueError, match=rf"{message}. A file of that name lies in {place}: write ../sound/0.mp3 in"):
        load_audio(str(common_voice / "train.tsv"), streaming=streaming)


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.json"])
def test_offsets_of_nemo(tmp_path, name, streaming):
    clip(tmp_path / "long.wav", seconds=6)
    rows = [{"audio_filepath": "long.wav", "offset": i, "duration": 1.5, "text": f"{i}"} for i in (0, 2.25, 4)]
    rows.append({"audio_filepath": "long.wav", "offset": 5.5, "text": "the end"})
    write(tmp_path / name, *map(json.dumps, rows))
    dataset, column = load_audio(str(tmp_path / name), streaming=streaming)
    reader = AudioReader(Wav2Vec2FeatureExtractor(do_normalize=False), column)
    whole = np.sin(np.arange(6 * 16_000) / 10)
    for row, (first, last) in zip(dataset, [(0, 1.5), (2.25, 3.75), (4, 5.5), (5.5, 6)], strict=True):
        expected = whole[round(first * 16_000) : round(last * 16_000)]
        assert np.abs(reader(row)["input_values"].numpy() - expected).max() < 1e-4
    if not streaming:
        assert clip_lengths(dataset, reader) == [24_000, 24_000, 24_000, 8_000]
    assert reader.name(next(iter(dataset))).endswith("long.wav (0 to 1.5 seconds)")


def test_offsets_of_a_csv(tmp_path):
    clip(tmp_path / "long.wav", seconds=3)
    write(tmp_path / "list.csv", "audio_filepath,offset,duration,text", "long.wav,1,0.5,007", "long.wav,,,1")
    dataset, column = load_audio(str(tmp_path / "list.csv"))
    reader = AudioReader(Wav2Vec2FeatureExtractor(), column)
    assert [len(reader(row)["input_values"]) for row in dataset] == [8_000, 48_000] == clip_lengths(dataset, reader)


@pytest.mark.parametrize("root", [".", "corpus", "/old/place/corpus", "{absolute}"])
def test_fairseq_with_labels(tmp_path, root):
    for name in ("a/0.flac", "b/1.flac", "b/2.flac"):
        clip(tmp_path / "corpus" / name)
    place = tmp_path / "corpus" if root == "." else tmp_path
    first = root.format(absolute=tmp_path / "corpus")
    write(place / "train.tsv", first, "a/0.flac\t8000", "b/1.flac\t8000")
    write(place / "train.ltr", "H E L L O | W O R L D |", "0 0 7 |")
    write(place / "valid.tsv", first, "b/2.flac\t8000")
    write(place / "valid.ltr", "B Y E |")
    write(place / "dict.ltr.txt", "E 3")
    assert transcripts(place, tmp_path) == {"corpus/a/0.flac": "HELLO WORLD", "corpus/b/1.flac": "007"}
    assert transcripts(place, tmp_path, "valid") == {"corpus/b/2.flac": "BYE"}
    assert files(load_audio(str(place), split="valid"), tmp_path) == ["corpus/b/2.flac"]
    write(place / "train.wrd", "hello world", "double 0 7")
    assert list(transcripts(place / "train.tsv", tmp_path).values()) == ["hello world", "double 0 7"]
    write(place / "train.wrd", "hello world")
    with pytest.raises(ValueError, match=r"train.wrd has 1 line, but .*train.tsv lists 2 recordings"):
        open_source(str(place), TRANSCRIBED)


@pytest.mark.parametrize("root", [".", "corpus", "/old/corpus"])
def test_fairseq_by_a_relative_path(tmp_path, monkeypatch, root):
    clip(tmp_path / "lists" / ("" if root == "." else "corpus") / "0.flac")
    write(tmp_path / "lists" / "train.tsv", root, "0.flac\t8000")
    monkeypatch.chdir(tmp_path)
    for source in ("lists", "lists/train.tsv"):
        assert [Path(file).name for file in files(load_audio(source), tmp_path)] == ["0.flac"]


def test_fairseq_whose_files_are_gone(tmp_path):
    write(tmp_path / "train.tsv", "/old/place", "0.flac\t8000")
    with pytest.raises(ValueError, match="1 of 1 file in .*train.tsv are missing; the first is /old/place/0.flac"):
        load_audio(str(tmp_path / "train.tsv"))


def test_librispeech_as_downloaded(tmp_path, caplog):
    root = tmp_path / "LibriSpeech"
    for folder, numbers in {"train-clean-100/1/2": (0, 1), "dev-clean/3/4": (0, 1)}.items():
        speaker = "-".join(folder.split("/")[1:])
        for number in numbers:
            clip(root / folder / f"{speaker}-000{number}.flac")
        write(
            root / folder / f"{speaker}.trans.txt", f"{speaker}-0000 NULL AND NA", f"{speaker}-0001 SAID BY {speaker}"
        )
    write(root / "README.TXT", "a corpus")
    clip(root / "dev-clean/3/4/3-4-0002.flac")
    said = {"train-clean-100/1/2/1-2-0000.flac": "NULL AND NA", "train-clean-100/1/2/1-2-0001.flac": "SAID BY 1-2"}
    assert transcripts(root, root) == said and not caplog.text
    assert list(transcripts(root, root, "dev").values()) == ["NULL AND NA", "SAID BY 3-4", None]
    assert "1 of 3 audio files of" in caplog.text and "have no transcript" in caplog.text
    assert files(load_audio(str(root)), root) == list(said)


def test_kaldi_is_refused_by_name(tmp_path):
    write(tmp_path / "wav.scp", "utt1 /data/utt1.wav")
    write(tmp_path / "text", "utt1 hello")
    with pytest.raises(ValueError, match=r"is a data folder of Kaldi \(wav.scp\), which is not read: write a TSV"):
        load_audio(str(tmp_path))


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


def test_lj_speech_is_read_for_its_sound_and_its_table_refused_by_its_form(tmp_path, caplog):
    for name in ("LJ1", "LJ2"):
        clip(tmp_path / "wavs" / f"{name}.wav")
    write(tmp_path / "metadata.csv", "LJ1|In being|in being", "LJ2|Has never|has never")
    assert files(load_audio(str(tmp_path)), tmp_path) == ["wavs/LJ1.wav", "wavs/LJ2.wav"]
    assert "Leaving out 1 table (metadata.csv)" in caplog.text
    with pytest.raises(ValueError, match=r"metadata.csv has one column, .* seem to be separated by vertical bars"):
        load_source(str(tmp_path), TRANSCRIBED)
    write(tmp_path / "metadata.csv", "path,text", "LJ1,in being", "LJ2,has never")
    assert transcripts(tmp_path, tmp_path) == {"wavs/LJ1.wav": "in being", "wavs/LJ2.wav": "has never"}


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
