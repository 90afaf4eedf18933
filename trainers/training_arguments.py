"""TrainingArguments with the defaults that pretraining wants."""

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class Data2VecTrainingArguments(TrainingArguments):
    """Arguments of `Data2VecTrainer`: transformers' own, with other defaults, and the run's health checks.

    Changed defaults: cosine schedule; AdamW betas (0.9, 0.95), no weight decay below two dimensions; incomplete
    batches dropped, so that each micro-batch weighs the same; a loss of NaN is shown rather than filtered out; columns
    kept, since samples carry the `key` that their masks are drawn from.

    Args:
        max_batch_length: bound on the padded input of a device's micro-batch, in samples of sound or in tokens: batches
            of similar lengths and of as many samples as fit, instead of `per_device_train_batch_size`. The data set
            must know its `lengths`.
        tri_stage: shares of warm-up, plateau and decay, as the 1.0 speech recipe has them; replaces
            `lr_scheduler_type` and `warmup_steps`.
        stop_on_collapse: stop a collapsed or diverged run after writing a checkpoint.
        health_patience: how many logs in a row must show a collapse before the run is stopped.
        health_start_step: first optimizer step that is judged; None for the end of the warm-up, at least 50.
    """

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    adam_beta2: float = field(default=0.95, metadata={"help": "AdamW's second beta."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses from the log."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last incomplete batch of an epoch."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Drop columns that forward doesn't name."})
    logging_steps: float = field(default=50, metadata={"help": "Optimizer steps between two logs."})
    max_batch_length: int | None = field(
        default=None, metadata={"help": "Samples of sound or tokens in a padded batch; replaces the batch size."}
    )
    tri_stage: list[float] | None = field(
        default=None, metadata={"help": "Shares of warm-up, plateau and exponential decay; replaces the scheduler."}
    )
    stop_on_collapse: bool = field(default=True, metadata={"help": "Stop a collapsed or diverged run (exit code 3)."})
    health_patience: int = field(default=3, metadata={"help": "Logs in a row that must show a collapse."})
    health_start_step: int | None = field(
        default=None, metadata={"help": "First step judged; default: the end of the warm-up, at least 50."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is no other memory to copy to; torch warns otherwise
        if self.health_patience < 1:
            raise ValueError(f"health_patience is {self.health_patience}, but must be at least 1")
