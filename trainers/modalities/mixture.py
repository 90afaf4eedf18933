"""Several data sets of different modalities as one: batches of one modality each, in the order of a mix."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from modeling_data2vec.cross_modal import PAIRS

from ..data.collators import Examples, MaskCollator
from ..data.mixture_order import MixtureOrder
from ..data.samplers import EpochBatches, FixedBatchSampler, LengthBatchSampler, endless_batches
from ..data.samples import IterableSampleDataset, SampleDataset
from ..data.streamed_batches import MixtureStream, streamed_loader
from .names import config_of, mask_collator, modality_of
from .pairs import PairsCollator

Place = tuple[str, int, int]  # (modality, epoch of its data, index)


@dataclass
class MixtureSource:
    """What one modality brings to a mix.

    Args:
        samples: its data.
        batch_size: samples of a micro-batch on a device.
        max_batch_length: instead of it, the bound on a micro-batch of similar lengths (`LengthBatchSampler`).

    Raises:
        ValueError: not exactly one of the two is given, or the samples don't know their lengths.
    """

    samples: SampleDataset | IterableSampleDataset
    batch_size: int | None = None
    max_batch_length: int | None = None

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.max_batch_length is None):
            raise ValueError(
                f"a modality of a mix has batch_size {self.batch_size} and max_batch_length {self.max_batch_length}, "
                "but exactly one of the two must be given"
            )
        if self.max_batch_length is not None and getattr(self.samples, "lengths", None) is None:
            raise ValueError(
                "max_batch_length needs samples with `lengths`, the input length of each, which streams don't have: "
                "give batch_size"
            )

    def batches(self, **options: int) -> EpochBatches:
        """Batches of indices, for map-style samples; `options` are those of `EpochBatches`."""
        assert isinstance(self.samples, SampleDataset)
        if self.max_batch_length is None:
            return FixedBatchSampler(len(self.samples), self.batch_size or 1, **options)
        return LengthBatchSampler(self.samples.lengths or [], self.max_batch_length, **options)


class MixtureDataset(Dataset):
    """The samples of all modalities of a mix; what `Data2VecTrainer` takes as `train_dataset` of a joint model.

    Each modality keeps its own samples, micro-batches and epochs: when its data end, they start again in a new epoch,
    with new crops and masks. An epoch of the mix lasts until the data of every modality have been seen once. With a
    stream among the samples there are no epochs: the run needs `max_steps`.

    Args:
        sources: by modality: "audio", "vision", "text"; "pairs" for samples of several (`pairs.py`).
        shares: how often each modality's micro-batches come; default: equally often.
        exact: whether the shares must be met exactly; see `MixtureOrder`.

    Example:
        >>> sources = {"vision": MixtureSource(images, 8), "text": MixtureSource(blocks, 4)}  # doctest: +SKIP
        >>> mix = MixtureDataset(sources)  # doctest: +SKIP
        >>> trainer = Data2VecTrainer(joint_model, args, train_dataset=mix)  # doctest: +SKIP
    """

    provenance: Any = None  # what a model card says of the data, if it is known

    def __init__(
        self, sources: Mapping[str, MixtureSource], shares: Mapping[str, float] | None = None, *, exact: bool = True
    ) -> None:
        if not sources:
            raise ValueError("a mix has no sources: give one or more modalities")
        self.sources = dict(sources)
        shares = dict.fromkeys(sources, 1.0) if shares is None else shares
        if shares.keys() != sources.keys():
            raise ValueError(f"the mix has shares of {', '.join(shares)}, but data of {', '.join(sources)}: give both")
        self.shares = {name: shares[name] for name in sources}
        self.exact = exact
        for name, source in self.sources.items():
            if isinstance(source.samples, SampleDataset) and not len(source.samples):
                raise ValueError(f"the data of {name} are empty: there is nothing to train on")

    @property
    def streamed(self) -> bool:
        """Whether some of the data come as a stream."""
        return any(isinstance(source.samples, IterableSampleDataset) for source in self.sources.values())

    def __len__(self) -> int:
        if self.streamed:
            raise TypeError("a mix with a stream has no length")
        return sum(len(source.samples) for source in self.sources.values())  # type: ignore[arg-type, misc]

    def __getitem__(self, place: Place) -> dict[str, Any]:
        name, epoch, index = place
        samples = self.sources[name].samples
        assert isinstance(samples, SampleDataset)
        return samples.of_epoch(epoch, index)

    def unreadable(self) -> list[str]:
        """Names of the samples of all modalities that could not be read so far."""
        return [line for source in self.sources.values() for line in source.samples.unreadable()]

    def batches(self, share: Mapping[str, int]) -> dict[str, EpochBatches]:
        """Batches of those modalities that don't come as a stream; `share` as of `loader`.

        Raises:
            ValueError: one has too few samples for a batch.
        """
        batches = {}
        for name, source in self.sources.items():
            if isinstance(source.samples, SampleDataset):
                try:
                    batches[name] = source.batches(**share)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        return batches

    def loader(self, order: MixtureOrder, share: Mapping[str, int], **options: Any) -> DataLoader:
        """A loader of micro-batches, each of one modality, in an order.

        Args:
            order: of the modalities.
            share: `seed`, `num_processes` and `process`, as of `EpochBatches`.
            options: further ones of `DataLoader`: a `collate_fn` that takes samples of any modality, and so on.
        """
        self.batches(share)  # says now, not in a worker, where there are too few samples
        if self.streamed:
            return streamed_loader(MixtureStream(self.sources, order, share), **options)
        return DataLoader(self, batch_sampler=MixtureBatchSampler(self, order, share), **options)


class MixtureBatchSampler(Sampler[list[Place]]):
    """Micro-batches of a mix of map-style data, a pure function of (seed, optimizer step).

    Arguments: see `MixtureDataset.loader`.
    """

    def __init__(self, mix: MixtureDataset, order: MixtureOrder, share: Mapping[str, int]) -> None:
        self.order, self.epoch = order, 0
        self.batches = mix.batches(share)
        self.steps = order.steps_to_see({name: len(batches) for name, batches in self.batches.items()})

    def set_epoch(self, epoch: int) -> None:
        """Go on with epoch `epoch` of the mix, each modality where it then is in its own data."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.order.accumulation

    def __iter__(self) -> Iterator[list[Place]]:
        first = self.epoch * self.steps
        starts = self.order.before(first)
        parts = {name: endless_batches(batches, starts[name]) for name, batches in self.batches.items()}
        for step in range(first, first + self.steps):
            for name in self.order.step(step):
                epoch, indices = next(parts[name])
                yield [(name, epoch, index) for index in indices]


class JointCollator:
    """Makes a batch of samples of one modality, whichever it is, with the masks of that modality.

    Args:
        config: the model's.
        collators: by modality, instead of the default `mask_collator` of its config.
    """

    def __init__(self, config: Any, collators: Mapping[str, MaskCollator | PairsCollator] | None = None) -> None:
        self.config, self.collators = config, dict(collators or {})

    def __call__(self, examples: Examples) -> dict[str, Any]:
        name = modality_of(examples[0])
        if name not in self.collators:
            own = config_of(self.config, name)
            self.collators[name] = PairsCollator.of(own) if name == PAIRS else mask_collator(own)
        return self.collators[name](examples)
