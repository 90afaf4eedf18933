"""Beside the logged figures, trackers get an alert when a run collapses (Trackio) and its pictures (TensorBoard)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import Trainer, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)


def alert(args: TrainingArguments, finding: str) -> None:
    """Tell Trackio that something is wrong with the run, if the run reports there.

    Trackio shows it in its dashboard and, where a webhook is set, sends it to people. Neither a failing tracker nor a
    missing network stops the run.

    Args:
        args: the run's arguments; `report_to` names the trackers.
        finding: what is wrong and what to do.
    """
    if "trackio" not in (args.report_to or ()) or args.process_index:
        return
    try:
        import trackio

        trackio.alert("The run is not healthy", finding, level=trackio.AlertLevel.ERROR)
    except Exception as error:
        logger.warning(f"Trackio took no alert ({type(error).__name__}: {error}).")


def add_pictures(trainer: Trainer, pictures: Iterable[Path]) -> None:
    """Add image files to the run's TensorBoard log, under their names; of a run without one, nothing happens.

    Args:
        trainer: after training. Its own writer is closed by then, so another one writes beside it.
        pictures: files that PIL reads.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                from tensorboardX import SummaryWriter  # type: ignore[no-redef]
            # A name of its own: files are named by the second, and a quick run's figures would be overwritten.
            with SummaryWriter(callback.logging_dir, filename_suffix=".pictures") as writer:
                for path in pictures:
                    with Image.open(path) as picture:
                        pixels = np.asarray(picture.convert("RGB"))  # [H, W, 3]
                    writer.add_image(path.stem, pixels, trainer.state.global_step, dataformats="HWC")
