"""Spectrogram models on the tasks of sound, and rows with any number of classes for models of every kind."""

import json

import datasets
import numpy as np
import pytest
import torch
from recordings import write
from tiny_tasks import FAST, body, few_digits, sounds, speech, texts, write_rows
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioFrameClassification, pipeline

import data2vec_cli
from modeling_data2vec import Data2Vec2SpectrogramForAudioClassification, Data2Vec2SpectrogramForCTC
from modeling_data2vec.trainers.media.audio_decoding import decode_audio
from modeling_data2vec.trainers.transcription.run import SpeechRecognizer

MELS = {"num_mel_bins": 16, "patch_size": [2, 8]}


def run(capsys, *argv: object) -> str:
    assert data2vec_cli.main([str(word) for word in argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def finetune(capsys, task: str, model, data, output, *more: object) -> dict[str, float]:
    argv = ["finetune", "--task", task, "--model", model, "--dataset", data, "--eval_split", "test", "--max_steps", "3"]
    run(capsys, *argv, *FAST, *more, "--output_dir", output)
    return json.loads((output / "provenance.json").read_text())["metrics"]["validation"]


@pytest.fixture(scope="module")
def spectrograms(tmp_path_factory):
    return body("spectrograms 2.0", tmp_path_factory.mktemp("body"), **MELS)


def test_a_spectrogram_model_learns_letters_and_transcribes(spectrograms, tmp_path, capsys):
    data = speech(tmp_path / "data")
    figures = finetune(capsys, "ctc", spectrograms, data, tmp_path / "out")
    assert {"wer", "cer", "loss"} <= figures.keys()
    recognizer = SpeechRecognizer.from_pretrained(str(tmp_path / "out"))
    assert isinstance(recognizer.model, Data2Vec2SpectrogramForCTC) and recognizer.frame_seconds == 0.02
    wave = decode_audio(str(data / "0.wav"))
    heard = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))(
        {"raw": wave, "sampling_rate": 16_000}
    )
    printed = run(capsys, "transcribe", tmp_path / "out", data / "0.wav")
    assert heard["text"] == next(recognizer.transcribe([str(data / "0.wav")])).text and heard["text"] in printed
    # Windows of a long recording see the same spectrogram; only context differs.
    (whole,) = recognizer.logits([str(data / "0.wav")])
    with torch.no_grad():
        inputs = recognizer.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")
        torch.testing.assert_close(whole, recognizer.model.cpu()(**inputs).logits[0], rtol=0, atol=1e-4)
    batches = list(
        recognizer.logits([str(data / f"{i}.wav") for i in range(3)], chunk_seconds=0.2, overlap_seconds=0.05)
    )
    alone = list(recognizer.logits([str(data / "1.wav")], chunk_seconds=0.2, overlap_seconds=0.05, batch_size=1))
    torch.testing.assert_close(batches[1], alone[0], rtol=0, atol=1e-4)


def test_a_spectrogram_model_learns_classes_of_clips(spectrograms, tmp_path, capsys):
    more = ["--mixup", "0.8", "--spec_augment", "0.3", "--label_smoothing_factor", "0.1", "--layer_decay", "0.65"]
    more += ["--roll_clips", "--spectrogram_noise", "0.1"]
    data = sounds(tmp_path / "data")
    figures = finetune(capsys, "audio-classification", spectrograms, data, tmp_path / "out", *more)
    assert {"accuracy", "f1_macro", "loss"} <= figures.keys()
    runs = pipeline("audio-classification", model=str(tmp_path / "out"))
    assert isinstance(runs.model, Data2Vec2SpectrogramForAudioClassification)
    found = runs({"raw": np.sin(np.arange(6_000) / 5).astype(np.float32), "sampling_rate": 16_000})
    assert sum(one["score"] for one in found) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("option", [("--spec_augment", "0.3"), ("--roll_clips",)])
def test_waveforms_have_no_bands_to_hide(option, tmp_path, capsys):
    argv = ["finetune", "--task", "audio-classification", "--model", body("speech 2.0", tmp_path / "body")]
    argv += ["--dataset", sounds(tmp_path / "data"), *option, "--output_dir", tmp_path / "out", *FAST]
    assert data2vec_cli.main([str(word) for word in argv]) == 2
    assert "the model takes waveforms" in capsys.readouterr().err


def listed(kind: str, folder):
    """Data of tiny_tasks whose classes are lists: one class of its own, and a second one for some."""
    if kind.startswith("images"):
        digits = datasets.load_from_disk(few_digits(folder / "digits"))
        features = datasets.Features({"image": digits["train"].features["image"]})
        features["labels"] = datasets.List(datasets.ClassLabel(names=["even", "large"]))
        of_digit = lambda label: [0] * (label % 2 == 0) + [1] * (label > 4)  # noqa: E731
        made = {
            split: datasets.Dataset.from_dict(
                {"image": rows["image"], "labels": [of_digit(label) for label in rows["label"]]}, features=features
            )
            for split, rows in digits.items()
        }
        datasets.DatasetDict(made).save_to_disk(folder / "lists")
        return folder / "lists"
    (texts if kind.startswith("text") else sounds)(folder / "single")
    for split in ("train", "test"):
        if kind.startswith("text"):
            rows = [json.loads(line) for line in (folder / "single" / f"{split}.jsonl").read_text().splitlines()]
            rows = [{"text": row["text"], "labels": [row["label"]] + ["long"] * (row["length"] > 3)} for row in rows]
        else:
            files = sorted((folder / "single" / split).rglob("*.wav"))
            rows = [{"path": str(one), "labels": [one.parent.name] + ["long"] * (int(one.stem) > 1)} for one in files]
        write_rows(folder / "lists" / f"{split}.jsonl", rows)
    return folder / "lists"


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("images 2.0", "image-classification"),
        ("images 1.0", "image-classification"),
        ("speech 2.0", "audio-classification"),
        ("speech 1.0", "audio-classification"),
        ("spectrograms 2.0", "audio-classification"),
        ("spectrograms 2.0", "classification"),
        ("text 2.0", "text-classification"),
    ],
)
def test_rows_with_any_number_of_classes(kind, task, tokenizer, tmp_path, capsys):
    model, data = body(kind, tmp_path / "body", tokenizer), listed(kind, tmp_path / "data")
    more = ["--config", "mask_time_prob=0"] if kind == "speech 1.0" else []
    more += ["--mixup", "0.5"] if task in ("image-classification", "audio-classification") else []
    figures = finetune(capsys, task, model, data, tmp_path / "out", "--label_column", "labels", *more)
    assert figures.keys() == {"map", "f1_micro", "f1_macro", "loss"} and 0 < figures["map"] <= 1
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.problem_type == "multi_label_classification" and len(config.id2label) in (2, 3)
    assert f"| validation | map | {figures['map']:.4g}"[:24] in (tmp_path / "out" / "README.md").read_text()
    if task == "audio-classification":  # each class has a score of its own
        runs = pipeline(task, model=str(tmp_path / "out"), function_to_apply="sigmoid")
        wave = np.sin(np.arange(6_000) / 5).astype(np.float32)
        found = {one["label"]: one["score"] for one in runs({"raw": wave, "sampling_rate": 16_000}, top_k=3)}
        with torch.no_grad():
            logits = runs.model(**runs.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")).logits[0]
        assert found == pytest.approx({config.id2label[i]: float(p) for i, p in enumerate(logits.sigmoid())}, abs=1e-5)


def beeps(folder):
    """Recordings with a low and a high tone, which overlap, and the times that they last."""
    rng, rows = np.random.default_rng(0), []
    for index in range(8):
        wave, segments = 0.01 * rng.standard_normal(8_000 + 400 * index), []
        for label, frequency in (("low", 300), ("high", 2_500)):
            start = int(rng.integers(0, 4_000))
            time = np.arange(3_000)
            wave[start : start + 3_000] += 0.3 * np.sin(2 * np.pi * frequency * time / 16_000)
            segments.append({"start": start / 16_000, "end": (start + 3_000) / 16_000, "label": label})
        path = write(folder / f"{index}.wav", wave)
        rows.append({"path": path.name, "segments": segments})
    write_rows(folder / "train.jsonl", rows[:6])
    write_rows(folder / "test.jsonl", [*rows[6:7], rows[7] | {"segments": []}])
    return folder


@pytest.mark.parametrize("kind", ["speech 2.0", "speech 1.0", "spectrograms 2.0"])
def test_classes_of_moments(kind, tmp_path, capsys):
    changes = MELS if kind.startswith("spectrograms") else {}
    model, data = body(kind, tmp_path / "body", **changes), beeps(tmp_path / "data")
    more = ["--max_steps", "30", "--eval_strategy", "no"]
    more += ["--config", "mask_time_prob=0"] if kind == "speech 1.0" else []
    figures = finetune(capsys, "audio-frame-classification", model, data, tmp_path / "out", *more)
    assert figures.keys() == {"map", "f1_micro", "f1_macro", "loss"}
    trained = AutoModelForAudioFrameClassification.from_pretrained(tmp_path / "out").eval()
    assert trained.config.id2label == {0: "high", 1: "low"}
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    wave = decode_audio(str(data / "0.wav"))
    with torch.no_grad():
        scores = trained(**extractor(wave, sampling_rate=16_000, return_tensors="pt")).logits[0].sigmoid()
    middles = (np.arange(len(scores)) * 320 + 200) / 16_000
    truth = json.loads((data / "train.jsonl").read_text().splitlines()[0])["segments"][1]
    inside = (truth["start"] <= middles) & (middles < truth["end"])
    assert scores[inside, 0].mean() > scores[~inside, 0].mean()  # the high tone is heard where it is


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (
            [[{"start": 0.0, "end": 0.1, "label": "a"}], [{"start": 0.2, "end": 0.1, "label": "a"}]],
            "row 2 of 2 has a seg",
        ),
        ([["a"], ["b"]], "not segments: write tables as JSONL"),
        ([[], []], "has no segment in all of its 2 rows"),
    ],
)
def test_segments_that_are_refused(segments, message, tmp_path, capsys):
    write(tmp_path / "data" / "a.wav", np.sin(np.arange(4_000) / 5))
    write_rows(tmp_path / "data" / "train.jsonl", [{"path": "a.wav", "segments": row} for row in segments])
    argv = ["finetune", "--task", "audio-frame-classification", "--model", body("speech 2.0", tmp_path / "body")]
    argv += ["--dataset", tmp_path / "data", "--output_dir", tmp_path / "out", *FAST]
    assert data2vec_cli.main([str(word) for word in argv]) == 2
    assert message in capsys.readouterr().err
