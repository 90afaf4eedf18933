"""Whatever `Data2VecTrainer` is given as data, as samples: raw or processed columns, streams, datasets of one's own."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import datasets
from torch.utils.data import IterableDataset
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer
from transformers.trainer_utils import has_length

from modeling_data2vec import Data2Vec2Config

from ..data.processed import ProcessedReader
from ..data.samples import IterableSampleDataset, SampleDataset, SampleReader
from ..modalities.base import Modality
from ..modalities.joint_processor import JointProcessor
from ..modalities.mixture import MixtureDataset
from ..modalities.names import modalities_of, modality_of_input
from ..recipes.parts import SAMPLING_RATE
from ..sources.loading import column_types

# By the class that loads a modality's processor: its name in a processor of several, and what only such a one has.
PARTS: dict[Any, tuple[str, str]] = {
    AutoImageProcessor: ("image_processor", "image_mean"),
    AutoFeatureExtractor: ("feature_extractor", "sampling_rate"),
    AutoTokenizer: ("tokenizer", "pad_token_id"),
}
SPLITS = datasets.DatasetDict | datasets.IterableDatasetDict


class GivenData:
    """Makes samples of the data that a trainer is given.

    Args:
        model: whose inputs they become.
        processor: what makes inputs of raw columns; None for that of the model's folder or Hub id, or a plain one.
        args: `seed`, and `max_batch_length` where samples must know their lengths.
    """

    def __init__(self, model: Any, processor: Any, args: Any) -> None:
        self.model, self.processor, self.args = model, processor, args
        self._modality: Modality | None = None

    def samples(self, dataset: Any, argument: str, *, augment: bool = True) -> Any:
        """The samples of a dataset; those of this package, and None, as they are.

        Args:
            dataset: with a raw column (image, audio, text), or with the model's main input as lists, arrays or tensors:
                a `datasets.Dataset`, with or without a transform, an `IterableDataset`, or any dataset of dicts.
            argument: what it was given as, for errors.
            augment: whether raw samples are cropped, flipped and so on at random.

        Raises:
            ValueError: it has neither, or raw columns need a processor that is not there.
        """
        if dataset is None or isinstance(dataset, SampleDataset | IterableSampleDataset | MixtureDataset):
            return dataset
        if isinstance(dataset, SPLITS):
            splits = ", ".join(map(repr, dataset))
            raise ValueError(f"{argument} has the splits {splits}: pass one of them, as in {argument}=dataset[...]")
        if isinstance(dataset, Mapping):  # several to evaluate on
            return {name: self.samples(one, argument, augment=augment) for name, one in dataset.items()}
        if has_length(dataset) and not len(dataset):
            return dataset  # the trainer says that it is empty
        if isinstance(self.model.config, Data2Vec2Config):
            return self._of_several(dataset, argument)
        name = self.model.main_input_name
        columns = _columns(dataset, argument)
        if name in columns and not isinstance(columns[name], datasets.Image | datasets.Audio):
            return _wrapped(_as_tensors(dataset, name), ProcessedReader(name), self.args.seed, augment)
        modality = self.modality()
        if isinstance(dataset, datasets.Dataset | datasets.IterableDataset) and not _is_transformed(dataset):
            is_stream = isinstance(dataset, datasets.IterableDataset)
            samples: Any = modality.samples(
                dataset, split=argument, column=None, streaming=is_stream, seed=self.args.seed
            )
            samples.augment = augment
        else:
            column = next((column for column in modality.medium.columns if column in columns), None)
            if column is None:
                raise ValueError(
                    f"the samples of {argument} have {', '.join(columns)}, but need {name}, or raw data as "
                    f"{' or '.join(modality.medium.columns)}"
                )
            samples = _wrapped(dataset, modality.reader(column), self.args.seed, augment)
        samples.modality = modality
        return samples

    def modality(self) -> Modality:
        """What reads raw columns for the model.

        Raises:
            ValueError: there is no such reader, or no processor for it.
        """
        if self._modality is None:
            kind, config = modality_of_input(self.model.main_input_name), self.model.config
            seconds = (self.args.max_batch_length or 0) / SAMPLING_RATE
            # A clip that no batch can hold is cropped, as a recipe does it.
            limits = {"max_batch_seconds": seconds, "max_seconds": seconds} if seconds else {}
            self._modality = kind(config, self._processor(kind, config), limits)
            self._modality.align(new_model=False)
        return self._modality

    def _processor(self, kind: type[Modality], config: Any) -> Any:
        if self.processor is not None:
            part, attribute = PARTS.get(kind.processor_class, ("", ""))
            found = getattr(self.processor, part, None) or self.processor
            if not hasattr(found, attribute or "__class__"):
                raise ValueError(
                    f"processing_class is a {type(found).__name__}, but the model reads raw {kind.title} by its "
                    f"{part.replace('_', ' ')}: pass that"
                )
            return deepcopy(found)  # it is aligned with the model
        if self.model.name_or_path:
            try:
                return kind.load_processor(self.model.name_or_path)
            except (OSError, ValueError):  # it has none
                pass
        return kind.default_processor(config)

    def _of_several(self, dataset: Any, argument: str) -> Any:
        if isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
            raise ValueError(
                f"{argument} is one dataset, but the model has {', '.join(modalities_of(self.model.config))}: pass a "
                "MixtureDataset, such as recipe.build makes of a dict of datasets"
            )
        return dataset


def modalities_of_samples(dataset: Any) -> dict[str, Modality]:
    """What reads the samples of each modality, as far as they know it."""
    if isinstance(dataset, MixtureDataset):
        found = {name: source.samples.modality for name, source in dataset.sources.items()}
        return {name: modality for name, modality in found.items() if modality is not None}
    modality = getattr(dataset, "modality", None)
    return {} if modality is None else {modalities_of(modality.config)[0]: modality}


def knows_lengths(dataset: Any) -> bool:
    """Whether batches of similar lengths can be made; a mixture brings its own sizes of batches."""
    return isinstance(dataset, MixtureDataset) or getattr(dataset, "lengths", None) is not None


def processor_of(model: Any, modalities: Mapping[str, Modality]) -> Any:
    """What is saved with a model: its processor, or those of its modalities; None where none is known."""
    processors = {name: modality.processor for name, modality in modalities.items()}
    if isinstance(model.config, Data2Vec2Config):
        return JointProcessor(processors) if processors else None
    return next(iter(processors.values()), None)


def _columns(dataset: Any, argument: str) -> dict[str, Any]:
    """Names and types of what an example holds."""
    if isinstance(dataset, datasets.Dataset | datasets.IterableDataset) and not _is_transformed(dataset):
        return column_types(dataset)
    first = dataset[0] if _is_indexed(dataset) else next(iter(dataset), None)
    if first is None:
        raise ValueError(f"{argument} is empty: it has no samples")
    if not isinstance(first, Mapping):
        raise ValueError(
            f"the samples of {argument} are of type {type(first).__name__}, but must be dicts, as "
            '{"pixel_values": ...} or {"image": ...}'
        )
    return {name: type(value) for name, value in first.items()}


def _is_transformed(dataset: Any) -> bool:
    """Whether `with_transform` decides what an example holds."""
    return isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"


def _is_indexed(dataset: Any) -> bool:
    """Whether samples are reached by their index; torch's streams have that method, too, but it raises."""
    return has_length(dataset) and hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)


def _as_tensors(dataset: Any, name: str) -> Any:
    """What a model takes of a dataset; columns of lists as tensors, where nobody has chosen a format."""
    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset) or _is_transformed(dataset):
        return dataset
    columns = [column for column in (name, "attention_mask", "key") if column in column_types(dataset)]
    dataset = dataset.select_columns(columns)  # others may not decode
    plain = isinstance(dataset, datasets.Dataset) and dataset.format["type"] is None
    return dataset.with_format("torch") if plain else dataset


def _wrapped(dataset: Any, reader: SampleReader, seed: int, augment: bool) -> Any:
    kind = SampleDataset if _is_indexed(dataset) else IterableSampleDataset
    samples = kind(dataset, reader, seed=seed, augment=augment)
    if isinstance(samples, SampleDataset):
        samples.lengths = getattr(dataset, "lengths", None)
    return samples
