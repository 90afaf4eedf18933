"""Where samples are drawn with something for each of their positions: images, spectrograms and lines of text.

A canvas is made of samples, of at most 6. It draws masks over them, or a colour for each position beside, below or
behind them.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from transformers import PreTrainedModel

from ..monitoring.curves import INK
from .baselines import log_mel
from .features import Inputs
from .positions import patch_grid

HIDDEN = (0.74, 0.77, 0.83)  # a cool grey, which grey pictures don't have

# By the title of a column: an array for each sample, bool [T] of masks or RGB [T, 3] of colours.
Columns = Mapping[str, Sequence[np.ndarray]]


def canvas(model: PreTrainedModel, inputs: Inputs, processor: Any) -> "ImageCanvas | ClipCanvas | TextCanvas":
    """The canvas for what `model` reads."""
    kinds: dict[str, Any] = {"pixel_values": ImageCanvas, "input_values": ClipCanvas, "input_ids": TextCanvas}
    return kinds[model.base_model.main_input_name](model, inputs, processor)


class ImageCanvas:
    """Images [C, H, W]: grey for 1 channel, else the first 3, or the mean of 2.

    Without an image processor, whose mean and deviation were used, the range of all pixels becomes black to white.
    """

    max_masks = 5

    def __init__(self, model: PreTrainedModel, images: Inputs, processor: Any) -> None:
        pixels = torch.stack(list(images)).detach().float().cpu()  # [N, C, H, W]
        self.grid = patch_grid(model.base_model.config, *pixels.shape[2:])
        if processor is None:
            low, high = pixels.amin(), pixels.amax()
            pixels = (pixels - low) / (high - low).clamp_min(1e-12)
        else:
            mean, std = (
                torch.as_tensor(value).reshape(-1, 1, 1) for value in (processor.image_mean, processor.image_std)
            )
            pixels = pixels * std + mean
        pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        self.pictures = pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()

    def draw_masks(self, masks: Columns) -> Figure:
        rows = [
            [picture, *(covered(picture, mask.reshape(self.grid)) for mask in own)]
            for picture, *own in zip(self.pictures, *masks.values(), strict=True)
        ]
        return mosaic(rows, ["image", *masks])

    def draw_colours(self, colours: Columns) -> Figure:
        rows = [
            [picture, *(colour.reshape(*self.grid, 3) for colour in own)]
            for picture, *own in zip(self.pictures, *colours.values(), strict=True)
        ]
        return mosaic(rows, ["image", *colours])


class ClipCanvas:
    """Waveforms as log-mel spectrograms, all drawn equally wide, with their seconds beside them."""

    max_masks = 3
    SIZE = (256, 640)  # dots: height and width of a spectrogram
    STRIP = 56  # dots: height of the strip of colours below it

    def __init__(self, model: PreTrainedModel, clips: Inputs, processor: Any) -> None:
        rate = processor.sampling_rate if processor else 16_000
        self.seconds = [f"{len(clip) / rate:.2f} s" for clip in clips]
        self.pictures = []
        for clip in clips:
            # [mel bands, frames], low ones at the bottom
            bands = log_mel(clip, num_mels=64, sampling_rate=rate).T[::-1]
            low, high = np.percentile(bands, [5, 99.5])
            levels = ((bands - low) / max(high - low, 1e-12)).clip(0, 1)
            self.pictures.append(matplotlib.colormaps["magma"](enlarged(levels, *self.SIZE))[..., :3])

    def draw_masks(self, masks: Columns) -> Figure:
        rows = [
            [picture, *(covered(picture, mask[None]) for mask in own)]
            for picture, *own in zip(self.pictures, *masks.values(), strict=True)
        ]
        return mosaic(rows, ["log-mel spectrogram", *masks], self.seconds)

    def draw_colours(self, colours: Columns) -> Figure:
        gap = np.ones((8, self.SIZE[1], 3))
        rows = [
            [np.concatenate([picture, gap, enlarged(colour[None], self.STRIP, self.SIZE[1])]) for colour in own]
            for picture, *own in zip(self.pictures, *colours.values(), strict=True)
        ]
        return mosaic(rows, list(colours), self.seconds)


class TextCanvas:
    """Tokens in lines, the first 60 of a text; without a tokenizer their ids."""

    max_masks = 3
    MOST = 60  # tokens of a text that are shown
    WIDTH, LINE, LETTER = 3.4, 0.19, 0.0669  # inches: of a column, a line, and a letter at 8 points

    def __init__(self, model: PreTrainedModel, texts: Inputs, processor: Any) -> None:
        self.places = []  # for each text its tokens as (word, left, line)
        for text in texts:
            ids = text[: self.MOST].tolist()
            words = [f" {token}" if processor is None else processor.decode([token]) for token in ids]
            self.places.append(self._lines(words + [" …"] * (len(text) > self.MOST)))

    def _lines(self, words: list[str]) -> list[tuple[str, float, int]]:
        """Tokens that begin a word stand apart from the one before."""
        left, line, placed = 0.0, 0, []
        for word in words:
            shown = word.strip() or "␣"
            if left:
                left += 0.07 if word[0].isspace() else 0.015
            if left + self._width(shown) > self.WIDTH:
                left, line = 0.0, line + 1
            placed.append((shown, left, line))
            left += self._width(shown)
        return placed

    def _width(self, word: str) -> float:
        letters = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in word)
        return letters * self.LETTER + 0.03

    def draw_masks(self, masks: Columns) -> Figure:
        return self._draw({title: [np.where(own[:, None], HIDDEN, 1.0) for own in masks[title]] for title in masks})

    def draw_colours(self, colours: Columns) -> Figure:
        # Half white, so that the words can be read on every colour.
        return self._draw({title: [(own + 1) / 2 for own in column] for title, column in colours.items()})

    def _draw(self, backgrounds: Columns) -> Figure:
        heights = [self.LINE * (places[-1][2] + 1) for places in self.places]  # inches, like all lengths here
        gap, top = 0.25, 0.35
        figure, axis = blank((gap + len(backgrounds) * (self.WIDTH + gap), top + sum(heights) + gap * len(heights)))
        for number, (title, column) in enumerate(backgrounds.items()):
            left, upper = gap + number * (self.WIDTH + gap), top
            axis.text(left, top / 2, title, va="center", fontsize=9, color=INK)
            for places, height, colours in zip(self.places, heights, column, strict=True):
                self._write(axis, left, upper, places, [*colours[: self.MOST], np.ones(3)])
                upper += height + gap
        return figure

    def _write(
        self, axis: Axes, left: float, upper: float, places: list[tuple[str, float, int]], colours: list[np.ndarray]
    ) -> None:
        for (word, offset, line), colour in zip(places, colours, strict=False):  # the last one is for the "…" of a cut
            x, y = left + offset, upper + line * self.LINE
            axis.add_patch(Rectangle((x, y + 0.01), self._width(word), self.LINE - 0.02, color=colour, linewidth=0))
            style: Any = {"family": "monospace", "fontsize": 8, "color": INK, "parse_math": False}
            axis.text(x + 0.015, y + self.LINE / 2, word, va="center_baseline", **style)


# ---- arrays of colours ----


def enlarged(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """[rows, columns, ...] to [height, width, ...], each dot that of the cell it lies in."""
    rows, columns = cells.shape[:2]
    return cells[np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]


def covered(picture: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """An RGB picture [H, W, 3] that is grey where the bool grid `hidden` [rows, columns], laid over it, is True."""
    return np.where(enlarged(hidden, *picture.shape[:2])[..., None], HIDDEN, picture)


def blank(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of so many inches whose only axes are inches, too, from the upper left corner."""
    figure = Figure(figsize=size)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()
    return figure, axis


def mosaic(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], labels: Sequence[str] = ()) -> Figure:
    """A grid of RGB arrays, titles above its columns, labels left of its rows; all are as large as the first one."""
    height, width = rows[0][0].shape[:2]
    gap, top, margin = 0.08, 0.3, 0.2 if labels else 0.0  # inches, like all lengths here
    panel_width = 1.5 * max(1.0, (width / height) ** 0.5)
    panel_height = panel_width * height / width
    figure, axis = blank((margin + gap + len(titles) * (panel_width + gap), top + len(rows) * (panel_height + gap)))
    lefts = [margin + gap + column * (panel_width + gap) for column in range(len(titles))]
    uppers = [top + row * (panel_height + gap) for row in range(len(rows))]
    for upper, pictures in zip(uppers, rows, strict=True):
        for left, picture in zip(lefts, pictures, strict=True):
            extent = (left, left + panel_width, upper + panel_height, upper)
            axis.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
    for left, title in zip(lefts, titles, strict=True):
        axis.text(left + panel_width / 2, top / 2, title, ha="center", va="center", fontsize=9, color=INK)
    for upper, label in zip(uppers, labels, strict=False):
        middle = upper + panel_height / 2
        axis.text(0.15, middle, label, ha="center", va="center", fontsize=7, color=INK, rotation=90)
    axis.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0))  # imshow moved them
    return figure
