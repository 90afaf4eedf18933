"""Speech as people have it: folders, manifests, segments, streams; and what a training sample of it is."""

import json
from pathlib import Path
from random import Random

import datasets
import numpy as np
import pytest
import torch
from recordings import tone, voice, write
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset, UnreadableError
from modeling_data2vec.trainers.media.audio_decoding import decode_audio
from modeling_data2vec.trainers.modalities.speech import AudioReader, clip_lengths, load_audio, load_labelled_audio

pytestmark = pytest.mark.usefixtures("datasets_cache")

EXTRACTOR = Wav2Vec2FeatureExtractor()
# Voices of telephone prompts; a package of Debian has them.
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


@pytest.fixture
def folder(tmp_path):
    """Two speakers, formats and depths of folders; clip i lasts 0.5 + i / 10 seconds."""
    names = ["ann/0.wav", "ann/1.flac", "bob/2.WAV", "bob/3.ogg"]
    for i, name in enumerate(names):
        write(tmp_path / "corpus" / name, voice(0.5 + i / 10, seed=i))
    (tmp_path / "corpus" / "readme.txt").write_text("four clips")
    return tmp_path / "corpus"


def durations(dataset, column) -> list[float]:
    return sorted(round(len(decode_audio(example[column])) / 16_000, 2) for example in dataset)


# ---- sources ----


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_recordings(folder, streaming):
    dataset, column = load_audio(str(folder), streaming=streaming)
    assert column == "audio" and isinstance(dataset, datasets.IterableDataset) == streaming
    assert durations(dataset, column) == [0.5, 0.6, 0.7, 0.8]
    assert sorted(Path(example["audio"]["path"]).name for example in dataset) == ["0.wav", "1.flac", "2.WAV", "3.ogg"]
    assert dataset.features["label"].names == ["ann", "bob"]
    assert [example["label"] for example in dataset] == [0, 0, 1, 1]


def test_splits_of_a_folder(tmp_path):
    for name in ("train-clean-100/ann/0.flac", "train-clean-100/bob/1.flac", "dev-clean/bob/2.flac"):
        write(tmp_path / name, voice(0.2))
    train, dev = (load_audio(str(tmp_path), split=split)[0] for split in ("train", "dev"))
    assert (train["label"], dev["label"]) == ([0, 1], [1])  # bob is the same speaker in both
    with pytest.raises(ValueError, match=r"no split 'test', only \['dev', 'train'\]"):
        load_audio(str(tmp_path), split="test")


def test_a_folder_without_recordings(tmp_path):
    (tmp_path / "readme.txt").write_text("none")
    with pytest.raises(ValueError, match=r"holds no audio files \(.*\.flac.*\.wav.*\), no tables"):
        load_audio(str(tmp_path))
    with pytest.raises(ValueError, match="no file or folder .*none.* here: give a folder of audio files"):
        load_audio(str(tmp_path / "none"))


def write_manifest(folder: Path, kind: str) -> Path:
    """A list of the corpus beside it."""
    path = folder.parent / f"list.{kind}"
    names = sorted(str(file.relative_to(folder.parent)) for file in folder.rglob("*.*") if file.suffix != ".txt")
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    elif kind == "parquet":
        datasets.Dataset.from_dict({"path": names}).to_parquet(path)
    elif kind == "fairseq.tsv":
        lengths = [round(16_000 * (0.5 + i / 10)) for i in range(len(names))]
        lines = (
            f"{Path(name).relative_to(folder.name)}\t{length}\n" for name, length in zip(names, lengths, strict=True)
        )
        path.write_text(f"{folder}\n" + "".join(lines))
    else:
        separator = {"csv": ",", "tsv": "\t"}[kind]
        path.write_text(f"path{separator}speaker\n" + "".join(f"{name}{separator}x\n" for name in names))
    return path


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "fairseq.tsv"])
def test_manifests(folder, kind, streaming):
    dataset, column = load_audio(str(write_manifest(folder, kind)), streaming=streaming)
    assert column == "path"
    assert durations(dataset, column) == [0.5, 0.6, 0.7, 0.8]


def test_manifests_of_fairseq_for_each_split(folder):
    for split in ("train", "valid"):
        write_manifest(folder, "fairseq.tsv").rename(folder.parent / f"{split}.tsv")
    (folder.parent / "dict.ltr.txt").write_text("a 1\n")
    assert len(load_audio(str(folder.parent / "valid.tsv"))[0]) == 4
    (folder.parent / "bad.tsv").write_text(f"{folder}\nann/0.wav\t8000\nann/1.flac\n")
    with pytest.raises(ValueError, match="bad.tsv, line 3, is 'ann/1.flac', but must be a path, a tab and a number"):
        load_audio(str(folder.parent / "bad.tsv"))


@pytest.mark.parametrize("streaming", [False, True])
def test_tables_that_hold_the_recordings(folder, streaming):
    """As a Hub data set does: a column of type Audio, which datasets could not decode without torchcodec."""
    files = sorted(folder.rglob("*.wav"))
    values = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    table = datasets.Dataset.from_dict({"speech": values, "path": [str(file) for file in files]})
    table = table.cast_column("speech", datasets.Audio(decode=False)).cast_column("speech", datasets.Audio(16_000))
    table.to_parquet(folder.parent / "table.parquet")
    dataset, column = load_audio(str(folder.parent / "table.parquet"), streaming=streaming)
    assert column == "speech"
    assert durations(dataset, column) == [0.5]
    table.save_to_disk(folder.parent / "saved")
    assert durations(*load_audio(str(folder.parent / "saved"), streaming=streaming)) == [0.5]


def test_an_unknown_column(folder):
    with pytest.raises(ValueError, match=r"no column 'sound', only \['audio', 'label'\]"):
        load_audio(str(folder), audio_column="sound")
    (folder / "list.csv").write_text("sound,speaker\nann/0.wav,ann\n")
    with pytest.raises(ValueError, match=r"0 audio columns among \['sound', 'speaker'\]: name one with audio_column"):
        load_audio(str(folder / "list.csv"))
    assert durations(*load_audio(str(folder / "list.csv"), audio_column="sound")) == [0.5]


# ---- samples ----


def example(samples: np.ndarray, **others) -> dict:
    return {"audio": {"array": samples, "sampling_rate": 16_000}, **others}


def test_a_clip_is_normalised():
    values = AudioReader(EXTRACTOR)(example(0.1 * voice(1) + 0.3))["input_values"]
    assert values.dtype == torch.float32 and values.shape == (16_000,)
    assert abs(values.mean()) < 1e-4 and values.std() == pytest.approx(1, abs=1e-3)
    raw = AudioReader(Wav2Vec2FeatureExtractor(do_normalize=False))(example(voice(1)))["input_values"]
    assert np.array_equal(raw.numpy(), voice(1))


def test_the_feature_extractor_says_the_rate():
    values = AudioReader(Wav2Vec2FeatureExtractor(sampling_rate=8_000))(example(voice(1)))["input_values"]
    assert len(values) == 8_000


def test_long_clips_are_cropped_after_normalisation():
    reader = AudioReader(EXTRACTOR, max_duration=0.5)
    loud_and_low = np.concatenate([voice(2), 0.01 * voice(2)])
    whole = AudioReader(EXTRACTOR)(example(loud_and_low))["input_values"]
    crops = [reader(example(loud_and_low), Random(i))["input_values"] for i in range(30)]
    assert {len(crop) for crop in crops} == {8_000}
    places = np.lib.stride_tricks.sliding_window_view(whole.numpy(), 8_000)  # [places, samples]
    starts = [int((places[:, :5] == crop.numpy()[:5]).all(1).argmax()) for crop in crops]
    assert all(np.array_equal(places[start], crop) for start, crop in zip(starts, crops, strict=True))
    assert len(set(starts)) == 30 and min(starts) < 10_000 and max(starts) > 40_000
    assert torch.equal(reader(example(loud_and_low))["input_values"], whole[:8_000])
    again = reader(example(loud_and_low), Random(3))["input_values"]
    assert torch.equal(again, crops[3])
    short = reader(example(voice(0.4)), Random(0))["input_values"]
    assert torch.equal(short, AudioReader(EXTRACTOR)(example(voice(0.4)))["input_values"])
    assert crops[0].untyped_storage().nbytes() == 8_000 * 4  # workers send what they need, not the whole clip


def test_limits_that_contradict_each_other():
    with pytest.raises(ValueError, match=r"max_duration is 0.5, but must be at least min_duration, 1.0"):
        AudioReader(EXTRACTOR, min_duration=1.0, max_duration=0.5)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(16_000, np.float32), "silent from start to end"),
        (np.full(16_000, 0.25, np.float32), "silent from start to end"),
        (np.random.default_rng(0).standard_normal(16_000) * 2**-19, "silent from start to end"),
        (np.stack([voice(1), -voice(1)]), "opposite phase and cancel each other out"),
        (voice(0.05), r"lasts 0.050 seconds, less than 0.1"),
        (np.array([0.0, np.nan] * 8_000), "NaN"),
        (np.zeros(0), "empty"),
    ],
    ids=["zeros", "constant", "rounding", "opposite channels", "short", "NaN", "empty"],
)
def test_clips_that_teach_nothing_are_passed_over(samples, message):
    with pytest.raises(UnreadableError, match=message):
        AudioReader(EXTRACTOR)(example(samples))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_segments_of_a_long_recording(tmp_path, kind, streaming):
    long = voice(20)
    write(tmp_path / "talks" / "long.wav", long)
    whole = decode_audio(tmp_path / "talks" / "long.wav")
    places = [(0, 1.5), (1.5, 4.0), (18.25, None), (None, 0.5)]
    rows = [{"path": "talks/long.wav", "start": start, "end": end} for start, end in places]
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = "path,start,end\n" + "".join(
            ",".join("" if v is None else str(v) for v in row.values()) + "\n" for row in rows
        )
    (tmp_path / f"segments.{kind}").write_text(text)
    dataset, column = load_audio(str(tmp_path / f"segments.{kind}"), streaming=streaming)
    reader = AudioReader(Wav2Vec2FeatureExtractor(do_normalize=False), column)
    for row, (start, end) in zip(dataset, places, strict=True):
        expected = whole[round((start or 0) * 16_000) : None if end is None else round(end * 16_000)]
        assert np.array_equal(reader(row)["input_values"].numpy(), expected)
    if not streaming:
        assert clip_lengths(dataset, reader) == [24_000, 40_000, 28_000, 8_000]
        path = tmp_path / "talks" / "long.wav"
        assert [reader.name(row) for row in dataset][1:3] == [
            f"{path} (1.5 to 4.0 seconds)",
            f"{path} (18.25 to the end seconds)",
        ]


@pytest.mark.parametrize("length", [{"end": 2.0}, {"duration": 1.5}, {"num_samples": 24_000, "end": 2.0}])
@pytest.mark.parametrize("begin", ["start", "offset"])
def test_ways_to_say_where_a_clip_lies(tmp_path, begin, length):
    if begin == "offset" and "end" in length:
        return
    write(tmp_path / "long.wav", voice(20))
    (tmp_path / "parts.jsonl").write_text(json.dumps({"path": "long.wav", begin: 0.5} | length))
    dataset, column = load_audio(str(tmp_path / "parts.jsonl"))
    reader = AudioReader(Wav2Vec2FeatureExtractor(do_normalize=False), column)
    expected = decode_audio(tmp_path / "long.wav")[8_000:32_000]
    assert np.array_equal(reader(dataset[0])["input_values"].numpy(), expected)
    assert clip_lengths(dataset, reader) == [24_000]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["begin", "start_time", "Segment_Start", "end time", "start_ms", "offset_frames"])
def test_times_by_other_names_are_refused(tmp_path, name, streaming, kind):
    """Each row would be the whole recording."""
    write(tmp_path / "long.wav", voice(1))
    rows = {"jsonl": json.dumps({"path": "long.wav", name: 0.5}), "csv": f"path,{name}\nlong.wav,0.5\n"}
    (tmp_path / f"parts.{kind}").write_text(rows[kind])
    with pytest.raises(ValueError, match=rf"column '{name}' beside column 'path' of .*parts.{kind} holds 0.5"):
        load_audio(str(tmp_path / f"parts.{kind}"), streaming=streaming)
    rows = {"jsonl": json.dumps({"path": "long.wav", name: "May 2021"}), "csv": f"path,{name}\nlong.wav,May 2021\n"}
    (tmp_path / f"parts.{kind}").write_text(rows[kind])
    assert load_audio(str(tmp_path / f"parts.{kind}"), streaming=streaming)


def test_columns_that_only_look_like_seconds():
    with pytest.raises(ValueError, match="column 'start' holds '00:01', but must hold the seconds.*another name"):
        AudioReader(EXTRACTOR)(example(voice(1), start="00:01"))


def test_lengths_are_those_of_the_samples(folder):
    write(folder / "ann" / "4.mp3", voice(3, 44_100), 44_100)
    write(folder / "ann" / "5.wav", voice(1, 8_000), 8_000)
    (folder / "ann" / "6.wav").write_bytes(b"broken")
    dataset, column = load_audio(str(folder))
    reader = AudioReader(EXTRACTOR, column, max_duration=2.0)
    lengths = clip_lengths(dataset, reader)
    for row, length in zip(dataset, lengths, strict=True):
        actual = 0 if row[column]["path"].endswith("6.wav") else len(reader(row)["input_values"])
        assert length == pytest.approx(actual, abs=2)
    assert max(lengths) == 32_000 and min(lengths) == 0


def test_lengths_in_a_manifest_are_believed(folder):
    """No file is opened: that would take an hour for a large corpus on a network drive."""
    dataset, column = load_audio(str(write_manifest(folder, "fairseq.tsv")))
    for file in folder.rglob("*.*"):
        file.unlink()
    assert clip_lengths(dataset, AudioReader(EXTRACTOR, column)) == [8_000, 9_600, 11_200, 12_800]
    named = dataset.remove_columns("num_samples").add_column("duration", [0.5, 1.0, 1.5, 2.0])
    assert clip_lengths(named, AudioReader(EXTRACTOR, column)) == [8_000, 16_000, 24_000, 32_000]


@pytest.fixture
def damaged(folder):
    """Four good clips, and five that are of no use."""
    (folder / "ann" / "empty.wav").write_bytes(b"")
    flac = write(folder / "ann" / "whole.flac", voice(2)).read_bytes()
    (folder / "ann" / "whole.flac").unlink()
    (folder / "ann" / "truncated.flac").write_bytes(flac[: len(flac) // 2])
    (folder / "bob" / "text.mp3").write_text("no recording")
    write(folder / "bob" / "silent.flac", np.zeros(16_000, np.float32))
    write(folder / "bob" / "click.wav", tone(500, 0.02, 16_000))
    return folder, {"empty.wav", "truncated.flac", "text.mp3", "silent.flac", "click.wav"}


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_replaced_and_named_once(damaged, workers, caplog):
    folder, names = damaged
    dataset, column = load_audio(str(folder))
    samples = SampleDataset(dataset, AudioReader(EXTRACTOR, column))
    for epoch in range(2):
        samples.set_epoch(epoch)
        loader = DataLoader(samples, batch_size=None, num_workers=workers)
        keys = [sample["key"] for sample in loader]
        assert len(set(keys)) == 9
    assert {Path(name).name for name in samples.unreadable()} == names
    if not workers:
        assert all(sum(name in record.getMessage() for record in caplog.records) == 1 for name in names)


def test_bad_files_of_a_stream(damaged):
    dataset, column = load_audio(str(damaged[0]), streaming=True)
    samples = IterableSampleDataset(dataset, AudioReader(EXTRACTOR, column, max_duration=0.3))
    assert [len(sample["input_values"]) for sample in samples] == [4_800] * 4
    assert samples.unreadable() == ["5 clips of the stream"]


# ---- labelled clips ----


def test_labels(damaged, tmp_path, caplog):
    clips, labels = load_labelled_audio(str(damaged[0]), EXTRACTOR, split="train", max_duration=0.6)
    assert labels.tolist() == [0, 0, 1, 1]
    assert [len(clip) for clip in clips] == [8_000, 9_600, 9_600, 9_600]
    assert caplog.text.count("Leaving out clip") == 5
    (tmp_path / "list.csv").write_text("path,word\ncorpus/ann/0.wav,yes\ncorpus/bob/3.ogg,no\n")
    clips, labels = load_labelled_audio(str(tmp_path / "list.csv"), EXTRACTOR, split="train", label_column="word")
    assert (len(clips), labels.tolist()) == (2, ["yes", "no"])
    with pytest.raises(ValueError, match=r"0 label columns among \['path', 'word'\]: probes need labels"):
        load_labelled_audio(str(tmp_path / "list.csv"), EXTRACTOR, split="train")


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="asterisk-core-sounds-en-g722 is not installed")
def test_recorded_speech():
    dataset, column = load_audio(str(PROMPTS))
    reader = AudioReader(EXTRACTOR, column, min_duration=0.5, max_duration=4.0)
    samples = SampleDataset(dataset, reader)
    lengths = clip_lengths(dataset, reader)
    for i in range(0, len(samples), 50):
        values = samples[i]["input_values"]
        assert values.isfinite().all() and 8_000 <= len(values) <= 64_000
        assert len(values) == pytest.approx(lengths[i], abs=2) or lengths[i] < 8_000 or samples.unreadable()
