"""What every kind of sample has in common: keys, epochs, and samples that can't be read."""

from random import Random

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset, UnreadableError, read_labelled


class SeriesReader:
    """Reads a series of numbers, random part of it in training; an empty one is unreadable."""

    noun = "row"

    def __init__(self) -> None:
        self.read = torch.zeros((), dtype=torch.int64).share_memory_()

    def __call__(self, example, rng):
        self.read += 1
        values = torch.tensor(example["values"])
        if not len(values):
            raise UnreadableError("it is empty")
        return {"values": values[rng.randrange(len(values)) if rng else 0 :][:1]}

    def name(self, example):
        return example.get("name")


def table(lengths: list[int], names: bool = False) -> datasets.Dataset:
    rows = [{"values": [100.0 * i + k for k in range(length)], "label": i % 3} for i, length in enumerate(lengths)]
    for i, row in enumerate(rows if names else []):
        row["name"] = f"row-{i}.txt"
    return datasets.Dataset.from_list(rows)


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_sample_is_a_function_of_seed_epoch_and_index(seed, epoch, index, other):
    samples = SampleDataset(table([1000] * 10), SeriesReader(), seed=seed)
    samples.set_epoch(epoch)
    samples[other]
    first = samples[index]
    again = SampleDataset(table([1000] * 10), SeriesReader(), seed=seed)
    again.set_epoch(epoch)
    assert again[index] == first
    assert 0 <= first["key"] < 2**31
    rng = Random(f"{seed} {epoch} {index}")
    assert first["key"] == rng.getrandbits(31)
    assert first["values"] == 100.0 * index + rng.randrange(1000)
    assert other == index or samples[other]["key"] != first["key"]
    again.set_epoch(epoch + 1)
    assert again[index]["key"] != first["key"]


def test_without_augmentation_the_reader_gets_no_random_numbers_and_keys_stay():
    plain = SampleDataset(table([1000] * 5), SeriesReader(), augment=False)
    random = SampleDataset(table([1000] * 5), SeriesReader())
    assert [plain[i]["values"].item() for i in range(5)] == [0, 100, 200, 300, 400]
    assert [plain[i]["key"] for i in range(5)] == [random[i]["key"] for i in range(5)]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_sample_is_read_once_and_a_bad_one_only_ever_once(workers):
    reader = SeriesReader()
    samples = SampleDataset(table([3, 0, 3, 3, 0, 0, 3, 3]), reader)
    loader = DataLoader(samples, 2, num_workers=workers)
    for epoch in range(3):
        samples.set_epoch(epoch)
        assert len({key for batch in loader for key in batch["key"].tolist()}) == 8
    # Two workers may meet the same bad sample before either has marked it.
    assert 24 + 3 <= reader.read <= 24 + 3 + workers
    assert samples.unreadable() == ["row 1", "row 4", "row 5"]


def test_a_bad_sample_is_replaced_by_the_next_and_named():
    samples = SampleDataset(table([2, 0, 0, 2], names=True), SeriesReader(), augment=False)
    assert samples[1]["values"] == samples[2]["values"] == samples[3]["values"] == 300
    assert len({samples[i]["key"] for i in range(4)}) == 4
    assert samples.unreadable() == ["row-1.txt", "row-2.txt"]


def test_rows_of_a_batch_are_read_together_where_that_gives_the_same():
    made = [SampleDataset(table([5, 0, 4, 3]), SeriesReader()) for _ in range(2)]
    assert all(samples._reads_batches for samples in made)
    for _ in range(2):
        assert made[0].__getitems__([3, 1, 0]) == [made[1][index] for index in (3, 1, 0)]
    assert made[0].unreadable() == made[1].unreadable() == ["row 1"]
    pictures = datasets.Dataset.from_dict({"image": ["a.png"]}).cast_column("image", datasets.Image())
    changed = table([5]).with_transform(lambda rows: rows)
    plain = pictures.cast_column("image", datasets.Image(decode=False))
    read = [SampleDataset(one, SeriesReader())._reads_batches for one in (pictures, changed, plain, [1])]
    assert read == [False, False, True, False]


def test_nothing_readable_is_an_error():
    samples = SampleDataset(
        table([0, 0]).cast_column("values", datasets.List(datasets.Value("float32"))), SeriesReader()
    )
    with pytest.raises(ValueError, match="none of the 2 rows can be read; the first is row 0"):
        samples[1]


def test_a_stream_passes_over_bad_samples_and_repeats_itself():
    runs = []
    for epoch in (0, 0, 1):
        samples = IterableSampleDataset(table([9, 0, 9, 9]).to_iterable_dataset(), SeriesReader(), seed=3)
        samples.set_epoch(epoch)
        runs.append(list(samples))
        assert samples.unreadable() == ["1 rows of the stream"]
    assert runs[0] == runs[1]
    assert len({sample["key"] for run in runs[1:] for sample in run}) == 6


def test_any_other_error_is_not_passed_over():
    class Broken(SeriesReader):
        def __call__(self, example, rng):
            raise ValueError("the whole source is wrong")

    for kind, data in ((SampleDataset, table([1])), (IterableSampleDataset, table([1]).to_iterable_dataset())):
        with pytest.raises(ValueError, match="the whole source is wrong"):
            next(iter(kind(data, Broken())))


def test_labels():
    samples, labels = read_labelled(table([1, 0, 1, 1, 1]), SeriesReader(), source="numbers", split="train")
    assert [sample["values"].item() for sample in samples] == [0, 200, 300, 400]
    assert labels.tolist() == [0, 2, 0, 1]
    some, chosen = read_labelled(table([1] * 50), SeriesReader(), source="numbers", split="train", limit=10)
    again, same = read_labelled(table([1] * 50), SeriesReader(), source="numbers", split="train", limit=10)
    assert some == again and np.array_equal(chosen, same) and len(some) == 10
    assert all(sample["values"].item() / 100 % 3 == label for sample, label in zip(some, chosen, strict=True))


def test_lists_of_labels_stay_with_their_samples():
    lists = table([1, 0] * 25).remove_columns("label").add_column("label", [["a"] * (i % 5) for i in range(50)])
    samples, labels = read_labelled(lists, SeriesReader(), source="numbers", split="train", limit=20)
    assert len(samples) == len(labels) and 0 < len(samples) < 20
    assert [len(row) for row in labels] == [sample["values"].item() / 100 % 5 for sample in samples]
    mixed = table([1] * 2).remove_columns("label").add_column("label", ["a", '["a", "b"]'])
    with pytest.raises(ValueError, match=r"lists in some rows and single values in others: row 2 is .*, row 1 'a'\."):
        read_labelled(mixed, SeriesReader(), source="numbers", split="train")
