"""Speech for pretraining and probes: sources, and what makes a tensor of a clip."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from ..data.samples import UnreadableError, read_labelled
from ..media.audio_decoding import audio_duration, decode_audio
from ..sources.loading import column_types, load_source
from ..sources.source_files import AUDIO_SUFFIXES, Medium

AUDIO = Medium(
    noun="audio file",
    suffixes=AUDIO_SUFFIXES,
    columns=("audio", "path", "file", "file_name", "audio_filepath"),
    feature=datasets.Audio,
    numbers=("start", "end", "offset", "duration", "num_samples"),
)
TRANSCRIBED = replace(AUDIO, transcribed=True)

# The least that a clip must move by: a step of 16 bits. Below that there is nothing but rounding, which normalisation
# would make loud.
SILENCE = 2**-15


def load_audio(
    source: str, *, split: str = "train", audio_column: str | None = None, streaming: bool = False
) -> tuple[Any, str]:
    """Open a set of recordings, or of segments of them.

    Args:
        source: what `load_source` takes: a folder of audio files, a manifest (a table with paths) or another table, a
            folder that `Dataset.save_to_disk` wrote, or a Hub id.
        split: the split to take where the source has several.
        audio_column: the column that holds audio or its paths; found by itself where there is only one.
        streaming: read the source as it comes, without an index.

    Returns:
        (dataset, audio column); nothing is decoded yet.

    Raises:
        ValueError: the source is missing, has no such split or column, or is empty.
    """
    return load_source(source, AUDIO, split=split, column=audio_column, streaming=streaming)


class AudioReader:
    """Makes `input_values` [samples] of an example: normalised as a whole, then cropped.

    Where an example has `start`, `end` or `offset`, in seconds, it is that `segment` of its recording.

    Args:
        feature_extractor: gives the sampling rate, and normalises if it is set to.
        audio_column: the column that holds the recordings.
        min_duration: seconds; shorter clips are passed over.
        max_duration: seconds; of a longer clip a random part is taken, or its start without augmentation.

    Example:
        >>> reader = AudioReader(Wav2Vec2FeatureExtractor(), max_duration=2.0)
        >>> example = {"audio": {"array": np.sin(np.arange(80_000)), "sampling_rate": 16_000}}
        >>> reader(example, Random(0))["input_values"].shape
        torch.Size([32000])
    """

    noun = "clip"

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor,
        audio_column: str = "audio",
        *,
        min_duration: float = 0.1,
        max_duration: float | None = None,
    ) -> None:
        if max_duration is not None and max_duration < min_duration:
            raise ValueError(f"max_duration is {max_duration}, but must be at least min_duration, {min_duration}")
        self.feature_extractor, self.audio_column = feature_extractor, audio_column
        self.min_duration, self.max_duration = min_duration, max_duration

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        rate = self.feature_extractor.sampling_rate
        start, end = segment(example)
        waveform = decode_audio(example[self.audio_column], rate, start=start, end=end)
        if len(waveform) < self.min_duration * rate:
            raise UnreadableError(f"it lasts {len(waveform) / rate:.3f} seconds, less than {self.min_duration}")
        if np.ptp(waveform) < SILENCE:
            raise UnreadableError("it is silent from start to end")
        # As a whole, like the authors: a crop of a pause is not blown up to the loudness of speech.
        values = self.feature_extractor(waveform, sampling_rate=rate)["input_values"][0]
        length = self.num_samples(len(values) / rate)
        first = rng.randint(0, len(values) - length) if rng else 0
        return {"input_values": torch.tensor(values[first : first + length], dtype=torch.float32)}

    def num_samples(self, duration: float) -> int:
        """Samples that a clip of so many seconds gives."""
        return round(min(duration, self.max_duration or math.inf) * self.feature_extractor.sampling_rate)

    def name(self, example: dict[str, Any]) -> str | None:
        value = example[self.audio_column]
        path = value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None
        start, end = segment(example)
        if not path or (start is None and end is None):
            return path
        return f"{path} ({start or 0} to {'the end' if end is None else end} seconds)"


def segment(example: dict[str, Any]) -> tuple[float | None, float | None]:
    """Where an example starts and ends in its recording, in seconds, None where it has no such place.

    These are its `start` and `end` or, as in NeMo's manifests, its `offset`, and `offset` and `duration` together.

    Example:
        >>> segment({"path": "talk.wav", "start": 1, "end": None})
        (1.0, None)
        >>> segment({"audio_filepath": "talk.wav", "offset": 1.5, "duration": 2.0})
        (1.5, 3.5)
    """
    start, end, offset = (_seconds(name, example.get(name)) for name in ("start", "end", "offset"))
    if offset is None or start is not None or end is not None:
        return start, end
    duration = _seconds("duration", example.get("duration"))
    return offset, None if duration is None else offset + duration


def _seconds(column: str, value: Any) -> float | None:
    if value is None or value != value:  # NaN is what a table has in an empty cell
        return None
    if not isinstance(value, (int, float)):
        raise ValueError(
            f"column {column!r} holds {value!r}, but must hold the seconds where a clip starts or ends in its "
            "recording: give another column another name"
        )
    return float(value)


def clip_lengths(dataset: datasets.Dataset, reader: AudioReader) -> list[int]:
    """How many samples `reader` gives for each clip, without decoding: for batches of similar lengths.

    Durations come from columns `start` and `end`, or `offset` and `duration`, else `duration` (seconds) or
    `num_samples` (at the reader's sampling rate), else from the header of each file.

    Args:
        dataset: from `load_audio`.
        reader: gives the audio column, the sampling rate and the longest duration.

    Returns:
        N lengths; 0 for a file that can't be read.
    """
    rate = reader.feature_extractor.sampling_rate
    columns = [name for name in AUDIO.numbers if name in column_types(dataset)]
    rows = dataset.select_columns(columns) if columns else [{}] * len(dataset)
    lengths = []
    for index, row in enumerate(rows):
        start, end = segment(row)
        if end is None and (duration := _seconds("duration", row.get("duration"))) is not None:
            end = duration
        elif end is None and (number := _seconds("num_samples", row.get("num_samples"))) is not None:
            end = number / rate
        try:
            end = audio_duration(dataset[index][reader.audio_column]) if end is None else end
        except UnreadableError:
            end = 0.0
        lengths.append(reader.num_samples(max(0.0, end - (start or 0.0))))
    return lengths


def load_labelled_audio(
    source: str,
    feature_extractor: Wav2Vec2FeatureExtractor,
    *,
    split: str,
    audio_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    max_duration: float | None = None,
) -> tuple[list[Tensor], np.ndarray]:
    """Clips and labels of a split, whole and in memory, for probes.

    Args:
        source, split, audio_column: as for `load_audio`; in a folder of files, labels are the names of their folders.
        feature_extractor: as for `AudioReader`.
        label_column, limit: as for `read_labelled`.
        max_duration: seconds; of a longer clip its start is taken.

    Returns:
        (N fp32 tensors [samples], [N] labels); unreadable clips are left out with a warning.
    """
    dataset, audio_column = load_audio(source, split=split, audio_column=audio_column)
    reader = AudioReader(feature_extractor, audio_column, max_duration=max_duration)
    samples, labels = read_labelled(dataset, reader, source=source, split=split, label_column=label_column, limit=limit)
    return [sample["input_values"] for sample in samples], labels
