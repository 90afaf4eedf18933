"""Lets accelerate shard weights by FSDP2 between processes on a CPU, which it leaves out without a word."""

from typing import Any

from accelerate import DistributedType
from accelerate.state import AcceleratorState, PartialState


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
