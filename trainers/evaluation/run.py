"""`data2vec evaluate` and what it shares with `data2vec probe`: labelled data for encoders."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..data.samples import LabelledSet
from ..files.output_checks import check_output_file, check_output_folder
from ..files.writing import new_files, write_text
from ..modalities.base import Modality
from ..modalities.encoders import load_encoder
from .comparison.compare import Subject, compare
from .comparison.figures import FIGURES, save_figures
from .comparison.report import report
from .comparison.results import Comparison
from .options import EvaluateOptions, LabelledDataOptions, ProbeOptions, label_counts
from .probe_labels import usual_counts
from .probe_table import ProbeTable, probe_table

REPORT = ("report.md", "report.json")


def read_labelled_splits(
    options: LabelledDataOptions, data: Modality, limit: int | None
) -> tuple[LabelledSet, LabelledSet]:
    """The training and the test split as a model takes them."""
    columns = {"column": options.column, "label_column": options.label_column}
    test, train = (  # the smaller one, which may lack, before hours are spent on the other
        data.labelled(options.dataset, split=split, **columns, limit=limit)
        for split in (options.test_split, options.train_split)
    )
    return train, test


# ---- probe ----


def probe(options: ProbeOptions) -> ProbeTable:
    """The table of `data2vec probe`; written to `options.output` as well."""
    counts = label_counts(options.labels)
    if options.output:
        check_output_file(Path(options.output), "--output")
    model, data = load_encoder(options.model, options.tokenizer, options.modality)
    train, test = read_labelled_splits(options, data, options.limit)
    settings: dict[str, Any] = {"pooling": options.pooling, "layer": options.layer(), "seeds": options.seeds}
    table = probe_table(model, train, test, label_counts=counts or usual_counts(train[1], 1), **settings)
    if options.output:
        write_text(options.output, json.dumps(table.to_dict(), indent=2))
    return table


# ---- evaluate ----


def evaluate(options: EvaluateOptions) -> Comparison:
    """Compare the models and write report.md, report.json and the figures into `options.output_dir`.

    Raises:
        ValueError: as `load_encoder` and `compare`, for names that don't fit the models, or an output folder that can't
            be written to or holds something else than an earlier report.
    """
    counts = label_counts(options.labels) or None
    names = _names(options)
    folder = Path(options.output_dir)
    check_output_folder(folder, own=(*REPORT, *FIGURES))
    subjects = []
    for name, source in zip(names, options.model, strict=True):
        model, data = load_encoder(source, part=options.modality)
        subjects.append(Subject(name, model, *read_labelled_splits(options, data, options.limit)))
    comparison = compare(
        subjects,
        label_counts=counts,
        pooling=options.pooling,
        layer=options.layer(),
        seeds=options.seeds,
        batch_size=options.batch_size,
    )
    notes = _notes(options, subjects)
    title = f"Evaluation of {', '.join(names)} on {Path(options.dataset).name}"
    with new_files(folder, last=REPORT[0]) as unfinished:
        figures = save_figures(comparison, unfinished)
        write_text(unfinished / REPORT[0], report(comparison, title=title, notes=notes, figures=figures))
        write_text(unfinished / REPORT[1], json.dumps(comparison.to_dict() | {"notes": notes}, indent=2))
    for name in set(FIGURES) - {path.name for path in figures}:
        (folder / name).unlink(missing_ok=True)  # of an earlier report
    return comparison


def _names(options: EvaluateOptions) -> list[str]:
    """One name for each model: those given, else the last part of each path if that tells them apart."""
    if options.names and len(options.names) != len(options.model):
        raise ValueError(f"--names gives {len(options.names)} name(s), but --model {len(options.model)}: give as many")
    if options.names:
        return options.names
    short = [Path(source).name or source for source in options.model]
    return short if len(set(short)) == len(short) else list(options.model)


def _notes(options: EvaluateOptions, subjects: list[Subject]) -> list[str]:
    lines = []
    for subject, source in zip(subjects, options.model, strict=True):
        encoder = subject.model.base_model
        millions = sum(weights.numel() for weights in encoder.parameters()) / 1e6
        lines.append(f"{subject.name}: `{source}`, {type(encoder).__name__}, {millions:.2f} million parameters.")
    lines.append(
        f"Data: `{options.dataset}`, splits {options.train_split!r} and {options.test_split!r}, at most "
        f"{options.limit:,} samples of each."
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("data2vec", "torch", "transformers", "scikit-learn"))
    return [*lines, f"Versions: {packages}."]
