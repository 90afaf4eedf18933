"""Where samples are drawn with something for each of their positions: masks over them, or colours beside or below them.

A canvas is made of samples, of at most 6. It draws a figure of all of them, or one of them as HTML.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # drawing takes long to import, and commands without pictures do without
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#333333"
HIDDEN = (0.74, 0.77, 0.83)  # a cool grey, which grey pictures don't have
HEAT_MAP = (256, 640)  # dots: height and width
SMALLEST = 256  # dots of the longer side of a picture on a page: a browser would blur smaller ones

# By the title of a column: an array for each sample, bool [T] of masks or RGB [T, 3] of colours.
Columns = Mapping[str, Sequence[np.ndarray]]


class PictureCanvas:
    """Samples as pictures: masks lie over them; colours stand beside them, or where they have one row, below.

    Args:
        modality: says how a sample looks, and where in its picture each position is.
        inputs: the samples.
    """

    STRIP, GAP = 0.22, 8  # height of a row of colours as a share of the picture's; dots above it

    def __init__(self, modality: Any, inputs: Any) -> None:
        self.modality, self.samples = modality, list(inputs)
        self.pictures = modality.pictures(inputs)
        self.captions = modality.captions(inputs)

    def draw_masks(self, masks: Columns) -> "Figure":
        rows = [
            [picture, *(covered(picture, self.modality.cells(mask, sample)) for mask in own)]
            for picture, sample, *own in zip(self.pictures, self.samples, *masks.values(), strict=True)
        ]
        return mosaic(rows, [self.modality.picture_title, *masks], self.captions)

    def draw_colours(self, colours: Columns) -> "Figure":
        cells = [
            [self.modality.cells(values, sample) for values in own]
            for sample, *own in zip(self.samples, *colours.values(), strict=True)
        ]
        if any(len(one) > 1 for own in cells for one in own):
            rows = [[picture, *own] for picture, own in zip(self.pictures, cells, strict=True)]
            return mosaic(rows, [self.modality.picture_title, *colours], self.captions)
        rows = [
            [self._with_strip(picture, one) for one in own] for picture, own in zip(self.pictures, cells, strict=True)
        ]
        return mosaic(rows, list(colours), self.captions)

    def html(self, number: int = 0) -> str:
        """A sample as it is."""
        return picture_html(self.pictures[number], self.modality.picture_title)

    def mask_html(self, mask: np.ndarray, number: int = 0) -> str:
        """A sample with a mask, bool [T], over it."""
        cells = self.modality.cells(mask, self.samples[number])
        return picture_html(covered(self.pictures[number], cells), f"{mask.mean():.0%} hidden")

    def colour_html(self, colours: np.ndarray, number: int = 0) -> str:
        """Colours [T, 3] of a sample's positions, as large as its picture; below it where they have one row."""
        picture, cells = self.pictures[number], self.modality.cells(colours, self.samples[number])
        drawn = self._with_strip(picture, cells) if len(cells) == 1 else enlarged(cells, *picture.shape[:2])
        return picture_html(drawn, "features as colors")

    def _with_strip(self, picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        strip = enlarged(colours, round(self.STRIP * height), width)
        return np.concatenate([picture, np.ones((self.GAP, width, 3)), strip])


class TextCanvas:
    """Tokens in lines, the first 60 of a text; without a tokenizer their ids."""

    MOST = 60  # tokens of a text that are shown
    WIDTH, LINE, LETTER = 3.4, 0.19, 0.0669  # inches: of a column, a line, and a letter at 8 points

    def __init__(self, texts: Sequence[Any], processor: Any) -> None:
        self.texts, self.processor = texts, processor
        self.words = [
            [f" {token}" if processor is None else processor.decode([token]) for token in text.tolist()]
            for text in texts
        ]
        # For each text its tokens as (word, left, line).
        self.places = [self._lines(words[: self.MOST] + [" …"] * (len(words) > self.MOST)) for words in self.words]

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

    def draw_masks(self, masks: Columns) -> "Figure":
        return self._draw({title: [np.where(own[:, None], HIDDEN, 1.0) for own in masks[title]] for title in masks})

    def draw_colours(self, colours: Columns) -> "Figure":
        # Half white, so that the words can be read on every colour.
        return self._draw({title: [(own + 1) / 2 for own in column] for title, column in colours.items()})

    def html(self, number: int = 0) -> str:
        """A sample's text, without what the tokenizer has put before and after it."""
        if self.processor is None:
            return f"<p>{''.join(self.words[number]).strip()}</p>"
        return f"<p>{escape(self.processor.decode(self.texts[number].tolist(), skip_special_tokens=True).strip())}</p>"

    def mask_html(self, mask: np.ndarray, number: int = 0) -> str:
        """A sample's words, those under a mask, bool [T], as grey boxes."""
        styles = ["color: transparent; background: #bcc4d3; user-select: none" if one else "" for one in mask]
        return self._spans(number, styles)

    def colour_html(self, colours: np.ndarray, number: int = 0) -> str:
        """A sample's words on colours [T, 3], half white, so that they can be read."""
        levels = ((colours + 1) / 2 * 255).round().astype(int).tolist()
        return self._spans(number, [f"color: {INK}; background: rgb{tuple(one)}" for one in levels])

    def _spans(self, number: int, styles: Sequence[str]) -> str:
        spans = []
        for word, style in zip(self.words[number], styles, strict=True):
            space = " " if word[:1].isspace() else ""
            spans.append(f'{space}<span style="border-radius: 2px; {style}">{escape(word.strip() or "␣")}</span>')
        return f"<p style='line-height: 1.7'>{''.join(spans)}</p>"

    def _draw(self, backgrounds: Columns) -> "Figure":
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
        self, axis: "Axes", left: float, upper: float, places: list[tuple[str, float, int]], colours: list[np.ndarray]
    ) -> None:
        from matplotlib.patches import Rectangle

        for (word, offset, line), colour in zip(places, colours, strict=False):  # the last one is for the "…" of a cut
            x, y = left + offset, upper + line * self.LINE
            axis.add_patch(Rectangle((x, y + 0.01), self._width(word), self.LINE - 0.02, color=colour, linewidth=0))
            style: Any = {"family": "monospace", "fontsize": 8, "color": INK, "parse_math": False}
            axis.text(x + 0.015, y + self.LINE / 2, word, va="center_baseline", **style)


# ---- arrays of colours ----


def picture_html(pixels: np.ndarray, alt: str) -> str:
    """An RGB array [H, W, 3] of 0 to 1 as HTML that needs no file; a small one is enlarged without blur."""
    height, width = pixels.shape[:2]
    times = -(-SMALLEST // max(height, width))
    dots = (enlarged(pixels, times * height, times * width).clip(0, 1) * 255).round().astype(np.uint8)
    file = BytesIO()
    Image.fromarray(dots).save(file, "PNG")
    shape = ' class="wide"' if width > 1.5 * height else ""  # which takes more room beside others
    return f'<img{shape} alt="{escape(alt)}" src="data:image/png;base64,{b64encode(file.getvalue()).decode()}">'


def heat_map(values: np.ndarray) -> np.ndarray:
    """Numbers [rows, columns] as an RGB picture [256, 640, 3]; the lowest 5% are black, the highest 0.5% bright."""
    import matplotlib

    low, high = np.percentile(values, [5, 99.5])
    levels = ((values - low) / max(high - low, 1e-12)).clip(0, 1)
    return matplotlib.colormaps["magma"](enlarged(levels, *HEAT_MAP))[..., :3]


def enlarged(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """[rows, columns, ...] to [height, width, ...], each dot that of the cell it lies in."""
    rows, columns = cells.shape[:2]
    return cells[np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]


def covered(picture: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """An RGB picture [H, W, 3] that is grey where the bool grid `hidden` [rows, columns], laid over it, is True."""
    return np.where(enlarged(hidden, *picture.shape[:2])[..., None], HIDDEN, picture)


def blank(size: tuple[float, float]) -> "tuple[Figure, Axes]":
    """A figure of so many inches whose only axes are inches, too, from the upper left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()
    return figure, axis


def mosaic(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], labels: Sequence[str] = ()) -> "Figure":
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
