"""Loaders of training data: batches of similar lengths, and what the arguments say about all loaders."""

import json
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers.utils import logging

from ..data.samplers import LengthBatchSampler
from ..data.streamed_batches import StreamedBatches

logger = logging.get_logger(__name__)


def share_of_process(args: Any) -> dict[str, int]:
    """Options of `EpochBatches` by which each process draws its own share of the batches.

    Args:
        args: `TrainingArguments`.
    """
    seed = args.data_seed if args.data_seed is not None else args.seed
    return {"seed": seed, "num_processes": args.world_size, "process": args.process_index}


def loader_options(args: Any, collate: Any) -> dict[str, Any]:
    """Options of a `DataLoader`, from the arguments.

    Args:
        args: `TrainingArguments`.
        collate: makes a batch of samples.
    """
    return {
        "collate_fn": collate,
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "persistent_workers": args.dataloader_persistent_workers,
    }


def length_loader(dataset: Any, args: Any, collate: Any) -> DataLoader:
    """Batches of similar lengths, whose padded input is at most `args.max_batch_length` long.

    Args:
        dataset: with `lengths`, the input length of each sample.
        args: `BaseTrainingArguments`.
        collate: makes a batch of samples.

    Raises:
        ValueError: the data set doesn't know its lengths.
    """
    lengths = getattr(dataset, "lengths", None)
    if lengths is None:
        raise ValueError(
            "max_batch_length needs a train_dataset with `lengths`, the input length of each sample, which streams "
            "don't have: use per_device_train_batch_size instead"
        )
    sampler = LengthBatchSampler(lengths, args.max_batch_length, **share_of_process(args))
    return DataLoader(dataset, batch_sampler=sampler, **loader_options(args, collate))


# ---- the position in a stream, of which each process has its own, in a file of a checkpoint ----


def save_position(loader: Any, folder: Path, process: int) -> None:
    """Write where a process is in the streams of its loader, if it has any."""
    batches = getattr(loader, "dataset", None)
    if isinstance(batches, StreamedBatches):
        (folder / f"stream_{process}.json").write_text(json.dumps(batches.state_dict()), encoding="utf-8")


def load_position(loader: Any, checkpoint: Path, process: int) -> None:
    """Let the streams of a loader, if it has any, go on from a checkpoint.

    Raises:
        ValueError: it is of other data.
    """
    batches = getattr(loader, "dataset", None)
    if not isinstance(batches, StreamedBatches):
        return
    files = sorted(checkpoint.glob("stream_*.json"))
    if not files:
        if not process:
            logger.warning(f"{checkpoint} holds no position in a stream: what was read before is read again.")
        return
    own = checkpoint / f"stream_{process}.json"
    file = own if own in files else files[0]
    try:
        batches.load_state_dict(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} holds no position in a stream ({error!r}): remove the folder {checkpoint}") from error
