"""TrainingArguments with the defaults of fine-tuning, and with its regularisation."""

from dataclasses import dataclass, field
from typing import Any

from transformers.utils import logging

from ..media.randaugment import RandAugment
from ..option_checks import require_range
from ..runs.arguments import BaseTrainingArguments
from .metrics import greater_is_better

logger = logging.get_logger(__name__)


@dataclass
class FinetuningArguments(BaseTrainingArguments):
    """Arguments of `FinetuningTrainer`: transformers' own, with other defaults, and the papers' regularisation.

    Changed defaults: ten epochs, cosine schedule after a warm-up of a tenth, an evaluation and a checkpoint each epoch
    of which the best and the last are kept, and those of `BaseTrainingArguments`.

    Args:
        layer_decay: the learning rate of a layer is that of the layer above times this (BEiT, arXiv 2106.08254); 1 for
            the same everywhere.
        decay_feature_encoder: whether what comes before the first layer (patches, convolutions, embeddings) has the
            smallest rate; False for the full one, as in the authors' data2vec 2.0 code.
        freeze: what is not trained: "feature_encoder" (what comes before the first layer), "encoder" (all but the
            head), or a number of layers from below, which includes the feature encoder.
        head_only_steps: optimizer steps in which the head alone is trained [freeze_finetune_updates].
        patience: stop after so many evaluations without a new best.
        mixup, cutmix: α of the Beta distribution that images are mixed by (arXiv 1710.09412, 1905.04899); 0 for none.
            Clips can be mixed by mixup.
        mix_prob: share of batches that are mixed.
        mix_switch_prob: of those, the share that is cut rather than blended, where both are on.
        spec_augment: the largest share of pitches and of time that is hidden of each spectrogram (arXiv 1904.08779).
        roll_clips: roll clips by any number of samples and make them up to half as loud again or as soft, for
            spectrograms [roll_aug of EAT].
        spectrogram_noise: the most noise that is added to normalised spectrograms, which are rolled by up to 10 frames
            as well [noise of EAT, where it is .1]; 0 for neither.
        weighted_draw: samples that are drawn for an epoch, none twice, in proportion to how rare their classes are:
            the sum over a sample's classes of 1 / (number of samples that have it) [num_samples of EAT, with
            AS2M_finetune]; None for all samples.
        rand_augment: RandAugment of images, in timm's words, e.g. "rand-m9-mstd0.5-inc1".
        erasing: probability that a rectangle of an image is replaced with noise (arXiv 1708.04896).
        crop_scale: smallest and largest share of an image that a random crop takes.
        horizontal_flip: flip every second image at random.

    `label_smoothing_factor` is transformers' own; where images are mixed, it smooths the mixed labels.
    """

    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the training data."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up, or below 1 their share of all."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, epoch or steps."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, epoch, steps, best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep; the best is one of them."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Save the best checkpoint's weights."})
    layer_decay: float = field(default=1.0, metadata={"help": "Learning rate of a layer over that of the next."})
    decay_feature_encoder: bool = field(
        default=True, metadata={"help": "Give what is before the first layer the smallest rate, not the full one."}
    )
    freeze: str | None = field(
        default=None, metadata={"help": "Not trained: feature_encoder, encoder, or a number of layers from below."}
    )
    head_only_steps: int = field(default=0, metadata={"help": "First steps, in which only the head is trained."})
    patience: int | None = field(default=None, metadata={"help": "Evaluations without a new best before the end."})
    mixup: float = field(default=0.0, metadata={"help": "Images and clips: alpha of mixup; 0 for none."})
    cutmix: float = field(default=0.0, metadata={"help": "Images: alpha of CutMix; 0 for none."})
    mix_prob: float = field(default=1.0, metadata={"help": "Share of batches that are mixed."})
    mix_switch_prob: float = field(default=0.5, metadata={"help": "Images: share of mixed batches that CutMix takes."})
    spec_augment: float = field(
        default=0.0, metadata={"help": "Spectrograms: largest share of pitches and of time that is hidden."}
    )
    roll_clips: bool = field(default=False, metadata={"help": "Spectrograms: roll clips, and change their loudness."})
    spectrogram_noise: float = field(
        default=0.0, metadata={"help": "Spectrograms: most noise, and a roll of up to 10 frames; EAT has 0.1."}
    )
    weighted_draw: int | None = field(
        default=None, metadata={"help": "Classes: samples drawn an epoch, rare classes more often; default: all."}
    )
    rand_augment: str | None = field(
        default=None, metadata={"help": "Images: RandAugment, in timm's words, e.g. rand-m9-mstd0.5-inc1."}
    )
    erasing: float = field(default=0.0, metadata={"help": "Images: probability of erasing a rectangle."})
    crop_scale: list[float] = field(
        default_factory=lambda: [1.0, 1.0], metadata={"help": "Images: smallest and largest share of a random crop."}
    )
    horizontal_flip: bool = field(default=False, metadata={"help": "Images: flip every second one."})

    def __post_init__(self) -> None:
        # transformers would take the loss, and judge how checkpoints and evaluations go together before there are data:
        # `fit_to_data` does.
        names = ("metric_for_best_model", "greater_is_better", "load_best_model_at_end")
        metric, greater, best = (getattr(self, name) for name in names)
        self.load_best_model_at_end = False
        super().__post_init__()
        self.metric_for_best_model: str | None = metric
        self.greater_is_better: bool | None = greater
        self.load_best_model_at_end = best
        self.label_names = ["labels"]
        require_range(self, "layer_decay", above=0, high=1)
        require_range(
            self, "mix_prob", "mix_switch_prob", "erasing", "spec_augment", "spectrogram_noise", low=0, high=1
        )
        require_range(self, "mixup", "cutmix", "head_only_steps", low=0)
        require_range(self, "patience", "weighted_draw", low=1)
        if self.weighted_draw and self.max_batch_length:
            raise ValueError("--weighted_draw and --max_batch_length both say how batches are made: leave one out")
        require_range(self, "crop_scale", above=0, high=1)
        if len(self.crop_scale) != 2 or self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale is {self.crop_scale}, but must be two shares, the smallest and the largest")
        if self.rand_augment is not None:
            RandAugment.from_text(self.rand_augment)  # names what is wrong with it

    def fit_to_data(self, task: Any, *, evaluates: bool) -> None:
        """Decide what evaluations and checkpoints are for: without data to evaluate on there is no best checkpoint.

        Args:
            task: the `Task`, which names its figures.
            evaluates: whether there are data to evaluate on.

        Raises:
            ValueError: an option needs an evaluation that the run doesn't have, or there is no such figure.
        """
        if not evaluates:
            self._check_nothing_needs("data to evaluate on: name an --eval_split or an --eval_fraction")
            self.eval_strategy, self.load_best_model_at_end = type(self.eval_strategy)("no"), False
        elif self.eval_strategy == "no":
            self._check_nothing_needs("evaluations, but --eval_strategy is no: choose epoch or steps")
            self.load_best_model_at_end = False
        if self.load_best_model_at_end and self.save_strategy == "no":
            logger.warning("save_strategy is no, so the last weights are saved, not those of the best checkpoint.")
            self.load_best_model_at_end = False
        if self.load_best_model_at_end and self.save_strategy != "best":
            self._check_checkpoints_are_evaluated()
        name = task.metric if self.metric_for_best_model is None else self.metric_for_best_model
        known = ("loss", *task.figure_names())
        if name.removeprefix("eval_") not in known:
            raise ValueError(f"metric_for_best_model is {name!r}, but must be one of {', '.join(known)}")
        self.metric_for_best_model = name
        if self.greater_is_better is None:
            self.greater_is_better = greater_is_better(name)

    def _check_nothing_needs(self, needed: str) -> None:
        asking = {
            "patience": self.patience is not None,
            "save_strategy best": self.save_strategy == "best",
            "eval_strategy steps": self.eval_strategy == "steps",
            "eval_on_start": self.eval_on_start,
        }
        for option, given in asking.items():
            if given:
                raise ValueError(f"--{option} needs {needed}")

    def _check_checkpoints_are_evaluated(self) -> None:
        saves, evaluations = (getattr(one, "value", one) for one in (self.save_strategy, self.eval_strategy))
        otherwise = "or keep the last weights with --load_best_model_at_end false"
        if saves != evaluations:
            raise ValueError(
                f"save_strategy is {saves} and eval_strategy {evaluations}, but the best checkpoint is one that was "
                f"evaluated: add --eval_strategy {saves}, {otherwise}"
            )
        if saves == "steps":
            save, evaluate = self.save_steps, self.eval_steps
            times = save / evaluate
            if (save < 1) != (evaluate < 1) or times < 1 or abs(times - round(times)) > 1e-6:
                raise ValueError(
                    f"save_steps is {save:g} and eval_steps {evaluate:g}, but the best checkpoint is one that was "
                    f"evaluated: add --eval_steps {save:g}, {otherwise}"
                )
