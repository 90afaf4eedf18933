"""From what a data set holds to a waveform: a recording, whole, in part or as a stream; one channel, one rate."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from .samples import UnreadableError

# How files begin that soundfile reads: WAV, RF64, AIFF, FLAC, AU, CAF, NIST SPHERE. ffmpeg reads the others.
SOUNDFILE_MAGIC = (b"RIFF", b"RF64", b"FORM", b"fLaC", b".snd", b"caff", b"NIST")
# Both read Ogg, each with a fault: soundfile misses a place near the end of a file by some samples, and ffmpeg the end
# of a file of less than about a second. So the first gets whole files and the second segments.
OGG_MAGIC = b"OggS"
# Seconds that ffmpeg decodes before a segment: codecs need some, for a sample depends on those before it.
PREROLL = 1.0
# Seconds of sound that a stream hands out at a time, about.
BLOCK = 1.0


def decode_audio(
    value: Any, sampling_rate: int = 16_000, *, start: float | None = None, end: float | None = None
) -> np.ndarray:
    """Decode a recording, or a segment of it, to one channel.

    Args:
        value: {"bytes", "path"} as an undecoded audio column gives it, encoded bytes, a path, or
            {"array", "sampling_rate"} with an array [samples] or [channels, samples].
        sampling_rate: of the result, in Hz.
        start, end: seconds; only this segment of a file is read. None for the recording's own start and end.

    Returns:
        fp32 [samples]: the mean of the channels, resampled; integers of 16 and 32 bits are scaled to [-1, 1).

    Raises:
        UnreadableError: the file can't be decoded, is cut short, is empty, or holds values that are not finite.
        ValueError: an array without its sampling rate.

    Example:
        >>> decode_audio({"array": np.zeros(8_000), "sampling_rate": 8_000}).shape
        (16000,)
    """
    start = start or 0.0
    if start < 0 or (end is not None and end <= start):
        raise UnreadableError(f"the segment from {start} to {end} seconds is none: start must be before end")
    if isinstance(value, dict) and value.get("array") is not None:
        samples, rate = _array_segment(value, start, end)
    else:
        samples, rate = _file_segment(value, start, end)
    if not samples.size:
        raise UnreadableError(f"it ends before {start} seconds, where the segment starts" if start else "it is empty")
    waveform = _one_channel(samples)
    return waveform if rate == sampling_rate else soxr.resample(waveform, rate, sampling_rate)


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
    if isinstance(value, dict) and value.get("array") is not None:
        yield decode_audio(value, sampling_rate)
        return
    resampler, empty = None, True
    for samples, rate in _file_blocks(value):
        piece = _one_channel(samples)
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


def audio_duration(value: Any) -> float:
    """Seconds that a recording lasts as its header says, without decoding it where that is possible.

    Args:
        value: as for `decode_audio`.

    Raises:
        UnreadableError, ValueError: as `decode_audio`.
    """
    if isinstance(value, dict) and value.get("array") is not None:
        samples, rate = _array_segment(value, 0.0, None)
        return len(samples) / rate
    file, suffix = _file(value)
    try:
        if _is_for_soundfile(file, 0.0):
            return soundfile.info(file).duration
        with _open_by_ffmpeg(file, suffix) as container:
            if container.duration:
                return container.duration / av.time_base
    except Exception as error:
        raise UnreadableError(f"it cannot be decoded: {error}") from error
    samples, rate = _file_segment(value, 0.0, None)
    return len(samples) / rate


def _array_segment(value: dict[str, Any], start: float, end: float | None) -> tuple[np.ndarray, int]:
    rate = value.get("sampling_rate")
    if not isinstance(rate, (int, float, np.integer)) or not rate > 0:
        raise ValueError(f"an array has the sampling_rate {rate}, but must have one in Hz: add it to the data")
    array = np.atleast_2d(np.asarray(value["array"]))
    if array.ndim > 2:
        raise ValueError(f"an array has the shape {array.shape}, but must be [samples] or [channels, samples]")
    if array.dtype in (np.int16, np.int32):
        array = array / -float(np.iinfo(array.dtype).min)
    samples = array.T if array.shape[0] < array.shape[1] else array  # [samples, channels]
    stop = None if end is None else round(end * rate)
    return samples[round(start * rate) : stop].astype(np.float32), int(rate)


def _file_segment(value: Any, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """[samples, channels] of a file, and its sampling rate."""
    file, suffix = _file(value)
    with _faults_in_words():
        by_soundfile = _is_for_soundfile(file, start)
        return _by_soundfile(file, start, end) if by_soundfile else _by_ffmpeg(file, suffix, start, end)


def _file_blocks(value: Any) -> Iterator[tuple[np.ndarray, int]]:
    """[samples, channels] of a file, about a second at a time, and its sampling rate."""
    file, suffix = _file(value)
    with _faults_in_words():
        yield from _blocks_by_soundfile(file) if _is_for_soundfile(file, 0.0) else _blocks_by_ffmpeg(file, suffix)


@contextmanager
def _faults_in_words() -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except OSError as error:
        raise UnreadableError(f"it cannot be opened: {error.strerror}") from error
    except Exception as error:  # decoders raise anything on broken data
        raise UnreadableError(f"it cannot be decoded: {error}") from error


def _one_channel(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels of [samples, channels]."""
    waveform = samples.mean(axis=1, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(np.square(waveform).sum()):
            raise UnreadableError("it holds NaN, infinite or absurdly large values")
    return waveform


def _file(value: Any) -> tuple[str | io.BytesIO, str]:
    """A path, or a file in memory; and the suffix of its name."""
    data, path = value, None
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    elif isinstance(value, (str, Path)):
        data, path = None, value
    suffix = Path(path).suffix.lower() if path else ""
    if isinstance(data, bytes):
        return io.BytesIO(data), suffix
    if data is not None:
        raise ValueError(
            f"audio is held as {type(data).__name__}, but must be a file, its bytes, or an array with its sampling "
            'rate: {"array": ..., "sampling_rate": ...}'
        )
    if not path:
        raise UnreadableError("the dataset holds no audio here")
    return str(path), suffix


def _is_for_soundfile(file: str | io.BytesIO, start: float) -> bool:
    if isinstance(file, str):
        with open(file, "rb") as opened:
            magic = opened.read(4)
    else:
        magic = file.getvalue()[:4]
    return magic in SOUNDFILE_MAGIC or (magic == OGG_MAGIC and not start)


def _by_soundfile(file: str | io.BytesIO, start: float, end: float | None) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(file) as recording:
        rate = recording.samplerate
        first = min(round(start * rate), recording.frames)
        last = recording.frames if end is None else min(round(end * rate), recording.frames)
        recording.seek(first)
        samples = recording.read(last - first, dtype="float32", always_2d=True)
    _check_whole(first + len(samples), last, rate)
    return samples, rate


def _blocks_by_soundfile(file: str | io.BytesIO) -> Iterator[tuple[np.ndarray, int]]:
    with soundfile.SoundFile(file) as recording:
        rate, read = recording.samplerate, 0
        for samples in recording.blocks(round(BLOCK * rate), dtype="float32", always_2d=True):
            read += len(samples)
            yield samples, rate
        _check_whole(read, recording.frames, rate)


def _check_whole(read: int, wanted: int, rate: int) -> None:
    if read < wanted:
        raise UnreadableError(f"it is cut short: {read / rate:.2f} of {wanted / rate:.2f} seconds are left")


def _open_by_ffmpeg(file: str | io.BytesIO, suffix: str) -> Any:
    # "file:", for a path may hold a colon; and raw G.722 has no header to be known by.
    return av.open(f"file:{file}" if isinstance(file, str) else file, format="g722" if suffix == ".g722" else None)


def _sound(container: Any) -> Any:
    if not container.streams.audio:
        raise UnreadableError("it holds no sound")
    return container.streams.audio[0]


def _blocks_by_ffmpeg(file: str | io.BytesIO, suffix: str) -> Iterator[tuple[np.ndarray, int]]:
    with _open_by_ffmpeg(file, suffix) as container:
        stream = _sound(container)
        to_float = av.AudioResampler(format="fltp")
        pieces: list[np.ndarray] = []  # each [channels, samples]
        for frame in container.decode(stream):
            pieces += [piece.to_ndarray() for piece in to_float.resample(frame)]
            if sum(piece.shape[1] for piece in pieces) >= BLOCK * stream.rate:
                yield np.concatenate(pieces, axis=1).T, stream.rate
                pieces = []
        if pieces:
            yield np.concatenate(pieces, axis=1).T, stream.rate


def _by_ffmpeg(file: str | io.BytesIO, suffix: str, start: float, end: float | None) -> tuple[np.ndarray, int]:
    with _open_by_ffmpeg(file, suffix) as container:
        stream = _sound(container)
        rate, begin = stream.rate, float((stream.start_time or 0) * stream.time_base)
        if start > PREROLL:
            container.seek(round((begin + start - PREROLL) * av.time_base))
        to_float = av.AudioResampler(format="fltp")
        pieces: list[np.ndarray] = []  # each [channels, samples]
        position = first = 0
        for frame in container.decode(stream):
            if not pieces and frame.pts is not None:
                position = first = round((float(frame.pts * frame.time_base) - begin) * rate)
            if end is not None and position >= round(end * rate):
                break
            pieces += [piece.to_ndarray() for piece in to_float.resample(frame)]
            position += frame.samples
    if not pieces:
        return np.zeros((0, 1), np.float32), rate
    samples = np.concatenate(pieces, axis=1).T
    stop = None if end is None else max(0, round(end * rate) - first)
    return samples[max(0, round(start * rate) - first) : stop], rate
