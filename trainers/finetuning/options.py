"""Options of `data2vec finetune`."""

from dataclasses import dataclass, field

from ..option_checks import require_choice, require_license, require_range

TASKS = (
    "ctc",
    "classification",
    "audio-classification",
    "audio-frame-classification",
    "image-classification",
    "semantic-segmentation",
    "text-classification",
    "token-classification",
)
# Options that only some tasks read; in others they would have no effect.
OF_TASKS = {
    "pair_column": ["text-classification"],
    "regression": ["text-classification"],
    "num_labels": ["semantic-segmentation"],
    "max_seconds": ["ctc", "audio-classification"],
    "max_length": ["text-classification", "token-classification"],
    "tokenizer": ["ctc", "text-classification", "token-classification"],
    "lowercase": ["ctc"],
    "uppercase": ["ctc"],
    "drop_letters": ["ctc"],
}

# How `--help` puts them together; what is in no group comes first.
FINETUNE_GROUPS = {
    "data": ("split", "eval_split", "eval_fraction", "test_split", "eval_dataset", "test_dataset", "column", "limit"),
    "labels": ("label_column", "pair_column", "regression", "num_labels", "lowercase", "uppercase", "drop_letters"),
    "samples": ("min_seconds", "max_seconds", "max_length", "tokenizer"),
    "model": ("config", "peft", "peft_config", "merge", "license"),
}
# The Trainer's options that it shows.
FINETUNE_TRAINING = {
    "output_dir": "Folder of checkpoints, figures and the model; default: runs/finetuned.",
    "num_train_epochs": "Passes over the training data; default: 10.",
    "max_steps": "Instead: optimizer steps.",
    "per_device_train_batch_size": "Samples in a device's micro-batch; default: 8.",
    "learning_rate": "Largest learning rate; default: 5e-5.",
    "layer_decay": "Learning rate of a layer over that of the next; default: 1.",
    "freeze": "Not trained: feature_encoder, encoder, or a number of layers from below.",
    "patience": "Evaluations without a new best before the end.",
    "bf16": "Compute in bfloat16; auto: where a GPU can.",
    "use_cpu": "Use no GPU.",
    "seed": "Of the head's weights, order and what is left out.",
}


@dataclass
class FinetuningOptions:
    """Options of `data2vec finetune`, beside the training arguments."""

    model: str = field(metadata={"help": "Model folder or Hub id: pretrained, converted or fine-tuned before."})
    dataset: str = field(
        metadata={
            "help": "Labelled data: a folder with a folder for each class, table, saved dataset, Hub id, 'digits'."
        }
    )
    task: str = field(default="", metadata={"help": f"What to learn: {', '.join(TASKS)}; default: the recipe's."})
    recipe: str | None = field(
        default=None, metadata={"help": "Recipe of a published fine-tuning: a name or a yaml file; other options win."}
    )
    split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default=None, metadata={"help": "Split that decides which checkpoint is the best; default: none."}
    )
    eval_fraction: float = field(
        default=0.0, metadata={"help": "Share of the training split to hold out instead of an eval_split."}
    )
    test_split: str | None = field(default=None, metadata={"help": "Split that the result is measured on, once."})
    eval_dataset: str | None = field(default=None, metadata={"help": "Other data with the eval_split."})
    test_dataset: str | None = field(default=None, metadata={"help": "Other data with the test_split."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    pair_column: str | None = field(default=None, metadata={"help": "Column with the second of two texts."})
    label_column: str | None = field(default=None, metadata={"help": "Column with labels, if it isn't found."})
    regression: bool = field(default=False, metadata={"help": "Predict numbers; the default where labels are floats."})
    num_labels: int | None = field(
        default=None, metadata={"help": "semantic-segmentation: classes; default: what the first 200 maps have."}
    )
    limit: int | None = field(
        default=None, metadata={"help": "Train on so many samples, chosen at random by the seed."}
    )
    min_seconds: float = field(default=0.1, metadata={"help": "Shorter clips are left out."})
    max_seconds: float | None = field(
        default=None, metadata={"help": "Longer clips are left out of training (ctc), or cut (audio-classification)."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens that texts are cut at; default: at most 512."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer (folder or Hub id); for ctc, one whose letters are kept."}
    )
    lowercase: bool = field(default=False, metadata={"help": "ctc: write all transcripts in small letters."})
    uppercase: bool = field(default=False, metadata={"help": "ctc: write all transcripts in capital letters."})
    drop_letters: str = field(default="", metadata={"help": "ctc: letters to leave out of transcripts, e.g. ',.?!'."})
    config: list[str] = field(default_factory=list, metadata={"help": "Changes of the model's config: NAME=VALUE ..."})
    peft: str | None = field(default=None, metadata={"help": "Train an adapter of peft, e.g. lora, and the head."})
    peft_config: list[str] = field(default_factory=list, metadata={"help": "Changes of its config: NAME=VALUE ..."})
    merge: bool = field(default=False, metadata={"help": "Merge the adapter into the model that is saved."})
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, for the model card."})
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in output_dir."})

    def __post_init__(self) -> None:
        if not self.task:
            raise ValueError(f"--task is missing: name one of {', '.join(TASKS)}, or a --recipe that has one")
        require_choice(self, "task", TASKS)
        require_range(self, "eval_fraction", low=0, below=1)
        require_range(self, "limit", "max_length", low=1)
        require_range(self, "num_labels", low=2)
        require_range(self, "min_seconds", low=0)
        require_range(self, "max_seconds", above=self.min_seconds)
        require_license(self)
        if self.eval_fraction and (self.eval_split or self.eval_dataset):
            raise ValueError("--eval_fraction and --eval_split both say what to evaluate on: leave one of them out")
        if self.merge and self.peft is None:
            raise ValueError("--merge merges an adapter, but there is none: name one with --peft, e.g. lora")
        if self.lowercase and self.uppercase:
            raise ValueError("--lowercase and --uppercase both say how transcripts are written: leave one of them out")

    def check_task(self) -> None:
        """Require that the task reads all options that are given.

        Raises:
            ValueError: names one that it doesn't read.
        """
        for name, tasks in OF_TASKS.items():
            value = getattr(self, name)
            if value and self.task not in tasks:
                given = f"--{name}" if value is True else f"--{name} {value}"
                raise ValueError(f"{given} is for {' and '.join(tasks)}: leave it out of --task {self.task}")
