"""How long a run takes to begin at a sample of a stream: by its state, and by reading what comes before.

Rows are written once, in shards of several formats, to the folder that is named. Each is read by one worker process
up to a sample, as a run reads it; then a new loader goes on from the state, and must give the same batch.

    python benchmarks/streams.py /tmp/streams
    python benchmarks/streams.py /tmp/streams --formats tar --rows 120000 --shards 12 --at 100000
"""

import argparse
import io
import json
import resource
import tarfile
import time
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import datasets

from modeling_data2vec.trainers.data.mixture_order import MixtureOrder
from modeling_data2vec.trainers.data.samples import IterableSampleDataset
from modeling_data2vec.trainers.data.streams import Stream
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.text import TEXTS
from modeling_data2vec.trainers.sources.opening import open_source

BATCH = 100


class Numbers:
    """Reads the number of a row; decoding would take the same time in both ways."""

    noun = "row"

    def __call__(self, example: dict[str, Any], rng: Random | None) -> dict[str, int]:
        return {"number": example["cls"]}

    def name(self, example: dict[str, Any]) -> None:
        return None


def write(folder: Path, kind: str, rows: int, shards: int) -> None:
    """Shards of rows with a number and a text of 100 characters."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        numbers = range(shard * rows // shards, (shard + 1) * rows // shards)
        file = unfinished / f"train-{shard:04}.{kind}"
        if kind == "parquet":
            table = {"cls": list(numbers), "text": [f"{number:0100}" for number in numbers]}
            datasets.Dataset.from_dict(table).to_parquet(file)
        elif kind == "jsonl":
            file.write_text("".join(json.dumps({"cls": number, "text": f"{number:0100}"}) + "\n" for number in numbers))
        else:
            with tarfile.open(file, "w") as archive:
                for number in numbers:
                    for ending, content in (("cls", b"%d" % number), ("txt", b"%0100d" % number)):
                        member = tarfile.TarInfo(f"{number:09}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    unfinished.rename(folder)


def loader_of(folder: Path) -> Any:
    stream = Stream(open_source(str(folder), TEXTS, streaming=True), seed=0)
    mix = MixtureDataset({"text": MixtureSource(IterableSampleDataset(stream, Numbers()), BATCH)})
    share = {"seed": 0, "process": 0, "num_processes": 1}
    return mix.loader(MixtureOrder(mix.shares, 1), share, collate_fn=list, num_workers=1)


class Clock:
    """Seconds by the clock, and of CPU in this process and in worker processes that have ended, since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), self._cpu()

    @staticmethod
    def _cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    def cpu(self) -> float:
        return self._cpu() - self.began[1]

    def seconds(self) -> float:
        return time.perf_counter() - self.began[0]


def measure(folder: Path, at: int) -> str:
    """Seconds, and those of CPU, to the first batch after a sample by reading and by the state; bytes of the state."""
    whole, clock = loader_of(folder), Clock()
    batches = iter(whole)
    for _ in islice(batches, at // BATCH):
        pass
    state = json.dumps(whole.dataset.state_dict())
    expected = next(batches)
    figures = [f"{clock.seconds():.1f}"]
    del batches
    figures.append(f"{clock.cpu():.1f}")
    resumed, clock = loader_of(folder), Clock()
    resumed.dataset.load_state_dict(json.loads(state))
    batches = iter(resumed)
    found = next(batch for batch in batches if batch is not None)
    figures.append(f"{clock.seconds():.2f}")
    del batches
    figures.append(f"{clock.cpu():.2f}")
    if found != expected:
        raise RuntimeError(f"the batch after sample {at:,} of {folder} is another one after a resume")
    return " | ".join([*figures, f"{len(state):,}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the shards lie, or are written")
    parser.add_argument("--formats", nargs="+", default=["parquet", "jsonl", "tar"])
    parser.add_argument("--rows", type=int, default=1_200_000)
    parser.add_argument("--shards", type=int, default=120)
    parser.add_argument("--at", type=int, default=1_000_000)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    print(f"| {options.rows:,} rows | shards | at {options.at:,} by reading, s | CPU s | by state, s | CPU s | bytes |")
    print("|---|---|---|---|---|---|---|")
    for kind in options.formats:
        folder = options.folder / f"{kind}-{options.rows}-{options.shards}"
        if not folder.exists():
            write(folder, kind, options.rows, options.shards)
        print(f"| {kind} | {options.shards} | {measure(folder, options.at)} |", flush=True)


if __name__ == "__main__":
    main()
