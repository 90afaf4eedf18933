"""Figures of a comparison of encoders: accuracies, few labels, layers and CKA, as PNG files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from ...monitoring.curves import BLUE, GRAY, GREEN, INK, ORANGE, PINK, dress, save_figure
from ..probe_labels import CHANCE
from .results import Comparison, FeatureSet, LayerScore, Score, Similarity

COLOURS = (BLUE, ORANGE, GREEN, PINK, "#56B4E9", "#E69F00")  # Okabe and Ito's; a seventh model begins anew
RAW_COLOURS = (INK, GRAY)
STYLES = {"model": "-", "untrained": (0, (4, 2)), "raw": (0, (1, 1.5))}
MARKERS = {"linear": "o", "ridge": "^", "kNN": "s", "kNN, cosine": "v", "attentive": "D"}


FIGURES = ("accuracies.png", "few_labels.png", "layers.png", "cka.png")


def save_figures(comparison: Comparison, folder: str | PathLike[str]) -> list[Path]:
    """Draw all figures of a comparison; returns the files: accuracies, few_labels (for several counts), layers, cka."""
    folder = Path(folder)
    paths = [save_figure(_accuracies(comparison), folder / "accuracies.png")]
    if len(comparison.label_counts) > 1:
        paths.append(save_figure(_few_labels(comparison), folder / "few_labels.png"))
    paths.append(save_figure(_layers(comparison), folder / "layers.png"))
    paths.append(save_figure(_cka(comparison.similarities), folder / "cka.png"))
    return paths


def _colour(comparison: Comparison, line: FeatureSet) -> str:
    if line.model is None:
        raw = [one.name for one in comparison.features if one.kind == "raw"]
        return RAW_COLOURS[raw.index(line.name) % len(RAW_COLOURS)]
    models = [one.name for one in comparison.features if one.kind == "model"]
    return COLOURS[models.index(line.model) % len(COLOURS)]


def _shown(line: FeatureSet) -> float:
    """How much of its colour a line keeps: models stand out from their baselines."""
    return 1.0 if line.kind == "model" else 0.75


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))


def _legend(figure: Figure, comparison: Comparison) -> None:
    """One legend for all panels, below them: a column for each model with its baseline."""
    handles = [
        Line2D([], [], color=_colour(comparison, line), linestyle=STYLES[line.kind], linewidth=1.8, label=line.name)
        for line in comparison.features
    ]
    models = sum(line.kind == "model" for line in comparison.features)
    pairs = [handle for i in range(models) for handle in (handles[i], handles[models + i])] + handles[2 * models :]
    figure.legend(
        handles=pairs,
        loc="outside lower left",
        ncols=min(models + 1, 4),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=2.6,
    )


# ---- accuracies ----


def _accuracies(comparison: Comparison) -> Figure:
    """With all labels: a line for each kind of features, a mark for each probe."""
    scores = [one for one in comparison.scores if one.labels == comparison.num_train]
    models = [line for line in comparison.features if line.kind == "model"]
    order = [line for model in models for line in comparison.features if line.model == model.name]
    order += [line for line in comparison.features if line.kind == "raw"]
    figure = _figure(7.2, 1.3 + 0.42 * len(order))
    axis = figure.add_subplot()
    for place, line in enumerate(order):
        for number, (probe, marker) in enumerate(MARKERS.items()):
            for score in (one for one in scores if (one.features, one.probe) == (line.name, probe)):
                y = place + 0.16 * (number - 2)
                colour, low, high = _colour(comparison, line), score.accuracy.low, score.accuracy.high
                axis.plot([low, high], [y, y], color=colour, linewidth=1.6, alpha=_shown(line))
                face = colour if line.kind == "model" else "white"
                axis.plot(score.accuracy.value, y, marker, color=colour, markerfacecolor=face, markersize=5)
    axis.set_yticks(range(len(order)), [line.name for line in order])
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    dress(axis, f"{comparison.metric.capitalize()} with all {comparison.num_train:,} labels", "", columns=0, pad=8)
    axis.set_xlabel(f"{comparison.metric} on {comparison.num_test:,} test samples, 95% interval", fontsize=9, color=INK)
    axis.grid(visible=False, axis="y")
    marks = [
        Line2D([], [], color=INK, marker=mark, linestyle="", markersize=5, label=name) for name, mark in MARKERS.items()
    ]
    figure.legend(handles=marks, loc="outside lower left", ncols=5, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


# ---- few labels ----


def _few_labels(comparison: Comparison) -> Figure:
    figure = _figure(8.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axis, probe in zip(panels, ("linear", "kNN"), strict=True):
        for line in comparison.features:
            scores = [one for one in comparison.scores if (one.features, one.probe) == (line.name, probe)]
            scores.sort(key=lambda one: one.labels)
            _band(axis, comparison, line, [one.labels for one in scores], scores, marker="o")
        axis.axhline(comparison.chance, color=GRAY, linewidth=0.8)
        axis.annotate(
            CHANCE[comparison.metric],
            (0.99, comparison.chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=GRAY,
        )
        _label_axis(axis, comparison)
        dress(axis, "Linear probe" if probe == "linear" else "Nearest neighbours", "", columns=0, pad=8)
    panels[0].set_ylabel(f"{comparison.metric}, 95% band", fontsize=9, color=INK)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(figure, comparison)
    return figure


def _label_axis(axis: Axes, comparison: Comparison) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(comparison.label_counts))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_xlabel("training labels", fontsize=9, color=INK)


def _band(
    axis: Axes,
    comparison: Comparison,
    line: FeatureSet,
    x: Sequence[int],
    scores: Sequence[Score] | Sequence[LayerScore],
    marker: str,
) -> None:
    colour, style = _colour(comparison, line), STYLES[line.kind]
    accuracies = [one.accuracy for one in scores]
    axis.plot(
        x,
        [one.value for one in accuracies],
        linestyle=style,
        color=colour,
        alpha=_shown(line),
        linewidth=1.8,
        marker=marker if line.kind == "model" else None,
        markersize=3.5,
    )
    low, high = [one.low for one in accuracies], [one.high for one in accuracies]
    axis.fill_between(x, low, high, color=colour, alpha=0.07 if line.kind == "untrained" else 0.18, linewidth=0)


# ---- layers ----


def _layers(comparison: Comparison) -> Figure:
    """Accuracy and effective rank of each layer; a ring around the layer that held-out training labels choose."""
    figure = _figure(8.6, 4.2)
    left, right = figure.subplots(1, 2)
    for line in (one for one in comparison.features if one.kind != "raw"):
        rows = [one for one in comparison.layers if one.features == line.name]
        depth = [one.layer for one in rows]
        _band(left, comparison, line, depth, rows, marker="o")
        colour, alpha = _colour(comparison, line), _shown(line)
        marker = "o" if line.kind == "model" else None
        ranks = [one.rank for one in rows]
        style: dict[str, Any] = {"linestyle": STYLES[line.kind], "linewidth": 1.8, "marker": marker, "markersize": 3.5}
        right.plot(depth, ranks, color=colour, alpha=alpha, **style)
        for one in (row for row in rows if row.best and line.kind == "model"):
            left.plot(one.layer, one.accuracy.value, "o", color=colour, markerfacecolor="none", markersize=11)
    for raw in (one for one in comparison.features if one.kind == "raw"):
        for score in comparison.scores:
            if (score.features, score.probe, score.labels) == (raw.name, "ridge", comparison.num_train):
                style = {"color": _colour(comparison, raw), "linestyle": STYLES["raw"], "alpha": _shown(raw)}
                left.axhline(score.accuracy.value, linewidth=1.8, **style)
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axis.set_xlabel("layer (0: input of the first; last: output)", fontsize=9, color=INK)
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.set_ylim(bottom=0)
    dress(left, "Ridge probe of each layer (ring: chosen)", f"{comparison.metric}, 95% band", columns=0, pad=8)
    dress(right, "Effective rank of each layer", "dimensions in use", columns=0, pad=8)
    _legend(figure, comparison)
    return figure


# ---- CKA ----


def _cka(similarities: Sequence[Similarity]) -> Figure:
    """A triangle of heatmaps: each model with itself on the diagonal, with the others below."""
    names = list(dict.fromkeys(one.first for one in similarities))
    size = len(names)
    figure = _figure(3.4 * size + 0.9, 3.4 * size + 0.2)
    axes = figure.subplots(size, size, squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for one in similarities:
        axis = axes[names.index(one.second), names.index(one.first)]
        axis.set_visible(True)
        values = np.array(one.cka).T  # the second model's layers upwards
        _numbers(axis, values)
        image = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, origin="lower", aspect="auto")
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        axis.tick_params(labelsize=8, colors=INK, length=0)
        axis.set_xlabel(f"layer of {one.first}", fontsize=9, color=INK)
        axis.set_ylabel(f"layer of {one.second}", fontsize=9, color=INK)
        for spine in axis.spines.values():
            spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK, length=0)
    bar.set_label("linear CKA (debiased)", fontsize=9, color=INK)
    return figure


def _numbers(axis: Axes, values: np.ndarray) -> None:
    """The values themselves, where there are few enough to be read."""
    if max(values.shape) > 8:
        return
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < 0.45 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=colour)
