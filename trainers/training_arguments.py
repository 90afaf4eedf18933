"""TrainingArguments with what every run wants, and with the defaults of pretraining."""

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class RunArguments(TrainingArguments):
    """What the arguments of pretraining and of fine-tuning add to transformers' own.

    A loss of NaN is shown rather than filtered out, and columns are kept, since samples carry the `key` that is drawn
    from.

    Args:
        max_batch_length: bound on the padded input of a device's micro-batch, in samples of sound or in tokens: batches
            of similar lengths and of as many samples as fit, instead of `per_device_train_batch_size`. The data set
            must know its `lengths`.
        tri_stage: shares of warm-up, plateau and decay, as the speech recipes have them; replaces `lr_scheduler_type`
            and `warmup_steps`.
        tri_stage_end: what remains of the learning rate after these stages, as a share.
    """

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is no other memory to copy to; torch warns otherwise


@dataclass
class Data2VecTrainingArguments(RunArguments):
    """Arguments of `Data2VecTrainer`: transformers' own, with other defaults, and the run's health checks.

    Changed defaults: cosine schedule; AdamW betas (0.9, 0.95), no weight decay below two dimensions; incomplete
    batches dropped, so that each micro-batch weighs the same; and those of `RunArguments`.

    Args:
        mixing: of a joint model, "accumulate": each optimizer step covers all modalities, each by some of its
            micro-batches, so `gradient_accumulation_steps` is at least their number; "step": one modality a step.
        gradient_cosine_steps: log the cosine between the modalities' gradients, and their norms, whenever a log's
            optimizer step is a multiple of this; 0 for never.
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
    gradient_cosine_steps: int = field(
        default=0, metadata={"help": "Steps between logs of how the modalities' gradients compare; 0 for none."}
    )
    stop_on_collapse: bool = field(default=True, metadata={"help": "Stop a collapsed or diverged run (exit code 3)."})
    health_patience: int = field(default=3, metadata={"help": "Logs in a row that must show a collapse."})
    health_start_step: int | None = field(
        default=None, metadata={"help": "First step judged; default: the end of the warm-up, at least 50."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.health_patience < 1:
            raise ValueError(f"health_patience is {self.health_patience}, but must be at least 1")
