"""Streams with shards of unknown sizes, read by real processes (gloo): epochs end together, and nothing is lost."""

import json
import multiprocessing
import os
from collections import Counter
from itertools import chain, islice, pairwise

import datasets
import pytest
import torch.distributed as dist

from modeling_data2vec.trainers.data import streams
from modeling_data2vec.trainers.data.even_epochs import EvenEpochs, transfers
from modeling_data2vec.trainers.data.mixture_order import MixtureOrder
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.data.streams import Stream
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource

STEPS = 21


class Reader:
    noun = "number"


class Numbers(IterableSampleDataset):
    def sample(self, example, epoch, *place):
        return epoch, example["number"]


class Indexed(SampleDataset):
    def of_epoch(self, epoch, index):
        return epoch, INDEXED + index


INDEXED = 1000  # added to the numbers of samples that don't come as a stream


def numbers_of(ranges):
    for start, stop in ranges:
        yield from ({"number": number} for number in range(start, stop))


def stream(sizes, begin=0):
    """Shards that have so many samples, which nobody knows before; the samples are numbered."""
    ranges = [(begin + sum(sizes[:number]), begin + sum(sizes[: number + 1])) for number in range(len(sizes))]
    rows = datasets.IterableDataset.from_generator(numbers_of, gen_kwargs={"ranges": ranges})
    return Numbers(Stream(rows, 0), Reader())


def loader(sizes, process, processes, workers):
    """Batches of 4 of such a stream; of a mix, if sizes are those of two modalities, and 12 samples of a third one."""
    sources = {"text": MixtureSource(stream(sizes), 4)} if isinstance(sizes, list) else {}
    if not sources:
        first, second = sizes
        sources = {
            "text": MixtureSource(stream(first), 4),
            "audio": MixtureSource(stream(second, sum(first)), 2),
            "vision": MixtureSource(Indexed([{}] * 12, Reader()), 3),
        }
    mix = MixtureDataset(sources)
    share = {"seed": 1, "process": process, "num_processes": processes}
    order = MixtureOrder(mix.shares, len(sources))
    return mix.loader(order, share, collate_fn=list, num_workers=workers)


def read(folder, sizes, process, processes, workers, stops):
    """Write the batches of a process, and those after each stop and a resume."""
    dist.init_process_group("gloo", f"file://{folder}/store", rank=process, world_size=processes)
    streams.BUFFER = 7
    whole = loader(sizes, process, processes, workers)
    batches, states = [], {}
    for step, batch in enumerate(islice(whole, STEPS), 1):
        batches.append(batch)
        if step in stops:
            states[step] = json.dumps(whole.dataset.state_dict())
    found = {"batches": batches, "resumed": []}
    for step, state in states.items():
        again = loader(sizes, process, processes, workers)
        again.dataset.load_state_dict(json.loads(state))
        found["resumed"].append([step, list(islice(again, step, STEPS))])
    (folder / f"{process}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)


def in_processes(folder, sizes, processes, workers, stops):
    context = multiprocessing.get_context("fork")
    given = [(folder, sizes, process, processes, workers, stops) for process in range(processes)]
    running = [context.Process(target=read, args=one) for one in given]
    for one in running:
        one.start()
    for one in running:
        one.join(300)
        assert one.exitcode == 0, "a process hangs, or failed"
    return [json.loads((folder / f"{process}.json").read_text()) for process in range(processes)]


@pytest.mark.parametrize(
    ("sizes", "processes", "workers", "stops"),
    [([27, 5, 1, 13, 9, 6], 2, 2, (9,)), ([40, 1, 0, 2], 3, 0, range(1, STEPS))],
    ids=["2 x 2 readers", "one shard has nearly all"],
)
def test_each_sample_is_read_once_in_an_epoch_and_all_end_together(tmp_path, sizes, processes, workers, stops):
    found = in_processes(tmp_path, sizes, processes, workers, stops)
    steps = list(zip(*(one["batches"] for one in found), strict=True))
    assert len(steps) == STEPS and all(chain(*steps)), "each process has a batch at each step"
    epochs = [[epoch for batch in step for epoch, _ in batch] for step in steps]
    assert all(max(before) <= min(after) for before, after in pairwise(epochs))
    for epoch in range(max(epochs[-1])):
        counted = Counter(number for step in steps for batch in step for one, number in batch if one == epoch)
        assert counted == Counter(range(sum(sizes))), epoch
    assert max(epochs[-1]) >= 2, "several epochs were looked at"
    for one in found:
        assert len(one["resumed"]) == len(stops)
        for step, batches in one["resumed"]:
            assert batches == one["batches"][step:], step


def test_in_a_mix_the_epochs_of_each_modality_end_together(tmp_path):
    first, second = [17, 3, 1, 9], [2, 8, 1]
    found = in_processes(tmp_path, (first, second), 2, 2, (10,))
    steps = list(zip(*(one["batches"] for one in found), strict=True))
    assert len(steps) == STEPS and all(chain(*steps)), "each process has a batch at each step"
    numbers = {"text": range(30), "audio": range(30, 41), "vision": range(INDEXED, INDEXED + 12)}
    for turn, (name, all_of_it) in enumerate(numbers.items()):
        own = [[tuple(sample) for batch in step for sample in batch] for step in steps[turn :: len(numbers)]]
        assert all(max(before)[0] <= min(after)[0] for before, after in pairwise(own)), name
        last = max(epoch for step in own for epoch, _ in step)
        assert last >= 1, "an epoch has ended"
        for epoch in range(last):
            counted = Counter(number for step in own for one, number in step if one == epoch)
            assert counted == Counter(all_of_it), (name, epoch)
    for one in found:
        for step, batches in one["resumed"]:
            assert batches == one["batches"][step:], step


def test_the_workers_of_one_process_end_together():
    whole = loader([20, 3, 1, 4], 0, 1, 2)
    batches = [sample for batch in islice(whole, 20) for sample in batch]
    assert [epoch for epoch, _ in batches] == sorted(epoch for epoch, _ in batches)
    for epoch in range(batches[-1][0]):
        assert sorted(number for one, number in batches if one == epoch) == list(range(28))


def test_who_has_more_gives():
    assert transfers([1, 1]) == [] and transfers([0, 4, 0]) == [(1, 0), (1, 2)]
    assert transfers([0, 0, 2, 0]) == [(2, 0)], "not enough for all"


def test_a_stream_without_samples_is_refused():
    even = EvenEpochs(lambda epoch: iter([]), print, lambda epoch: None, epoch=0, resumed=True, group=None)
    with pytest.raises(ValueError, match="nothing in a stream can be read"):
        next(iter(even))


def test_other_readers_go_on_with_the_next_epoch():
    first = loader([20, 3, 1, 4], 0, 1, 2)
    assert {epoch for batch in islice(first, 10) for epoch, _ in batch} == {0, 1}
    state = json.loads(json.dumps(first.dataset.state_dict()))
    for workers in (0, 3):
        other = loader([20, 3, 1, 4], 0, 1, workers)
        other.dataset.load_state_dict(state)
        assert next(islice(other, 10, None))[0][0] == 2


def test_a_mix_goes_on_by_other_readers_too():
    first = loader(([17, 3, 1, 9], [2, 8, 1]), 0, 1, 4)
    batches = list(islice(first, 27))
    state = json.loads(json.dumps(first.dataset.state_dict()))
    text, audio = (max(epoch for batch in batches[turn::3] for epoch, _ in batch) + 1 for turn in (0, 1))
    following = list(islice(loader(([17, 3, 1, 9], [2, 8, 1]), 0, 1, 0), 27, 30))
    for workers in (0, 6):
        other = loader(([17, 3, 1, 9], [2, 8, 1]), 0, 1, workers)
        other.dataset.load_state_dict(state)
        found = list(islice(other, 27, 30))
        assert [found[0][0][0], found[1][0][0]] == [text, audio], workers
        assert found[2] == following[2], "samples with an index go on"
