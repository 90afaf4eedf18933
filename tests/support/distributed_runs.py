"""Tiny runs of one process group, one after the other: with DDP, sharded by FSDP2, or alone in one process.

    torchrun --nproc_per_node 2 tests/support/distributed_runs.py FOLDER "ddp:images 2.0" "fsdp:joint:8" ...

Each writes its model to FOLDER/FORM/KIND; weights of other processes beside it, where they should be equal. One that is
to stop after a step goes on with the run in FOLDER/chain/KIND.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fsdp_on_cpu import shard_on_cpu
from safetensors.torch import save_file
from tiny_runs import JOINT, arguments, tiny_joint_model, tiny_mix, tiny_model, tiny_samples
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from modeling_data2vec.trainers import Data2VecTrainer

GLOBAL_BATCH = 8
FORMS: dict[str, dict[str, Any]] = {
    "one": {},
    "ddp": {},
    "fsdp": {"fsdp": True},
    "shards": {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}},
    "hsdp": {"fsdp": True, "fsdp_config": {"dp_replicate_size": 2}},
}


@dataclass
class TinyRun:
    """A tiny run of any form.

    Attributes:
        form: one of `FORMS`.
        kind: of model; "joint" has norms and LoRA of each modality.
        folder: of the run; one with checkpoints is gone on with.
        steps: after which it ends.
        stop: a step after which it is saved and left.
        fields: of the config.
        settings: further training arguments.
    """

    form: str
    kind: str
    folder: Path
    steps: int = 20
    stop: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def trainer(self) -> Data2VecTrainer:
        world = int(os.environ.get("WORLD_SIZE", 1))
        batch = GLOBAL_BATCH // world
        if self.kind == JOINT:
            model = tiny_joint_model(modality_norms=True, modality_lora_rank=2, **self.fields)
            samples: Any = tiny_mix(model, batch)
        else:
            model = tiny_model(self.kind, **self.fields)
            samples = tiny_samples(model)
        args = arguments(
            self.folder,
            max_steps=self.steps,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=3 if self.kind == JOINT else 1,
            ddp_backend="gloo" if world > 1 else None,
            **(FORMS[self.form] | self.settings),
        )
        trainer = Data2VecTrainer(model, args, train_dataset=samples)
        if self.stop is not None:
            trainer.add_callback(StopAfter(self.stop))
        return trainer

    def __call__(self) -> Data2VecTrainer:
        trainer = self.trainer()
        trainer.train(resume_from_checkpoint=True)
        if FORMS[self.form].get("fsdp"):
            assert all(isinstance(weight, DTensor) for weight in trainer.model.parameters()), "it ran unsharded"
            try:
                trainer.model.save_pretrained(self.folder)
            except ValueError as error:
                assert "trainer.save_model" in str(error)
            else:
                raise AssertionError("weights in shards were saved by one process")
        elif self.form == "ddp":
            rank = dist.get_rank()
            save_file(trainer.model.state_dict(), self.folder.with_name(f"{self.folder.name}-rank{rank}.safetensors"))
        trainer.save_model()
        return trainer


class StopAfter(TrainerCallback):
    """Saves a checkpoint after a step, and ends the run there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.step:
            control.should_save = control.should_training_stop = True


def runs(folder: Path, *named: str) -> list[TinyRun]:
    """Runs by "FORM:KIND" or "FORM:KIND:STOP"."""
    found = []
    for form, kind, *stop in (name.split(":") for name in named):
        if stop:
            settings = {"save_strategy": "steps", "save_steps": int(stop[0]) - 1}
            found.append(TinyRun(form, kind, folder / "chain" / kind, stop=int(stop[0]), settings=settings))
        else:
            found.append(TinyRun(form, kind, folder / form / kind))
    return found


def leave() -> None:
    """End a process of a group: gloo's threads may abort or hold up one that ends the usual way."""
    sys.stdout.flush()
    if dist.is_initialized():
        dist.barrier()
    os._exit(0)


def main() -> None:
    torch.set_num_threads(1)
    shard_on_cpu()
    for run in runs(Path(sys.argv[1]), *sys.argv[2:]):
        run()
    leave()


if __name__ == "__main__":
    main()
