"""Samples, batches, steps and epochs of a run, counted before it begins. A run without a batch is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers.trainer_utils import has_length

from ..data.samples import IterableSampleDataset
from ..modalities.mixture import MixtureDataset, MixtureSource
from ..wording import counted
from .loaders import share_of_process
from .schedules import Stages, has_stages, stages_of

FILE = {"bytes", "path"}  # of a column with files, which are in the table or on the disk


@dataclass
class RunPlan:
    """Size of a run.

    Attributes:
        samples: how many samples there are, and in which batches; of a mix, for each modality.
        max_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch; None for a stream, which has no epochs.
    """

    samples: list[str]
    max_steps: int
    steps_per_epoch: int | None

    @property
    def epochs(self) -> float | None:
        """Passes over the data; None for a stream."""
        return self.max_steps / self.steps_per_epoch if self.steps_per_epoch else None

    def __str__(self) -> str:
        """One line, as the commands print it."""
        data = "; ".join(self.samples)
        if self.steps_per_epoch is None:
            return f"{data}; {counted(self.max_steps, 'step')} of an endless stream"
        epochs = self.epochs or 0.0
        shown = f"{epochs:,.0f}" if epochs >= 100 else f"{epochs:.3g}"
        return (
            f"{data}; {counted(self.steps_per_epoch, 'step')} an epoch; {counted(self.max_steps, 'step')} "
            f"{'is' if self.max_steps == 1 else 'are'} {shown} {'epoch' if shown == '1' else 'epochs'} of them"
        )


def run_plan(trainer: Any) -> RunPlan:
    """Count what a trainer is going to train on; no sample is read and nothing is written.

    Args:
        trainer: a `BaseTrainer`.

    Raises:
        ValueError: the data make no batch, or the arguments ask for no step.
    """
    args, dataset = trainer.args, trainer.train_dataset
    with torch.random.fork_rng(devices=[]):  # loaders draw a seed when they are made
        loader = trainer.get_train_dataloader()
    num_batches = len(loader) if has_length(loader) else None
    if isinstance(dataset, MixtureDataset):
        samples = [_part_of_mix(name, source, trainer) for name, source in dataset.sources.items()]
        samples.append(f"{counted(args.gradient_accumulation_steps, 'batch')} a step")
    else:
        samples = [_samples(dataset, args, num_batches)]
    _, steps_per_epoch, *_, max_steps = trainer.set_initial_training_values(args, loader)
    if max_steps < 1:
        raise ValueError(
            f"num_train_epochs is {args.num_train_epochs:g} and max_steps {args.max_steps}, which is no step at all: "
            "raise one of them"
        )
    return RunPlan(samples, max_steps, None if num_batches is None else steps_per_epoch)


def stages_of_run(trainer: Any) -> Stages | None:
    """The stages of a run with `warmup_stable_decay`; None for other schedules."""
    if not has_stages(trainer.args):
        return None
    max_steps = trainer.args.max_steps
    return stages_of(trainer.args, max_steps if max_steps > 0 else run_plan(trainer).max_steps)


def _samples(dataset: Any, args: Any, num_batches: int | None) -> str:
    """The samples of the only modality and their batches on a process.

    Raises:
        ValueError: there is no batch.
    """
    noun = getattr(getattr(dataset, "reader", None), "noun", "sample")
    size = args.train_batch_size
    if num_batches is None:
        return f"a stream of {noun}s in batches of {size}{_shared(args)}{_accumulated(args)}"
    found = counted(len(dataset), noun) + _folders(dataset)
    if not num_batches:
        needed = size * args.world_size
        raise ValueError(
            f"{found}, but a batch of {size}{_shared(args)} takes {needed}, so there is nothing to train on: lower "
            "per_device_train_batch_size, add data, or keep incomplete batches with dataloader_drop_last false"
        )
    kind = f"of {'' if args.dataloader_drop_last else 'at most '}{size}"
    if args.max_batch_length:
        kind = "of similar lengths"
    if getattr(args, "weighted_draw", None):
        kind = f"of {size}, drawn by how rare their classes are"
    return f"{found}; {counted(num_batches, 'batch')} {kind}{_shared(args)}{_accumulated(args)}"


def _part_of_mix(name: str, source: MixtureSource, trainer: Any) -> str:
    """The samples of a modality of a mix and their batches on a process."""
    noun, shared = source.samples.reader.noun, _shared(trainer.args)
    if isinstance(source.samples, IterableSampleDataset):
        return f"{name}: a stream of {noun}s in batches of {source.batch_size}{shared}"
    batches = counted(len(source.batches(**share_of_process(trainer.args))), "batch")
    kind = f"of {source.batch_size}" if source.batch_size else "of similar lengths"
    found = counted(len(source.samples), noun) + _folders(source.samples)
    return f"{name}: {found}, {batches} {kind}{shared}"


def _shared(args: Any) -> str:
    return f" on each of {args.world_size} processes" if args.world_size > 1 else ""


def _accumulated(args: Any) -> str:
    steps = args.gradient_accumulation_steps
    return f", {steps} a step" if steps > 1 else ""


def _folders(samples: Any) -> str:
    """Number of folders that the files lie in, where the data are files."""
    dataset = getattr(samples, "dataset", None)
    if not isinstance(dataset, datasets.Dataset):
        return ""
    files = [name for name, kind in dataset.features.items() if _holds_files(kind)]
    folders: set[Path] = set()
    for name in files[:1]:
        for table in dataset.select_columns([name]).with_format("arrow").iter(batch_size=10_000):
            column = table[name].combine_chunks()
            on_disk = column.filter(column.field("bytes").is_null())
            folders |= {Path(path).parent for path in on_disk.field("path").to_pylist() if path}
    return f" in {counted(len(folders), 'folder')}" if folders else ""


def _holds_files(kind: Any) -> bool:
    return isinstance(kind, datasets.Image | datasets.Audio) or (isinstance(kind, dict) and kind.keys() >= FILE)
