"""A comparison of encoders as Markdown: tables with intervals, figures, and how everything was measured."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..intervals import Interval
from ..probe_labels import CHANCE
from .results import Comparison, LayerScore, Similarity

FEW_LABEL_PROBES = ("linear", "ridge", "kNN", "kNN, cosine")
PROBES = (*FEW_LABEL_PROBES, "attentive")


def report(comparison: Comparison, *, title: str, notes: Sequence[str] = (), figures: Iterable[Path] = ()) -> str:
    """The report as Markdown.

    Args:
        comparison: from `compare`.
        title: its first heading.
        notes: lines on where models and data come from, for the last section.
        figures: files beside the report, from `save_figures`; each stands in the section of its name.
    """
    pictures = {path.stem: f"![{path.stem.replace('_', ' ')}]({path.name})" for path in figures}
    sections = [
        (f"# {title}", _summary(comparison), None),
        (f"## {comparison.metric.capitalize()}", _accuracy(comparison), "accuracies"),
        ("## Differences", _differences(comparison), None),
        ("## Few labels", _few_labels(comparison), "few_labels"),
        ("## Layers", _layers(comparison), "layers"),
        ("## Similarity of layers", _similarity(comparison.similarities), "cka"),
        ("## Geometry", _geometry(comparison), None),
        ("## How it was measured", _method(comparison, notes), None),
    ]
    lines: list[str] = []
    for heading, body, picture in sections:
        shown = [pictures[picture], ""] if picture in pictures else []
        lines += [heading, "", *shown, *body, ""]
    return "\n".join(lines).rstrip() + "\n"


# ---- cells ----


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _points(interval: Interval) -> str:
    """A difference in percentage points, bold where the interval excludes none."""
    text = f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"**{text}**" if interval.excludes_zero else text


def _number(interval: Interval, digits: int = 2) -> str:
    if math.isnan(interval.value):
        return "none"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A table whose first `texts` columns are aligned to the left."""
    rule = "|" + "---|" * texts + "---:|" * (len(heads) - texts)
    return [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


# ---- sections ----


def _all_labels(comparison: Comparison) -> dict[tuple[str, str], Interval]:
    """Accuracies with all labels, by features and probe."""
    return {(one.features, one.probe): one.accuracy for one in comparison.scores if one.labels == comparison.num_train}


def _summary(comparison: Comparison) -> list[str]:
    models = [line.name for line in comparison.features if line.kind == "model"]
    scores = _all_labels(comparison)
    lines = [
        f"Frozen features, {comparison.num_train:,} labels of {comparison.classes} classes, {comparison.num_test:,} "
        f"test samples ({CHANCE[comparison.metric]}: {100 * comparison.chance:.1f}%). [ ] is a 95% confidence interval "
        "everywhere.",
        "",
    ]
    for name in models:
        best = max(PROBES, key=lambda probe: scores[name, probe].value)
        lines.append(
            f"- **{name}**: {_percent(scores[name, 'linear'])}% by a linear probe; {_verdict(comparison, name)}."
        )
        if best != "linear":
            lines[-1] = f"{lines[-1][:-1]}; best probe: {best}, {_percent(scores[name, best])}%."
    return lines


def _verdict(comparison: Comparison, name: str) -> str:
    """How a model's linear probe stands to both baselines, in words."""
    said = []
    for one in comparison.differences:
        if (one.features, one.probe, one.labels) != (name, "linear", comparison.num_train):
            continue
        baseline = next(line for line in comparison.features if line.name == one.than)
        if baseline.kind == "model":
            continue
        than = "untrained" if baseline.kind == "untrained" else baseline.name
        words = "no clear difference from" if not one.difference.excludes_zero else None
        words = words or ("above" if one.difference.value > 0 else "below")
        said.append(f"{words} {than} ({100 * one.difference.value:+.1f})")
    return ", ".join(said)


def _accuracy(comparison: Comparison) -> list[str]:
    found = _all_labels(comparison)
    rows = []
    for line in comparison.features:
        cells = (found.get((line.name, probe)) for probe in PROBES)
        rows.append([line.name, *("" if cell is None else _percent(cell) for cell in cells)])
    return [f"All {comparison.num_train:,} labels, {comparison.metric} in %.", "", *_table(["features", *PROBES], rows)]


def _differences(comparison: Comparison) -> list[str]:
    chosen = [one for one in comparison.differences if one.labels == comparison.num_train]
    found = {(one.features, one.than, one.probe): one.difference for one in chosen}
    rows = []
    for first, second in dict.fromkeys((one.features, one.than) for one in chosen):
        cells = (found.get((first, second, probe)) for probe in PROBES)
        rows.append([f"{first} minus {second}", *("" if cell is None else _points(cell) for cell in cells)])
    return [
        f"All {comparison.num_train:,} labels, in percentage points, by a paired bootstrap over the test samples; bold "
        "where the interval excludes 0. Where nothing differs, about one in twenty is bold by chance.",
        "",
        *_table(["difference", *PROBES], rows),
    ]


def _few_labels(comparison: Comparison) -> list[str]:
    lines = [
        f"Mean over {len(comparison.seeds)} random label subsets (classes in proportion), {comparison.metric} in %. "
        "The interval covers test samples and subsets.",
    ]
    for probe in FEW_LABEL_PROBES:
        found = {(one.features, one.labels): one.accuracy for one in comparison.scores if one.probe == probe}
        rows = [
            [line.name, *(_percent(found[line.name, labels]) for labels in comparison.label_counts)]
            for line in comparison.features
        ]
        heads = [probe, *(f"{n:,} labels" for n in comparison.label_counts)]
        lines += ["", *_table(heads, rows)]
    return lines


def _layers(comparison: Comparison) -> list[str]:
    rows = [_layer_row(one) for one in comparison.layers]
    return [
        "A ridge probe of each layer with all labels. Layer 0 is the first layer's input, the last one the encoder's "
        "output. Bold: the layer with the best figure on training samples that are left out one by one. The test "
        "split does not choose.",
        "",
        *_table(["features", "layer", "held-out labels, %", "test, %", "effective rank"], rows),
    ]


def _layer_row(one: LayerScore) -> list[str]:
    held_out = "" if one.held_out is None else f"{100 * one.held_out:.1f}"
    cells = [str(one.layer), held_out, _percent(one.accuracy), f"{one.rank:.1f}"]
    return [one.features, *(f"**{cell}**" if one.best and cell else cell for cell in cells)]


def _similarity(similarities: Sequence[Similarity]) -> list[str]:
    pairs = [one for one in similarities if one.first != one.second]
    lines = [
        "Linear CKA (debiased) of the pooled features of the same test samples: 1 is equal up to rotation and scale, 0 "
        "unrelated.",
    ]
    if pairs:
        rows = [[f"{one.first}, {one.second}", _number(one.output)] for one in pairs]
        lines += ["", *_table(["outputs of", "CKA"], rows)]
    return lines


def _geometry(comparison: Comparison) -> list[str]:
    rows = [
        [
            one.features,
            _number(one.rank, digits=1),
            *map(_number, (one.view_alignment, one.class_alignment, one.uniformity)),
        ]
        for one in comparison.geometry
    ]
    heads = ["features", "effective rank", "alignment, two crops", "alignment, same class", "uniformity"]
    return [
        f"Of {comparison.num_geometry:,} test samples. Effective rank (RankMe): dimensions in use. On the sphere "
        "around the training mean, alignment is the squared distance of two crops of a sample, or of two samples of a "
        "class (0 to 4, lower is closer); uniformity tells how evenly the sphere is filled (0 to about -4, lower is "
        "more even). Read them together: constant features are perfectly aligned, noise is perfectly uniform.",
        "",
        *_table(heads, rows),
    ]


def _method(comparison: Comparison, notes: Sequence[str]) -> list[str]:
    layers = ", ".join(map(str, comparison.layer))
    return [
        *(f"- {note}" for note in notes),
        f'- Features: pooling "{comparison.pooling}", layer {layers} (-1 is the output) but for probes of each layer.',
        "- Linear: logistic regression; ridge: ridge regression onto the classes; penalty and scaling of both chosen "
        "by held-out training labels. kNN: 5 neighbours, weighted by distance. Attentive: a learned query over the "
        "positions, stopped early on held-out training labels. Nothing saw the test split.",
        "- Untrained: the same encoder with random weights.",
        f"- Label subsets and probes: seeds {', '.join(map(str, comparison.seeds))}. Intervals: bootstrap of 2,000 "
        "draws for accuracies and crops; grouped jackknife for what compares samples with each other, as mean average "
        "precision does.",
        "- Not covered: other pretraining seeds. An interval tells about this model, not about its recipe.",
    ]
