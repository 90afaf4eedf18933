"""Batches of streams, and of mixes with streams: made by worker processes, with the position that each has reached."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from itertools import accumulate, chain, count, islice, repeat
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers.utils import logging

from ..wording import counted
from .even_epochs import EvenEpochs, Made, cpu_group
from .finiteness import CheckedCollator
from .mixture_order import MixtureOrder
from .samplers import endless_batches
from .samples import IterableSampleDataset, SampleDataset
from .streams import Share

logger = logging.get_logger(__name__)

PARTS = 4  # of the worker that makes most batches: how finely shares differ where modalities come in no fixed turn


class MixtureStream(IterableDataset):
    """Micro-batches of a mix with streams, as lists of samples, without end; each with the position after it.

    Each process reads its share of a stream, and each of its worker processes a part of that; a worker makes every n-th
    micro-batch.

    Args:
        sources: a `MixtureSource` of each modality.
        order, share: see `MixtureDataset.loader`.

    Attributes:
        start: how many micro-batches of the process were made before, and where its workers are in each stream. With an
            "epoch" it is that one alone, of the only stream: then "turn" is the worker that makes the first batch.
    """

    def __init__(self, sources: Mapping[str, Any], order: MixtureOrder, share: Mapping[str, int]) -> None:
        self.sources, self.order, self.share = sources, order, share
        self.start: dict[str, Any] = {"batches": 0, "workers": {}}

    @property
    def streams(self) -> dict[str, IterableSampleDataset]:
        """The samples of those modalities that come as a stream."""
        found = {name: source.samples for name, source in self.sources.items()}
        return {name: samples for name, samples in found.items() if isinstance(samples, IterableSampleDataset)}

    def shares(self, name: str, num_workers: int) -> list[Share]:
        """What each worker process reads of a stream, in proportion to the micro-batches that it makes of it."""
        made = batches_of_workers(self.order, name, num_workers)
        ends = list(accumulate(made))
        place = self.share["process"], self.share["num_processes"]
        return [Share(*place, end - own, end, ends[-1]) for own, end in zip(made, ends, strict=True)]

    def names(self, first: int) -> Iterator[str]:
        """The modality of each micro-batch, from that of a number on."""
        step, rest = divmod(first, self.order.accumulation)
        return islice(chain.from_iterable(map(self.order.step, count(step))), rest, None)

    def before(self, number: int) -> Counter[str]:
        """How many micro-batches of each modality come before that of a number."""
        step, rest = divmod(number, self.order.accumulation)
        return Counter(self.order.before(step)) + Counter(self.order.step(step)[:rest])

    def __iter__(self) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
        info = get_worker_info()
        place, num_workers = (info.id, info.num_workers) if info else (0, 1)
        if "epoch" in self.start:
            yield from self._one_epoch((self.start["turn"] + place) % num_workers, num_workers)
            return
        first = self.start["batches"] + place  # the loader's first worker is the one whose turn it is
        worker = str(first % num_workers)
        kept = self.start["workers"].get(worker, {})
        streams = {
            name: samples.endless(self.shares(name, num_workers)[int(worker)], kept.get(name))
            for name, samples in self.streams.items()
        }
        indexed = {name: _Indexed(one, self.share) for name, one in self.sources.items() if name not in streams}
        before = self.before(first)
        for number, name in enumerate(self.names(first)):
            if number % num_workers == 0:
                if name in streams:
                    read = list(islice(streams[name], self.sources[name].batch_size))
                    yield [sample for sample, _ in read], {"worker": worker, "name": name, "position": read[-1][1]}
                else:
                    yield indexed[name].batch(before[name]), {}
            before[name] += 1

    def _one_epoch(self, worker: int, num_workers: int) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
        ((name, samples),) = self.streams.items()
        position = self.start["workers"].get(str(worker), {}).get(name, {"epoch": self.start["epoch"]})
        reading = samples.one_epoch(self.shares(name, num_workers)[worker], position)
        while read := list(islice(reading, self.sources[name].batch_size)):
            made = {"worker": str(worker), "name": name, "position": read[-1][1]}
            yield [sample for sample, _ in read], made


class _Indexed:
    """Micro-batches of samples with an index, by their number."""

    def __init__(self, source: Any, share: Mapping[str, int]) -> None:
        self.samples: SampleDataset = source.samples
        self.batches: Any = source.batches(**share)
        self.following: Iterator[tuple[int, list[int]]] = iter(())
        self.number = 0

    def batch(self, number: int) -> list[dict[str, Any]]:
        """The micro-batch of a number, not smaller than that of any call before."""
        if not self.number:
            self.following, self.number = endless_batches(self.batches, number), number
        epoch, indices = next(islice(self.following, number - self.number, None))
        self.number = number + 1
        return [self.samples.of_epoch(epoch, index) for index in indices]


def batches_of_workers(order: MixtureOrder, name: str, num_workers: int) -> list[int]:
    """How many micro-batches of a modality each worker makes, in proportion to the others.

    Example:
        >>> order = MixtureOrder({"audio": 3, "text": 1}, accumulation=4)  # 0 audio, 1 audio, 0 audio, 1 text, ...
        >>> batches_of_workers(order, "audio", 2), batches_of_workers(order, "text", 2)
        ([2, 1], [0, 1])
    """
    in_turns = order.mixing == "accumulate"
    steps = math.lcm(order.accumulation, num_workers) // order.accumulation if in_turns else 100 * num_workers
    names = chain.from_iterable(map(order.step, range(steps)))
    made = Counter(number % num_workers for number, other in enumerate(names) if other == name)
    most = PARTS if not in_turns else max(made.values())
    parts = [-(-most * made[worker] // max(made.values())) for worker in range(num_workers)]
    return [part // math.gcd(*parts) for part in parts]


class PositionedCollator(CheckedCollator):
    """As `CheckedCollator`, of samples and a position, which it hands on."""

    def __call__(self, item: Any) -> Any:
        samples, position = item
        return super().__call__(samples), position


class StreamedBatches(IterableDataset):
    """The batches that a loader of a `MixtureStream` gives, and the position after the last one that was taken.

    Where the epochs of a stream would end at different steps in the processes of a run, `EvenEpochs` lets them end
    together. In a mix each modality then has a loader of its own, since its epochs are its own, and the mix takes from
    one after the other in its order.

    `skip_first_batches`, by which `Trainer` resumes, finds an empty place for each batch that was made before.

    Args:
        loader: whose worker processes make the batches.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.stream: MixtureStream = loader.dataset  # type: ignore[assignment]
        self.readers = {"processes": self.stream.share["num_processes"], "workers": max(1, loader.num_workers)}
        self._start: dict[str, Any] = self.stream.start
        self._reached = self._start
        self._parts: dict[str, StreamedBatches] = {}  # of a mix with such a stream, by modality

    def state_dict(self) -> dict[str, Any]:
        """Where the process is, as JSON has it: `load_state_dict` of a new object goes on with the next batch."""
        sources = {name: samples.stream.source for name, samples in self.stream.streams.items()}
        shards = {name: [source.num_shards, source.sizes] for name, source in sources.items() if source is not None}
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        return {"readers": self.readers, "shards": shards, **self._reached} | ({"parts": parts} if parts else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; if there are other readers now, with the next epoch of each stream.

        Raises:
            ValueError: it is of other data.
        """
        for name, samples in self.stream.streams.items():
            source, (num_shards, sizes) = samples.stream.source, state["shards"].get(name, [None, None])
            if source is None or num_shards is None:
                continue
            if num_shards != source.num_shards:
                raise ValueError(
                    f"the stream of {samples.reader.noun}s had {counted(num_shards, 'shard')} when the run began, and "
                    f"has {source.num_shards:,} now: resume with the same data, or begin another run"
                )
            source.sizes = sizes
        kept = {name: state[name] for name in ("batches", "workers", "epoch", "turn", "parts") if name in state}
        if state["readers"] != self.readers:
            epochs = _following_epochs(state)
            begin = {name: {"epoch": epochs[name]} for name in self.stream.streams}
            if self.stream.streams and not self.stream.share["process"]:
                logger.warning(
                    f"The checkpoint is of {_shown(state['readers'])}, and the run has {_shown(self.readers)}, which "
                    f"share a stream in another way: it goes on with epoch {max(epochs.values(), default=0)}, counted "
                    "from 0. What was not read of the epoch before is left out of that one. Resume with the same "
                    "numbers to go on with the next sample."
                )
            workers = {str(worker): begin for worker in range(self.readers["workers"])}
            kept = {"batches": state["batches"], "workers": workers}
        self._start = kept

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, {"batches": 0, "workers": {}}
        yield from repeat(None, start["batches"])
        yield from self._batches(start)

    def _batches(self, start: dict[str, Any]) -> Iterator[Any]:
        """The batches from a start on."""
        self._measure()
        uneven = any(map(self._is_uneven, self.stream.streams))
        if uneven and len(self.stream.sources) > 1:
            yield from self._in_turns(start)
            return
        self._say_shares()
        if uneven:
            yield from self._even_epochs(start)
            return
        self._reached = {"batches": start["batches"], "workers": {**start["workers"]}}
        for batch, made in self._open(start):
            self._reached["batches"] += 1
            if made:
                self._take(made)
            yield batch

    def _open(self, start: dict[str, Any]) -> Iterator[Made]:
        self.stream.start = start
        self.loader._iterator = None  # workers that are there from before would go on from another start
        return iter(self.loader)

    def _take(self, made: Mapping[str, Any]) -> None:
        worker = self._reached["workers"].get(made["worker"], {})
        self._reached["workers"][made["worker"]] = worker | {made["name"]: made["position"]}

    def _is_uneven(self, name: str) -> bool:
        """Whether the readers of a stream would end its epochs at different steps, by how large their shards are."""
        source, share = self.stream.streams[name].stream.source, self._first_share(name)
        return source is not None and source.sizes is None and share.total > 1 and not source.is_dealt_out(share)

    def _first_share(self, name: str) -> Share:
        return self.stream.shares(name, self.readers["workers"])[0]

    def _in_turns(self, start: dict[str, Any]) -> Iterator[Any]:
        """The micro-batches of a mix, whose modalities each have a loader, and so epochs, of their own."""
        self._parts = {name: self._part(name, start) for name in self.stream.sources}
        self._reached = {"batches": start["batches"], "workers": {}}
        reading = {name: part._batches(part._start) for name, part in self._parts.items()}
        for name in self.stream.names(start["batches"]):
            batch = next(reading[name])
            self._reached["batches"] += 1
            yield batch

    def _part(self, name: str, start: dict[str, Any]) -> "StreamedBatches":
        """The batches of one modality from a start of the mix on, made by its part of the workers, at least one."""
        whole, order = self.loader, MixtureOrder({name: 1}, accumulation=1)
        loader = DataLoader(
            MixtureStream({name: self.stream.sources[name]}, order, self.stream.share),
            batch_size=None,
            collate_fn=whole.collate_fn,
            num_workers=-(-whole.num_workers // len(self.stream.sources)),
            pin_memory=whole.pin_memory,
            persistent_workers=whole.persistent_workers,
            worker_init_fn=whole.worker_init_fn,
            generator=Generator(),  # a loader draws a number when it begins, here from no one else's
        )
        part = StreamedBatches(loader)
        if "parts" in start:
            part.load_state_dict(start["parts"][name])
            return part
        epoch = max(
            (positions[name]["epoch"] for positions in start["workers"].values() if name in positions), default=0
        )
        begin = {str(worker): {name: {"epoch": epoch}} for worker in range(part.readers["workers"])}
        part._start = {"batches": self.stream.before(start["batches"])[name], "workers": begin}
        return part

    def _even_epochs(self, start: dict[str, Any]) -> Iterator[Any]:
        """The batches of the only stream, in epochs that end at the same step in all processes."""
        resumed = "epoch" in start
        begun = [one["epoch"] for positions in start["workers"].values() for one in positions.values()]
        first = start["epoch"] if resumed else max(begun, default=0)
        self._reached = {"batches": start["batches"], "epoch": first, "turn": 0, "workers": {}}
        if resumed:
            self._reached |= {"turn": start["turn"], "workers": {**start["workers"]}}
        self.loader.generator = Generator()  # a loader draws a number in each epoch, here from no one else's

        def read(epoch: int) -> Iterator[Made]:
            return self._open(deepcopy(self._reached))

        def taken(made: Mapping[str, Any]) -> None:
            self._take(made)
            self._reached["turn"] = (int(made["worker"]) + 1) % self.readers["workers"]

        def begin(epoch: int) -> None:
            self._reached |= {"epoch": epoch, "turn": 0, "workers": {}}

        for batch in EvenEpochs(read, taken, begin, epoch=first, resumed=resumed, group=cpu_group()):
            self._reached["batches"] += 1
            yield batch

    def _measure(self) -> None:
        """Let all readers know the sizes of the shards."""
        for name, samples in self.stream.streams.items():
            if samples.stream.source is not None and self._first_share(name).total > 1:
                samples.stream.source.measure()

    def _say_shares(self) -> None:
        """Say how each stream is shared."""
        for name, samples in self.stream.streams.items():
            source, share = samples.stream.source, self._first_share(name)
            if source is None or share.total == 1 or self.stream.share["process"]:
                continue
            said = f"{name}: {counted(source.num_shards, 'shard')}, shared by {_shown(self.readers)}"
            if source.sizes is not None:
                left = sum(source.sizes) % share.total
                logger.info(
                    f"{said}: each sample is read by one; {left:,} of {sum(source.sizes):,} are left out an epoch."
                )
            elif source.is_dealt_out(share):
                logger.warning(
                    f"{said}: fewer shards than readers, of unknown sizes, so that each reader goes through the whole "
                    f"stream and decodes every {share.total}th sample; up to {share.total - 1} are left out an epoch."
                )
            else:
                logger.info(
                    f"{said}: whole shards of unknown sizes: each sample is read by one; a process that has read its "
                    "own takes batches of others."
                )


def _following_epochs(state: Mapping[str, Any]) -> Counter[str]:
    """The first epoch of each stream in which nothing had been read in a state of `StreamedBatches`."""
    epochs = Counter[str]()
    for positions in state["workers"].values():
        epochs |= Counter({name: one["epoch"] + 1 for name, one in positions.items()})
    for name in state["shards"] if "epoch" in state else ():
        epochs |= Counter({name: state["epoch"] + 1})
    for part in state.get("parts", {}).values():
        epochs |= _following_epochs(part)
    return epochs


def _shown(readers: Mapping[str, int]) -> str:
    processes, workers = counted(readers["processes"], "process"), counted(readers["workers"], "worker")
    return f"{processes} x {workers}"


def streamed_loader(stream: MixtureStream, collate_fn: Callable[[Any], Any], **options: Any) -> DataLoader:
    """A loader of the micro-batches of a stream; its `dataset` are `StreamedBatches`.

    Args:
        stream: of samples.
        collate_fn: makes a batch of them.
        options: those of the `DataLoader` with the worker processes.
    """
    inner = DataLoader(stream, batch_size=None, collate_fn=PositionedCollator(collate_fn), **options)
    # With a generator of its own, since a loader draws a number when it begins, and the inner one does so already.
    outer = DataLoader(StreamedBatches(inner), batch_size=None, collate_fn=_as_it_is, generator=Generator())
    outer.base_dataloader = inner  # the name that accelerate's loaders have for it
    return outer


def _as_it_is(batch: Any) -> Any:
    return batch
