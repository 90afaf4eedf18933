"""Speech: sources, what makes a tensor of a clip, batches with masks, baseline and pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2AudioConfig
from modeling_data2vec.configuration_data2vec2_audio import WaveformShape
from modeling_data2vec.counter_rng import uniform
from modeling_data2vec.log_mel import fft_length

from ..data.collators import Examples, MaskCollator, pad_inputs
from ..data.samples import ReadLabels, SampleDataset, UnreadableError, read_labelled, shuffled_samples
from ..media.audio_decoding import audio_duration, decode_audio
from ..media.mfcc import log_mel, log_mel_statistics, mfcc_statistics
from ..sources.loading import column_types, load_source
from ..sources.opening import name_of
from ..sources.source_files import AUDIO_SUFFIXES, Medium
from .base import Inputs, RawFeatures, Samples, check_number, require_sequences
from .clips import SEGMENT_COLUMNS, SoundModality, clip_name, seconds_in, segment
from .drawing import heat_map

AUDIO = Medium(
    noun="audio file",
    suffixes=AUDIO_SUFFIXES,
    columns=("audio", "path", "file", "file_name", "audio_filepath"),
    feature=datasets.Audio,
    numbers=SEGMENT_COLUMNS,
)
TRANSCRIBED = replace(AUDIO, transcribed=True)

# The least that a clip must move by: a step of 16 bits. Below that there is nothing but rounding, which normalisation
# would make loud.
SILENCE = 2**-15
DEFAULT_SECONDS = 10.0  # of a clip, in reports on costs
CROP_STREAM = 4  # of `counter_rng`; masking.py lists all
CROPS = ("shortest", "none")


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
        return clip_name(example, self.audio_column)


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
        if end is None and (duration := seconds_in("duration", row.get("duration"))) is not None:
            end = duration
        elif end is None and (number := seconds_in("num_samples", row.get("num_samples"))) is not None:
            end = (start or 0.0) + number / rate
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
) -> tuple[list[Tensor], ReadLabels]:
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


# ---- batches ----


class AudioMaskCollator(MaskCollator):
    """Pads clips to the longest, or crops them to the shortest, and masks frames.

    Args:
        config: also reads the convolutions' shape.
        crop: "none" pads; "shortest" cuts a random window of the shortest clip's length out of each, as the published
            recipes do, which wastes no computation, but makes what is seen of a clip depend on its batch.

    Raises:
        ValueError: a clip is too short to hide one frame and show another.

    Example:
        >>> from modeling_data2vec import Data2Vec2AudioConfig
        >>> collator = AudioMaskCollator(Data2Vec2AudioConfig(num_masks=4))
        >>> batch = collator([{"input_values": torch.randn(n), "key": n} for n in (16_000, 12_000)])
        >>> tuple(batch["mask"].shape), batch["attention_mask"].sum(1).tolist()
        ((2, 4, 49), [16000, 12000])
    """

    def __init__(self, config: Any, crop: Literal["none", "shortest"] = "none") -> None:
        super().__init__(config)
        self.crop = crop

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        clips = [example["input_values"] for example in examples]
        shortest = min(len(clip) for clip in clips)
        if self.config.num_frames(shortest) < 2:
            raise ValueError(
                f"a clip has {shortest} samples, which make {self.config.num_frames(shortest)} frame(s), but masks "
                "need two: raise min_seconds, which leaves out short clips"
            )
        if self.crop == "shortest":
            shares = uniform(keys, 1, CROP_STREAM).flatten().double().tolist()
            starts = [int(share * (len(clip) - shortest + 1)) for share, clip in zip(shares, clips, strict=True)]
            clips = [clip[start : start + shortest] for start, clip in zip(starts, clips, strict=True)]
        input_values, attention_mask = pad_inputs(clips)
        grid = (self.config.num_frames(input_values.shape[1]),)
        if attention_mask is None:
            return {"input_values": input_values}, grid, None
        lengths = self.config.num_frames(attention_mask.sum(1))
        return {"input_values": input_values, "attention_mask": attention_mask}, grid, lengths


def num_frames(encoder: PreTrainedModel, samples: Tensor) -> Tensor:
    """Frames that a speech encoder makes of clips of so many samples, an int64 tensor of any shape."""
    if isinstance(encoder.config, Data2Vec2AudioConfig):
        return encoder.config.num_frames(samples)
    count = getattr(encoder, "_get_feat_extract_output_lengths", None)  # what Hugging Face's speech encoders have
    if count is None:
        raise ValueError(
            f"{type(encoder).__name__} does not say how many frames it makes of a clip: of speech encoders only those "
            "of waveforms, such as Wav2Vec2Model, can be evaluated"
        )
    return count(samples)


# ---- all of it ----


class AudioModality(SoundModality):
    """Speech: mono at the feature extractor's rate, each clip normalised, crops of at most `max_seconds`."""

    name, input_name, title = "audio", "input_values", "speech"
    sample, position = "clip", "frame"
    medium = AUDIO
    data_keys = frozenset({"num_seconds", "max_batch_seconds", "min_seconds", "max_seconds", "crop"})
    limits = "It takes sound at its feature extractor's rate, each clip normalised to mean 0 and variance 1."
    color = "#0072B2"
    picture_title = "log-mel spectrogram"
    length_name = "seconds"

    @classmethod
    def default_processor(cls, config: Any) -> Any:
        """16 kHz, or what the config says; each clip normalised."""
        rate = getattr(config, "sampling_rate", 16_000)  # 1.0's config does not say it
        return Wav2Vec2FeatureExtractor(sampling_rate=rate, return_attention_mask=True)

    def align(self, *, new_model: bool) -> None:
        rate = getattr(self.config, "sampling_rate", None)
        if getattr(self.config, "front_end", None) == "log_mel" and self.processor.sampling_rate != rate:
            raise ValueError(
                f"the feature extractor's sampling_rate is {self.processor.sampling_rate}, but the model's log-mel "
                f"front-end is made for {rate} Hz: set both to one rate"
            )

    def check_data(self, where: str) -> None:
        if self.data.get("crop", "none") not in CROPS:
            raise ValueError(f"{where}: data.crop is {self.data['crop']!r}, but must be one of {', '.join(CROPS)}")
        limits = [name for name in ("min_seconds", "max_seconds", "max_batch_seconds") if name in self.data]
        for low, high in pairwise(limits):
            if not 0 <= self.data[low] <= self.data[high]:
                raise ValueError(
                    f"{where}: data.{low} is {self.data[low]} and {high} {self.data[high]}, but neither may be "
                    "negative, and the first not larger than the second"
                )

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = self.load(source, split=split, column=column, streaming=streaming)
        reader = self.reader(column)
        if streaming or "max_batch_seconds" not in self.data:
            return shuffled_samples(dataset, reader, seed)
        lengths = clip_lengths(dataset, reader)
        shortest = reader.num_samples(reader.min_duration)
        # What is known to be too short is left out; what turns out to be broken is passed over later.
        kept = [index for index, length in enumerate(lengths) if length >= shortest]
        if not kept:
            raise ValueError(
                f"none of the {len(lengths)} clips of {name_of(source)} lasts {reader.min_duration} seconds and can be "
                "read: lower min_seconds in the recipe, or check the files"
            )
        return SampleDataset(dataset.select(kept), reader, seed=seed, lengths=[lengths[index] for index in kept])

    def reader(self, column: str) -> AudioReader:
        limits = {"min_duration": self.data.get("min_seconds", 0.1), "max_duration": self.data.get("max_seconds")}
        return AudioReader(self.processor, column, **limits)

    @classmethod
    def hears(cls, processor: Any) -> bool:
        return isinstance(processor, Wav2Vec2FeatureExtractor)

    def normalizes_waveforms(self) -> bool:
        return bool(self.processor.do_normalize)

    def clip_reader(self, column: str, *, min_seconds: float = 0.1, max_seconds: float | None = None) -> AudioReader:
        return AudioReader(self.processor, column, min_duration=min_seconds, max_duration=max_seconds)

    def input_length(self, num_samples: Any) -> Any:
        return num_samples

    def num_frames(self, length: Any) -> Any:
        return WaveformShape.num_frames(self.config, length)  # a function: native configs have the fields alone

    def frame_window(self) -> tuple[int, int]:
        hop, field = 1, 1
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return hop, field

    def inputs(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        values, real = pad_inputs(clips)
        return {"input_values": values} | ({} if real is None else {"attention_mask": real.long()})

    def collator(self) -> MaskCollator:
        return AudioMaskCollator(self.config, self.data.get("crop", "none"))

    def num_positions(self, samples: Samples) -> int | None:
        return None if samples.lengths is None else int(self.config.num_frames(sum(samples.lengths)))

    def grid(self, sample: Tensor) -> tuple[int, ...]:
        return (int(self.config.num_frames(len(sample))),)

    def real_positions(self, encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        values, mask = inputs[self.input_name], inputs.get("attention_mask")
        require_sequences(self.input_name, values)
        mask = (torch.ones(values.shape) if mask is None else mask).bool().cpu()
        frames = num_frames(encoder, mask.sum(1))  # padding is on the right
        return torch.arange(int(num_frames(encoder, torch.tensor(mask.shape[1])))) < frames[:, None]

    def real_grids(self, inputs: Mapping[str, Tensor], real: Tensor) -> list[tuple[int, ...]]:
        return [(count,) for count in real.sum(1).tolist()]  # also of encoders whose config does not count frames

    def default_length(self) -> float | None:
        return min(DEFAULT_SECONDS, self.data.get("max_seconds", DEFAULT_SECONDS))

    def example(self, length: float | None = None) -> Tensor:
        seconds = length or DEFAULT_SECONDS
        samples = int(seconds * self.sampling_rate)
        if self.config.num_frames(samples) < 2:
            raise ValueError(
                f"seconds is {seconds}, which makes {self.config.num_frames(samples)} frame(s), but at least one must "
                "be hidden and one visible: give longer clips"
            )
        check_number(self.config.num_frames(samples))
        return torch.empty(samples, device="meta")

    def local_products(self, example: Tensor) -> list[tuple[int, int, int]]:
        config, length = self.config, len(example)
        if getattr(config, "front_end", None) == "log_mel":  # transform of two frames at once, filters of each
            frames, (window,), (bins,) = config.num_frames(length), config.conv_kernel, config.conv_dim
            frequencies = fft_length(config.sampling_rate) // 2 + 1
            transform = (frames, window, 4 * frequencies)
            return [transform, (2 * frames, frequencies, bins // 2), (frames, bins, config.hidden_size)]
        products, inputs = [], 1
        for outputs, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
            length = (length - kernel) // stride + 1
            products.append((length, inputs * kernel, outputs))
            inputs = outputs
        return [*products, (length, inputs, config.hidden_size)]

    def raw_features(self) -> list[RawFeatures]:
        return [
            RawFeatures("MFCC", lambda train, test: (mfcc_statistics(train), mfcc_statistics(test))),
            RawFeatures("log-mel", lambda train, test: (log_mel_statistics(train), log_mel_statistics(test))),
        ]

    @property
    def sampling_rate(self) -> int:
        """Of the clips, in Hz."""
        return self.processor.sampling_rate if self.processor else 16_000

    def pictures(self, inputs: Inputs) -> list[np.ndarray]:
        """Log-mel spectrograms, all drawn equally wide, low bands at the bottom."""
        return [heat_map(log_mel(clip, num_mels=64, sampling_rate=self.sampling_rate).T[::-1]) for clip in inputs]

    def cells(self, values: np.ndarray, sample: Tensor) -> np.ndarray:
        return values[None]  # also of encoders whose config does not count frames

    def captions(self, inputs: Inputs) -> Sequence[str]:
        return [f"{len(clip) / self.sampling_rate:.2f} s" for clip in inputs]
