"""Every head of 2.0, and transformers' own of 1.0, tiny; and real data, small enough to be learned by heart."""

import pydoc_data.topics
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import voice
from sklearn.datasets import load_digits
from tiny_runs import tiny_model
from torch import Tensor
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.trainers.media.audio_decoding import decode_audio

Batch = dict[str, Tensor]
SOUNDS = Path("/usr/share/asterisk/sounds")
NUM_LABELS = 3
TDNN = {"tdnn_dim": [16, 16], "tdnn_kernel": [5, 3], "tdnn_dilation": [1, 2], "xvector_output_dim": 16}
PAD, MASK = 1, 59  # in the made-up vocabulary of `tiny_runs`
LETTERS = "|" + "abcdefghijklmnopqrstuvwxyz"  # after CTC's blank


@dataclass(frozen=True)
class Task:
    """A head: how it is loaded, labels for inputs that are made up, and real data of its own."""

    modality: str
    auto_class: Any
    labels: Callable[[int, int], Batch]  # of samples and positions
    learnable: Callable[..., Batch]
    fields: dict[str, Any] = field(default_factory=lambda: {"num_labels": NUM_LABELS})

    def model(self, folder: Path, version: str = "2.0", changes: dict[str, Any] | None = None, **options: Any) -> Any:
        """The head, fresh, on the encoder of a pretraining folder of a tiny model with some fields changed."""
        tiny_model(f"{self.modality} {version}", **(changes or {})).save_pretrained(folder)
        torch.manual_seed(0)
        return self.auto_class.from_pretrained(folder, **(self.fields | options))

    def inputs(self, model: Any, size: int = 4) -> Batch:
        """A batch without padding, made up."""
        generator = torch.Generator().manual_seed(0)
        if self.modality == "images":
            return {"pixel_values": torch.randn(size, 1, *model.config.image_shape, generator=generator)}
        if self.modality == "speech":
            return {"input_values": torch.stack([torch.from_numpy(voice(0.2, seed=seed)) for seed in range(size)])}
        if self.modality == "spectrograms":  # 19 patches along time
            return {"input_features": torch.randn(size, 19 * 4 + 1, model.config.num_mel_bins, generator=generator)}
        return {"input_ids": torch.randint(4, MASK, (size, 12), generator=generator)}

    def batch(self, model: Any, size: int = 4) -> Batch:
        """The same with labels."""
        inputs = self.inputs(model, size)
        length = 12
        if self.modality == "speech":
            length = model.config.num_frames(inputs["input_values"].shape[1])
        elif self.modality == "spectrograms":
            length = model.config.num_time_patches(inputs["input_features"].shape[1])
        return inputs | self.labels(size, length)


# ---- labels for made-up inputs ----


def classes(size: int, length: int) -> Batch:
    return {"labels": torch.arange(size) % NUM_LABELS}


def classes_of_positions(size: int, length: int) -> Batch:
    labels = torch.arange(size * length).view(size, length) % NUM_LABELS
    return {"labels": labels.masked_fill(torch.arange(length) % 5 == 4, -100)}


def pixels(size: int, length: int) -> Batch:
    labels = torch.arange(size * 64).view(size, 8, 8) % NUM_LABELS
    return {"labels": labels.masked_fill(labels.new_ones(8, 8).triu(6).bool(), -100)}


def letters(size: int, length: int) -> Batch:
    return {"labels": torch.tensor([[1, 2, 5, -100]] * size)}


def spans(size: int, length: int) -> Batch:
    starts = torch.arange(size) % 3
    return {"start_positions": starts, "end_positions": starts + 2}


def words(size: int, length: int) -> Batch:
    labels = torch.arange(size * length).view(size, length) % 50 + 4
    return {"labels": labels.masked_fill(torch.arange(length) % 4 != 1, -100)}


# ---- real data ----


def digits(num: int) -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.images[:num, None] / 8 - 1, dtype=torch.float32), torch.tensor(data.target[:num])


def digits_and_classes(tokenizer: Any = None) -> Batch:
    images, targets = digits(40)
    return {"pixel_values": images, "labels": targets}


def digits_and_ink(tokenizer: Any = None) -> Batch:
    images, _ = digits(16)
    return {"pixel_values": images, "labels": (images[:, 0] > 0).long()}


def clips(names: list[str]) -> Batch:
    """Recordings as a padded, normalised batch; the test is skipped where they are not installed."""
    paths = [SOUNDS / f"{name}.g722" for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip("recordings are missing: apt-get install -y asterisk-core-sounds-{en,es,fr,it}-g722")
    waves = [torch.from_numpy(np.asarray(decode_audio(str(path), 16_000), dtype=np.float32)) for path in paths]
    lengths = torch.tensor([len(wave) for wave in waves])
    waves = [(wave - wave.mean()) / wave.std() for wave in waves]
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return {
        "input_values": torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
        "attention_mask": mask.long(),
    }


def melodies(tokenizer: Any = None) -> Batch:
    """Spectrograms of tunes of three tones, a letter each; labels are the letters that are played."""
    tunes = ["abc", "bca", "cab", "acb", "bac", "cba"]
    waves = [torch.cat([tone(letter) for letter in tune]) for tune in tunes]
    labels = torch.tensor([[LETTERS.index(letter) + 1 for letter in tune] for tune in tunes])
    extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=16)
    return dict(extractor(waves, sampling_rate=16_000, return_tensors="pt")) | {"labels": labels}


def tone(letter: str) -> Tensor:
    """A twelfth of a second that each letter has its own pitch for, and a pause; later letters sound longer."""
    number = LETTERS.index(letter)
    times = torch.arange(1_300 + 160 * number) / 16_000
    return torch.cat([0.5 * torch.sin(2 * torch.pi * 400 * 2**number * times), torch.zeros(400)])


def melodies_and_beginnings(tokenizer: Any = None) -> Batch:
    """The same tunes, in classes by their first tone."""
    batch = melodies()
    return batch | {"labels": batch["labels"][:, 0] - 2}


def melodies_and_moments(tokenizer: Any = None) -> Batch:
    """The same tunes, whose patches of 20 ms are in three classes by how loud they are."""
    batch = melodies()
    loudness = (
        batch["input_features"].mean(2)[:, : batch["input_features"].shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(2)
    )
    labels = (loudness > loudness.median()).long() + (loudness > loudness.quantile(0.75)).long()
    counts = batch["attention_mask"].sum(1) // 2
    return batch | {"labels": labels.masked_fill(torch.arange(labels.shape[1]) >= counts[:, None], -100)}


def spoken_numbers(tokenizer: Any = None) -> Batch:
    names = {"0": "zero", "2": "two", "3": "three", "5": "five", "8": "eight", "9": "nine"}
    targets = [torch.tensor([LETTERS.index(letter) + 1 for letter in word]) for word in names.values()]
    labels = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)
    return clips([f"en/digits/{name}" for name in names]) | {"labels": labels}


def numbers_and_classes(tokenizer: Any = None) -> Batch:
    languages = ("en", "es", "fr")
    return clips([f"{language}/digits/{n}" for language in languages for n in (2, 3, 5)]) | {
        "labels": torch.arange(NUM_LABELS).repeat(3)  # which number
    }


def numbers_and_voices(tokenizer: Any = None) -> Batch:
    return clips([f"{language}/digits/{n}" for language in ("en", "es", "fr") for n in (2, 3, 5)]) | {
        "labels": torch.arange(NUM_LABELS).repeat_interleave(3)
    }


def numbers_and_loudness(tokenizer: Any = None) -> Batch:
    """Frames of 10 ms in three classes, by how loud they are."""
    batch = clips([f"en/digits/{n}" for n in (2, 3, 5)])
    frames = batch["input_values"].unfold(1, 170, 160).square().mean(2)
    labels = (frames > 0.02).long() + (frames > 1.0).long()
    counts = (batch["attention_mask"].sum(1) - 170) // 160 + 1
    return batch | {"labels": labels.masked_fill(torch.arange(labels.shape[1]) >= counts[:, None], -100)}


def passages(tokenizer: Any, num: int, length: int = 24) -> tuple[list[str], Batch]:
    """Beginnings of pages of the Python documentation, as texts and as a batch of tokens."""
    pages = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    texts = [" ".join(re.findall(r"[A-Za-z]+[.,]?", page)[4:30]) for page in pages if len(page) > 400][:num]
    options = {"truncation": True, "max_length": length, "padding": True, "return_tensors": "pt"}
    encoded = tokenizer(texts, **options)
    return texts, {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def passages_and_classes(tokenizer: Any) -> Batch:
    _, batch = passages(tokenizer, 12)
    return batch | {"labels": torch.arange(12) % NUM_LABELS}


def passages_and_tags(tokenizer: Any) -> Batch:
    """Tokens that begin a word, go on with one, or hold no letter."""
    _, batch = passages(tokenizer, 6)
    names = [tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"]]
    tags = [[2 if not re.search("[A-Za-z]", name) else int(name[0] != "Ġ") for name in row] for row in names]
    return batch | {"labels": torch.tensor(tags).masked_fill(batch["attention_mask"] == 0, -100)}


def passages_and_answers(tokenizer: Any) -> Batch:
    """Where a passage has its longest word, which is the question."""
    texts, _ = passages(tokenizer, 6)
    texts = [" ".join(text.split()[:8]) for text in texts]
    questions = [max(text.split(), key=len) for text in texts]
    encoded = tokenizer(questions, texts, padding=True, return_tensors="pt")
    starts, ends = [], []
    for i, (question, text) in enumerate(zip(questions, texts, strict=True)):
        place = text.index(question)
        starts.append(encoded.char_to_token(i, place, sequence_index=1))
        ends.append(encoded.char_to_token(i, place + len(question) - 1, sequence_index=1))
    positions = {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]} | positions


def passages_with_holes(tokenizer: Any) -> Batch:
    _, batch = passages(tokenizer, 6)
    ids = batch["input_ids"]
    holes = (torch.arange(ids.shape[1]) % 6 == 3) & (batch["attention_mask"] == 1)
    return batch | {
        "input_ids": ids.masked_fill(holes, tokenizer.mask_token_id),
        "labels": ids.masked_fill(~holes, -100),
    }


TASKS = {
    "CTC": Task("speech", AutoModelForCTC, letters, spoken_numbers, {"vocab_size": len(LETTERS) + 1}),
    "classes of clips": Task("speech", AutoModelForAudioClassification, classes, numbers_and_classes),
    "classes of frames": Task(
        "speech", AutoModelForAudioFrameClassification, classes_of_positions, numbers_and_loudness
    ),
    "voices": Task("speech", AutoModelForAudioXVector, classes, numbers_and_voices, {"num_labels": NUM_LABELS, **TDNN}),
    "CTC of spectrograms": Task(
        "spectrograms",
        AutoModelForCTC,
        letters,
        melodies,
        {"vocab_size": len(LETTERS) + 1},
    ),
    "classes of sounds": Task(
        "spectrograms",
        AutoModelForAudioClassification,
        classes,
        melodies_and_beginnings,
    ),
    "classes of moments": Task(
        "spectrograms", AutoModelForAudioFrameClassification, classes_of_positions, melodies_and_moments
    ),
    "classes of images": Task("images", AutoModelForImageClassification, classes, digits_and_classes),
    "classes of pixels": Task(
        "images",
        AutoModelForSemanticSegmentation,
        pixels,
        digits_and_ink,
        {"num_labels": NUM_LABELS, "auxiliary_channels": 8},
    ),
    "classes of texts": Task("text", AutoModelForSequenceClassification, classes, passages_and_classes),
    "tags": Task("text", AutoModelForTokenClassification, classes_of_positions, passages_and_tags),
    "answers": Task("text", AutoModelForQuestionAnswering, spans, passages_and_answers, {}),
    "words under masks": Task("text", AutoModelForMaskedLM, words, passages_with_holes, {}),
}


def tensors(outputs) -> dict[str, torch.Tensor]:
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def assert_same(actual, expected, tolerance: float = 0.0) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=tolerance, msg=name)
