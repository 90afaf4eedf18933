"""What pretraining and fine-tuning share: batches by length, the three-stage schedule, complete checkpoints."""

import os
import shutil
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.trainer_utils import get_last_checkpoint, has_length, rotate_checkpoints

from .batching import LengthBatchSampler
from .callbacks import EpochCallback
from .hub_trainer import HubTrainer
from .schedules import tri_stage
from .training_arguments import RunArguments

STAGING = ".incomplete"


def check_output(output: Path, *, resume: bool) -> None:
    """Require that a run does not begin in the folder of another one.

    Raises:
        ValueError: it holds a checkpoint, which the run is not to go on from.
    """
    last = get_last_checkpoint(output) if output.is_dir() else None
    if last and not resume:
        raise ValueError(
            f"{output} already holds {Path(last).name} of an earlier run: pass --resume to go on from it, choose "
            "another --output_dir, or remove the folder"
        )


class RunTrainer(HubTrainer):
    """`HubTrainer` with `RunArguments`.

    A checkpoint appears under its name only when it is complete, so that a run killed at any time, or a full disk,
    leaves the last one loadable.

    Args:
        model, args: as for `Trainer`.
        train_dataset: is told the epoch by `set_epoch`, if it has that; with `args.max_batch_length` it has `lengths`,
            the input length of each item.

    The other arguments are `Trainer`'s.
    """

    args: RunArguments

    def __init__(self, model: Any, args: RunArguments, *arguments: Any, **kwargs: Any) -> None:
        super().__init__(model, args, *arguments, **kwargs)
        if has_length(self.train_dataset) and not len(self.train_dataset):
            raise ValueError("train_dataset is empty: there is nothing to train on. Check the path and the split.")
        self._loader = self.own_loader()
        listeners = [self.train_dataset, getattr(self._loader, "batch_sampler", None)]
        self.add_callback(EpochCallback(*(one for one in listeners if hasattr(one, "set_epoch"))))
        self._staging: Path | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; `resume_from_checkpoint=True` goes on from the last complete checkpoint, if there is one."""
        if resume_from_checkpoint is True:
            folder = self.args.output_dir
            resume_from_checkpoint = get_last_checkpoint(folder) if os.path.isdir(folder) else None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    # ---- batches, schedule, weight decay ----

    def own_loader(self) -> DataLoader | None:
        """With `max_batch_length`, a loader of batches of similar lengths; each process draws its own share."""
        if not self.args.max_batch_length:
            return None
        lengths = getattr(self.train_dataset, "lengths", None)
        if lengths is None:
            raise ValueError(
                "max_batch_length needs a train_dataset with `lengths`, the input length of each sample, which streams "
                "don't have: use per_device_train_batch_size instead"
            )
        sampler = LengthBatchSampler(lengths, self.args.max_batch_length, **self.share_of_process())
        return DataLoader(self.train_dataset, batch_sampler=sampler, **self.loader_options())

    def share_of_process(self) -> dict[str, int]:
        """Which share of the batches is this process's: options of `EpochBatches`."""
        args = self.args
        seed = args.data_seed if args.data_seed is not None else args.seed
        return {"seed": seed, "num_processes": args.world_size, "process": args.process_index}

    def loader_options(self) -> dict[str, Any]:
        """What the arguments say about loaders of training data."""
        args = self.args
        return {
            "collate_fn": self.data_collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers,
        }

    def get_train_dataloader(self) -> DataLoader:
        """As `Trainer`'s, or `own_loader`'s."""
        return super().get_train_dataloader() if self._loader is None else self._loader

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As `Trainer`'s, or the three stages of `args.tri_stage`."""
        if self.args.tri_stage is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if getattr(self, "lr_scheduler", None) is None:
            factor = tri_stage(num_training_steps, self.args.tri_stage, self.args.tri_stage_end)
            self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Only matrices and kernels decay: biases, norms, tokens and scales, whatever their shape, do not.

        The authors meant the same, but their override had no effect (docs/differences.md).
        """
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.squeeze().ndim >= 2 and not name.endswith(("extra_tokens", "bias", "alibi_scale"))
        ]

    # ---- saving: complete or not at all ----

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint to a hidden folder beside its place, then rename it: there is never half a one."""
        run_dir = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        staging = run_dir / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            last = get_last_checkpoint(run_dir) if run_dir.is_dir() else None
            raise OSError(
                f"{name} could not be saved to {run_dir}: {error} "
                f"Free some space or choose another output_dir. Complete so far: {last or 'no checkpoint'}; "
                "train(resume_from_checkpoint=True) goes on from there."
            ) from error
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()  # every process has written its random state
        if self.args.should_save:
            self._publish(staging / name, run_dir / name)
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=False,
            )
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self.push_checkpoint(run_dir / name)

    def _publish(self, staged: Path, final: Path) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == staged.parent:
            self.state.best_model_checkpoint = str(final.parent / Path(best).name)
            self.state.save_to_json(str(staged / "trainer_state.json"))
        if final.exists():
            shutil.rmtree(final)  # the same step saved twice, e.g. at the end of training
        os.replace(staged, final)
        staged.parent.rmdir()

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing is pushed from the hidden folder: `_save_checkpoint` pushes after the rename."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model and processor; files of an earlier save are replaced only when all new ones are written."""
        if _internal_call:
            return super().save_model(output_dir, _internal_call=True)
        self._save_complete(Path(output_dir or self.args.output_dir))
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")

    def save_locally(self) -> None:
        self._save_complete(Path(self.args.output_dir))

    def _save_complete(self, final: Path) -> None:
        staging = final / STAGING
        try:
            super().save_model(str(staging), _internal_call=True)
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise OSError(f"the model could not be saved to {final}: {error} Free some space and try again.") from error
        if self.args.should_save:
            for file in [path for path in staging.rglob("*") if path.is_file()]:
                target = final / file.relative_to(staging)
                target.parent.mkdir(exist_ok=True)
                os.replace(file, target)
            shutil.rmtree(staging)
