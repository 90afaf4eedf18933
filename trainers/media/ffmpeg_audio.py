"""Blocks of samples by ffmpeg, as players do it: packets that can't be decoded are left out, and counted."""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from ..data.samples import UnreadableError
from .encoded_files import EncodedFile

# Seconds that are decoded before a segment: codecs need some, for a sample depends on those before it.
PREROLL = 1.0
# Seconds between the end of one frame and the time of the next, from which on something is missing between them.
GAP = 0.02
# Seconds of which it is worth saying that they are missing at the end.
MUCH = 0.25
# Containers whose header tells how long the sound is.
TIMED = ("mov", "matroska", "asf", "ogg")


def open_by_ffmpeg(file: EncodedFile) -> Any:
    """An open container. Nothing but the file is read: lists of other files and addresses are not followed."""
    # "file:", for a path may hold a colon; raw G.722 has no header to be known by; tags in any encoding don't matter.
    return av.open(
        f"file:{file.source}" if isinstance(file.source, str) else file.source,
        format="g722" if file.suffix == ".g722" else None,
        options={"protocol_whitelist": "file"},
        metadata_errors="ignore",
    )


def in_words(error: av.error.FFmpegError) -> str:
    """What ffmpeg says, without its numbers and functions."""
    return error.strerror or str(error)


def sound_of(container: Any) -> Any:
    """The first stream of sound."""
    if not container.streams.audio:
        raise UnreadableError("it holds no sound")
    return container.streams.audio[0]


def has_gaps(file: EncodedFile) -> bool:
    """Whether packets are missing in a file, without decoding any; its end may be missing, too."""
    with open_by_ffmpeg(file) as container:
        stream = sound_of(container)
        reached: float | None = None
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            begin, length = float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)
            if packet.is_corrupt or (reached is not None and begin - reached > GAP):
                return True
            reached = begin + length
        return bool(container.duration and reached and container.duration / av.time_base - reached > MUCH)


class FfmpegReader:
    """Decodes a segment of an open container.

    Args:
        container: from `open_by_ffmpeg`.
        start, end: seconds.

    Attributes:
        rate: of the samples, in Hz.
        read: seconds of the segment that were decoded so far.
        lost: seconds within what was decoded that could not be.
        reached: seconds from the recording's start to the end of the last frame.
        fault: what was wrong with the first packet that was left out.
    """

    def __init__(self, container: Any, start: float, end: float | None) -> None:
        self.container, self.stream = container, sound_of(container)
        self.rate: int = self.stream.rate or 0
        self.start, self.end = start, end
        self.read = self.lost = self.reached = self._pending = 0.0
        # In words: an exception would hold this object in a circle, to be freed in a worker process, where ffmpeg's
        # threads don't exist and are waited for without end.
        self.fault = ""
        self._to_float: dict[tuple[Any, ...], av.AudioResampler] = {}
        self._layout: str | None = None

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """fp32 [samples, channels], of `size` samples or a little more, but for the last one."""
        held: list[np.ndarray] = []  # each [channels, samples]
        count = 0
        for piece in self._pieces():
            held.append(piece)
            count += piece.shape[1]
            if count >= size:
                yield np.concatenate(held, axis=1).T
                held, count = [], 0
        if held:
            yield np.concatenate(held, axis=1).T

    def damage(self) -> float:
        """Seconds that are missing from a damaged file, where its whole duration is known at least roughly."""
        if not self.fault or self.start or self.end is not None or not self.container.duration:
            return 0.0
        return self.container.duration / av.time_base - self.read

    def told_duration(self) -> float | None:
        """Seconds that the sound lasts as the container's header says, None where that is no more than a guess."""
        if not self.container.format.name.startswith(TIMED):
            return None
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        alone = len(self.container.streams) == 1 and self.container.duration
        return self.container.duration / av.time_base if alone else None

    def _pieces(self) -> Iterator[np.ndarray]:
        begin = float((self.stream.start_time or 0) * self.stream.time_base)
        if self.start > PREROLL:
            self.container.seek(round((begin + self.start - PREROLL) * av.time_base))
        first, last = round(self.start * self.rate), None if self.end is None else round(self.end * self.rate)
        position: int | None = None
        tick = 0.0
        for frame in self._frames():
            if position is None:
                told = 0.0 if frame.pts is None else float(frame.pts * frame.time_base) - begin
                position, tick = round(told * self.rate), float(frame.time_base)
            elif frame.pts is not None:
                missing = frame.pts * tick - begin - position / self.rate
                if self._pending or missing > GAP:
                    self.lost += max(missing, self._pending)
                    position, self._pending = position + round(max(0.0, missing) * self.rate), 0.0
            if last is not None and position >= last:
                break
            for piece in self._floats(frame):
                length = piece.shape[1]
                if position < first or (last is not None and position + length > last):
                    piece = piece[:, max(0, first - position) : None if last is None else max(0, last - position)]
                position += length
                if piece.shape[1]:
                    self.read += piece.shape[1] / self.rate
                    yield piece
            self.reached = position / self.rate
        self.lost += self._pending

    def _frames(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
            except av.error.FFmpegError as error:  # the container itself is broken here, and can't be followed on
                self.fault = self.fault or in_words(error)
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError as error:
                self.fault = self.fault or in_words(error)
                self._pending += float((packet.duration or 0) * packet.time_base)

    def _floats(self, frame: Any) -> list[np.ndarray]:
        """[channels, samples] each; of a damaged frame that claims another rate or layout, as the first has them."""
        kind = (frame.sample_rate, frame.layout.name, frame.format.name)
        resampler = self._to_float.get(kind)
        if resampler is None:
            if not self._to_float:
                self._layout = frame.layout.name
                resampler = av.AudioResampler(format="fltp")
            else:
                resampler = av.AudioResampler("fltp", self._layout, self.rate)
            self._to_float[kind] = resampler
        return [piece.to_ndarray() for piece in resampler.resample(frame)]
