"""Tiny runs of one process group, one after the other: with DDP, sharded by FSDP2, or alone in one process.

    torchrun --nproc_per_node 2 tests/support/distributed_runs.py FOLDER "ddp:images 2.0" "fsdp:joint:8" ...

Each writes its model to FOLDER/FORM/KIND; weights of other processes beside it, where they should be equal. One that is
to stop after a step goes on with the run in FOLDER/chain/KIND.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fsdp_on_cpu import norms_as_on_gpus, shard_on_cpu
from safetensors.torch import load_file, save_file
from tiny_runs import JOINT, arguments, tiny_joint_model, tiny_mix, tiny_model, tiny_samples
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from modeling_data2vec.trainers import Data2VecTrainer

GLOBAL_BATCH = 8
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
# One process, then two, then two with shards, twice: gathered and as they are.
CHAIN = {"one": 4, "ddp": 8, "fsdp": 12, "shards": 16}
FORMS: dict[str, dict[str, Any]] = {
    "one": {},
    "ddp": {},
    "fsdp": {"fsdp": True},
    "shards": {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}},
    "hsdp": {"fsdp": True, "fsdp_config": {"dp_replicate_size": 2}},
    "launched": {},
}
# What `accelerate launch` makes of a config file with FSDP2 in it.
LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
PAIRS = "joint, pairs"
# Kinds with other fields of the config and other arguments: kind, fields, arguments.
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "images, whole teacher": ("images 2.0", {"teacher_scope": "model"}, {}),
    "images, teacher of the trunk": ("images 2.0", {"teacher_scope": "trunk"}, {}),
    "images, norms before": ("images 2.0", {"norm_position": "pre"}, {}),
    "images 1.0, feed-forward": ("images 1.0", {"end_of_block_targets": False}, {}),
    "speech 1.0, whole teacher": ("speech 1.0", {"teacher_scope": "model"}, {}),
    "text 1.0, whole teacher": ("text 1.0", {"teacher_scope": "model"}, {}),
    "joint, own feed-forward": (JOINT, {"modality_ffn_layers": 1}, {}),
    PAIRS: (JOINT, {"cross_modal_layers": 1}, {"gradient_accumulation_steps": 4}),
    "speech, recomputed": ("speech 2.0", {}, {"activation_checkpointing": True}),
    "images, bf16": ("images 2.0", {}, {"bf16": True}),
    "images 1.0, bf16": ("images 1.0", {}, {"bf16": True}),
    # Layers are dropped by each process for itself.
    "speech, layer drop": ("speech 2.0", {"layerdrop": 0.5, "prenet_layerdrop": 0.5}, {}),
    "speech 1.0, layer drop": ("speech 1.0", {"layerdrop": 0.5}, {}),
}


@dataclass
class TinyRun:
    """A tiny run of any form.

    Attributes:
        form: one of `FORMS`.
        kind: of model, or one of `VARIANTS`; "joint" has norms and LoRA of each modality.
        folder: of the run; one with checkpoints is gone on with.
        steps: after which it ends.
        stop: a step after which it is saved and left.
        settings: further training arguments.
    """

    form: str
    kind: str
    folder: Path
    steps: int = 20
    stop: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def trainer(self) -> Data2VecTrainer:
        for name in LAUNCHED:  # of the run before, left there by accelerate
            os.environ.pop(name, None)
        os.environ |= LAUNCHED if self.form == "launched" else {}
        world = int(os.environ.get("WORLD_SIZE", 1))
        batch = GLOBAL_BATCH // world
        kind, fields, settings = VARIANTS.get(self.kind, (self.kind, {}, {}))
        if kind == JOINT:
            model = tiny_joint_model(modality_norms=True, modality_lora_rank=2, **fields)
            samples: Any = tiny_mix(model, batch)
        else:
            model = tiny_model(kind, **fields)
            samples = tiny_samples(model)
        accumulation = {"gradient_accumulation_steps": 3 if kind == JOINT else 1}
        args = arguments(
            self.folder,
            max_steps=self.steps,
            per_device_train_batch_size=batch,
            ddp_backend="gloo" if world > 1 else None,
            **(accumulation | FORMS[self.form] | settings | self.settings),
        )
        trainer = Data2VecTrainer(model, args, train_dataset=samples)
        if self.stop is not None:
            trainer.add_callback(StopAfter(self.stop))
        return trainer

    def __call__(self) -> Data2VecTrainer:
        trainer = self.trainer()
        trainer.train(resume_from_checkpoint=True)
        if self.form not in ("one", "ddp"):
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
        if trainer.is_world_process_zero():
            (self.folder / "log.json").write_text(json.dumps(trainer.state.log_history))
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


def in_processes(count: int, folder: Path, *named: str) -> None:
    """Do runs of `distributed_runs.py` in so many processes."""
    subprocess.run([*TORCHRUN, str(count), __file__, str(folder), *named], check=True, timeout=900)


def chain(folder: Path, kind: str) -> list[str]:
    """Begin a run in one process, and name what others do with it."""
    first, *others = (f"{form}:{kind}:{stop}" for form, stop in CHAIN.items())
    runs(folder, first)[0]()
    return others


def assert_close(folder: Path, expected: Path) -> None:
    weights, others = (load_file(one / "model.safetensors") for one in (folder, expected))
    assert weights.keys() == others.keys()
    assert any(name.startswith("teacher.") for name in weights)
    for name, value in weights.items():
        # What is divided by deviations, as by an inverse root, magnifies what was rounded.
        rtol = 1e-3 if name.endswith(("covariance", "whitening")) else 0
        torch.testing.assert_close(value, others[name], rtol=rtol, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def assert_goes_on(folder: Path, kind: str) -> None:
    """From gathered weights and from shards, a run of one process ends as one that was never distributed."""
    path = folder / "chain" / kind
    steps = {int(checkpoint.name[11:]) for checkpoint in path.glob("checkpoint-*")}
    assert steps == {3, 4, 7, 8, 11, 12, 15, 16}  # each part with `save_steps` of its own
    assert (path / "checkpoint-12" / "optimizer.pt").is_file()
    assert not (path / "checkpoint-16" / "model.safetensors").exists()
    for step in (12, 16):
        trainer = TinyRun("one", kind, path).trainer()
        trainer.train(resume_from_checkpoint=str(path / f"checkpoint-{step}"))
        trainer.save_model(str(folder / f"{kind} after {step}"))
        assert_close(folder / f"{kind} after {step}", folder / "one" / kind)


def leave() -> None:
    """End a process of a group: gloo's threads may abort or hold up one that ends the usual way."""
    sys.stdout.flush()
    if dist.is_initialized():
        dist.barrier()
    os._exit(0)


def main() -> None:
    torch.set_num_threads(1)
    shard_on_cpu()
    norms_as_on_gpus()
    for run in runs(Path(sys.argv[1]), *sys.argv[2:]):
        run()
    leave()


if __name__ == "__main__":
    main()
