"""Decode a recording to a waveform: whole, in part or as a stream; one channel, one rate."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from transformers.utils import logging

from ..data.samples import UnreadableError
from .audio_files import MAX_RATE, MIN_RATE, header_duration, read_blocks
from .encoded_files import EncodedFile, array_of, encoded_file
from .ffmpeg_audio import MUCH

logger = logging.get_logger(__name__)

# Of one recording in memory: 1 GiB, 4.6 hours at 16 kHz. `stream_audio` has no such limit.
MAX_SAMPLES = 2**28
# Of the energy that channels without a common sound would keep in their mean, the share that must be left.
LEAST_SHARE = 0.02
# Below this share of movement, channels are constants, and nothing can be told of their phase.
CONSTANT_SHARE = 1e-4
# Seconds that a whole recording is decoded in at a time, before its channels become one.
BLOCK = 30.0


def decode_audio(
    value: Any, sampling_rate: int = 16_000, *, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Decode a recording, or a segment of it, to one channel.

    Args:
        value: a file (its path, its bytes, or {"bytes", "path"} as an undecoded audio column gives it), or
            {"array", "sampling_rate"} with an array [samples] or [channels, samples].
        sampling_rate: of the result, in Hz.
        start, end: seconds; only this segment of a file is read. None for the recording's own start and end.

    Returns:
        fp32 [samples]: the mean of the channels, resampled; integers of 16 and 32 bits are scaled to [-1, 1). What is
        damaged is left out, with a warning.

    Raises:
        UnreadableError: the file can't be decoded, or not for the most part; lacks its end where the format tells; is
            empty; holds values that are not finite, or channels in opposite phase; or is too long for memory.
        ValueError: an array without its sampling rate, or something else that is no recording.

    Example:
        >>> decode_audio({"array": np.zeros(8_000), "sampling_rate": 8_000}).shape
        (16000,)
    """
    start = start or 0.0
    if start < 0 or (end is not None and end <= start):
        raise UnreadableError(f"the segment from {start} to {end} seconds is none: start must be before end")
    mixer, name = Mixer(), None
    if _is_array(value):
        samples, rate = _array_segment(value, start, end)
        pieces = [mixer(samples)] if samples.size else []
    else:
        file = _file(value)
        pieces, rate, name = [], 0, file.name
        for samples, rate in read_blocks(file, start, end, seconds=BLOCK):
            pieces.append(mixer(samples))
            if mixer.count > MAX_SAMPLES:
                hours = MAX_SAMPLES / rate / 3600
                raise UnreadableError(f"it is longer than {hours:.1f} hours: give it in segments, by start and end")
    if not pieces:
        raise UnreadableError(f"it ends before {start} seconds, where the segment starts" if start else "it is empty")
    mixer.check_phase()
    seconds = mixer.count / rate
    if end is not None and name and seconds < end - start - MUCH:
        said = f"of the segment from {start} to {end} seconds, only {seconds:.2f} could be read"
        if 2 * seconds < end - start:
            raise UnreadableError(f"{said}: are start and end in seconds, and of this file?")
        logger.warning_once(f"{name}: {said}.")
    return _resampled(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), rate, sampling_rate)


def stream_audio(value: Any, sampling_rate: int = 16_000) -> Iterator[np.ndarray]:
    """Decode a recording piece by piece, in memory that does not grow with its length.

    Args:
        value: as for `decode_audio`; an array is taken whole.
        sampling_rate: of the result, in Hz.

    Yields:
        fp32 [samples], never empty: pieces whose concatenation is what `decode_audio` returns, but for rounding where
        the rate changes.

    Raises:
        UnreadableError, ValueError: as `decode_audio`, at the place of the fault.

    Example:
        >>> [piece.shape for piece in stream_audio({"array": np.zeros(8_000), "sampling_rate": 8_000})]
        [(16000,)]
    """
    if _is_array(value):
        yield decode_audio(value, sampling_rate)
        return
    resampler, empty, mixer = None, True, Mixer()
    for samples, rate in read_blocks(_file(value)):
        piece = mixer(samples)
        if rate != sampling_rate:
            resampler = resampler or soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32")
            piece = resampler.resample_chunk(piece)
        if piece.size:
            empty = False
            yield piece
    if resampler:
        piece = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if piece.size:
            empty = False
            yield piece
    if empty:
        raise UnreadableError("it is empty")
    mixer.check_phase()


def audio_duration(value: Any) -> float:
    """Seconds that a recording lasts as its header says, without decoding it where that is possible.

    Args:
        value: as for `decode_audio`.

    Raises:
        UnreadableError, ValueError: as `decode_audio`.
    """
    if _is_array(value):
        samples, rate = _array_segment(value, 0.0, None)
        return len(samples) / rate
    file = _file(value)
    duration = header_duration(file)
    if duration is None:
        duration = sum(len(samples) / rate for samples, rate in read_blocks(file))
    return duration


class Mixer:
    """The mean of a recording's channels, block by block; and whether they cancel each other in it.

    Example:
        >>> mixer = Mixer()
        >>> mixer(np.array([[0.5, 0.25]], np.float32)).tolist()
        [0.375]
    """

    def __init__(self) -> None:
        self.count = self.channels = 0
        self._mean_sum = self._mean_energy = self._energy = 0.0
        self._sums: np.ndarray | float = 0.0  # of each channel

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """fp32 [samples] of [samples, channels].

        Raises:
            UnreadableError: NaN, infinite or absurdly large values.
        """
        waveform = samples.mean(axis=1, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            energy = _energy(waveform)
            if not math.isfinite(energy):
                raise UnreadableError("it holds NaN, infinite or absurdly large values")
            self.count, self.channels = self.count + len(samples), samples.shape[1]
            if self.channels > 1:
                self._mean_energy += energy
                self._mean_sum += float(waveform.sum())
                self._energy += _energy(samples.ravel())
                self._sums = self._sums + np.array([channel.sum() for channel in samples.T])
        return waveform

    def check_phase(self) -> None:
        """Refuse a recording whose channels cancel each other; called at its end.

        Raises:
            UnreadableError: the channels are in opposite phase, so that their mean is what differs in them: noise.
        """
        if self.channels < 2:
            return
        # Without each channel's constant part, which isn't heard.
        mean = self._mean_energy - self._mean_sum**2 / self.count
        all_channels = self._energy - float(np.square(self._sums).sum()) / self.count
        heard = all_channels > CONSTANT_SHARE * self._energy
        # Channels that have nothing in common keep this share, equal ones more.
        if heard and mean * self.channels**2 < LEAST_SHARE * all_channels:
            raise UnreadableError(
                "its channels are in opposite phase and cancel each other out: keep one of them, or turn one over"
            )


def _energy(values: np.ndarray) -> float:
    # Not a product of BLAS, whose threads would meet those of other worker processes.
    return float(np.einsum("i,i->", values, values))


def _is_array(value: Any) -> bool:
    return isinstance(value, dict) and value.get("array") is not None


def _file(value: Any) -> EncodedFile:
    return encoded_file(value, "audio", 'an array with its sampling rate: {"array": ..., "sampling_rate": ...}')


def _resampled(waveform: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return waveform
    resampled = soxr.resample(waveform, rate, wanted)
    # A filter's ringing at the ends of a constant is not in the recording.
    return np.full_like(resampled, waveform[0]) if waveform.min() == waveform.max() else resampled


def _array_segment(value: dict[str, Any], start: float, end: float | None) -> tuple[np.ndarray, int]:
    rate = value.get("sampling_rate")
    if not isinstance(rate, (int, float, np.integer)) or not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(
            f"an array has the sampling_rate {rate}, but must have one in Hz, from {MIN_RATE:,} to {MAX_RATE:,}: add "
            "it to the data"
        )
    array = np.atleast_2d(array_of(value["array"]))
    if array.ndim > 2:
        raise ValueError(f"an array has the shape {array.shape}, but must be [samples] or [channels, samples]")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"an array holds {array.dtype}, but must hold floats or whole numbers: convert the data")
    if array.dtype in (np.int16, np.int32):
        array = array / -float(np.iinfo(array.dtype).min)
    samples = array.T if array.shape[0] < array.shape[1] else array  # [samples, channels]
    stop = None if end is None else round(end * rate)
    return samples[round(start * rate) : stop].astype(np.float32), int(rate)
