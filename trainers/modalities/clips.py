"""Clips of recordings: where they lie, one transcript for each, and what tasks of sound ask of a kind of data."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, ClassVar

import datasets
import soundfile
from torch import Tensor

from ..data.samples import SampleReader
from ..media.audio_decoding import decode_audio
from ..sources.label_checks import in_rows
from .base import MadeUp, Modality

SEGMENT_COLUMNS = ("start", "end", "offset", "duration", "num_samples")
PROBE_SECONDS = 20.0  # of a clip that is held in memory; longer ones are cut


def clip_name(example: dict[str, Any], audio_column: str) -> str | None:
    """Where an example's clip comes from: its file, and its segment of that."""
    value = example[audio_column]
    path = value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None
    start, end = segment(example)
    if not path or (start is None and end is None):
        return path
    return f"{path} ({start or 0} to {'the end' if end is None else end} seconds)"


def segment(example: dict[str, Any]) -> tuple[float | None, float | None]:
    """Where an example starts and ends in its recording, in seconds, None where it has no such place.

    These are its `start` (NeMo's manifests say `offset`) and its `end` or, where it has a start and no end, the start
    and `duration` together.

    Example:
        >>> segment({"path": "talk.wav", "start": 1, "end": None})
        (1.0, None)
        >>> segment({"audio_filepath": "talk.wav", "offset": 1.5, "duration": 2.0})
        (1.5, 3.5)
    """
    start, end, offset = (seconds_in(name, example.get(name)) for name in ("start", "end", "offset"))
    if start is None and end is None:
        start = offset
    duration = None if start is None or end is not None else seconds_in("duration", example.get("duration"))
    return start, end if start is None or duration is None else start + duration


def seconds_in(column: str, value: Any) -> float | None:
    """A cell with seconds; None where it is empty.

    Raises:
        ValueError: it holds something else.
    """
    if value is None or value != value:  # NaN is what a table has in an empty cell
        return None
    if not isinstance(value, (int, float)):
        raise ValueError(
            f"column {column!r} holds {value!r}, but must hold the seconds where a clip starts or ends in its "
            "recording: give another column another name"
        )
    return float(value)


def require_one_transcript(dataset: datasets.Dataset, audio_column: str, transcripts: Sequence[str]) -> None:
    """Refuse a recording, or a segment of one, that several rows have with different words.

    Args:
        dataset: with files that are not read yet.
        audio_column: that holds them.
        transcripts: of the rows.

    Raises:
        ValueError: names the recording and the rows.
    """
    times = [name for name in SEGMENT_COLUMNS if name in dataset.column_names]
    rows: dict[Any, list[int]] = {}
    for row, example in enumerate(dataset.select_columns([audio_column, *times])):
        file = example[audio_column] and example[audio_column]["path"]
        rows.setdefault((file, segment(example)), []).append(row)
    for (file, _), same in rows.items():
        if file and len({transcripts[row] for row in same}) > 1:
            raise ValueError(
                f"{in_rows(same)} have the same sound of {file}, but different transcripts: say which part each "
                "belongs to with columns start and end, in seconds, or keep one of them"
            )


class SoundModality(Modality):
    """Waveforms, spectrograms and the like: clips whole or cut, and frames of the model in samples of the recording."""

    has_bands: ClassVar[bool] = False  # whether the model's input is [frames, bands], of which parts can be hidden

    @classmethod
    def made_up(cls, config: Mapping[str, Any]) -> MadeUp:
        rate = config.get("sampling_rate", 16_000)
        return MadeUp("import numpy as np", f"np.zeros({rate:_})", f", sampling_rate={rate:_}")

    @classmethod
    def hears(cls, processor: Any) -> bool:
        """Whether a feature extractor is one of this kind of data."""
        raise NotImplementedError

    def normalizes_waveforms(self) -> bool:
        """Whether each recording as a whole is brought to mean 0 and variance 1 before `inputs`."""
        return False

    def clip_reader(self, column: str, *, min_seconds: float = 0.1, max_seconds: float | None = None) -> SampleReader:
        """Reads whole clips; a longer one than `max_seconds` is cut. Passed over is one that is shorter than
        `min_seconds`, or than the model takes.
        """
        raise NotImplementedError

    def whole_reader(self, column: str) -> SampleReader:
        return self.clip_reader(column)

    def probe_reader(self, column: str) -> SampleReader:
        return self.clip_reader(column, max_seconds=PROBE_SECONDS)

    def input_length(self, num_samples: Any) -> Any:
        """Length of the model's input of clips of so many samples (an int or an integer array or tensor)."""
        raise NotImplementedError

    def num_frames(self, length: Any) -> Any:
        """Positions along time that the model makes of input of this length."""
        raise NotImplementedError

    def frame_window(self) -> tuple[int, int]:
        """Samples from one position along time to the next, and those that one of them sees."""
        raise NotImplementedError

    def inputs(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """A padded batch of the model's input, of waveforms [samples]; see `normalizes_waveforms`."""
        raise NotImplementedError

    def player(self, example: Mapping[str, Any], column: str, sample: Tensor) -> str:
        """A player with the sound in it, as much of the clip from its start as the model takes."""
        start, end = segment(dict(example))
        rate = self.processor.sampling_rate
        waveform = decode_audio(example[column], rate, start=start, end=end)
        taken = round(len(waveform) * len(sample) / self.input_length(len(waveform)))
        file = BytesIO()
        soundfile.write(file, waveform[:taken], rate, format="FLAC")
        return f'<audio controls src="data:audio/flac;base64,{b64encode(file.getvalue()).decode()}"></audio>'
