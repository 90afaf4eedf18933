"""Processors of tiny models, saved beside them, and samples for these."""

import pydoc_data.topics
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from recordings import voice
from sklearn.datasets import load_digits
from transformers import ViTImageProcessorPil, Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer

TOKENS = 300
PAGES = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)][:12]


def save_processor(data: str, folder: Path) -> None:
    """Save what a tiny model of images, speech, spectrograms or text needs; of text with `TOKENS` in the vocabulary."""
    size = {"height": 8, "width": 8}
    {
        "images": lambda: ViTImageProcessorPil(size=size, image_mean=[0.3], image_std=[0.35], resample=3),
        "speech": Wav2Vec2FeatureExtractor,
        "spectrograms": lambda: Data2Vec2SpectrogramFeatureExtractor(feature_size=16),
        "text": lambda: train_tokenizer(PAGES, TOKENS),
    }[data]().save_pretrained(folder)


def some_samples(data: str) -> list[Any]:
    """Five samples of different sizes: digits, clips of .3 to .9 seconds at 16 kHz, or texts, two of them long."""
    if data == "images":
        digits = [Image.fromarray((image * 15).astype(np.uint8)) for image in load_digits().images[:5]]
        return [digit.resize((8 + 3 * number, 8 + 2 * number)) for number, digit in enumerate(digits)]
    if data == "text":
        return [PAGES[0], PAGES[1][:40], PAGES[2][:90], "Two words", PAGES[3]]
    return [voice(seconds, seed=seed) for seed, seconds in enumerate((0.9, 0.3, 0.5, 0.41, 0.77))]
