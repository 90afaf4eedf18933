"""Corpora of speech as they are downloaded: Common Voice, NeMo, fairseq, LibriSpeech, LJ Speech; Kaldi is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from source_folders import clip, files, transcripts, write
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers.modalities.speech import TRANSCRIBED, AudioReader, clip_lengths, load_audio
from modeling_data2vec.trainers.sources.loading import load_source, open_source

pytestmark = pytest.mark.usefixtures("datasets_cache")


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
