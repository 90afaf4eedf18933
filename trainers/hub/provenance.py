"""Where a model comes from: kept beside its weights, and said in its card."""

import json
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from modeling_data2vec.model_files import interpreting, read_json

from ..files.writing import write_text
from .public_names import public_data, public_name

PACKAGES = ("data2vec", "transformers", "torch", "datasets", "accelerate")
# The arguments that a reader of the card wants to know.
SHOWN_ARGUMENTS = (
    *("learning_rate", "lr_scheduler_type", "tri_stage", "warmup_steps", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("weight_decay", "max_grad_norm", "per_device_train_batch_size", "max_batch_length"),
    *("gradient_accumulation_steps", "bf16", "fp16", "seed", "layer_decay", "freeze", "head_only_steps", "mixup"),
    *("cutmix", "label_smoothing_factor", "rand_augment", "erasing", "spec_augment", "roll_clips", "spectrogram_noise"),
)
SHOWN_SETTINGS = (
    *("num_masks", "mask_prob", "mask_length", "average_top_k_layers", "loss_beta", "teacher_scope"),
    *("ema_decay", "ema_end_decay", "ema_anneal_end_step"),
)
PROVENANCE_FILE = "provenance.json"
SHOWN_HEALTH = (
    ("loss", "loss", "{:.4g}"),
    ("loss_below_constant", "loss below that of a constant prediction", "{:.0%}"),
    ("target_std", "spread of the targets", "{:.3g}"),
    ("prediction_std", "spread of the predictions", "{:.3g}"),
    ("student_rank", "effective rank of the student's features", "{:.1f}"),
    ("feature_encoder_rank", "effective rank of the feature encoder's output", "{:.1f}"),
    ("teacher_student_cosine", "cosine of teacher and student", "{:.3f}"),
    ("ema_decay", "decay of the teacher", "{:.6g}"),
)


@dataclass
class Provenance:
    """Where a model comes from: what its config does not say.

    Attributes:
        license: licence of the weights, as the Hub spells it; None if nobody said.
        base_model: what the run went on from: a Hub id, or the last part of a path.
        dataset: what it was trained on, as it was named on the command line, of paths the last part.
        recipe: name of the recipe, and where the recipe's values come from.
        schedule: values that were made to fit the batch or the data: name, old and new value, rule and its source.
        hyperparameters: name to value.
        steps: optimizer steps made.
        health: the last health figures, by name.
        hardware: devices and processes.
        seconds: length of the run.
        versions: packages and their versions.
        converted_from: name of the file that was converted, and its SHA-256.
        task: what the model was fine-tuned for, as `data2vec finetune --task` calls it.
        metrics: figures by name, by the split that they are of.
    """

    license: str | None = None
    base_model: str | None = None
    dataset: str | None = None
    recipe: dict[str, str] = field(default_factory=dict)
    schedule: list[dict[str, Any]] = field(default_factory=list)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    health: dict[str, float] = field(default_factory=dict)
    hardware: str | None = None
    seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    converted_from: dict[str, str] = field(default_factory=dict)
    task: str | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Remove local paths: they are private, and say nothing about the model."""
        self.base_model = public_name(self.base_model) if self.base_model else None
        self.dataset = public_data(self.dataset) if self.dataset else None

    @classmethod
    def load(cls, folder: str | Path) -> "Provenance":
        """Read a folder's provenance.json; an empty one if there is none."""
        path = Path(folder) / PROVENANCE_FILE
        if not path.is_file():
            return cls()
        with interpreting(path):
            return cls(**read_json(path))

    def save(self, folder: str | Path) -> None:
        """Write it into a folder."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, {}, [])}
        write_text(Path(folder) / PROVENANCE_FILE, json.dumps(values, indent=2) + "\n")


def run_provenance(trainer: Any) -> Provenance:
    """Where the model of a `BaseTrainer` comes from: `trainer.provenance`, and what the run knows by now."""
    args, state, config = trainer.args, trainer.state, trainer.model.config
    history = state.log_history
    last: dict[str, float] = {}
    shown = {name for name, _, _ in SHOWN_HEALTH}
    for entry in history:
        last |= {key: value for key, value in entry.items() if key.split("/")[-1] in shown}
    settings: dict[str, Any] = {name: getattr(args, name, None) for name in SHOWN_ARGUMENTS}
    settings |= {name: getattr(config, name, None) for name in SHOWN_SETTINGS}
    seconds = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    return replace(
        trainer.provenance,
        hyperparameters={name: _plain(value) for name, value in settings.items() if value not in (None, False)},
        steps=state.global_step,
        health=last,
        hardware=_hardware(args),
        seconds=sum(seconds) if seconds else None,
        versions=_versions(),
    )


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
