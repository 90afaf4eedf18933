"""Recordings of any length through a model of short ones: windows that overlap, and frames joined where they meet."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.samples import UnreadableError
from ..media.audio_decoding import stream_audio

# As transformers' feature extractor has it, for the variance of silence.
EPSILON = 1e-7


class FrameGrid(NamedTuple):
    """Places of a model's frames in samples, from a `SoundModality`: frame t sees [t * hop, t * hop + field)."""

    hop: int
    field: int

    def num_frames(self, num_samples: int) -> int:
        return max(0, (num_samples - self.field) // self.hop + 1)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """First sample that frames [start, stop) see, and the one after the last."""
        return start * self.hop, (stop - 1) * self.hop + self.field


class Window(NamedTuple):
    """Frames [start, stop) that a model computes together, of which [keep_start, keep_stop) are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan_windows(num_frames: int, length: int, overlap: int) -> list[Window]:
    """Windows over a recording whose kept parts follow each other without gap.

    All windows are equally long: the last one is moved back to the recording's end. Neighbours meet in the middle of
    what they share, so that a kept frame has at least `overlap` frames of context on each side that is not the
    recording's end.

    Args:
        num_frames: of the recording, at least 1.
        length: frames of a window.
        overlap: frames of context on each side, less than half of `length`.

    Raises:
        ValueError: the overlap leaves nothing of a window.

    Example:
        >>> for window in plan_windows(25, 10, 2):
        ...     print(*window)
        0 10 0 8
        6 16 8 14
        12 22 14 18
        15 25 18 25
    """
    if overlap < 0 or 2 * overlap >= length:
        raise ValueError(
            f"an overlap of {overlap} frames on each side leaves nothing of a window of {length} frames: "
            "overlap_seconds must be 0 or more and less than half of chunk_seconds"
        )
    last = max(0, num_frames - length)
    starts = [*range(0, last, length - 2 * overlap), last]
    seams = [(later + start + length) // 2 for start, later in pairwise(starts)]
    keeps = zip([0, *seams], [*seams, num_frames], strict=True)
    return [Window(start, min(start + length, num_frames), *keep) for start, keep in zip(starts, keeps, strict=True)]


def cut(blocks: Iterable[np.ndarray], spans: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Cut parts out of a stream, with at most one part and one block in memory.

    Args:
        blocks: the stream, fp32 [samples] each.
        spans: first sample and the one after the last of each part, in ascending order; they may overlap.

    Raises:
        UnreadableError: the stream ends too early.

    Example:
        >>> blocks = [np.arange(3), np.arange(3, 8)]
        >>> [part.tolist() for part in cut(blocks, [(0, 4), (2, 6)])]
        [[0, 1, 2, 3], [2, 3, 4, 5]]
    """
    stream, offset = iter(blocks), 0
    held: list[np.ndarray] = []
    for first, last in spans:
        while offset + sum(map(len, held)) < last:
            block = next(stream, None)
            if block is None:
                raise UnreadableError("it became shorter while it was read")
            held.append(block)
        waveform = np.concatenate(held)[first - offset :]
        held, offset = [waveform], first
        yield waveform[: last - first]


@dataclass(frozen=True)
class Loudness:
    """Number, mean and standard deviation of a recording's samples, to normalise each part like the whole."""

    num_samples: int
    mean: float
    std: float

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray]) -> "Loudness":
        """Measure a stream in one pass.

        Example:
            >>> loudness = Loudness.of([np.array([1.0, 2.0]), np.array([3.0])])
            >>> loudness.num_samples, loudness.mean, round(loudness.std, 3)
            (3, 2.0, 0.816)
        """
        count, mean, squares = 0, 0.0, 0.0
        for block in blocks:
            # Chan, Golub and LeVeque's update: no difference of large sums.
            wide = block.astype(np.float64)
            step = wide.mean() - mean
            total = count + len(wide)
            squares += np.square(wide - wide.mean()).sum() + step**2 * count * len(wide) / total
            mean += step * len(wide) / total
            count = total
        return cls(count, float(mean), float(np.sqrt(squares / max(count, 1) + EPSILON)))


class _Piece(NamedTuple):
    """One window's normalised waveform; or the error that ends a recording."""

    waveform: Tensor | None
    window: Window | None
    is_last: bool
    error: UnreadableError | None = None


@dataclass(frozen=True)
class LongAudio:
    """Logits of recordings of any length, computed in windows.

    Decoding is a stream, so that memory holds a few windows and the logits, whatever the length. Each recording is
    read twice: for its mean and standard deviation, by which all its windows are normalised, then for its windows.

    Args:
        forward: [B, samples] waveforms and bool [B, samples], True at real samples (None where there is no padding),
            to logits [B, T, V].
        grid: of the model's frames.
        sampling_rate: of the model, in Hz.
        normalize: whether the model wants mean 0 and variance 1.
        pads: whether padding changes no result; otherwise only windows of equal length share a batch.
        chunk_seconds: length of a window. A recording that is not longer is computed as a whole.
        overlap_seconds: context on each side of what is kept of a window.
        batch_size: windows that are computed together, of one recording or of several.

    Raises:
        ValueError: a window that is too short for the overlap.
    """

    forward: Callable[[Tensor, Tensor | None], Tensor]
    grid: FrameGrid
    sampling_rate: int = 16_000
    normalize: bool = True
    pads: bool = False
    chunk_seconds: float = 30.0
    overlap_seconds: float = 5.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, but must be at least 1")
        plan_windows(1, self._length, self._overlap)

    @property
    def _length(self) -> int:
        return self.grid.num_frames(round(self.chunk_seconds * self.sampling_rate))

    @property
    def _overlap(self) -> int:
        return round(self.overlap_seconds * self.sampling_rate / self.grid.hop)

    def logits(self, recordings: Iterable[Any]) -> Iterator[Tensor | UnreadableError]:
        """Logits [T, V] of each recording, in order, or the error of one that can't be read.

        Args:
            recordings: files, or whatever `stream_audio` takes.
        """
        kept: list[Tensor] = []
        for batch in self._batches(recordings):
            heard = iter(self._compute([piece.waveform for piece in batch if piece.waveform is not None]))
            for _, window, is_last, error in batch:
                if window is not None:
                    kept.append(next(heard)[window.keep_start - window.start : window.keep_stop - window.start])
                if is_last:
                    yield error or torch.cat(kept)
                    kept = []

    def _compute(self, waveforms: list[Tensor]) -> list[Tensor]:
        if not waveforms:
            return []
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        inputs = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)  # [B, samples]
        ragged = bool((lengths != lengths[0]).any())
        logits = self.forward(inputs, torch.arange(inputs.shape[1]) < lengths[:, None] if ragged else None)
        frames = self.grid.num_frames(inputs.shape[1])
        if logits.shape[1] != frames:
            raise ValueError(f"the model gives {logits.shape[1]} frames, where its convolutions make {frames}")
        return [logits[row, : self.grid.num_frames(int(length))] for row, length in enumerate(lengths)]

    def _batches(self, recordings: Iterable[Any]) -> Iterator[list[_Piece]]:
        batch: list[_Piece] = []
        lengths: set[int] = set()
        for piece in (piece for recording in recordings for piece in self._pieces(recording)):
            length = set() if piece.waveform is None else {len(piece.waveform)}
            if len(batch) == self.batch_size or (not self.pads and len(lengths | length) > 1):
                yield batch
                batch, lengths = [], set()
            batch.append(piece)
            lengths |= length
        if batch:
            yield batch

    def _pieces(self, recording: Any) -> Iterator[_Piece]:
        try:
            loudness = Loudness.of(stream_audio(recording, self.sampling_rate))
            if loudness.num_samples < self.grid.field:
                seconds = self.grid.field / self.sampling_rate
                raise UnreadableError(f"it is too short: the model needs {seconds:g} seconds")
            num_frames = self.grid.num_frames(loudness.num_samples)
            windows = plan_windows(num_frames, self._length, self._overlap)
            spans = [self.grid.span(window.start, window.stop) for window in windows]
            if len(windows) == 1:  # the samples after the last frame, too: some models normalise over time
                spans = [(0, loudness.num_samples)]
            parts = cut(stream_audio(recording, self.sampling_rate), spans)
            for window, part in zip(windows, parts, strict=True):
                waveform = (part - loudness.mean) / loudness.std if self.normalize else part
                yield _Piece(torch.from_numpy(waveform.astype(np.float32)), window, window is windows[-1])
        except UnreadableError as error:
            yield _Piece(None, None, True, error)
