"""Mixes of data sets: one modality a batch, each source's position kept, streams begun again, several processes."""

from itertools import islice

import datasets
import pytest
import torch
from tiny_runs import Clips, Sentences

from modeling_data2vec.trainers.data.mixture_order import MixtureOrder
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.data.streamed_batches import StreamedBatches
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource


class StreamedSentences(Sentences):
    """As `Sentences`, of rows."""

    def __call__(self, example, rng):
        return super().__call__(example["number"], rng) | {"number": example["number"]}


def mix(num_clips: int = 20, num_sentences: int = 7, **options) -> MixtureDataset:
    sources = {
        "audio": MixtureSource(SampleDataset(range(num_clips), Clips()), batch_size=4),
        "text": MixtureSource(SampleDataset(range(num_sentences), Sentences()), batch_size=2),
    }
    return MixtureDataset(sources, **options)


def stream(rows: int = 10, shards: int = 2) -> IterableSampleDataset:
    dataset = datasets.Dataset.from_dict({"number": list(range(rows))}).to_iterable_dataset(num_shards=shards)
    return IterableSampleDataset(dataset.shuffle(seed=0, buffer_size=4), StreamedSentences())


def places(mixed: MixtureDataset, order: MixtureOrder, epoch: int = 0, **share: int) -> list:
    loader = mixed.loader(order, {"seed": 1, "num_processes": 1, "process": 0} | share)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader.batch_sampler)


@pytest.mark.parametrize("mixing", ["accumulate", "step"])
def test_modalities_go_on_where_they_are_across_epochs(mixing):
    mixed = mix()
    order = MixtureOrder(mixed.shares, 2, mixing)
    epochs = [places(mixed, order, epoch) for epoch in range(3)]
    assert len({len(epoch) for epoch in epochs}) == 1
    flat = [batch for epoch in epochs for batch in epoch]
    for name, size, count in (("audio", 4, 20), ("text", 2, 7)):
        own = [batch for batch in flat if batch[0][0] == name]
        assert all({place[0] for place in batch} == {name} and len(batch) == size for batch in own)
        per_epoch = count // size
        for start in range(0, len(own) - per_epoch + 1, per_epoch):  # every epoch of its own data, whole and in order
            seen = [place for batch in own[start : start + per_epoch] for place in batch]
            assert {epoch for _, epoch, _ in seen} == {start // per_epoch}
            assert len({index for _, _, index in seen}) == per_epoch * size
    assert {place for batch in epochs[0] for place in batch} >= {("audio", 0, index) for index in range(20)}


def test_processes_have_equal_modalities_and_different_samples():
    mixed = mix(num_clips=40, num_sentences=16)
    order = MixtureOrder(mixed.shares, 2)
    whole = [places(mixed, order, num_processes=2, process=process) for process in (0, 1)]
    names = [[batch[0][0] for batch in share] for share in whole]
    assert names[0] == names[1] == len(names[0]) // 2 * ["audio", "text"]
    first = [{place for batch in share[:10] for place in batch if place[0] == "audio"} for share in whole]
    assert not first[0] & first[1]


def test_a_sample_is_that_of_its_own_epoch():
    mixed = mix()
    own = mixed.sources["audio"].samples
    own.set_epoch(3)
    assert torch.equal(mixed["audio", 3, 5]["input_values"], own[5]["input_values"])
    assert mixed["audio", 3, 5]["key"] == own[5]["key"] != mixed["audio", 2, 5]["key"]


def test_batches_of_similar_lengths_in_a_mix():
    clips = SampleDataset(range(8), Clips(), lengths=[100, 400, 100, 400, 100, 400, 100, 400])
    mixed = MixtureDataset({"audio": MixtureSource(clips, max_batch_length=400)})
    batches = places(mixed, MixtureOrder(mixed.shares, 1))
    assert sorted(len(batch) for batch in batches) == [1, 1, 1, 1, 4]


# ---- streams ----


def streamed(mixed: MixtureDataset, num: int, workers: int = 0, skip: int = 0, **share: int) -> list:
    order = MixtureOrder(mixed.shares, 2)
    share = {"seed": 1, "num_processes": 1, "process": 0} | share
    loader = mixed.loader(order, share, collate_fn=list, num_workers=workers)
    assert isinstance(loader.dataset, StreamedBatches)
    return list(islice(loader, skip, skip + num))


def numbers(batches: list) -> list[list[int]]:
    return [[sample["number"] for sample in batch] for batch in batches if "number" in batch[0]]


def flattened(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def test_a_stream_that_ends_starts_again_in_a_new_epoch():
    mixed = MixtureDataset({"audio": mix().sources["audio"], "text": MixtureSource(stream(), batch_size=2)})
    with pytest.raises(TypeError):
        len(mixed)
    batches = streamed(mixed, 20)
    assert [set(batch[0]) & {"input_values", "input_ids"} for batch in batches] == 10 * [
        {"input_values"},
        {"input_ids"},
    ]
    flat = flattened(numbers(batches))
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10)) and flat[:10] != flat[10:]
    keys = [sample["key"] for batch in batches for sample in batch if "number" in sample]
    assert len(set(keys)) == 20
    again = streamed(mixed, 20)
    assert [[sample["key"] for sample in batch] for batch in again] == [[s["key"] for s in batch] for batch in batches]


def test_workers_keep_the_order_of_modalities():
    mixed = MixtureDataset({"audio": mix().sources["audio"], "text": MixtureSource(stream(rows=12), batch_size=2)})
    batches = streamed(mixed, 12, workers=2)
    assert ["number" in batch[0] for batch in batches] == 6 * [False, True]


def test_processes_share_a_stream():
    mixed = MixtureDataset({"audio": mix().sources["audio"], "text": MixtureSource(stream(), batch_size=2)})
    shares = [flattened(numbers(streamed(mixed, 4, num_processes=2, process=process))) for process in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 4 and not set(shares[0]) & set(shares[1])


def test_a_stream_of_nothing_is_an_error_and_not_an_endless_loop():
    empty = IterableSampleDataset(stream().dataset.filter(lambda row: False), StreamedSentences())
    mixed = MixtureDataset({"text": MixtureSource(empty, batch_size=2)})
    with pytest.raises(ValueError, match="none of the sentences of a stream can be read"):
        streamed(mixed, 1)


# ---- wrong use ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixtureDataset({}), "has no sources"),
        (lambda: mix(shares={"audio": 1.0}), "shares of audio, but data of audio, text"),
        (lambda: mix(num_sentences=0), "data of text are empty"),
        (lambda: MixtureSource(stream()), "exactly one of the two"),
        (lambda: MixtureSource(stream(), batch_size=2, max_batch_length=9), "exactly one of the two"),
        (lambda: MixtureSource(stream(), max_batch_length=9), "samples with `lengths`"),
        (lambda: mix(num_sentences=1).sources["text"].batches(), "1 samples make 0 batch"),
    ],
)
def test_wrong_mixes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
