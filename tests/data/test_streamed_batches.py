"""Loaders of streams: 2 processes with 2 workers each read every sample once, and go on where they were."""

import json
from collections import Counter
from itertools import islice

import datasets
import pytest
from tiny_runs import Clips, Sentences

from modeling_data2vec.trainers.data import streams
from modeling_data2vec.trainers.data.mixture_order import MixtureOrder
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.data.streams import Stream
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource


class Rows(Sentences):
    """Reads the number of a row, and which modality it is of."""

    def __init__(self, name):
        self.noun = name

    def __call__(self, example, rng):
        return {self.noun: example["number"], "drawn": rng.random()}


class Indexed(Clips):
    def __call__(self, example, rng):
        return {"clip": example}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streams, "BUFFER", 7)


def stream(number, shards, name="text", seed=0):
    dataset = datasets.Dataset.from_dict({"number": list(range(number))}).to_iterable_dataset(num_shards=shards)
    return IterableSampleDataset(Stream(dataset, seed), Rows(name))


def loader(
    sources, *, accumulation=1, mixing="accumulate", shares=None, workers=2, process=0, num_processes=2, batch=5
):
    mix = MixtureDataset({name: MixtureSource(samples, batch) for name, samples in sources.items()}, shares)
    order = MixtureOrder(mix.shares, accumulation, mixing)
    share = {"seed": 1, "process": process, "num_processes": num_processes}
    return mix.loader(order, share, collate_fn=list, num_workers=workers)


def state_of(loader):
    return json.loads(json.dumps(loader.dataset.state_dict()))


@pytest.mark.parametrize("shards", [4, 3, 1])
def test_two_processes_with_two_workers_read_each_sample_once(shards):
    batches = [list(islice(loader({"text": stream(80, shards)}, process=process), 16)) for process in (0, 1)]
    for epoch in (slice(0, 8), slice(8, 16)):
        found = Counter(sample["text"] for own in batches for batch in own[epoch] for sample in batch)
        assert found == Counter(range(80))


@pytest.mark.parametrize(("taken", "workers"), [(7, 0), (24, 0), (7, 2)])
def test_a_loader_goes_on_where_it_was(workers, taken):
    def make():
        sources = {"text": stream(53, 3), "image": stream(31, 2, "image"), "clip": SampleDataset(range(30), Indexed())}
        return loader(sources, accumulation=3, workers=workers)

    whole = list(islice(make(), taken + 9))
    first, resumed = make(), make()
    assert list(islice(first, taken)) == whole[:taken]
    resumed.dataset.load_state_dict(state_of(first))
    assert list(islice(resumed, taken, taken + 9)) == whole[taken:]
    assert state_of(resumed)["batches"] == taken + 9


@pytest.mark.parametrize(
    ("shares", "accumulation", "mixing"),
    [({"text": 1, "image": 1}, 2, "accumulate"), ({"text": 3, "image": 1}, 4, "accumulate"), (None, 1, "step")],
)
def test_workers_share_each_stream_of_a_mix_as_they_read_it(shares, accumulation, mixing):
    """With two workers and two modalities in turns, one worker makes all batches of one."""
    sources = {"text": stream(60, 4), "image": stream(30, 3, "image"), "clip": SampleDataset(range(40), Indexed())}
    if shares:
        del sources["clip"]
    found = {"text": [], "image": [], "clip": []}
    for batch in islice(loader(sources, shares=shares, accumulation=accumulation, mixing=mixing, num_processes=1), 40):
        for sample in batch:
            name = next(name for name in found if name in sample)
            found[name].append(sample[name])
    for name, number in (("text", 60), ("image", 30), ("clip", 40)):
        whole = len(found[name]) // number * number
        if name in sources:
            assert whole and set(Counter(found[name][:whole]).values()) == {whole // number}, name


def test_other_readers_go_on_with_the_next_epoch(caplog):
    first = loader({"text": stream(40, 4)}, workers=2)
    list(islice(first, 5))
    state = state_of(first)
    other = loader({"text": stream(40, 4)}, workers=0, num_processes=1)
    other.dataset.load_state_dict(state)
    rest = list(islice(other, 5, 13))
    assert sorted(sample["text"] for batch in rest for sample in batch) == list(range(40))
    assert "1 process x 1 worker" in caplog.text and "2 processes x 2 workers" in caplog.text
    assert "goes on with epoch 2" in caplog.text  # 25 of the 20 that each process has in an epoch
    with pytest.raises(ValueError, match="had 4 shards when the run began, and has 3 now"):
        loader({"text": stream(40, 3)}).dataset.load_state_dict(state)


def test_what_is_shared_how_is_said(caplog):
    def unknown(shards):
        rows = datasets.IterableDataset.from_generator(
            generate, gen_kwargs={"starts": list(range(0, 40, 40 // shards))}
        )
        return IterableSampleDataset(rows, Rows("text"))

    def generate(starts):
        yield from ({"number": start + number} for start in starts for number in range(10))

    with caplog.at_level("INFO"):
        for samples in (stream(41, 2), unknown(1), unknown(4)):
            next(iter(loader({"text": samples})))
    assert "each sample is read by one; 1 of 41 are left out an epoch" in caplog.text
    assert "fewer shards than readers, of unknown sizes" in caplog.text and "up to 3 are left out" in caplog.text
    assert "whole shards of unknown sizes" in caplog.text
