"""Training arguments that all runs share, and those of pretraining."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from ..data.mixture_order import MIXINGS
from ..option_checks import LARGEST_SEED, require_choice, require_range, wrong_choice
from .schedules import check_stages, has_stages, tri_stage

WORDS = {  # of transformers, whose own message names the class instead of the option
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
    "eval_strategy": IntervalStrategy,
    "logging_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
    "hub_strategy": HubStrategy,
}


@dataclass
class BaseTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the options that pretraining and fine-tuning share.

    A loss of NaN is shown rather than filtered out, and columns are kept, since samples carry the `key` that is drawn
    from.

    Args:
        bf16: True, False, or "auto": where a GPU computes in bfloat16.
        max_batch_length: bound on the padded input of a device's micro-batch, in samples of sound or in tokens: batches
            of similar lengths and of as many samples as fit, instead of `per_device_train_batch_size`. The data set
            must know its `lengths`.
        tri_stage: shares of warm-up, plateau and decay, as the speech recipes have them; replaces `lr_scheduler_type`
            and `warmup_steps`.
        tri_stage_end: what remains of the learning rate after these stages, as a share.
        fsdp_config: as transformers', and `dp_replicate_size`: how many groups of processes hold all weights each.
    """

    bf16: bool | str = field(
        default=False, metadata={"help": "Compute in bfloat16; auto: where a GPU can (Ampere or newer)."}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses from the log."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Drop columns that forward doesn't name."})
    logging_steps: float = field(default=50, metadata={"help": "Optimizer steps between two logs."})
    max_batch_length: int | None = field(
        default=None, metadata={"help": "Samples of sound or tokens in a padded batch; replaces the batch size."}
    )
    tri_stage: list[float] | None = field(
        default=None, metadata={"help": "Shares of warm-up, plateau and exponential decay; replaces the scheduler."}
    )
    tri_stage_end: float = field(default=0.01, metadata={"help": "Share of the learning rate at the end of tri_stage."})

    def __getstate__(self) -> dict[str, Any]:
        """State without the token, since a run's arguments are saved beside each checkpoint as `training_args.bin`."""
        return self.__dict__ | {"hub_token": None}

    def __post_init__(self) -> None:
        self._check_values()
        self._choose_precision()
        super().__post_init__()
        self._check_sharding()
        self._check_schedule()
        self._check_reports()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is no other memory to copy to; torch warns otherwise
        elif self.dataloader_pin_memory:
            self.accelerator_config.non_blocking = True  # out of pinned memory, while the device goes on computing

    def check_warmup(self) -> None:
        """Require that a run of `max_steps` does not end within its warm-up.

        Raises:
            ValueError: it does, so that the learning rate would never be reached.
        """
        warmup = self.get_warmup_steps(self.max_steps) if self.warmup_steps >= 1 else 0  # below 1, it is a share
        if self.tri_stage is None and 0 < self.max_steps <= warmup:
            raise ValueError(
                f"warmup_steps is {warmup}, but the run ends at max_steps {self.max_steps}: lower warmup_steps, too"
            )

    def _check_values(self) -> None:
        """Refuse values without meaning, which transformers takes: it would train nothing, or fail later."""
        batches = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        require_range(self, *batches, "max_batch_length", "eval_accumulation_steps", low=1)
        require_range(self, "learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "eval_delay", low=0)
        require_range(self, "dataloader_num_workers", "save_total_limit", "neftune_noise_alpha", low=0)
        require_range(self, "adam_beta1", "adam_beta2", low=0, below=1)
        require_range(self, "label_smoothing_factor", low=0, below=1)
        require_range(self, "adam_epsilon", "num_train_epochs", "logging_steps", "save_steps", "eval_steps", above=0)
        require_range(self, "seed", "data_seed", low=0, high=LARGEST_SEED)
        if self.max_steps != -1:
            require_range(self, "max_steps", low=1)
        for name, words in WORDS.items():
            require_choice(self, name, [str(word.value) for word in words])
        if self.tri_stage is not None:
            tri_stage(1, self.tri_stage, self.tri_stage_end)
        for name in self._VALID_DICT_FIELDS:
            self._check_json(name)
        for pair in (self.optim_args or "").split(",") if isinstance(self.optim_args, str) else []:
            if pair and "=" not in pair:
                raise ValueError(f"--optim_args is {self.optim_args!r}, but must be NAME=VALUE,NAME=VALUE,...")

    def _choose_precision(self) -> None:
        if self.bf16 == "auto":
            self.bf16 = not self.use_cpu and not self.fp16 and gpu_computes_in_bf16()
        elif self.bf16 and not (self.use_cpu or is_torch_bf16_gpu_available() or is_torch_xla_available()):
            raise ValueError(
                "--bf16 is given, but no GPU here computes in bfloat16: leave it out, or give --bf16 auto, which uses "
                "it only where a GPU can"
            )

    def _check_schedule(self) -> None:
        """Build the schedule once now: transformers builds it late, and does not say which option is wrong."""
        if has_stages(self):
            check_stages(self)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        settings: Any = self.lr_scheduler_kwargs or {}
        try:
            get_scheduler(self.lr_scheduler_type, optimizer, 0, max(1, self.max_steps), settings)
        except (TypeError, ValueError) as error:
            kind = SchedulerType(self.lr_scheduler_type).value
            raise ValueError(f"--lr_scheduler_type is {kind} with --lr_scheduler_kwargs {settings}: {error}") from error

    def _check_sharding(self) -> None:
        """Require several processes, and read in `fsdp_config` how many groups of them hold all weights each (HSDP)."""
        if not self.fsdp:
            return
        if self.world_size < 2:
            raise ValueError(
                "--fsdp shards the weights over several processes, but there is one: start them with torchrun "
                "--nproc_per_node N -m data2vec_cli ..., or leave --fsdp out"
            )
        groups = int(self.fsdp_config.get("dp_replicate_size", 1))
        if groups > 1:
            if self.world_size % groups or self.world_size == groups:
                raise ValueError(
                    f"dp_replicate_size of --fsdp_config is {groups}, but must divide the {self.world_size} processes "
                    "into groups of at least two"
                )
            from accelerate import ParallelismConfig  # older ones, which do without groups, don't have it

            sizes = {"dp_replicate_size": groups, "dp_shard_size": self.world_size // groups}
            self.parallelism_config = ParallelismConfig(**sizes)

    def _check_reports(self) -> None:
        for name in self.report_to:
            if name in ("all", "none"):  # alone, transformers has replaced it
                raise ValueError(
                    f"--report_to is {' '.join(self.report_to)}, but {name} stands alone: leave out the rest"
                )
            if name not in INTEGRATION_TO_CALLBACK:
                raise ValueError(wrong_choice("--report_to", name, list(INTEGRATION_TO_CALLBACK)))
            if name not in get_available_reporting_integrations():
                raise ValueError(f"--report_to is {name}, which is not installed: install it, or leave --report_to out")

    def _check_json(self, name: str) -> None:
        """Check an option that is read as JSON: transformers' own error does not say which option is wrong."""
        value = getattr(self, name)
        if isinstance(value, str) and value.startswith("{"):
            try:
                json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"--{name} is {value!r}, which is no JSON: {error}") from error


def gpu_computes_in_bf16() -> bool:
    """Whether there is a GPU that has bfloat16 in hardware; older ones emulate it, slowly."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return is_torch_bf16_gpu_available() and not torch.backends.mps.is_available()


@dataclass
class Data2VecTrainingArguments(BaseTrainingArguments):
    """Arguments of `Data2VecTrainer`: transformers' own, with other defaults, and the run's health checks.

    Changed defaults: cosine schedule; AdamW betas (0.9, 0.95), no weight decay below two dimensions; incomplete
    batches dropped, so that each micro-batch weighs the same; and those of `BaseTrainingArguments`.

    Args:
        mixing: of a joint model, "accumulate": each optimizer step covers all modalities, each by some of its
            micro-batches, so `gradient_accumulation_steps` is at least their number; "step": one modality a step.
        clip_modalities: of a joint model with "accumulate", clip each modality's gradient before they are added up, to
            its share of `max_grad_norm` (its loss weight over their sum). So a joint step clips as often as separate
            runs do; by default the sum is clipped, in which large gradients are thinned out. For one process.
        gradient_cosine_steps: log the cosine between the modalities' gradients, and their norms, whenever a log's
            optimizer step is a multiple of this; 0 for never.
        normalize_on_device: move images to the device as bytes, a quarter of their size, and normalise them there;
            pixels are the same within 1e-6.
        stop_on_collapse: stop a collapsed or diverged run after writing a checkpoint.
        health_patience: how many logs in a row must show a collapse before the run is stopped.
        health_start_step: first optimizer step that is judged; None for the end of the warm-up, at least 50.
    """

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    adam_beta2: float = field(default=0.95, metadata={"help": "AdamW's second beta."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last incomplete batch of an epoch."})
    mixing: str = field(
        default="accumulate", metadata={"help": "Modalities in an optimizer step: all ('accumulate') or one ('step')."}
    )
    clip_modalities: bool = field(
        default=False, metadata={"help": "Clip the gradient of each modality, to its share, instead of their sum."}
    )
    gradient_cosine_steps: int = field(
        default=0, metadata={"help": "Steps between logs of how the modalities' gradients compare; 0 for none."}
    )
    normalize_on_device: bool = field(
        default=False, metadata={"help": "Move images to the device as bytes, and normalise them there."}
    )
    stop_on_collapse: bool = field(default=True, metadata={"help": "Stop a collapsed or diverged run (exit code 3)."})
    health_patience: int = field(default=3, metadata={"help": "Logs in a row that must show a collapse."})
    health_start_step: int | None = field(
        default=None, metadata={"help": "First step judged; default: the end of the warm-up, at least 50."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "mixing", MIXINGS)
        require_range(self, "health_patience", low=1)
        self._check_clipping()
        require_range(self, "health_start_step", "gradient_cosine_steps", low=0)

    def _check_clipping(self) -> None:
        if not self.clip_modalities:
            return
        for name, wrong, remedy in (
            ("max_grad_norm", not self.max_grad_norm, "there is nothing to clip to: raise it"),
            ("mixing", self.mixing != "accumulate", "a step has one modality, whose gradient is clipped anyway"),
            ("fp16", self.fp16, "its gradients are scaled when they are clipped: take --bf16"),
            ("world_size", self.world_size > 1, "gradients are added up over processes first: take one process"),
        ):
            if wrong:
                raise ValueError(
                    f"clip_modalities is given, but {name} is {getattr(self, name)}: {remedy}, or leave "
                    "clip_modalities out"
                )


def pretraining_arguments(args: TrainingArguments | None) -> Data2VecTrainingArguments:
    """The arguments of a pretraining run, whatever a trainer was given.

    Args:
        args: `Data2VecTrainingArguments`; a plain `TrainingArguments`, of which what differs from its own defaults is
            taken; or None for all defaults, with the output folder "trainer_output".

    Example:
        >>> plain = TrainingArguments("runs/x", learning_rate=1e-3, use_cpu=True)
        >>> made = pretraining_arguments(plain)
        >>> made.learning_rate, made.lr_scheduler_type.value, made.dataloader_drop_last
        (0.001, 'cosine', True)
    """
    if isinstance(args, Data2VecTrainingArguments):
        return args
    if args is None:
        return Data2VecTrainingArguments("trainer_output")
    plain = TrainingArguments(args.output_dir)
    names = [entry.name for entry in fields(TrainingArguments) if entry.init]
    given = {name: getattr(args, name) for name in names if getattr(args, name) != getattr(plain, name)}
    return Data2VecTrainingArguments(**{"output_dir": args.output_dir, **given})
