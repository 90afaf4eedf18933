"""Classes of moments: which sounds are heard, or who speaks, in each frame of a recording."""

from random import Random
from typing import Any

import datasets
import numpy as np
from transformers import AutoModelForAudioFrameClassification

from ...data.samples import SampleReader
from ...modalities.speech import load_audio
from ...sources.label_checks import in_rows, say_alike
from ...sources.labels import LabelMap, in_order
from ...sources.loading import column_types, find_column, shown_type
from ..metrics import IGNORED, MULTI_LABEL_FIGURES, multi_label_metrics
from .classification import MULTI_LABEL
from .task import SoundTask, padded

SEGMENT_COLUMNS = ("segments", "events", "turns")
ADVICE = 'write tables as JSONL, e.g. {"path": "a.wav", "segments": [{"start": 0.5, "end": 1.2, "label": "dog"}]}'


class AudioFrameClassification(SoundTask):
    """Any number of classes for each frame: those whose segments its middle lies in."""

    name, auto_class = "audio-frame-classification", AutoModelForAudioFrameClassification
    metric, label_smoothing, has_pipeline = "map", None, False
    labels: LabelMap
    column: str
    label_column: str

    def open(self, source: str, split: str) -> datasets.Dataset:
        dataset, self.column = load_audio(source, split=split, audio_column=self.options.column)
        self.label_column = find_column(
            dataset, source, "segment", column=self.options.label_column, names=SEGMENT_COLUMNS, advice=ADVICE
        )
        return dataset

    def segments(self, dataset: datasets.Dataset) -> list[list[dict[str, Any]]]:
        """Segments of each row, with `start`, `end` and `label`.

        Raises:
            ValueError: the column holds something else, or names the rows where times or labels are missing or wrong.
        """
        kind = column_types(dataset)[self.label_column]
        rows = [row or [] for row in dataset[self.label_column][:]]
        if not all(isinstance(row, list) and all(isinstance(one, dict) for one in row) for row in rows):
            raise ValueError(f"column {self.label_column!r} holds {shown_type(kind)}, not segments: {ADVICE}")
        wrong = [number for number, row in enumerate(rows) if not all(map(_is_segment, row))]
        if wrong:
            verb = "have" if len(wrong) > 1 else "has"
            raise ValueError(
                f"column {self.label_column!r}: {in_rows(wrong)} of {len(rows):,} {verb} a segment without a label, or "
                f"without a start in seconds before its end: {ADVICE}"
            )
        return rows

    def survey(self, table: datasets.Dataset) -> None:
        found = [str(one["label"]) for row in self.segments(table) for one in row]
        if not found:
            raise ValueError(f"column {self.label_column!r} has no segment in all of its {len(table):,} rows")
        say_alike(found, self.label_column)
        self.labels = LabelMap(in_order(set(found)))
        self.labels.configure(self.config)
        self.config.num_labels = len(self.labels.names)
        self.config.problem_type = MULTI_LABEL

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        try:
            found = {str(one["label"]) for row in self.segments(dataset) for one in row}
        except ValueError as error:
            raise ValueError(f"split {split!r}, {error}") from error
        if unseen := sorted(found - set(self.labels.names)):
            raise ValueError(f"split {split!r} has labels that the training split lacks: {', '.join(unseen[:5])}")

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        return FrameReader(self.sound.clip_reader(self.column, min_seconds=self.options.min_seconds), self)

    def marks(self, segments: list[dict[str, Any]], num_frames: int) -> np.ndarray:
        """Which classes each frame has: fp32 [frames, num_labels] of 0 and 1."""
        hop, field = self.sound.frame_window()
        middles = (np.arange(num_frames) * hop + field / 2) / self.processor.sampling_rate  # in seconds
        marks = np.zeros((num_frames, len(self.labels.names)), np.float32)
        for one in segments:
            marks[(one["start"] <= middles) & (middles < one["end"]), self.labels(one["label"])] = 1
        return marks

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(samples, self.processor.pad)

    def predictions(self, logits: Any, inputs: dict[str, Any]) -> Any:
        return logits.float().sigmoid()

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        real = (labels != IGNORED).all(-1)  # [clips, frames]
        return multi_label_metrics(predictions[real], labels[real])

    def figure_names(self) -> tuple[str, ...]:
        return MULTI_LABEL_FIGURES


class FrameReader:
    """Makes the model's input of a clip, and `labels` [frames, num_labels] of its segments.

    Args:
        reader: of the clips, whole.
        task: knows frames and classes.
    """

    noun = "clip"

    def __init__(self, reader: SampleReader, task: AudioFrameClassification) -> None:
        self.reader, self.task = reader, task

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        sample: dict[str, Any] = self.reader(example, rng)
        frames = int(self.task.sound.num_frames(len(sample[self.task.main_input])))
        return sample | {"labels": self.task.marks(example[self.task.label_column] or [], frames)}

    def name(self, example: dict[str, Any]) -> str | None:
        return self.reader.name(example)


def _is_segment(one: dict[str, Any]) -> bool:
    start, end, label = (one.get(name) for name in ("start", "end", "label"))
    timed = isinstance(start, int | float) and isinstance(end, int | float) and 0 <= start < end
    return timed and label is not None and str(label).strip() != ""
