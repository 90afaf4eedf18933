"""Streams that readers share: each sample is read once, in whatever shards, and a reader goes on from any position."""

import json
import tarfile
from collections import Counter
from functools import partial
from itertools import chain, islice

import datasets
import pytest
from datasets.distributed import split_dataset_by_node
from PIL import Image

from modeling_data2vec.trainers.data import streams
from modeling_data2vec.trainers.data.packing import PackedStream
from modeling_data2vec.trainers.data.streams import OtherStream, Share, Stream
from modeling_data2vec.trainers.modalities.image import load_images
from modeling_data2vec.trainers.sources import table_rows
from modeling_data2vec.trainers.sources.shards import shard_sizes
from modeling_data2vec.trainers.sources.tables import read_csv, read_json, read_paragraphs

FOUR = [Share(process, 2, worker, worker + 1, 2) for process in (0, 1) for worker in (0, 1)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Samples are shuffled in blocks of 7."""
    monkeypatch.setattr(streams, "BUFFER", 7)


def numbers_of(ranges):
    for start, stop in ranges:
        yield from ({"number": number} for number in range(start, stop))


def unknown(*sizes):
    """A stream with shards of sizes that nobody knows."""
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    ranges = [(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return datasets.IterableDataset.from_generator(numbers_of, gen_kwargs={"ranges": ranges})


def indexed(number, shards):
    return datasets.Dataset.from_dict({"number": list(range(number))}).to_iterable_dataset(num_shards=shards)


def parquet(folder, *sizes):
    first = 0
    for shard, size in enumerate(sizes):
        rows = datasets.Dataset.from_dict({"number": list(range(first, first + size))})
        rows.to_parquet(folder / f"train-{shard}.parquet", batch_size=5)  # rows of a row group
        first += size
    return datasets.load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train", streaming=True)


def tars(folder, *sizes):
    first = 0
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as archive:
            for number in range(first, first + size):
                for suffix, text in (("cls", str(number)), ("txt", "a text")):
                    file = folder / f"sample{number}.{suffix}"
                    file.write_text(text)
                    archive.add(file, file.name)
        first += size
    return datasets.load_dataset("webdataset", data_files=str(folder / "*.tar"), split="train", streaming=True)


def read(stream, share, epoch=0, position=None):
    return [
        (example["cls" if "cls" in example else "number"], reached)
        for example, reached in stream.read(epoch, share, position)
    ]


def numbers(stream, share, epoch=0):
    return [number for number, _ in read(stream, share, epoch)]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("kind", ["indexed", "one shard", "parquet", "parquet, one row", "dealt out", "whole shards"])
def test_each_sample_is_read_by_exactly_one(tmp_path, kind, seed):
    made = {
        "indexed": lambda: indexed(80, 3),  # 27, 27 and 26
        "one shard": lambda: indexed(80, 1),
        "parquet": lambda: parquet(tmp_path, 50, 1, 20, 9),
        "parquet, one row": lambda: parquet(tmp_path, 77, 1, 1, 1),
        "dealt out": lambda: unknown(50, 11, 19),
        "whole shards": lambda: unknown(20, 20, 20, 20),
    }
    stream = Stream(made[kind](), seed)
    if kind != "dealt out" and kind != "whole shards":
        stream.measure()
        assert sum(stream.sizes) == 80
    for epoch in (0, 1):
        found = [numbers(stream, share, epoch) for share in FOUR]
        assert [len(own) for own in found] == [20, 20, 20, 20], "all end together"
        assert Counter(chain(*found)) == Counter(range(80)), "none twice, none lost"
    assert (numbers(stream, FOUR[0], 0) == numbers(stream, FOUR[0], 1)) == (seed is None)


def test_what_can_not_be_divided_is_left_out_and_not_always_the_same():
    stream = Stream(indexed(83, 2), 0)
    stream.measure()
    left = set()
    for epoch in range(8):
        found = Counter(chain(*(numbers(stream, share, epoch) for share in FOUR)))
        assert set(found.values()) == {1} and len(found) == 80
        left |= set(range(83)) - set(found)
    assert len(left) > 3
    parts = [Share(first=worker, stop=worker + 1, units=4, equal=False) for worker in range(4)]
    assert Counter(chain(*(numbers(stream, share) for share in parts))) == Counter(range(83)), "as for evaluation"
    dealt = Stream(unknown(41, 42))
    assert sorted(chain(*(numbers(dealt, share) for share in FOUR))) == list(range(80))
    assert sorted(chain(*(numbers(dealt, share) for share in parts))) == list(range(83))


def test_shares_of_unequal_readers():
    thirds = [Share(0, 1, 0, 2, 3), Share(0, 1, 2, 3, 3)]
    for stream in (Stream(indexed(60, 4), 0), Stream(unknown(31, 29)), Stream(unknown(20, 20, 20), 0)):
        if stream.num_shards == 4:
            stream.measure()
        found = [numbers(stream, share) for share in thirds]
        assert [len(own) for own in found] == [40, 20] and sorted(chain(*found)) == list(range(60))


def table(folder, kind, *sizes):
    """Tables in files of their own, some with empty lines, as the package reads them."""
    read = {"csv": read_csv, "jsonl": read_json, "json": read_json, "txt": read_paragraphs}[kind]
    ends = [sum(sizes[: shard + 1]) for shard in range(len(sizes))]
    files = [folder / f"train-{shard}.{kind}" for shard in range(len(sizes))]
    for file, end, size in zip(files, ends, sizes, strict=True):
        rows = [{"number": number} for number in range(end - size, end)]
        content = {
            "csv": "number\n" + "".join(f"{row['number']}\n" for row in rows),
            "jsonl": "\n" + "\n \n".join(map(json.dumps, rows)),
            "json": json.dumps(rows),
            "txt": "\n\n".join(str(row["number"]) for row in rows),
        }
        file.write_text(content[kind])
    return read(files, streaming=True).map(lambda row: {"number": int(row["text" if kind == "txt" else "number"])})


FILES = ["parquet", "tars", "csv", "jsonl", "json", "txt"]
KINDS = ["indexed", *FILES, "unknown", "dealt out", "mapped", "their own buffer", "taken", "interleaved"]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_goes_on_from_any_position(tmp_path, kind, seed):
    made = {
        "indexed": lambda: indexed(45, 2),
        "parquet": lambda: parquet(tmp_path, 20, 8, 17),
        "tars": lambda: tars(tmp_path, 20, 8, 17),
        **{name: partial(table, tmp_path, name, 20, 8, 17) for name in ("csv", "jsonl", "json", "txt")},
        "unknown": lambda: unknown(20, 3, 15, 7),
        "dealt out": lambda: unknown(45),
        "mapped": lambda: unknown(20, 3, 15, 7).map(lambda batch: batch, batched=True, batch_size=4),
        "their own buffer": lambda: indexed(45, 5).shuffle(seed=1, buffer_size=6),
        "taken": lambda: indexed(60, 3).skip(5).take(40),
        "interleaved": lambda: datasets.interleave_datasets([indexed(30, 2), indexed(30, 2)], [0.5, 0.5], seed=1),
    }
    stream = Stream(made[kind](), seed)
    if kind == "indexed" or kind in FILES:
        stream.measure()
        assert sum(stream.sizes) == 45
    for share in (Share(), FOUR[3], *([Share(0, 1, 0, 2, 3)] if kind in ("indexed", "dealt out") else [])):
        whole = read(stream, share, 1)
        assert whole
        for place in range(0, len(whole), 7):
            position = json.loads(json.dumps(whole[place][1]))
            again = read(stream, share, 1, position)
            assert [number for number, _ in again] == [number for number, _ in whole[place + 1 :]], (share, place)
            if len(again) > 2:  # and from there once more
                third = read(stream, share, 1, again[1][1])
                assert [number for number, _ in third] == [number for number, _ in again[2:]]


def test_lines_before_a_position_are_not_looked_into(tmp_path, monkeypatch):
    stream = Stream(table(tmp_path, "jsonl", 45), 0)
    whole, seen = read(stream, Share()), []
    as_it_is = table_rows._object
    monkeypatch.setattr(table_rows, "_object", lambda *given: seen.append(given[1]) or as_it_is(*given))
    assert read(stream, Share(), 0, whole[39][1]) == whole[40:]
    assert seen[-1] == 90 and len(seen) < 45 - 40 + 2 * streams.BUFFER


def test_documents_are_packed_from_any_position(monkeypatch):
    monkeypatch.setattr("modeling_data2vec.trainers.data.packing.MAP_BATCH", 4)
    stream = Stream(indexed(40, 3), 5)

    def tokens(numbers):
        return {"input_ids": [[number] * (number % 5) for number in numbers]}

    for length, pack in ((6, True), (3, False)):
        packed = PackedStream(stream, tokens, "number", length, pack=pack)
        whole = list(packed.read(0, Share()))
        found = chain(*(block["input_ids"] for block, _ in whole))
        assert sorted(found) == sorted(chain(*tokens(range(40))["input_ids"]))
        for place, (_, position) in enumerate(whole):
            again = packed.read(0, Share(), json.loads(json.dumps(position)))
            assert [block for block, _ in again] == [block for block, _ in whole[place + 1 :]]


def test_a_stream_of_ones_own_is_counted():
    stream = OtherStream([{"number": number} for number in range(10)])
    parts = [read(stream, Share(process, 2)) for process in (0, 1)]
    assert [[number for number, _ in part] for part in parts] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert [number for number, _ in read(stream, Share(1, 2), position=parts[1][2][1])] == [7, 9]


def test_a_stream_that_is_split_already_is_refused():
    split = split_dataset_by_node(indexed(8, 2), rank=0, world_size=2)
    with pytest.raises(ValueError, match="split by node already"):
        Stream(split)


def test_a_reader_opens_only_its_own_shards():
    opened = []

    def numbers_seen(ranges):
        opened.extend(ranges)
        yield from numbers_of(ranges)

    ranges = [(10 * number, 10 * number + 10) for number in range(8)]
    dataset = datasets.IterableDataset.from_generator(numbers_seen, gen_kwargs={"ranges": ranges})
    stream = Stream(dataset)
    stream.sizes = [10] * 8
    assert numbers(stream, FOUR[2]) == list(range(40, 60)) and opened == [(40, 50), (50, 60)]
    opened.clear()
    position = list(islice(stream.read(0, FOUR[2]), 15))[-1][1]
    opened.clear()
    assert [number for number, _ in read(stream, FOUR[2], position=position)] == [55, 56, 57, 58, 59]
    assert opened == [(50, 60)]


def test_which_sizes_are_known(tmp_path):
    (tmp_path / "a.csv").write_text("image\na.png\nb.png\n")
    (tmp_path / "b.csv").write_text("image\nc.png\n")
    for name in "abc":
        Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
    dataset, _ = load_images(str(tmp_path / "a.csv"), streaming=True)
    assert shard_sizes(dataset) == [2]
    assert shard_sizes(read_csv([tmp_path / "a.csv", tmp_path / "b.csv"], streaming=True)) == [2, 1]
    assert shard_sizes(unknown(3, 4)) is None
    assert shard_sizes(indexed(9, 2)) == shard_sizes(indexed(9, 2).map(lambda row: row)) == [5, 4]
    assert shard_sizes(indexed(9, 2).filter(lambda row: True)) is None
    assert shard_sizes(indexed(9, 2).map(lambda rows: rows, batched=True)) is None
