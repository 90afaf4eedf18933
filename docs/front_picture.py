"""Draws docs/images/front.png: masks over a photograph, a spectrogram and a sentence, and what frozen features group.

    python benchmarks/learning_vision.py --minutes 8 --seeds 1
    python docs/front_picture.py "learning_vision/data2vec 2.0, 8 minutes, seed 1"

The masks are those of the published recipes for images, spectrograms and text of base size, drawn from one key. The
photograph comes with scikit-learn, the recording and the products with Debian:
apt-get install -y asterisk-core-sounds-en-g722 dataset-fashion-mnist
"""

import gzip
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from transformers import AutoFeatureExtractor, AutoModel

from modeling_data2vec import decode_audio, encode, load_recipe
from modeling_data2vec.drawn_masks import draw_masks
from modeling_data2vec.trainers.evaluation.baselines import random_weights
from modeling_data2vec.trainers.modalities.drawing import HIDDEN, INK, covered

PICTURE = Path(__file__).parent / "images" / "front.png"
RECORDING = Path("/usr/share/asterisk/sounds/en_US_f_Allison/demo-congrats.g722")
PRODUCTS = Path("/usr/share/datasets/fashion-mnist")
SENTENCE = (
    "A student sees a part of a sample and predicts what a teacher computes from the whole : no labels , no negative "
    "pairs , no reconstruction , one method for speech , images and text ."
)
NEIGHBORS, QUERIES = 5, 8


def mask(recipe: str, key: int, *grid: int) -> np.ndarray:
    """A mask by a recipe's config, bool of the grid's shape, True where a position is hidden."""
    return (
        draw_masks(load_recipe(recipe).model_config(), torch.tensor([key], dtype=torch.int32), grid)[0]
        .reshape(grid)
        .numpy()
    )


def draw_photograph(axis: Axes) -> None:
    picture = load_sample_image("china.jpg")[:420, 110:530]  # [420, 420, 3], of 427 x 640
    hidden = mask("data2vec2-vision-base", 53, 14, 14)
    axis.imshow(covered(picture / 255, hidden))
    axis.set_title(f"an image: {hidden.mean():.0%} hidden", fontsize=9, color=INK)


def draw_spectrogram(axis: Axes) -> None:
    """The first seconds of a recording as the spectrogram model reads them."""
    extractor = AutoFeatureExtractor.from_pretrained(load_recipe("data2vec2-spectrogram-base").config)
    frames = extractor.log_mel(decode_audio(RECORDING, extractor.sampling_rate))[:512].T[::-1]  # [128, 512]
    low, high = np.percentile(frames, [5, 99.5])
    colours = matplotlib.colormaps["magma"](((frames - low) / (high - low)).clip(0, 1))[..., :3]
    hidden = mask("data2vec2-spectrogram-base", 19, 32, 8).T[::-1]  # time x bands, drawn with time from left to right
    axis.imshow(covered(colours, hidden), aspect="auto")
    axis.set_title(f"a sound of 5 seconds: {hidden.mean():.0%} hidden", fontsize=9, color=INK)


def draw_sentence(axis: Axes) -> None:
    words = SENTENCE.split()
    hidden = mask("data2vec2-text-base", 6, len(words))
    axis.set(xlim=(0, 50), ylim=(4.6, -0.3))
    left, line = 0.0, 0.5
    for word, unseen in zip(words, hidden, strict=True):
        if left + len(word) > 49:
            left, line = 0.0, line + 1.1
        box = {"facecolor": HIDDEN if unseen else "white", "edgecolor": "none", "boxstyle": "square,pad=0.15"}
        style = {"family": "monospace", "fontsize": 9.4, "va": "center", "bbox": box}
        axis.text(left, line, word, color=HIDDEN if unseen else INK, **style)
        left += len(word) + 1
    axis.set_title(f"a sentence: {hidden.mean():.0%} hidden", fontsize=9, color=INK)


def products() -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST's test images, uint8 [10000, 28, 28], and their classes [10000]."""
    with (
        gzip.open(PRODUCTS / "t10k-images-idx3-ubyte.gz") as images,
        gzip.open(PRODUCTS / "t10k-labels-idx1-ubyte.gz") as labels,
    ):
        pixels, classes = (np.frombuffer(file.read(), np.uint8) for file in (images, labels))
    return pixels[16:].reshape(-1, 28, 28), classes[8:]


def nearest(features: np.ndarray) -> np.ndarray:
    """int [N, 5]: of each row, the others nearest by Euclidean distance of standardised features."""
    scaled = StandardScaler().fit_transform(features)
    return NearestNeighbors().fit(scaled).kneighbors(n_neighbors=NEIGHBORS, return_distance=False)


def main() -> None:
    folder = sys.argv[1]
    pixels, classes = products()
    model = AutoModel.from_pretrained(folder)
    augmentation = load_recipe(Path(__file__).parents[1] / "benchmarks" / "fashion_mnist").augmentation
    mean, std = augmentation["mean"][0], augmentation["std"][0]
    inputs = (torch.from_numpy(pixels.astype(np.float32))[:, None] / 255 - mean) / std  # [N, 1, 28, 28]
    found = {"raw pixels": nearest(pixels.reshape(len(pixels), -1).astype(np.float32))}
    for name, encoder in (("random weights", random_weights(model)), ("model", model)):
        found[name] = nearest(encode(encoder, inputs, pooling="grid4"))
    same = {name: float((classes[rows] == classes[:, None]).mean()) for name, rows in found.items()}

    figure = Figure(figsize=(11, 6.4), dpi=110)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    upper.suptitle("The student sees a part ...", x=0.01, ha="left", fontsize=12, color=INK)
    axes = upper.subplots(1, 3, gridspec_kw={"width_ratios": (1, 2, 2), "wspace": 0.08})
    for axis, draw in zip(axes, (draw_photograph, draw_spectrogram, draw_sentence), strict=True):
        draw(axis)
    upper.subplots_adjust(left=0.01, right=0.99, top=0.8, bottom=0.02)

    lower.suptitle("... and learns, without labels, what belongs together", x=0.01, ha="left", fontsize=12, color=INK)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in same.items())
    text = f"Products and the five nearest of 10,000 by frozen features. Of the same kind: {shares}"
    lower.text(0.01, 0.885, text, fontsize=9, color=INK)
    grid = lower.subplots(4, 2 * (NEIGHBORS + 2) - 1)
    queries = [int(np.flatnonzero(classes == kind)[0]) for kind in range(QUERIES)]
    for axis in grid.flat:
        axis.set_axis_off()
    for number, query in enumerate(queries):
        row, left = number % 4, (number // 4) * (NEIGHBORS + 2)
        for place, shown in enumerate([query, *found["model"][query]]):
            axis = grid[row, left + place]
            axis.imshow(255 - pixels[shown], cmap="gray", vmin=0, vmax=255)
            if place and classes[shown] != classes[query]:
                axis.text(
                    0.5, -0.12, "another kind", fontsize=6, ha="center", color="#b03030", transform=axis.transAxes
                )
    lower.subplots_adjust(left=0.01, right=0.99, top=0.85, bottom=0.03, wspace=0.06, hspace=0.12)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(PICTURE, facecolor="white")


if __name__ == "__main__":
    main()
