"""Options of `data2vec pretrain`, beside the training arguments."""

from dataclasses import dataclass, field

from ..option_checks import require_license, require_range, require_shares

# How `--help` puts them together; what is in no group comes first.
PRETRAIN_GROUPS = {
    "data": ("split", "column", "streaming", "tokenizer"),
    "model and schedule": ("model", "adapt", "config", "scale_to_batch", "license"),
    "probes: is it learning anything?": (
        *("probe_split", "probe_dataset", "label_column", "probe_limit", "probe_steps"),
    ),
    "several modalities (docs/one_network.md)": (
        *("micro_batch", "mixing_ratio", "mixing_temperature", "pairs", "pairs_batch_size"),
    ),
}
# The Trainer's options that it shows.
PRETRAIN_TRAINING = {
    "output_dir": "Folder of checkpoints, curves and the model; default: runs/RECIPE.",
    "max_steps": "Optimizer steps of the run.",
    "per_device_train_batch_size": "Samples in a device's micro-batch.",
    "max_batch_length": "Instead: samples of sound or tokens in it, in batches of similar lengths.",
    "gradient_accumulation_steps": "Micro-batches of a step.",
    "learning_rate": "Largest learning rate.",
    "warmup_steps": "Steps until it is reached.",
    "bf16": "Compute in bfloat16; auto: where a GPU can.",
    "use_cpu": "Use no GPU.",
    "dataloader_num_workers": "Processes that read samples.",
    "logging_steps": "Steps between two logs.",
    "save_steps": "Steps between two checkpoints.",
    "report_to": "Trackers: tensorboard, wandb, trackio, ..., all that are installed, or none.",
    "seed": "Of weights, order, masks and noise.",
}


@dataclass
class PretrainingOptions:
    """Options of `data2vec pretrain`, beside the training arguments."""

    recipe: str = field(metadata={"help": "Recipe: a yaml file or a name (`data2vec inspect` lists them)."})
    dataset: list[str] = field(
        metadata={
            "help": "Folder of images, audio or text, table, saved dataset, Hub id, 'digits', 'python-docs'; of "
            "several modalities: audio=... vision=... text=..., also in the options for splits and columns."
        }
    )
    split: list[str] = field(default_factory=lambda: ["train"], metadata={"help": "Split to pretrain on."})
    column: list[str] | None = field(
        default=None, metadata={"help": "Column with images, audio or text, if it isn't found."}
    )
    streaming: bool = field(default=False, metadata={"help": "Read the data as it comes, without downloading it."})
    model: str | None = field(default=None, metadata={"help": "Go on from this checkpoint (folder or Hub id)."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer (folder or Hub id), for text; default: the model's or the recipe's."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the weights, for the model card: mit, cc-by-4.0, ..."}
    )
    config: list[str] = field(default_factory=list, metadata={"help": "Changes of the model's config: NAME=VALUE ..."})
    scale_to_batch: float | None = field(
        default=None,
        metadata={
            "help": "Fit the recipe's schedule to another batch: N samples or seconds a step; without N what this "
            "run has (docs/scale.md).",
            "nargs": "?",
            "const": 0,
        },
    )
    adapt: str | None = field(
        default=None,
        metadata={
            "help": "Go on from this trained model on other data, by a schedule that fits their size (docs/scale.md)."
        },
    )
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in output_dir."})
    probe_split: list[str] | None = field(
        default=None, metadata={"help": "Labelled split to probe on; the probes' training labels come from `split`."}
    )
    probe_dataset: list[str] | None = field(
        default=None, metadata={"help": "Labelled data for probes; default: dataset."}
    )
    label_column: list[str] | None = field(
        default=None, metadata={"help": "Column with the probes' labels, if it isn't found."}
    )
    probe_limit: int = field(default=10_000, metadata={"help": "Most samples of a split that probes use."})
    probe_steps: int = field(default=0, metadata={"help": "Steps between probes during training; 0 for none."})
    micro_batch: list[str] | None = field(
        default=None,
        metadata={"help": "Of several modalities: a device's micro-batch, in the recipe's unit: vision=8 audio=6 ..."},
    )
    pairs: str | None = field(
        default=None,
        metadata={
            "help": "Table of paired samples, with columns image, audio and text, to train on as well; the model needs "
            "--config cross_modal_layers=1."
        },
    )
    pairs_batch_size: int = field(default=8, metadata={"help": "Pairs in a device's micro-batch of them."})
    mixing_ratio: list[str] | None = field(
        default=None, metadata={"help": "How often micro-batches of a modality come: audio=2 vision=1 ..."}
    )
    mixing_temperature: float | None = field(
        default=None, metadata={"help": "Instead of a ratio: in proportion to tokens^(1/temperature), rounded."}
    )

    def __post_init__(self) -> None:
        if self.adapt and self.model:
            raise ValueError(
                f"--adapt {self.adapt} and --model {self.model} both name the model to go on from: --adapt also fits "
                "the schedule, --model keeps the recipe's. Leave one out"
            )
        self.model = self.adapt or self.model
        if self.label_column and not self.probe_split:
            raise ValueError("--label_column is for probes, but there are none: add --probe_split, or leave it out")
        require_range(self, "probe_limit", "pairs_batch_size", low=1)
        require_range(self, "probe_steps", "scale_to_batch", low=0)
        require_range(self, "mixing_temperature", above=0)
        require_shares(self, "mixing_ratio", "micro_batch")
        require_license(self)
