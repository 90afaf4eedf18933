"""All that is said of a kind of data outside its model, as one class."""

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoFeatureExtractor, PreTrainedModel

from modeling_data2vec.auto import pretraining_class

from ..data.collators import Examples, MaskCollator, pad_inputs
from ..data.samples import (
    IterableSampleDataset,
    LabelledSet,
    SampleDataset,
    SampleReader,
    read_labelled,
    shuffled_samples,
)
from ..media.encoded_files import encoded_file
from ..sources.loading import load_source, prepare_column
from ..sources.source_files import Medium
from .drawing import PictureCanvas, heat_map

MOST_POSITIONS = 1_000_000

Samples = SampleDataset | IterableSampleDataset
Inputs = Tensor | Sequence[Tensor]  # N samples: one tensor, or a list where they differ in size


class RawFeatures(NamedTuple):
    """Features of the raw input, which frozen features have to beat.

    Attributes:
        name: how tables call them.
        compute: (train inputs, test inputs) to (train features, test features), [N, D'] arrays or sparse matrices.
    """

    name: str
    compute: Callable[[Inputs, Inputs], tuple[Any, Any]]


class MadeUp(NamedTuple):
    """A sample in Python code, as model cards print it.

    Attributes:
        imports: a line that it needs; empty for none.
        value: the sample.
        options: of the processor for it, each after a comma.
    """

    imports: str
    value: str
    options: str = ""


class Modality:
    """One kind of data, for one model: names, reading, batches with masks, baseline features, pictures.

    A subclass is all that a new kind of data needs beside its model: trainers, commands and cards find it once its
    module is imported (`--plugin` of the commands). It gives the attributes and `read`; the other methods have defaults
    for samples [channels, ...] of one size that are cut into patches (`PatchShape`). docs/own_data.md shows one.

    Args:
        config: the model's.
        processor: makes the model's inputs; saved with the model. None where only batches or pictures are made.
        data: the recipe's `data`, for what it says about reading samples.

    Attributes:
        name: as in `model_type` after "data2vec2-"; also in options of several modalities and names of files.
        input_name: the model's main input. No two modalities share one.
        title: of the data in texts, e.g. "speech".
        sample, position: of one sample, and one of its positions, in texts: "clip", "frame".
        medium: how such data look in folders and tables.
        processor_class: loads the processor by `from_pretrained`.
        pipeline_tag: the Hub's name of what the bare encoder does.
        data_keys: what a recipe's `data` may hold beside `dataset` and `num_examples`.
        limits: a sentence for model cards about what the model takes; empty for none.
        color: of its curves; None for the next free one.
        max_masks: masks of a sample that are drawn side by side.
        picture_title: of the column of samples in a drawing.
        probe_pooling: the pooling that probes of a pretraining run are made with.
        probe_layers: the layers of these, "all" side by side or the "last" one.
        takes_tokenizer: whether the processor is a tokenizer, which may come from elsewhere than the model.
        recipe: what a `recipe.yaml` holds, for a recipe of this kind of data that stands in its file; its `config`
            holds the model's fields instead of naming a folder.
        first_axis_is_time: of a grid of several axes, such as time and bands.
        length_name: what the length of samples is counted in where they differ: an option of `data2vec inspect`.
    """

    name: ClassVar[str]
    input_name: ClassVar[str]
    title: ClassVar[str]
    sample: ClassVar[str] = "sample"
    position: ClassVar[str] = "position"
    medium: ClassVar[Medium]
    processor_class: ClassVar[Any] = AutoFeatureExtractor
    pipeline_tag: ClassVar[str] = "feature-extraction"
    data_keys: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[str] = ""
    color: ClassVar[str | None] = None
    max_masks: ClassVar[int] = 3
    picture_title: ClassVar[str] = "sample"
    probe_pooling: ClassVar[str] = "mean"
    probe_layers: ClassVar[Literal["all", "last"]] = "all"
    takes_tokenizer: ClassVar[bool] = False
    first_axis_is_time: ClassVar[bool] = False
    recipe: ClassVar[dict[str, Any] | None] = None
    length_name: ClassVar[str | None] = None

    def __init__(self, config: Any, processor: Any = None, data: Mapping[str, Any] | None = None) -> None:
        self.config, self.processor, self.data = config, processor, data or {}

    # ---- processor and recipe ----

    @classmethod
    def load_processor(cls, name: str, subfolder: str = "") -> Any:
        """The processor of a model folder or Hub id; that of a joint model's modality is in its sub-folder."""
        return cls.processor_class.from_pretrained(name, subfolder=subfolder)

    @classmethod
    def default_processor(cls, config: Any) -> Any:
        """A plain processor for a model of this config.

        Raises:
            ValueError: there is none that would do.
        """
        if cls.processor_class.__name__.startswith("Auto"):
            raise ValueError("processing_class is missing: pass the processor that makes the model's inputs")
        return cls.processor_class()

    def align(self, *, new_model: bool) -> None:
        """Let processor and config agree, before a model is built of the config; `new_model` may change either.

        Raises:
            ValueError: they can't.
        """

    def check_data(self, where: str) -> None:
        """Require that what a recipe says about the data is possible; its keys are known already.

        Args:
            where: beginning of the message.

        Raises:
            ValueError: says what is not.
        """

    @classmethod
    def made_up(cls, config: Mapping[str, Any]) -> MadeUp | None:
        """Code of a sample for a model of a config; None for none, where the card then shows how to load alone."""
        return None

    # ---- reading ----

    def load(
        self, source: str, *, split: str = "train", column: str | None = None, streaming: bool = False
    ) -> tuple[Any, str]:
        """Open a source: (dataset, the column that holds the data); nothing is decoded yet. See `load_source`."""
        return load_source(source, self.medium, split=split, column=column, streaming=streaming)

    @classmethod
    def prepare(cls, dataset: Any, source: str, *, split: str = "train", column: str | None = None) -> tuple[Any, str]:
        """Find the column that holds the data in an opened dataset, and leave it undecoded. See `prepare_column`."""
        return prepare_column(dataset, source, cls.medium, split=split, column=column)

    def reader(self, column: str) -> SampleReader:
        """Reads an example's `column` as a sample of its own; here by `read`."""
        return CellReader(self, column)

    def read(self, value: Any, rng: Random | None) -> Tensor:
        """The model's input, unbatched, of one cell of a data set: what `reader` does unless it is overridden.

        Args:
            value: a path or an opened file, where the data set holds files, or what else stands there.
            rng: decides what is random, such as a crop; None for no augmentation.

        Raises:
            UnreadableError: the sample must be passed over.
        """
        raise NotImplementedError

    def cell(self, value: Any) -> Any:
        """What a column holds of one sample that is given by hand: a path, an image, an array or a text.

        Waveforms are taken to have the processor's sampling rate.
        """
        if isinstance(value, str | os.PathLike) and self.medium.feature is not None:
            return {"bytes": None, "path": os.fspath(value)}
        rate = getattr(self.processor, "sampling_rate", None)
        if rate is not None and isinstance(value, np.ndarray | Tensor | list | tuple):
            return {"array": np.asarray(value), "sampling_rate": rate}
        return value

    def whole_reader(self, column: str) -> SampleReader:
        """Reads samples for features, which are of the whole sample: as `reader`, without its crops."""
        return self.reader(column)

    def probe_reader(self, column: str) -> SampleReader:
        """Reads samples for probes, which are held in memory: as `whole_reader`, cut where they are very long."""
        return self.whole_reader(column)

    def samples(self, source: str, *, split: str, column: str | None, streaming: bool, seed: int) -> Samples:
        """Training samples of a source."""
        dataset, column = self.load(source, split=split, column=column, streaming=streaming)
        return shuffled_samples(dataset, self.reader(column), seed)

    def labelled(
        self, source: str, *, split: str, column: str | None, label_column: str | None = None, limit: int | None = None
    ) -> LabelledSet:
        """A labelled split, for probes: whole and in memory."""
        dataset, column = self.load(source, split=split, column=column)
        samples, labels = read_labelled(
            dataset, self.probe_reader(column), source=source, split=split, label_column=label_column, limit=limit
        )
        return [sample[self.input_name] for sample in samples], labels

    # ---- batches and positions ----

    def grid(self, sample: Tensor) -> tuple[int, ...]:
        """Shape of the positions of one unbatched input, e.g. (rows, columns) of patches."""
        patch = self.config.patch_shape
        return tuple(size // edge for size, edge in zip(sample.shape[-len(patch) :], patch, strict=True))

    def pad(self, samples: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Samples as one tensor, padded at the end of their first axis; which of it is real, None for all of it."""
        return pad_inputs(samples)

    def collator(self) -> MaskCollator:
        """Makes batches and masks of the samples."""
        return SampleCollator(self)

    def num_positions(self, samples: Samples) -> int | None:
        """Positions in all samples together, about; None where that is not known."""
        return len(samples) * prod(self.config.grid) if isinstance(samples, SampleDataset) else None

    def real_positions(self, encoder: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
        """Which positions of a batch hold something of the sample, and not of its padding: bool [B, T].

        Args:
            encoder: of this kind of data, ours or another.
            inputs: of it: the main input [B, ...] and, where something is padded, `attention_mask` [B, length].

        Raises:
            ValueError: the positions can't be counted.
        """
        values, mask = inputs[self.input_name], inputs.get("attention_mask")
        length = prod(self.grid(values[0]))
        if mask is None:
            return torch.ones(len(values), length, dtype=torch.bool)
        counts = [prod(self.grid(sample[real])) for sample, real in zip(values, mask.bool(), strict=True)]
        return torch.arange(length) < torch.tensor(counts)[:, None]

    def real_grids(self, inputs: Mapping[str, Tensor], real: Tensor) -> list[tuple[int, ...]]:
        """The grid of each sample's real positions; padding is at the end of the first axis.

        Args:
            inputs: as for `real_positions`.
            real: what it gave.
        """
        across = self.grid(inputs[self.input_name][0])[1:]
        return [(count // prod(across), *across) for count in real.sum(1).tolist()]

    # Whether encoders other than ours may put any number of tokens before the positions, and whether the first position
    # itself is the CLS token.
    any_extra_tokens: ClassVar[bool] = False
    starts_with_cls: ClassVar[bool] = False

    # ---- what a step costs ----

    def default_length(self) -> float | None:
        """Length of a sample, in what `length_name` says, where none is asked for."""
        return None

    def example(self, length: float | None = None) -> Tensor:
        """An unbatched input of the size that is trained on, without memory; `length` where samples differ in it.

        Raises:
            ValueError: the model can't take, or not mask, a sample of that length.
        """
        return torch.empty(self.config.num_channels, *self.config.input_shape, device="meta")

    def local_products(self, example: Tensor) -> list[tuple[int, int, int]]:
        """The local encoder as matrix products: for each of them its positions, inputs and outputs.

        Here one product from raw input to positions, as large as what the feature encoder computes.
        """
        encoder_class = pretraining_class(self.config.model_type).feature_encoder_class
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            encoder_class(self.config).embed(example[None])
        positions, width = prod(self.grid(example)), self.config.hidden_size
        return [(positions, counter.get_total_flops() // (2 * positions * width), width)]

    # ---- what is shown ----

    def raw_features(self) -> list[RawFeatures]:
        """The usual baselines: here the raw values of samples of one size."""
        return [RawFeatures("raw values", lambda train, test: (flattened(train), flattened(test)))]

    def pictures(self, inputs: Inputs) -> list[np.ndarray]:
        """Samples as RGB pictures [height, width, 3]; here a heat map of each, its last axis from left to right."""
        rows = [torch.atleast_2d(sample.detach().float().cpu()).flatten(0, -2) for sample in inputs]
        return [heat_map(values.numpy()) for values in rows]

    def cells(self, values: np.ndarray, sample: Tensor) -> np.ndarray:
        """Values [T, ...] of a sample's positions as the cells [rows, columns, ...] that lie over its picture.

        Of three axes and more, the middle of the first ones is shown.
        """
        grid = self.grid(sample)
        cells = values.reshape(*((1, len(values)) if len(grid) == 1 else grid), *values.shape[1:])
        for extent in grid[:-2]:
            cells = cells[extent // 2]
        return cells

    def captions(self, inputs: Inputs) -> Sequence[str]:
        """A text beside each sample, e.g. its length; empty for none."""
        return ()

    def player(self, example: Mapping[str, Any], column: str, sample: Tensor) -> str:
        """HTML by which a sample is heard, of the example that it was read from; empty for what can't be heard."""
        return ""

    def canvas(self, inputs: Inputs) -> Any:
        """Draws masks over samples, and colours of their positions beside or below them."""
        return PictureCanvas(self, inputs)


class CellReader:
    """Reads one column of an example by a modality's `read`.

    Args:
        modality: has `read`, and the name of the input.
        column: that holds the data.
    """

    def __init__(self, modality: Modality, column: str) -> None:
        self.modality, self.column, self.noun = modality, column, modality.sample

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Tensor]:
        value = example[self.column]
        if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
            value = encoded_file(value, self.noun, "what else can be read").source
        return {self.modality.input_name: self.modality.read(value, rng)}

    def name(self, example: dict[str, Any]) -> str | None:
        value = example[self.column]
        return value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None


class SampleCollator(MaskCollator):
    """Pads or stacks the samples of a modality as it says, and draws masks over its grid.

    Args:
        modality: gives config, `pad` and `grid`.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality.config)
        self.modality = modality

    def batch(self, examples: Examples, keys: Tensor) -> tuple[dict[str, Tensor], tuple[int, ...], Tensor | None]:
        name, modality = self.modality.input_name, self.modality
        samples = [example[name] for example in examples]
        values, attention_mask = modality.pad(samples)
        grid = modality.grid(values[0])
        if attention_mask is None:
            return {name: values}, grid, None
        lengths = torch.tensor([prod(modality.grid(sample)) for sample in samples])
        return {name: values, "attention_mask": attention_mask}, grid, lengths


def check_number(positions: int) -> None:
    """Raise a ValueError for more positions of a sample than a mask can be drawn for, 5 hours of sound."""
    if positions > MOST_POSITIONS:
        raise ValueError(
            f"a sample would have {positions:,} positions, but at most {MOST_POSITIONS:,} are looked at: give shorter "
            "samples, or a model for smaller ones"
        )


def require_sequences(name: str, values: Tensor) -> None:
    """Raise a ValueError unless a batch is [B, length]."""
    if values.ndim != 2:
        raise ValueError(
            f"a batch has {name} of shape {tuple(values.shape)}, but they must be [B, length], as a split of all of "
            "them, e.g. inputs.split(32), gives them"
        )


def flattened(inputs: Inputs) -> np.ndarray:
    """Samples of one size as rows of fp32 numbers: [N, ...] to [N, values of a sample]."""
    values = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
    return values.flatten(1).float().cpu().numpy()
