"""The curves of a run as a picture."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from modeling_data2vec.cross_modal import PAIRS

from ..files.writing import new_file
from ..modalities.drawing import INK
from ..modalities.names import modalities
from .gradient_cosine import COSINE, NORM
from .modality_logs import by_modality

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
SKY, GRAY = "#56B4E9", "#7F7F7F"

History = Sequence[Mapping[str, float]]


def save_figure(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write a PNG file, make its folder, and return its path."""
    with new_file(path) as unfinished, warnings.catch_warnings():  # of a script that the font lacks, boxes are drawn
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(unfinished, dpi=150, facecolor="white")
    return Path(path)


def plot_curves(log_history: History, path: str | PathLike[str]) -> Path:
    """Draw a run's curves as small panels; a panel or line without data is left out.

    Of a joint model each modality has a row of its own, below what concerns all of them.

    | panel | keys of the log |
    |---|---|
    | loss | `loss`, `regression_loss` (where `cls_loss` is a part of the loss, too), `constant_loss`, `eval_loss` |
    | spread | `target_std`, `prediction_std`, `target_spread`, `feature_encoder_std` |
    | effective rank | `student_rank`, `feature_encoder_rank` |
    | content or position | `teacher_student_cosine`, `position_explained` |
    | schedules | `learning_rate`, `ema_decay` |
    | modalities | `audio/loss`, ...; `gradient_cosine/audio_text`, ...; `gradient_norm/audio`, ...: a panel each |
    | probes | `probe_linear`, `probe_ridge`, `probe_knn`, with baselines `probe_linear_random`, ... dashed |

    Args:
        log_history: `trainer.state.log_history`; each entry has a `step`.
        path: the PNG file to write, which is returned; its folder is made.

    Raises:
        ValueError: if no entry holds any of the keys.

    Example:
        >>> plot_curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}], "/tmp/curves.png").name
        'curves.png'
    """
    parts = by_modality(log_history)
    rows = [_panels("", log_history), *(_panels(name, part) for name, part in parts.items() if name)]
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(
            f"log_history has {len(log_history)} entries, but none with a step and a figure to draw: pass "
            "trainer.state.log_history after training"
        )
    if len(rows) == 1:  # a single modality: at most three panels side by side
        rows = [rows[0][start : start + 3] for start in range(0, len(rows[0]), 3)]
    columns = max(map(len, rows))
    figure = Figure(figsize=(4.2 * columns, 3.2 * len(rows)), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    last_step = max(1, *(entry["step"] for entry in log_history if "step" in entry))
    for number, row in enumerate(rows):
        for column, (title, history, draw) in enumerate(row):
            axis = figure.add_subplot(len(rows), columns, number * columns + column + 1)
            axis.set_xlim(-0.02 * last_step, 1.02 * last_step)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if number + 1 == len(rows) or column >= len(rows[number + 1]):
                axis.set_xlabel("optimizer step", fontsize=9, color=INK)
            axis.set_label(title)  # which goes before the panel's title
            draw(axis, history)
    return save_figure(figure, path)


def _panels(title: str, history: History) -> list[tuple[str, History, Callable[[Axes, History], None]]]:
    """Panels to draw of a log, in order: (title of the log, log, how to draw)."""
    found = {key for entry in history if "step" in entry for key in entry}
    cosines, norms = (any(key.startswith(kind) for key in found) for kind in (COSINE, NORM))
    choices: tuple[tuple[bool, Callable[[Axes, History], None]], ...] = (
        (not found.isdisjoint(("loss", "eval_loss", "constant_loss")), _draw_loss),
        (not found.isdisjoint(("target_std", "prediction_std", "target_spread", "feature_encoder_std")), _draw_spread),
        (not found.isdisjoint(("student_rank", "feature_encoder_rank")), _draw_rank),
        (not found.isdisjoint(("teacher_student_cosine", "position_explained")), _draw_content),
        (not found.isdisjoint(("learning_rate", "ema_decay")), _draw_schedules),
        (cosines, _draw_gradient_cosines),
        (norms, _draw_gradient_norms),
        (not found.isdisjoint(("probe_linear", "probe_ridge", "probe_knn")), _draw_probes),
    )
    return [(title, history, draw) for shown, draw in choices if shown]


def _series(history: History, key: str) -> tuple[list[float], list[float]]:
    """(steps, values) of the entries that hold `key`."""
    found = [(entry["step"], entry[key]) for entry in history if key in entry and "step" in entry]
    return [step for step, _ in found], [value for _, value in found]


def _line(axis: Axes, history: History, key: str, label: str, color: str, style: str = "-") -> None:
    steps, values = _series(history, key)
    if steps:
        marker = "o" if len(steps) < 20 else None  # a single point has no line
        axis.plot(steps, values, style, color=color, label=label, linewidth=1.6, marker=marker, markersize=3.5)


def dress(axis: Axes, title: str, ylabel: str, columns: int = 1, pad: float = 32) -> None:
    """Title, then a legend of at most two lines, then the plot, so that a legend never covers data."""
    title = f"{axis.get_label()}: {title}" if axis.get_label() else title
    axis.set_title(title, loc="left", y=1.0, pad=pad, fontsize=10.5, fontweight="bold", color=INK)
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


def modality_colors(history: History, key: str) -> dict[str, str]:
    """Colors of the modalities that a log has `key` of; those without one of their own get a free one.

    Example:
        >>> modality_colors([{"step": 1, "pairs/loss": 2.0, "audio/loss": 1.0}], "{}/loss")
        {'audio': '#0072B2', 'pairs': '#CC79A7'}
    """
    pattern = re.compile(re.escape(key).replace(re.escape("{}"), "([^/]+)"))
    found = {match[1] for entry in history for name in entry if (match := pattern.fullmatch(name))}
    own = {name: kind.color for name, kind in modalities().items()} | {PAIRS: PINK}
    free = iter([color for color in (YELLOW, GRAY, INK, SKY, BLUE) if color not in own.values()] * len(found))
    return {name: own.get(name) or next(free) for name in sorted(found, key=lambda name: (name == PAIRS, name))}


def _draw_loss(axis: Axes, history: History) -> None:
    for name, color in modality_colors(history, "{}/loss").items():
        _line(axis, history, f"{name}/loss", name, color)
    joint = bool(axis.lines)
    _line(axis, history, "loss", "weighted mean" if joint else "training", INK if joint else BLUE)
    _line(axis, history, "eval_loss", "validation", ORANGE)
    if any("cls_loss" in entry for entry in history):
        _line(axis, history, "regression_loss", "training, regression only", GREEN)
    _line(axis, history, "constant_loss", "constant predictor", GRAY, "--")
    axis.set_ylim(bottom=0)
    dress(axis, "Loss", "loss", columns=2)


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
    dress(axis, "Spread (collapse: towards 0)", "standard deviation", columns=2)


def _draw_rank(axis: Axes, history: History) -> None:
    _line(axis, history, "student_rank", "student", BLUE)
    _line(axis, history, "feature_encoder_rank", "feature encoder", PINK)
    axis.set_ylim(bottom=0)
    dress(axis, "Effective rank (collapse: towards 1)", "dimensions in use", columns=2)


def _draw_content(axis: Axes, history: History) -> None:
    _line(axis, history, "teacher_student_cosine", "cosine of predictions and targets", BLUE)
    _line(axis, history, "position_explained", "targets explained by position alone", ORANGE)
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1.05)
    dress(axis, "Agreement; share of position", "cosine, share")


def _draw_schedules(axis: Axes, history: History) -> None:
    """Two scales: the one place where both axes are needed, each in its line's colour."""
    right = axis.twinx()
    for side, key, name, color in (
        (axis, "learning_rate", "learning rate", BLUE),
        (right, "ema_decay", "EMA decay", ORANGE),
    ):
        _line(side, history, key, name, color)
        dress(side, "Schedules" if side is axis else "", name, columns=0)
        side.yaxis.label.set_color(color)
        side.tick_params(axis="y", colors=color)
        side.yaxis.set_visible(bool(side.lines))
        side.yaxis.set_major_formatter("{x:g}")
    span = 1 - min(_series(history, "ema_decay")[1], default=1.0)
    if span > 0:  # what matters of a decay is its distance from 1
        right.set_ylim(1 - 1.1 * span, 1 + 0.05 * span)
    right.grid(not axis.lines)


def _draw_gradient_cosines(axis: Axes, history: History) -> None:
    pairs = sorted({key for entry in history for key in entry if key.startswith(COSINE)})
    for pair, color in zip(pairs, (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY), strict=False):  # 6 pairs are the most
        _line(axis, history, pair, pair.removeprefix(COSINE).replace("_", " and "), color)
    axis.axhline(0.0, color=GRAY, linewidth=1.0, linestyle="--")
    dress(axis, "Gradients on the trunk (below 0: they fight)", "cosine", columns=3)


def _draw_gradient_norms(axis: Axes, history: History) -> None:
    for name, color in sorted(modality_colors(history, NORM + "{}").items()):
        _line(axis, history, f"{NORM}{name}", name, color)
    axis.set_ylim(bottom=0)
    dress(axis, "Norm of gradients (largest leads)", "norm", columns=3)


def _draw_probes(axis: Axes, history: History) -> None:
    probes = (("linear", "linear", BLUE), ("ridge", "ridge", GREEN), ("knn", "kNN", ORANGE))
    for probe, name, color in probes:
        _line(axis, history, f"probe_{probe}", name, color)
    for baseline, name, style in (("random", "random weights", "--"), ("raw", "raw features", ":")):
        for probe, _, color in probes:
            _, values = _series(history, f"probe_{probe}_{baseline}")
            if values:
                axis.axhline(values[-1], color=color, linestyle=style, linewidth=1.4, label=name)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    dress(axis, "Probes of the frozen encoder", "accuracy, or mAP of lists", columns=3)
