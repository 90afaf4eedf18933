"""What a training run knows about itself, for the card of the model that it makes."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from transformers import Trainer

from .model_card import SHOWN_HEALTH, Provenance

PACKAGES = ("data2vec", "transformers", "torch", "datasets", "accelerate")
# The arguments that a reader of the card wants to know.
SHOWN_ARGUMENTS = (
    *("learning_rate", "lr_scheduler_type", "tri_stage", "warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("weight_decay", "max_grad_norm", "per_device_train_batch_size", "max_batch_length"),
    *("gradient_accumulation_steps", "bf16", "fp16", "seed"),
)
SHOWN_SETTINGS = (
    *("num_masks", "mask_prob", "mask_length", "average_top_k_layers", "loss_beta", "teacher_scope"),
    *("ema_decay", "ema_end_decay", "ema_anneal_end_step"),
)


def run_provenance(trainer: Trainer) -> Provenance:
    """Where the model of a trainer comes from, with what `trainer.facts` adds."""
    args, state, config = trainer.args, trainer.state, trainer.model.config
    history = state.log_history
    last: dict[str, float] = {}
    for entry in history:
        last |= {name: entry[name] for name, _, _ in SHOWN_HEALTH if name in entry}
    settings: dict[str, Any] = {name: getattr(args, name, None) for name in SHOWN_ARGUMENTS}
    settings |= {name: getattr(config, name, None) for name in SHOWN_SETTINGS}
    seconds = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    values: dict[str, Any] = {
        "hyperparameters": {name: _plain(value) for name, value in settings.items() if value not in (None, False)},
        "steps": state.global_step,
        "health": last,
        "hardware": _hardware(args),
        "seconds": sum(seconds) if seconds else None,
        "versions": _versions(),
    }
    return Provenance(**values | getattr(trainer, "facts", {}))


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)  # enumerations


def _hardware(args: Any) -> str:
    device = f"CPU ({platform.machine()})"
    if args.device.type == "cuda":
        device = torch.cuda.get_device_name(args.device)
    elif args.device.type != "cpu":
        device = args.device.type
    return f"{args.world_size} x {device}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
