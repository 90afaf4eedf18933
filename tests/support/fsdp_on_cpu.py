"""Lets accelerate shard weights by FSDP2 between processes on a CPU, which it leaves out without a word."""

from typing import Any

import torch
from accelerate import DistributedType
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.nn import functional


def shard_on_cpu() -> None:
    """Take an FSDP plugin on CPUs as on GPUs, from now on."""
    build = AcceleratorState.__init__

    def with_plugin(self: Any, *arguments: Any, **kwargs: Any) -> None:
        build(self, *arguments, **kwargs)
        plugin = kwargs.get("fsdp_plugin")
        if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            if self._mixed_precision != "no":
                plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = plugin

    AcceleratorState.__init__ = with_plugin


def norms_as_on_gpus() -> None:
    """Let autocast compute layer norms in fp32, whatever their weights are in, as it does on GPUs but not on CPUs."""
    layer_norm = functional.layer_norm

    def in_fp32(input: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            input, weight, bias = (None if one is None else one.float() for one in (input, weight, bias))
        return layer_norm(input, shape, weight, bias, eps)

    functional.layer_norm = in_fp32
