"""Build a model and its samples from a recipe and data, for `data2vec pretrain` and `recipe.build` alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import datasets
import torch
from transformers import PreTrainedConfig
from transformers.utils import logging

from modeling_data2vec import Data2Vec2Config
from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.weight_files import check_finite

from ..files.model_folders import loading
from ..modalities.base import Modality, Samples
from ..modalities.mixture import MixtureSource
from ..modalities.names import config_of, modalities
from .model_config import build_config
from .parts import SAMPLING_RATE, RecipePart
from .token_embeddings import keep_word_vectors

logger = logging.get_logger(__name__)


class BuildableRecipe(Protocol):
    """The parts of a `Recipe` that models and samples are built of."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Path | dict[str, Any]: ...
    @property
    def modalities(self) -> dict[str, RecipePart]: ...
    @property
    def model_class(self) -> Any: ...
    def model_config(self, overrides: dict[str, Any] | None = None) -> Any: ...


@dataclass(frozen=True)
class Source:
    """Source of a modality's data.

    Attributes:
        data: a path, a Hub id or a dataset.
        split: the split to take where there are several.
        column: the column to take; None where there is only one.
    """

    data: Any
    split: str = "train"
    column: str | None = None


def sources_of(data: Any, split: Any, column: Any, names: Sequence[str]) -> dict[str, Source]:
    """Sources by modality, from a dict by modality or one value for the only modality.

    Raises:
        ValueError: data of a modality that the model does not have, or not said of which.

    Example:
        >>> sources_of({"text": "corpus.txt"}, "train", None, ["audio", "text"])
        {'text': Source(data='corpus.txt', split='train', column=None)}
    """
    by_name = isinstance(data, Mapping) and not isinstance(data, datasets.DatasetDict | datasets.IterableDatasetDict)
    if not by_name and len(names) > 1:
        raise ValueError(f"the model has {', '.join(names)}: say what each has, {{{names[0]!r}: ..., ...}}")
    given = dict(data) if by_name else {names[0]: data}
    if not given or given.keys() - set(names):
        raise ValueError(f"data has {', '.join(given) or 'nothing'}, but the model takes {', '.join(names)}")

    def of(value: Any, name: str, default: Any) -> Any:
        return value.get(name, default) if isinstance(value, Mapping) else value

    return {
        name: Source(given[name], of(split, name, "train"), of(column, name, None)) for name in names if name in given
    }


def named(sources: Mapping[str, Source]) -> str | None:
    """What model cards call the data: as on the command line; None for datasets that were open already.

    Example:
        >>> named({"audio": Source("clips"), "text": Source("corpus.txt")})
        'audio=clips text=corpus.txt'
    """
    known = {name: str(one.data) for name, one in sources.items() if isinstance(one.data, str | PathLike)}
    if len(sources) == 1:
        return next(iter(known.values()), None)
    return " ".join(f"{name}={data}" for name, data in known.items()) or None


def run_config(recipe: BuildableRecipe, changes: Mapping[str, Any], checkpoint: str | None = None) -> Any:
    """The config of a run: the recipe's, or that of a checkpoint that goes on by the recipe.

    The method's settings (masks, targets, teacher) are the checkpoint's own where it has them, and otherwise the
    recipe's, as for a checkpoint of transformers' own classes.

    Raises:
        ValueError: a change is no field of the config, or the checkpoint can't be loaded or is of another type.
    """
    method = recipe.model_config(dict(changes))  # names unknown changes, for a checkpoint too
    if checkpoint is None:
        return method
    with loading(checkpoint):
        try:
            found = pretraining_class_of(checkpoint)
        except OSError as error:
            raise ValueError(f"the model {checkpoint!r} can't be loaded: {str(error).splitlines()[0]}") from error
        if found is not recipe.model_class:
            raise ValueError(
                f"the model {checkpoint!r} is a {found.config_class.model_type} model, but {recipe.name} is a recipe "
                f"for {recipe.model_class.config_class.model_type}: choose a recipe for that type"
            )
        config_class = found.config_class
        own, _ = PreTrainedConfig.get_config_dict(checkpoint)
        if config_class is Data2Vec2Config:
            config = config_class.from_pretrained(checkpoint)
            values = {entry.name: getattr(config, entry.name) for entry in fields(config_class)}
            values |= {f"{part}_config": config.of(part).to_dict() for part in config.modalities}
            return build_config(config_class, values, changes, checkpoint)
        natives = [base for base in config_class.__mro__ if base.__module__.startswith("transformers.")]
        native = {entry.name for base in natives if is_dataclass(base) for entry in fields(base)}
        of_the_tokenizer = {"mask_token_id"}
        lacking = {entry.name for entry in fields(config_class)} - native - own.keys() - of_the_tokenizer
        recipes_own = recipe.model_config()
        given = {name: getattr(recipes_own, name) for name in lacking} | dict(changes)
        return config_class.from_pretrained(checkpoint, **given)


def build_model_and_samples(
    recipe: BuildableRecipe,
    config: Any,
    sources: Mapping[str, Source],
    *,
    seed: int,
    streaming: bool = False,
    checkpoint: str | None = None,
    tokenizer: str | None = None,
) -> tuple[Any, dict[str, Modality], dict[str, Samples]]:
    """The model, new or of a checkpoint, what reads the data of each modality, and the training samples that it reads.

    Args:
        recipe, config: the recipe and the run's config, from `run_config`; it is aligned with the processors.
        sources: of the modalities that have data; each of the samples knows the modality that reads it.
        seed: of new weights, crops and masks; torch's generators are left as they were.
        streaming: read the data as they come.
        checkpoint: folder or Hub id of a model that goes on.
        tokenizer: folder or Hub id; default: the checkpoint's or the recipe's.

    Raises:
        ValueError: there is no processor, or it does not fit the model; or the data can't be read.
    """
    readers = {name: _modality(recipe, config, name, checkpoint, tokenizer) for name in sources}
    for one in readers.values():
        one.align(new_model=checkpoint is None)
    model = _model(recipe, config, seed, checkpoint)
    samples = {}
    for name, source in sources.items():
        is_stream = streaming or isinstance(source.data, datasets.IterableDataset | datasets.IterableDatasetDict)
        samples[name] = readers[name].samples(
            source.data, split=source.split, column=source.column, streaming=is_stream, seed=seed
        )
        samples[name].modality = readers[name]
        if recipe.modalities[name].data.get("word_vectors") and checkpoint is None:
            joint, base = isinstance(config, Data2Vec2Config), model.base_model
            table = base.feature_encoders[name].embed_tokens if joint else base.get_input_embeddings()
            keep_word_vectors(table, samples[name])
    return model, readers, samples


def _model(recipe: BuildableRecipe, config: Any, seed: int, checkpoint: str | None) -> Any:
    with torch.random.fork_rng(devices=[]):  # of the CPU, where weights are made
        torch.manual_seed(seed)
        if checkpoint is None:
            return recipe.model_class(config)
        with loading(checkpoint):
            model = recipe.model_class.from_pretrained(checkpoint, config=config)
            check_finite(model.state_dict(), checkpoint)
            return model


def mixture_sources(
    recipe: BuildableRecipe, samples: Mapping[str, Samples], sizes: Mapping[str, float], stream_batch_size: int
) -> dict[str, MixtureSource]:
    """The samples of each modality of a joint model in micro-batches.

    Args:
        recipe: gives the size of a micro-batch.
        samples: by modality.
        sizes: of micro-batches, in the recipe's unit, instead of the recipe's.
        stream_batch_size: clips of a micro-batch where the recipe counts in seconds, and lengths are not known.
    """
    found = {}
    for name, one in samples.items():
        part = recipe.modalities[name]
        size = sizes.get(name, part.micro_batch)
        if part.unit != "seconds":
            found[name] = MixtureSource(one, batch_size=int(size))
        elif one.lengths is not None:
            found[name] = MixtureSource(one, max_batch_length=round(SAMPLING_RATE * size))
        else:
            say_lengths_are_unknown(stream_batch_size)
            found[name] = MixtureSource(one, batch_size=stream_batch_size)
    return found


def say_lengths_are_unknown(batch_size: int) -> None:
    """Warn that batches hold a number of samples instead of a length."""
    logger.warning(
        "The lengths of the samples are not known, as of a stream, or of clips whose recipe has no max_batch_seconds: "
        f"batches hold per_device_train_batch_size {batch_size} samples instead of a length."
    )


def _modality(
    recipe: BuildableRecipe, config: Any, name: str, checkpoint: str | None, tokenizer: str | None
) -> Modality:
    kind, settings = modalities()[name], recipe.modalities[name].data
    given = tokenizer or (None if checkpoint else settings.get("tokenizer"))
    if kind.takes_tokenizer and given:
        place, subfolder = given, ""
    elif checkpoint is None and isinstance(recipe.config, dict):
        return kind(config_of(config, name), kind.default_processor(config_of(config, name)), settings)
    else:
        place = checkpoint or str(recipe.config)
        subfolder = name if isinstance(config, Data2Vec2Config) else ""
    try:
        processor = kind.load_processor(place, subfolder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no processor or tokenizer could be loaded from {place}: name one with tokenizer (--tokenizer of the "
            f"commands; `data2vec tokenizer` trains one), or a model that has one ({str(error).splitlines()[0]})"
        ) from error
    return kind(config_of(config, name), processor, settings)
