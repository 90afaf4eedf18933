"""transformers' Trainer for weights that are sharded over processes (FSDP2), saved as those of any other run.

Sharding itself is transformers' and accelerate's: `fsdp=True` or `--fsdp`, or a config file of `accelerate launch`.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_data2vec.model_files import weight_names

# Folders of a checkpoint that is saved in shards, one file a process, as accelerate names them.
SHARDED_WEIGHTS, SHARDED_OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def gathered(state: Any, keep: bool) -> Any:
    """A state dict on the CPU, in which sharded tensors are whole; all processes call this.

    Args:
        state: nested dicts and lists.
        keep: whether this process needs it: in others, nothing stands in the place of tensors that were sharded.
    """

    def whole(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        value = value.full_tensor()
        return value.cpu() if keep else None

    return tree_map(whole, state)


def sharded_like(value: Any, parameter: Tensor) -> Any:
    """What an optimizer keeps of a weight, such as its average gradient, sharded as the weight is."""
    if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


def class_name(model: nn.Module) -> str:
    """The name of a model's class, which FSDP2 changes."""
    return type(model).__name__.removeprefix("FSDP")


class ShardedTrainer(Trainer):
    """`Trainer` whose FSDP2 runs save and load checkpoints in the form of every other run.

    - By default (`state_dict_type` FULL_STATE_DICT) a checkpoint holds `model.safetensors` and `optimizer.pt`, gathered
      in the main process. Any run goes on from it: of one process, of several, sharded or not.
    - With SHARDED_STATE_DICT each process writes its own part. Any run goes on from that, too; `save_model` gathers.
    - In half precision, weights are gathered in it, and all else is as without FSDP: autocast decides what is computed
      in fp32, and gradients are averaged in fp32.
    """

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise ValueError(
                f"--fsdp is given, but accelerate shards weights on GPUs and their like, not on a "
                f"{self.args.device.type}: leave it out"
            )
        if not self.is_fsdp_enabled:
            return
        # Nothing writes into what a model returns.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        plugin = self.accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise ValueError(
                f"FSDP is of version {plugin.fsdp_version}, but these models are sharded by version 2: set "
                "fsdp_version: 2 in accelerate's config file, or leave version out of --fsdp_config"
            )
        if self.accelerator.mixed_precision in HALF:
            from torch.distributed.fsdp import MixedPrecisionPolicy

            plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=HALF[self.accelerator.mixed_precision],
                reduce_dtype=torch.float32,
                output_dtype=torch.float32,
                cast_forward_inputs=False,
            )

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """Autocast, which accelerate leaves out with FSDP2: norms and losses would be in half precision as well."""
        if self.is_fsdp_enabled and self.accelerator.mixed_precision in HALF:
            return torch.autocast(self.args.device.type, dtype=HALF[self.accelerator.mixed_precision])
        return super().autocast_smart_context_manager(cache_enabled)

    def _prepare_for_training(self, *arguments: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*arguments, **kwargs)
        if self.is_fsdp_enabled:
            for module in self.model.modules():
                module._is_fsdp_managed_module = True  # as transformers says it where it shards by itself
        return prepared

    @property
    def saves_shards(self) -> bool:
        """Whether each process writes its own part of a checkpoint."""
        return self.is_fsdp_enabled and "SHARDED" in str(self.accelerator.state.fsdp_plugin.state_dict_type)

    def whole_model(self) -> Any:
        """The model with all of its weights, to draw and evaluate with.

        Of a sharded model it is a copy, which only the main process gets, and others None; all processes call this.
        """
        if not self.is_fsdp_enabled:
            return self.model
        weights = self.accelerator.get_state_dict(self.model)
        if self.args.process_index:
            return None
        with torch.random.fork_rng():  # new weights are drawn, and the run goes on as if they were not
            whole = type(self.model).__bases__[-1](self.model.config)  # the class that FSDP2 derived its own from
        whole.load_state_dict(weights)
        return whole.to(self.args.device)

    # ---- saving ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
        elif not (self.saves_shards and folder.name.startswith(PREFIX_CHECKPOINT_DIR)):
            self._save(str(folder), state_dict=self.accelerator.get_state_dict(self.model))
        elif self.args.should_save:
            self.model.config.architectures = [class_name(self.model)]
            self.model.config.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled or self.saves_shards:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        optimizer = gathered(self.optimizer.state_dict(), keep=self.args.should_save)
        if self.args.should_save:
            torch.save(optimizer, Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    # ---- loading ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._load_weights(Path(resume_from_checkpoint), model or self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_weights(Path(self.state.best_model_checkpoint), self.model):
            super()._load_best_model()

    def _load_weights(self, checkpoint: Path, model: Any) -> bool:
        """Load weights if model or checkpoint are sharded, and say so."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_model_state_dict,
            set_model_state_dict,
        )

        if (checkpoint / SHARDED_WEIGHTS).is_dir():
            state = {"model": get_model_state_dict(model)}
            dcp.load(state, checkpoint_id=checkpoint / SHARDED_WEIGHTS)
            set_model_state_dict(model, state["model"])
        elif self.is_fsdp_enabled and all((checkpoint / name).is_file() for name in weight_names(checkpoint)):
            weights: dict[str, Any] = {}
            for name in weight_names(checkpoint) if self.args.process_index == 0 else ():
                weights |= load_file(checkpoint / name)
            whole = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
            set_model_state_dict(model, weights, options=whole)
        else:
            return False
        return True

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        folder = Path(checkpoint or "")
        shards = bool(checkpoint) and (folder / SHARDED_OPTIMIZER).is_dir()
        if shards:
            self._load_sharded_optimizer(folder / SHARDED_OPTIMIZER)
        elif self.is_fsdp_enabled and checkpoint and (folder / "optimizer.pt").is_file():
            state = torch.load(folder / "optimizer.pt", map_location="cpu", mmap=True, weights_only=True)
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            for number, values in state["state"].items():
                state["state"][number] = {k: sharded_like(value, weights[number]) for k, value in values.items()}
            self.optimizer.load_state_dict(state)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        self.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

    def _load_sharded_optimizer(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

        state = {"optimizer": get_optimizer_state_dict(self.model, self.optimizer)}
        dcp.load(state, checkpoint_id=folder)
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])
