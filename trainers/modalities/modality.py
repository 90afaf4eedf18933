"""What differs between images, speech and text in a run: the processor, and how samples are read.

Everything else of `pretraining.py` and of the commands is shared. Each class has the same methods; `modality` chooses
by the name of a model's main input.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import datasets
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from modeling_data2vec import Data2Vec2Config

from ..data.collators import AudioMaskCollator, ImageMaskCollator, MaskCollator, TextMaskCollator
from ..data.packing import pack_documents
from ..data.samples import IterableSampleDataset, LabelledSet, SampleDataset, SampleReader
from ..media.image_transform import ImageTransform
from .audio import AudioReader, clip_lengths, load_audio, load_labelled_audio
from .images import ImageReader, load_images, load_labelled_images
from .pairs import SentenceReader
from .text import TextReader, check_tokenizer, load_labelled_text, load_text, vocabulary_size

SHUFFLE_BUFFER = 1_000  # samples of a stream that are held to be shuffled
PROBE_TOKENS = 512  # of a text, if the model's config doesn't say how many it takes
PROBE_SECONDS = 20.0  # of a clip; longer ones are cut

Samples = SampleDataset | IterableSampleDataset


class Modality:
    """One kind of data, for one model.

    Args:
        config: the model's.
        processor: what makes its inputs; saved with the model.
        data: the recipe's `data`, for what it says about reading samples; empty for none.
    """

    def __init__(self, config: Any, processor: Any, data: Mapping[str, Any] | None = None) -> None:
        self.config, self.processor, self.data = config, processor, data or {}

    @classmethod
    def load_processor(cls, name: str, subfolder: str = "") -> Any:
        """The processor of a model folder or Hub id; that of a joint model's modality is in its sub-folder."""
        raise NotImplementedError

    def align(self, *, new_model: bool) -> None:
        """Let processor and config agree, before a model is built of the config; `new_model` may change either.

        Raises:
            ValueError: they can't.
        """

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        """Training samples of a source."""
        raise NotImplementedError

    def reader(self, column: str) -> SampleReader:
        """What reads an example's `column` as a sample of its own, as paired samples are read."""
        raise NotImplementedError

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        """A labelled split, for probes."""
        raise NotImplementedError

    def collator(self) -> MaskCollator:
        """What makes batches and masks of the samples."""
        raise NotImplementedError

    def num_positions(self, samples: Samples) -> int | None:
        """Patches, frames or tokens in all samples together, about; None where that is not known."""
        raise NotImplementedError


class ImageModality(Modality):
    """Images: resized and cropped to the model's size, flipped, normalised."""

    @classmethod
    def load_processor(cls, name: str, subfolder: str = "") -> Any:
        return AutoImageProcessor.from_pretrained(name, subfolder=subfolder)

    def align(self, *, new_model: bool) -> None:
        config, processor = self.config, self.processor
        height, width = config.image_shape
        processor.size = {"height": height, "width": width}
        augmentation = self.data.get("augmentation", {})
        mean = augmentation.get("mean", processor.image_mean)
        if len(mean) != config.num_channels:
            raise ValueError(
                f"the recipe normalises {len(mean)} channel(s), but the model takes {config.num_channels}: give a "
                "recipe with as many values of mean and std as channels"
            )
        processor.image_mean = list(mean)
        processor.image_std = list(augmentation.get("std", processor.image_std))

    def transform(self) -> ImageTransform:
        given = self.data.get("augmentation", {})
        crop_and_flip = {name: value for name, value in given.items() if name not in ("mean", "std")}
        return ImageTransform.from_processor(self.processor, **crop_and_flip)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_images(source, split=split, image_column=column, streaming=streaming)
        return _samples(_shuffled(dataset, seed), self.reader(column), seed)

    def reader(self, column: str) -> SampleReader:
        return ImageReader(self.transform(), column)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        return load_labelled_images(
            source, self.transform(), split=split, image_column=column, label_column=label_column, limit=limit
        )

    def collator(self) -> MaskCollator:
        return ImageMaskCollator(self.config)

    def num_positions(self, samples: Samples) -> int | None:
        return len(samples) * prod(self.config.grid) if isinstance(samples, SampleDataset) else None


class AudioModality(Modality):
    """Speech: mono at the feature extractor's rate, each clip normalised, crops of at most `max_seconds`."""

    @classmethod
    def load_processor(cls, name: str, subfolder: str = "") -> Any:
        return AutoFeatureExtractor.from_pretrained(name, subfolder=subfolder)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_audio(source, split=split, audio_column=column, streaming=streaming)
        reader = self.reader(column)
        if streaming or "max_batch_seconds" not in self.data:
            return _samples(_shuffled(dataset, seed), reader, seed)
        lengths = clip_lengths(dataset, reader)
        shortest = reader.num_samples(reader.min_duration)
        # What is known to be too short is left out; what turns out to be broken is passed over later.
        kept = [index for index, length in enumerate(lengths) if length >= shortest]
        if not kept:
            raise ValueError(
                f"none of the {len(lengths)} clips of {source} lasts {reader.min_duration} seconds and can be "
                "read: lower min_seconds in the recipe, or check the files"
            )
        return SampleDataset(dataset.select(kept), reader, seed=seed, lengths=[lengths[index] for index in kept])

    def reader(self, column: str) -> AudioReader:
        limits = {"min_duration": self.data.get("min_seconds", 0.1), "max_duration": self.data.get("max_seconds")}
        return AudioReader(self.processor, column, **limits)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        return load_labelled_audio(
            source,
            self.processor,
            split=split,
            audio_column=column,
            label_column=label_column,
            limit=limit,
            max_duration=PROBE_SECONDS,
        )

    def collator(self) -> MaskCollator:
        return AudioMaskCollator(self.config, self.data.get("crop", "none"))

    def num_positions(self, samples: Samples) -> int | None:
        lengths = getattr(samples, "lengths", None)
        return None if lengths is None else int(self.config.num_frames(sum(lengths)))


class TextModality(Modality):
    """Text: documents tokenised, joined and cut into blocks."""

    @classmethod
    def load_processor(cls, name: str, subfolder: str = "") -> Any:
        return AutoTokenizer.from_pretrained(name, subfolder=subfolder)

    @property
    def block_length(self) -> int:
        longest = getattr(self.config, "max_position_embeddings", PROBE_TOKENS)
        return self.data.get("block_length", min(longest, getattr(self.config, "max_tokens", longest)))

    def align(self, *, new_model: bool) -> None:
        config, tokenizer = self.config, self.processor
        if new_model and tokenizer.pad_token_id is not None:
            config.vocab_size = vocabulary_size(tokenizer)
            for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
                setattr(config, name, getattr(tokenizer, name))
        if hasattr(config, "mask_token"):  # data2vec 1.0 shows one at hidden positions
            if tokenizer.mask_token_id is None:
                raise ValueError(
                    "the tokenizer has no mask token, which data2vec 1.0 puts at hidden positions: give it one "
                    "(tokenizer.add_special_tokens), or use a tokenizer that `data2vec tokenizer` trained"
                )
            config.mask_token_id = tokenizer.mask_token_id
        check_tokenizer(tokenizer, config, self.block_length)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_text(source, split=split, text_column=column, streaming=streaming)
        documents = _shuffled(dataset, seed)  # before they are cut
        blocks = pack_documents(documents, self.processor, self.block_length, text_column=column)
        return _samples(blocks, TextReader(self.processor), seed)

    def reader(self, column: str) -> SampleReader:
        return SentenceReader(self.processor, column, self.block_length)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        return load_labelled_text(
            source,
            self.processor,
            split=split,
            max_length=min(self.block_length, PROBE_TOKENS),
            text_column=column,
            label_column=label_column,
            limit=limit,
        )

    def collator(self) -> MaskCollator:
        return TextMaskCollator(self.config)

    def num_positions(self, samples: Samples) -> int | None:
        return len(samples) * self.block_length if isinstance(samples, SampleDataset) else None


MODALITIES: dict[str, type[Modality]] = {
    "pixel_values": ImageModality,
    "input_values": AudioModality,
    "input_ids": TextModality,
}


def modality(model_class: Any) -> type[Modality]:
    """The kind of data of a model or model class for one modality, by the name of its main input.

    Raises:
        ValueError: it takes another kind of data, or several.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextModel
        >>> modality(Data2Vec2TextModel).__name__
        'TextModality'
    """
    if model_class.config_class is Data2Vec2Config:
        raise ValueError("the model has several modalities: name one of them (--modality of the commands)")
    return modality_of_input(model_class.main_input_name)


def modality_of_input(name: str) -> type[Modality]:
    """The kind of data that is read for a main input.

    Raises:
        ValueError: there is none yet.

    Example:
        >>> modality_of_input("input_ids").__name__
        'TextModality'
    """
    if name not in MODALITIES:
        raise ValueError(f"the model's main input is {name!r}, but only {', '.join(MODALITIES)} can be read here")
    return MODALITIES[name]


def _shuffled(dataset: Any, seed: int) -> Any:
    """A stream in random order; map-style data as they are, since the sampler shuffles them."""
    if isinstance(dataset, datasets.Dataset):
        return dataset
    return dataset.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)


def _samples(dataset: Any, reader: SampleReader, seed: int) -> Samples:
    """Map-style samples of what has a length, streamed ones of what has none."""
    return (SampleDataset if hasattr(dataset, "__len__") else IterableSampleDataset)(dataset, reader, seed=seed)
