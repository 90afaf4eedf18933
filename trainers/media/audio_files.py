"""Blocks of samples from a recording's file, by soundfile or ffmpeg; what is damaged is left out, with a warning."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import soundfile
from transformers.utils import logging

from ..data.samples import UnreadableError
from .encoded_files import EncodedFile, not_opened
from .ffmpeg_audio import MUCH, FfmpegReader, has_gaps, in_words, open_by_ffmpeg, sound_of

logger = logging.get_logger(__name__)

# How files begin that soundfile reads: WAV of either byte order, RF64, AIFF, FLAC, AU, CAF, NIST SPHERE. ffmpeg reads
# the others, and those that soundfile fails with.
SOUNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b".snd", b"dns.", b"caff", b"NIST")
# Both read Ogg, each with a fault: soundfile misses a place near the end of a file by some samples, and ffmpeg the end
# of a file of less than about a second. So the first gets whole files and the second segments; and damaged files, for
# soundfile repeats what follows a page that is missing.
OGG_MAGIC = b"OggS"
# Hz. Beyond them a header is damaged: at a rate of 1 Hz, a few bytes would become hours.
MIN_RATE, MAX_RATE = 1_000, 768_000
# The most values in a block of soundfile's: of many channels, it is shorter.
BLOCK_VALUES = 2**24
# soundfile's words on WAV, AIFF and AU whose header tells more bytes of sound than there are.
CUT_SHORT = re.compile(r"(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)")
# Programs that write to a pipe tell about the largest size there is, for they don't know it yet.
UNKNOWN_SIZE = 2**31 - 2**12


def read_blocks(
    file: EncodedFile, start: float = 0.0, end: float | None = None, *, seconds: float = 1.0
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode a file, or a segment of it, block by block.

    Where soundfile fails or finds nothing, ffmpeg takes over. What can't be decoded is left out, as players do, with
    one warning that says how much is missing.

    Args:
        file: from `encoded_file`.
        start, end: of the segment in seconds.
        seconds: in a block, about.

    Yields:
        fp32 [samples, channels], never empty, and the sampling rate in Hz, always the same.

    Raises:
        UnreadableError: the file can't be decoded, lacks its end (where the format tells), or lacks most of itself.
    """
    with _faults_in_words(file):
        if not _is_for_soundfile(file, start) or (_magic(file) == OGG_MAGIC and has_gaps(file)):
            yield from _by_ffmpeg(file, start, end, seconds)
            return
        reader = SoundfileReader(file, start, end)
        yield from reader.blocks(seconds)
        if reader.is_complete:
            return
        yield from _by_ffmpeg(file, start, end, seconds, after=reader)


def header_duration(file: EncodedFile) -> float | None:
    """Seconds that a recording lasts as its header says, or None if that doesn't say it."""
    with _faults_in_words(file):
        if _is_for_soundfile(file, 0.0):
            try:
                header = soundfile.info(_from_start(file))
                if header.frames:
                    return header.frames / checked_rate(header.samplerate)
            except soundfile.LibsndfileError:
                pass
        _from_start(file)
        with open_by_ffmpeg(file) as container:
            checked_rate(sound_of(container).rate)
            return container.duration / av.time_base if container.duration else None


def checked_rate(rate: int | None) -> int:
    """The sampling rate, if any recording has it.

    Raises:
        UnreadableError: it is out of bounds.
    """
    if not rate or not MIN_RATE <= rate <= MAX_RATE:
        raise UnreadableError(
            f"its header tells a sampling rate of {rate} Hz, but recordings have {MIN_RATE:,} to {MAX_RATE:,}: the "
            "header is damaged, or this is no sound"
        )
    return rate


@contextmanager
def _faults_in_words(file: EncodedFile) -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:  # decoders raise anything on broken data
        if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
            raise not_opened(error, file.path, "audio") from error
        said = in_words(error) if isinstance(error, av.error.FFmpegError) else error
        raise file.not_decoded(f"it cannot be decoded: {said}") from error


def _magic(file: EncodedFile) -> bytes:
    if not isinstance(file.source, str):
        return bytes(file.source.getbuffer()[:4])
    with open(file.source, "rb") as opened:
        return opened.read(4)


def _is_for_soundfile(file: EncodedFile, start: float) -> bool:
    magic = _magic(file)
    return magic in SOUNDFILE_MAGIC or (magic == OGG_MAGIC and not start)


def _from_start(file: EncodedFile) -> str | io.BytesIO:
    if not isinstance(file.source, str):
        file.source.seek(0)
    return file.source


class SoundfileReader:
    """Decodes a segment of a file as far as soundfile gets.

    Attributes:
        rate: in Hz; 0 if the file can't be opened.
        wanted, read: samples that the segment has, and those that were read.
        fault: what soundfile said against the file.
        is_complete: whether all is read, so that nobody else needs to try.
    """

    def __init__(self, file: EncodedFile, start: float, end: float | None) -> None:
        self.file, self.start, self.end = file, start, end
        self.rate = self.wanted = self.read = 0
        self.fault = ""
        self.is_complete = False

    def blocks(self, seconds: float) -> Iterator[tuple[np.ndarray, int]]:
        """[samples, channels] and the rate, about so many seconds at a time."""
        try:
            with soundfile.SoundFile(_from_start(self.file)) as recording:
                self.rate, frames = checked_rate(recording.samplerate), recording.frames
                first = min(round(self.start * self.rate), frames)
                last = frames if self.end is None else min(round(self.end * self.rate), frames)
                self.wanted = max(0, last - first)
                size = max(1, min(round(seconds * self.rate), BLOCK_VALUES // recording.channels))
                self._skip(recording, first, size)
                while self.read < self.wanted:
                    samples = recording.read(min(size, self.wanted - self.read), dtype="float32", always_2d=True)
                    if not len(samples):
                        break
                    self.read += len(samples)
                    yield samples, self.rate
                self.is_complete = bool(frames) and self.read == self.wanted
                if self.is_complete and last == frames:
                    self._warn_of_cut(recording)
        except soundfile.SoundFileError as error:
            self.fault = str(error) or "soundfile can't decode it"

    def _skip(self, recording: soundfile.SoundFile, first: int, size: int) -> None:
        if not recording.seekable():  # such as GSM
            while first:
                first -= len(recording.read(min(size, first), dtype="float32"))
        elif first:
            recording.seek(first)

    def _warn_of_cut(self, recording: soundfile.SoundFile) -> None:
        sizes = CUT_SHORT.search(recording.extra_info)
        if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
            seconds = recording.frames / self.rate
            whole = seconds * int(sizes[1]) / max(1, int(sizes[2]))
            logger.warning_once(f"{self.file.name} is cut short: {seconds:.2f} of {whole:.2f} seconds are left.")


def _by_ffmpeg(
    file: EncodedFile, start: float, end: float | None, seconds: float, after: SoundfileReader | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """A segment by ffmpeg; `after` soundfile, what that has left of it."""
    before = after.read / after.rate if after and after.read else 0.0
    _from_start(file)
    with open_by_ffmpeg(file) as container:
        reader = FfmpegReader(container, start + before, end)
        rate = checked_rate(reader.rate)
        if before and after and rate != after.rate:
            raise UnreadableError(f"soundfile finds a rate of {after.rate} Hz in it, and ffmpeg {rate}")
        for samples in reader.blocks(round(seconds * rate)):
            yield samples, rate
        got = before + reader.read
        if not got and (reader.fault or (after and after.fault)):
            raise UnreadableError(f"it cannot be decoded: {reader.fault or (after and after.fault)}")
        if after and after.wanted:
            stop = start + after.wanted / after.rate
            if stop - reader.reached > MUCH:
                raise UnreadableError(f"it is cut short: {got:.2f} of {after.wanted / after.rate:.2f} seconds are left")
            reader.lost = max(reader.lost, after.wanted / after.rate - got)
        _judge_loss(file, got, max(reader.lost, reader.damage()))
        if after and after.fault and got and not reader.lost:
            logger.warning_once(f"{file.name} is damaged: all of it is used, but some of that may be noise.")
        told = reader.told_duration()
        if told and end is None and told - reader.reached > MUCH:
            logger.warning_once(f"{file.name} is cut short: {reader.reached:.2f} of {told:.2f} seconds are left.")


def _judge_loss(file: EncodedFile, read: float, lost: float) -> None:
    """Say what is missing, in seconds; and refuse what is mostly missing."""
    if lost > read:
        raise UnreadableError(f"it is damaged: only {read:.2f} of {read + lost:.2f} seconds can be decoded")
    if lost > 0:
        logger.warning_once(
            f"{file.name} is damaged: {lost:.2f} of {read + lost:.2f} seconds can't be decoded and are left out."
        )
