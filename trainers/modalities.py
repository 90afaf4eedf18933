"""What differs between images, speech and text in a run: the processor, and how samples are read.

Everything else of `pretraining.py` and of the commands is shared. Each class has the same methods; `modality` chooses
by the name of a model's main input.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from .audio import AudioReader, clip_lengths, load_audio, load_labelled_audio
from .collators import AudioMaskCollator, ImageMaskCollator, MaskCollator, TextMaskCollator
from .evaluation import LabelledSet
from .image_transform import ImageTransform
from .images import ImageReader, load_images, load_labelled_images
from .packing import pack_documents
from .samples import PretrainingSamples, StreamedSamples
from .text import TextReader, check_tokenizer, load_labelled_text, load_text

SHUFFLE_BUFFER = 1_000  # samples of a stream that are held to be shuffled
PROBE_TOKENS = 512  # of a text, if the model's config doesn't say how many it takes
PROBE_SECONDS = 20.0  # of a clip; longer ones are cut

Samples = PretrainingSamples | StreamedSamples


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
    def load_processor(cls, name: str) -> Any:
        """The processor of a model folder or Hub id."""
        raise NotImplementedError

    def fit(self, *, new_model: bool) -> None:
        """Let processor and config agree, before a model is built of the config; `new_model` may change either.

        Raises:
            ValueError: they can't.
        """

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        """Training samples of a source."""
        raise NotImplementedError

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        """A labelled split, for probes."""
        raise NotImplementedError

    def collator(self) -> MaskCollator:
        """What makes batches and masks of the samples."""
        raise NotImplementedError


class ImageModality(Modality):
    """Images: resized and cropped to the model's size, flipped, normalised."""

    @classmethod
    def load_processor(cls, name: str) -> Any:
        return AutoImageProcessor.from_pretrained(name)

    def fit(self, *, new_model: bool) -> None:
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
        crop_and_flip = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if name not in ("mean", "std")
        }
        return ImageTransform.from_processor(self.processor, **crop_and_flip)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_images(source, split=split, image_column=column, streaming=streaming)
        return _samples(dataset, ImageReader(self.transform(), column), streaming, seed)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        return load_labelled_images(
            source, self.transform(), split=split, image_column=column, label_column=label_column, limit=limit
        )

    def collator(self) -> MaskCollator:
        return ImageMaskCollator(self.config)


class AudioModality(Modality):
    """Speech: mono at the feature extractor's rate, each clip normalised, crops of at most `max_seconds`."""

    @classmethod
    def load_processor(cls, name: str) -> Any:
        return AutoFeatureExtractor.from_pretrained(name)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_audio(source, split=split, audio_column=column, streaming=streaming)
        limits = {"min_duration": self.data.get("min_seconds", 0.1), "max_duration": self.data.get("max_seconds")}
        reader = AudioReader(self.processor, column, **limits)
        if not streaming and "max_batch_seconds" in self.data:
            lengths = clip_lengths(dataset, reader)
            shortest = reader.num_samples(reader.min_duration)
            # What is known to be too short is left out; what turns out to be broken is passed over later.
            kept = [index for index, length in enumerate(lengths) if length >= shortest]
            if not kept:
                raise ValueError(
                    f"none of the {len(lengths)} clips of {source} lasts {reader.min_duration} seconds and can be "
                    "read: lower min_seconds in the recipe, or check the files"
                )
            return PretrainingSamples(
                dataset.select(kept), reader, seed=seed, lengths=[lengths[index] for index in kept]
            )
        return _samples(dataset, reader, streaming, seed)

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


class TextModality(Modality):
    """Text: documents tokenised, joined and cut into blocks."""

    @classmethod
    def load_processor(cls, name: str) -> Any:
        return AutoTokenizer.from_pretrained(name)

    @property
    def block_length(self) -> int:
        return self.data.get("block_length", getattr(self.config, "max_position_embeddings", PROBE_TOKENS))

    def fit(self, *, new_model: bool) -> None:
        config, tokenizer = self.config, self.processor
        if new_model and tokenizer.pad_token_id is not None:
            config.vocab_size = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
            for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
                setattr(config, name, getattr(tokenizer, name))
        check_tokenizer(tokenizer, config, self.block_length)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        dataset, column = load_text(source, split=split, text_column=column, streaming=streaming)
        if streaming:  # documents, before they are cut
            dataset = dataset.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        blocks = pack_documents(dataset, self.processor, self.block_length, text_column=column)
        kind = StreamedSamples if streaming else PretrainingSamples
        return kind(blocks, TextReader(self.processor), seed=seed)

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


MODALITIES: dict[str, type[Modality]] = {
    "pixel_values": ImageModality,
    "input_values": AudioModality,
    "input_ids": TextModality,
}


def modality(model_class: Any) -> type[Modality]:
    """The kind of data of a model or model class, by the name of its main input.

    Raises:
        ValueError: it takes another kind of data.

    Example:
        >>> from modeling_data2vec import Data2Vec2TextModel
        >>> modality(Data2Vec2TextModel).__name__
        'TextModality'
    """
    name = model_class.main_input_name
    if name not in MODALITIES:
        raise ValueError(f"the model's main input is {name!r}, but only {', '.join(MODALITIES)} can be read here")
    return MODALITIES[name]


def _samples(dataset: Any, reader: Any, streaming: bool, seed: int) -> Samples:
    if not streaming:  # the sampler shuffles this kind
        return PretrainingSamples(dataset, reader, seed=seed)
    return StreamedSamples(dataset.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER), reader, seed=seed)
