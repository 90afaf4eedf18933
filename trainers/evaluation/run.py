"""`data2vec evaluate` and what it shares with `data2vec probe`: labelled data for encoders."""

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..data.samples import LabelledSet
from ..files.output_checks import check_output_file, check_output_folder
from ..files.writing import new_files, write_text
from ..modalities.base import Modality
from ..modalities.encoders import load_encoder
from ..option_checks import LARGEST_SEED, require_choice, require_range
from ..sources.splits import require_other_data
from .comparison.compare import Subject, compare
from .comparison.figures import FIGURES, save_figures
from .comparison.report import report
from .comparison.results import Comparison
from .features import POOLINGS
from .layer_features import POOLINGS as LAYER_POOLINGS
from .probe_table import ProbeTable, probe_table

REPORT = ("report.md", "report.json")


@dataclass(kw_only=True)
class LabelledDataOptions:
    """Where labelled samples come from, and which features of them are probed."""

    dataset: str = field(
        metadata={"help": "Labelled data: 'digits', a folder with a folder for each class, a table, or a Hub id."}
    )
    train_split: str = field(default="train", metadata={"help": "Split with the probe's training labels."})
    test_split: str = field(default="test", metadata={"help": "Split that accuracies are measured on."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    label_column: str | None = field(default=None, metadata={"help": "Column with labels, if it isn't found."})
    modality: str | None = field(
        default=None, metadata={"help": "Of a model with several modalities: audio, text or vision."}
    )
    layers: list[int] = field(
        default_factory=lambda: [-1],
        metadata={"help": "Layer -1 is the encoder's output, 0 the first layer's input; several are concatenated."},
    )

    def __post_init__(self) -> None:
        require_range(self, "layers", low=-1)
        require_other_data("--test_split", (self.dataset, self.test_split), (self.dataset, self.train_split))

    def layer(self) -> int | list[int]:
        return self.layers[0] if len(self.layers) == 1 else self.layers

    def read(self, data: Modality, limit: int | None) -> tuple[LabelledSet, LabelledSet]:
        """The training and the test split as a model takes them."""
        train, test = (
            data.labelled(self.dataset, split=split, column=self.column, label_column=self.label_column, limit=limit)
            for split in (self.train_split, self.test_split)
        )
        return train, test


def label_counts(texts: list[str]) -> list[int | None]:
    """`["100", "all"]` to numbers, None for all."""
    wrong = [text for text in texts if text != "all" and not (text.isdigit() and int(text))]
    if wrong:
        raise ValueError(f"--labels takes whole numbers from 1 or 'all', not {wrong[0]!r}")
    return [None if text == "all" else int(text) for text in texts]


# ---- probe ----


@dataclass(kw_only=True)
class ProbeOptions(LabelledDataOptions):
    """Options of `data2vec probe`."""

    model: str = field(metadata={"help": "Model folder or Hub id: any Hugging Face encoder of images, speech or text."})
    labels: list[str] = field(
        default_factory=lambda: ["100", "all"], metadata={"help": "Numbers of training labels; 'all' for all."}
    )
    tokenizer: str | None = field(default=None, metadata={"help": "Tokenizer, for text; default: the model's."})
    pooling: str = field(default="mean", metadata={"help": "mean, cls, max or flatten."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Random label subsets."})
    limit: int | None = field(default=None, metadata={"help": "Use at most so many samples of each split."})
    output: str | None = field(default=None, metadata={"help": "Write the table as JSON to this file, too."})

    def __post_init__(self) -> None:
        super().__post_init__()
        label_counts(self.labels)
        require_choice(self, "pooling", POOLINGS)
        require_range(self, "seeds", low=0, high=LARGEST_SEED)
        require_range(self, "limit", low=1)


def probe(options: ProbeOptions) -> ProbeTable:
    """The table of `data2vec probe`; written to `options.output` as well."""
    counts = label_counts(options.labels)
    if options.output:
        check_output_file(Path(options.output), "--output")
    model, data = load_encoder(options.model, options.tokenizer, options.modality)
    train, test = options.read(data, options.limit)
    settings: dict[str, Any] = {"pooling": options.pooling, "layer": options.layer(), "seeds": options.seeds}
    table = probe_table(model, train, test, label_counts=counts, **settings)
    if options.output:
        write_text(options.output, json.dumps(table.to_dict(), indent=2))
    return table


# ---- evaluate ----


@dataclass(kw_only=True)
class EvaluateOptions(LabelledDataOptions):
    """Options of `data2vec evaluate`."""

    model: list[str] = field(
        metadata={"help": "Model folders or Hub ids, side by side: any Hugging Face encoders of one kind of data."}
    )
    output_dir: str = field(metadata={"help": "Folder for report.md, report.json and the figures."})
    names: list[str] = field(
        default_factory=list, metadata={"help": "What the report calls the models; default: their folders' names."}
    )
    labels: list[str] = field(
        default_factory=list,
        metadata={"help": "Numbers of training labels; 'all' for all. Default: 1, 3, 10, ... of each class, and all."},
    )
    pooling: str = field(default="mean", metadata={"help": "mean, cls or max."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "Random label subsets."})
    limit: int = field(default=2_000, metadata={"help": "Use at most so many samples of each split."})
    batch_size: int = field(default=32, metadata={"help": "Samples in a forward pass."})

    def __post_init__(self) -> None:
        super().__post_init__()
        label_counts(self.labels)
        require_choice(self, "pooling", LAYER_POOLINGS)
        require_range(self, "seeds", low=0, high=LARGEST_SEED)
        require_range(self, "limit", "batch_size", low=1)


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
        subjects.append(Subject(name, model, *options.read(data, options.limit)))
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
