"""Pictures of a run: its curves, what the masks hide, and what the patch features see."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from sklearn.decomposition import PCA
from torch import Tensor
from transformers import PreTrainedModel

from .baselines import random_weights
from .features import extract_features
from .real_positions import patch_grid

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F"
INK = "#333333"
HIDDEN = (0.74, 0.77, 0.83)  # a cool grey, which grey pictures don't have

ImageStatistics = float | Sequence[float] | None
History = Sequence[Mapping[str, float]]


def save_figure(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write a PNG file, make its folder, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # of a script that the font lacks, boxes are drawn
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=150, facecolor="white")
    return path


# ---- curves ----


def plot_curves(log_history: History, path: str | PathLike[str]) -> Path:
    """Draw a run's curves as small panels; a panel or line without data is left out.

    | panel | keys of the log |
    |---|---|
    | loss | `loss`, `regression_loss` (where `cls_loss` is a part of the loss, too), `constant_loss`, `eval_loss` |
    | spread | `target_std`, `prediction_std`, `target_spread`, `feature_encoder_std` |
    | effective rank | `student_rank`, `feature_encoder_rank` |
    | content or position | `teacher_student_cosine`, `position_explained` |
    | schedules | `learning_rate`, `ema_decay` |
    | probes | `probe_linear`, `probe_knn`, with baselines `probe_linear_random`, `probe_linear_raw`, ... dashed |

    Args:
        log_history: `trainer.state.log_history`; each entry has a `step`.
        path: the PNG file to write, which is returned; its folder is made.

    Raises:
        ValueError: if no entry holds any of the keys.

    Example:
        >>> plot_curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}], "/tmp/curves.png").name
        'curves.png'
    """
    panels = [
        draw
        for keys, draw in (
            (("loss", "eval_loss", "constant_loss"), _draw_loss),
            (("target_std", "prediction_std", "target_spread", "feature_encoder_std"), _draw_spread),
            (("student_rank", "feature_encoder_rank"), _draw_rank),
            (("teacher_student_cosine", "position_explained"), _draw_content),
            (("learning_rate", "ema_decay"), _draw_schedules),
            (("probe_linear", "probe_knn"), _draw_probes),
        )
        if any(key in entry and "step" in entry for entry in log_history for key in keys)
    ]
    if not panels:
        raise ValueError(
            f"log_history has {len(log_history)} entries, but none with a step and a figure to draw: pass "
            "trainer.state.log_history after training"
        )
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    last_step = max(1, *(entry["step"] for entry in log_history if "step" in entry))
    for number, draw in enumerate(panels, start=1):
        axis = figure.add_subplot(rows, columns, number)
        axis.set_xlim(-0.02 * last_step, 1.02 * last_step)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if number + columns > len(panels):
            axis.set_xlabel("optimizer step", fontsize=9, color=INK)
        draw(axis, log_history)
    return save_figure(figure, path)


def _series(history: History, key: str) -> tuple[list[float], list[float]]:
    """(steps, values) of the entries that hold `key`."""
    found = [(entry["step"], entry[key]) for entry in history if key in entry and "step" in entry]
    return [step for step, _ in found], [value for _, value in found]


def _line(axis: Axes, history: History, key: str, label: str, color: str, style: str = "-") -> None:
    steps, values = _series(history, key)
    if steps:
        marker = "o" if len(steps) < 20 else None  # a single point has no line
        axis.plot(steps, values, style, color=color, label=label, linewidth=1.6, marker=marker, markersize=3.5)


def _dress(axis: Axes, title: str, ylabel: str, columns: int = 1) -> None:
    """Title, then a legend of at most two lines, then the plot, so that a legend never covers data."""
    axis.set_title(title, loc="left", y=1.0, pad=32, fontsize=10.5, fontweight="bold", color=INK)
    axis.set_ylabel(ylabel, fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=INK, length=0)
    axis.grid(color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#BBBBBB")
    if columns:
        axis.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            borderaxespad=0.2,
            borderpad=0,
            handlelength=1.6,
            labelspacing=0.35,
            columnspacing=1.4,
        )


def _draw_loss(axis: Axes, history: History) -> None:
    _line(axis, history, "loss", "training", BLUE)
    _line(axis, history, "eval_loss", "validation", ORANGE)
    if any("cls_loss" in entry for entry in history):
        _line(axis, history, "regression_loss", "training, regression only", GREEN)
    _line(axis, history, "constant_loss", "constant predictor", GREY, "--")
    axis.set_ylim(bottom=0)
    _dress(axis, "Loss", "loss", columns=2)


def _draw_spread(axis: Axes, history: History) -> None:
    _line(axis, history, "target_std", "targets", BLUE)
    _line(axis, history, "prediction_std", "predictions", ORANGE)
    _line(axis, history, "target_spread", "targets before normalisation", GREEN)
    _line(axis, history, "feature_encoder_std", "feature encoder", PINK)
    if any(np.nan_to_num(line.get_ydata()).max() > 0 for line in axis.lines):  # else a log scale has no place for them
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:g}")
    _dress(axis, "Spread (collapse: towards 0)", "standard deviation", columns=2)


def _draw_rank(axis: Axes, history: History) -> None:
    _line(axis, history, "student_rank", "student", BLUE)
    _line(axis, history, "feature_encoder_rank", "feature encoder", PINK)
    axis.set_ylim(bottom=0)
    _dress(axis, "Effective rank (collapse: towards 1)", "dimensions in use", columns=2)


def _draw_content(axis: Axes, history: History) -> None:
    _line(axis, history, "teacher_student_cosine", "cosine of predictions and targets", BLUE)
    _line(axis, history, "position_explained", "targets explained by position alone", ORANGE)
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.05)
    _dress(axis, "Agreement, and how much is position", "cosine, share")


def _draw_schedules(axis: Axes, history: History) -> None:
    """Two scales: the one place where both axes are needed, each in its line's colour."""
    right = axis.twinx()
    for side, key, name, color in (
        (axis, "learning_rate", "learning rate", BLUE),
        (right, "ema_decay", "EMA decay", ORANGE),
    ):
        _line(side, history, key, name, color)
        _dress(side, "Schedules" if side is axis else "", name, columns=0)
        side.yaxis.label.set_color(color)
        side.tick_params(axis="y", colors=color)
        side.yaxis.set_visible(bool(side.lines))
        side.yaxis.set_major_formatter("{x:g}")
    span = 1 - min(_series(history, "ema_decay")[1], default=1.0)
    if span > 0:  # what matters of a decay is its distance from 1
        right.set_ylim(1 - 1.1 * span, 1 + 0.05 * span)
    right.grid(not axis.lines)


def _draw_probes(axis: Axes, history: History) -> None:
    probes = (("linear", "linear", BLUE), ("knn", "kNN", ORANGE))
    for probe, name, color in probes:
        _line(axis, history, f"probe_{probe}", name, color)
    for baseline, name, style in (("random", "random weights", "--"), ("raw", "raw features", ":")):
        for probe, _, color in probes:
            _, values = _series(history, f"probe_{probe}_{baseline}")
            if values:
                axis.axhline(values[-1], color=color, linestyle=style, linewidth=1.4, label=name)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _dress(axis, "Probes of the frozen encoder", "accuracy", columns=3)


# ---- pictures ----


def _pictures(pixel_values: Tensor, mean: ImageStatistics, std: ImageStatistics) -> np.ndarray:
    """[N, C, H, W] to RGB [N, H, W, 3] in [0, 1]: grey for 1 channel, else the first 3, or the mean of 2.

    Without `mean` and `std` the range of all given pixels becomes [0, 1].
    """
    pixels = pixel_values.detach().float().cpu()
    if mean is None and std is None:
        low, high = pixels.amin(), pixels.amax()
        pixels = (pixels - low) / (high - low).clamp_min(1e-12)
    else:
        scale = torch.as_tensor(1.0 if std is None else std).reshape(-1, 1, 1)  # [C or 1, 1, 1]
        pixels = pixels * scale + torch.as_tensor(0.0 if mean is None else mean).reshape(-1, 1, 1)
    pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()


def _mosaic(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], interpolation: str = "nearest") -> Figure:
    """A grid of RGB arrays with a title above each column; all are drawn as large as the first one."""
    height, width = rows[0][0].shape[:2]
    gap, top = 0.08, 0.3  # inches, like all lengths here
    panel_width = 1.5 * max(1.0, (width / height) ** 0.5)
    panel_height = panel_width * height / width
    size = (gap + len(titles) * (panel_width + gap), top + len(rows) * (panel_height + gap))
    figure = Figure(figsize=size)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axis.set_axis_off()
    lefts = [gap + column * (panel_width + gap) for column in range(len(titles))]
    for row, pictures in enumerate(rows):
        upper = top + row * (panel_height + gap)
        for left, picture in zip(lefts, pictures, strict=True):
            extent = (left, left + panel_width, upper + panel_height, upper)
            patches = picture.shape[:2] != (height, width)
            axis.imshow(picture, extent=extent, aspect="auto", interpolation=interpolation if patches else "nearest")
    for left, title in zip(lefts, titles, strict=True):
        axis.text(left + panel_width / 2, top / 2, title, ha="center", va="center", fontsize=9, color=INK)
    return figure


def plot_masks(
    pixel_values: Tensor,
    masks: Tensor,
    grid: tuple[int, int],
    path: str | PathLike[str],
    mean: ImageStatistics = None,
    std: ImageStatistics = None,
) -> Path:
    """Show what each mask leaves to the student: one row for each of the first 6 images, at most 5 masks beside it.

    Args:
        pixel_values: [N, channels, height, width]; of more than 3 channels the first 3 are shown.
        masks: bool [N, M, T], True where a patch is hidden (drawn grey).
        grid: (rows, columns) of patches, T = rows * columns; must divide the image's size.
        path: the PNG file to write, which is returned; its folder is made.
        mean, std: what the pixels were normalised with, a number or one for each channel; without both, the range of
            the pixels becomes black to white.

    Raises:
        ValueError: if masks, grid and images don't fit together.
    """
    count, _, height, width = pixel_values.shape
    rows, columns = grid
    if masks.ndim != 3 or masks.shape[0] != count or masks.shape[2] != rows * columns:
        raise ValueError(
            f"masks has shape {tuple(masks.shape)}, but {count} images of {rows} x {columns} patches need "
            f"[{count}, masks, {rows * columns}]"
        )
    if height % rows or width % columns:
        raise ValueError(f"grid is {grid}, but must divide the images' {height} x {width} pixels")
    masks = masks[:6, :5].bool().cpu()
    hidden = masks.unflatten(2, grid)  # [N, M, h, w]
    hidden = hidden.repeat_interleave(height // rows, 2).repeat_interleave(width // columns, 3)  # [N, M, H, W]
    pictures = _pictures(pixel_values[:6], mean, std)
    views = [
        [picture, *(np.where(view[..., None], HIDDEN, picture) for view in image_views)]
        for picture, image_views in zip(pictures, hidden.numpy(), strict=True)
    ]
    titles = ["image"] + [f"mask {m + 1}: {masks[:, m].float().mean():.0%} hidden" for m in range(masks.shape[1])]
    return save_figure(_mosaic(views, titles), path)


def pca_maps(
    model: PreTrainedModel,
    pixel_values: Tensor,
    path: str | PathLike[str],
    mean: ImageStatistics = None,
    std: ImageStatistics = None,
    *,
    layer: int = -1,
    interpolation: str = "nearest",
) -> Path:
    """Colour each patch by the first three principal components of its features, beside an untrained encoder's.

    Components are taken over all patches of all shown images together, so that one colour means one thing in the whole
    column; each is stretched from its 2nd to its 98th percentile. Colours of different columns are unrelated. A column
    that looks the same for every image shows that position outweighs content.

    Args:
        model: any encoder that `extract_features` takes.
        pixel_values: [N, channels, height, width], normalised; the first 8 images are shown, one a row.
        path: the PNG file to write, which is returned; its folder is made.
        mean, std: as in `plot_masks`.
        layer: as in `extract_features`.
        interpolation: "nearest" shows patches as they are, "bilinear" smooth ones.

    Raises:
        ValueError: for fewer than 3 patches in all, and as `extract_features`.
    """
    pixel_values = pixel_values[:8]
    grid = patch_grid(model.base_model.config, *pixel_values.shape[2:])
    trained, untrained = (
        _pca_colours(extract_features(encoder, [pixel_values], pooling="flatten", layer=layer), grid)
        for encoder in (model, random_weights(model))
    )
    pictures = _pictures(pixel_values, mean, std)
    rows = list(zip(pictures, trained, untrained, strict=True))
    return save_figure(_mosaic(rows, ["image", "model", "random weights"], interpolation), path)


def _pca_colours(features: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """[N, T * D] features to RGB [N, rows, columns, 3]."""
    count, length = len(features), grid[0] * grid[1]
    patches = features.reshape(count * length, -1)  # [N * T, D]
    if len(patches) < 3:
        raise ValueError(f"{count} image(s) of {length} patch(es) are too few for 3 components: give more images")
    components = PCA(3, svd_solver="full").fit_transform(patches)  # [N * T, 3]
    low, high = np.percentile(components, [2, 98], axis=0)
    colours = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return colours.reshape(count, *grid, 3)
