"""Tiny bodies of both versions and labelled data of every kind: real digits and texts, tones and shapes."""

import json
from pathlib import Path
from pydoc_data.topics import topics

import datasets
import numpy as np
import soundfile
from PIL import Image
from tiny_runs import tiny_model
from transformers import AutoImageProcessor, AutoTokenizer, Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.modalities.image import digits

TONES = {"a": 400, "b": 900, "c": 2_000}
TOPICS = {"strings": "string-methods", "names": "specialnames"}  # two long chapters of Python's own documentation
FAST = [
    *("--use_cpu", "--disable_tqdm", "true", "--per_device_train_batch_size", "8", "--learning_rate", "3e-3"),
    *("--logging_steps", "2"),
]


def body(kind: str, folder: Path, tokenizer: Path | None = None, **changes) -> Path:
    """A pretraining folder with a processor; images are taken as colour, as pipelines give them."""
    if kind.startswith("images"):
        changes = {"num_channels": 3} | changes
        processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
        processor.size, processor.image_mean, processor.image_std = {"height": 8, "width": 8}, [0.3] * 3, [0.35] * 3
    elif kind.startswith("speech"):
        processor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    elif kind.startswith("spectrograms"):
        processor = Data2Vec2SpectrogramFeatureExtractor(feature_size=changes.get("num_mel_bins", 16))
    else:
        changes = {"vocab_size": 300} | changes
        processor = AutoTokenizer.from_pretrained(tokenizer)
    tiny_model(kind, **changes).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


def few_digits(folder: Path) -> Path:
    """64 of scikit-learn's digits to train on, and 32 to test."""
    splits = {"train": digits("train").select(range(64)), "test": digits("test").select(range(32))}
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


def texts(folder: Path) -> Path:
    """Paragraphs of two chapters: which it is, its length as a number, and its words with tags for capital letters."""
    rows = []
    for name, topic in TOPICS.items():
        paragraphs = [text.strip() for text in topics[topic].split("\n\n") if len(text.split()) > 6]
        for text in paragraphs[:40]:
            words = text.split()[:8]
            tags = ["CAPITAL" if word[0].isupper() else "O" for word in words]
            rows.append({"text": text, "label": name, "length": len(text) / 100, "words": words, "tags": tags})
    order = np.random.default_rng(0).permutation(len(rows))
    write_rows(folder / "train.jsonl", [rows[i] for i in order[:60]])
    write_rows(folder / "test.jsonl", [rows[i] for i in order[60:]])
    return folder


def speech(folder: Path, count: int = 24) -> Path:
    """Clips in which each letter is a tone, listed with their transcripts."""
    rng = np.random.default_rng(0)
    rows = []
    folder.mkdir(parents=True)
    for index in range(count):
        text = " ".join("".join(rng.choice(list(TONES), 2)) for _ in range(2))
        parts = [np.r_[_tone(TONES.get(letter, 0), 960), np.zeros(480)] for letter in text]
        wave = np.concatenate(parts) + 0.005 * rng.standard_normal(1_440 * len(text))
        soundfile.write(folder / f"{index}.wav", wave, 16_000)
        rows.append({"path": f"{index}.wav", "text": text})
    write_rows(folder / "train.jsonl", rows[: count * 3 // 4])
    write_rows(folder / "test.jsonl", rows[count * 3 // 4 :])
    return folder


def sounds(folder: Path) -> Path:
    """Low and high tones, in a folder for each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name, frequency in (("low", 200), ("high", 2_000)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                wave = _tone(frequency * rng.uniform(0.8, 1.2), 3_000 + 200 * index)
                noise = 0.01 * rng.standard_normal(len(wave))
                soundfile.write(folder / split / name / f"{index}.wav", wave + noise, 16_000)
    return folder


def shapes(folder: Path) -> Path:
    """Images with a bright square, and maps of where it is."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 16), ("test", 6)):
        images, maps = [], []
        for _ in range(count):
            where = np.zeros((16, 16), np.uint8)
            top, left = rng.integers(0, 9, 2)
            where[top : top + 7, left : left + 7] = 1
            images.append(Image.fromarray(np.stack([where * 200 + 20] * 3, -1)))
            maps.append(Image.fromarray(where))
        features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
        splits[split] = datasets.Dataset.from_dict({"image": images, "mask": maps}, features=features)
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


def _tone(frequency: float, samples: int) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(samples) / 16_000)
