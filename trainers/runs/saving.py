"""Checkpoints and models of a run, written to a hidden folder beside their place: complete or not there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..data.finiteness import weights_are_finite
from ..files.writing import UNFINISHED, new_files, publish_checkpoint, rotate_checkpoints, save_error
from .checkpoints import STATE_FILE, last_checkpoint
from .schedules import stages_of


@contextmanager
def new_checkpoint(trainer: Any, final: Path) -> Iterator[Path]:
    """Give a hidden folder to write a checkpoint into; it gets its own name when all processes are through.

    Args:
        trainer: whose checkpoint it is. Of those that are too many by `save_total_limit`, the oldest go, but not that
            of the end of a stable stage, from which a longer run can go on.
        final: the checkpoint's folder, `checkpoint-...` in the folder of the run.

    Raises:
        SaveError: it could not be written. What was complete before still is.
    """
    run_dir, staging = final.parent, final.parent / UNFINISHED
    with _cleared(trainer, staging / final.name):
        try:
            yield staging
            trainer.accelerator.wait_for_everyone()  # every process has written its random state
            healthy = weights_are_finite(trainer.model)  # of sharded weights, all processes have to say
            if trainer.args.should_save:
                _publish(trainer, staging / final.name, final, healthy)
        except Exception as error:
            last = last_checkpoint(run_dir)
            remains = f"Complete so far: {last}; train(resume_from_checkpoint=True) goes on from there."
            remains = remains if last else "There is no complete checkpoint yet."
            raise save_error(final.name, run_dir, error, remains) from error
    trainer.accelerator.wait_for_everyone()


@contextmanager
def new_model(trainer: Any, folder: Path) -> Iterator[Path]:
    """Give a place to save a trained model to; its files move into the folder when the block is through.

    Raises:
        SaveError: it could not be written. Files of an earlier save are as they were.
    """
    with _cleared(trainer, folder / UNFINISHED / "model"):
        try:
            if trainer.args.should_save:
                with new_files(folder) as unfinished:
                    yield unfinished
            else:
                yield folder
        except Exception as error:
            raise save_error("the model", folder, error) from error


@contextmanager
def _cleared(trainer: Any, place: Path) -> Iterator[None]:
    """Make sure that nothing lies at a place in the hidden folder, before and after."""
    if trainer.args.should_save:
        shutil.rmtree(place, ignore_errors=True)  # what a killed run left
    trainer.accelerator.wait_for_everyone()
    try:
        yield
    finally:
        if trainer.args.should_save:
            shutil.rmtree(place, ignore_errors=True)
            with suppress(OSError):  # it may hold the run's lock
                place.parent.rmdir()


def _publish(trainer: Any, staged: Path, final: Path, healthy: bool) -> None:
    """Give a checkpoint its name, and remove those that are too many, unless this one is not healthy."""
    state = trainer.state
    best = state.best_model_checkpoint
    if best is not None and Path(best).parent == staged.parent:
        state.best_model_checkpoint = best = str(final.parent / Path(best).name)
        state.save_to_json(str(staged / STATE_FILE))
    publish_checkpoint(staged, final)
    keep = {final.name} | ({Path(best).name} if best is not None else set())
    if stages := stages_of(trainer.args, state.max_steps):
        keep.add(f"checkpoint-{stages.stable_end}")
    if healthy:
        rotate_checkpoints(final.parent, trainer.args.save_total_limit, keep=keep)
