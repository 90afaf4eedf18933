"""Turns an encoder into a data2vec student with a teacher, targets and a loss, the same for every modality.

Shapes in this package: B samples, M masks (student views) for each sample, R = B * M rows, T positions, V visible
positions, E extra tokens, S = E + V tokens of a row, D channels, K target layers, H attention heads.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import ModelOutput, logging

from .configuration_pretraining import Data2VecPreTrainingConfig
from .ema import Teacher, copy_weights, ema_decay_at, update_ema
from .embedding import Embedding
from .linear import own_linear
from .model_files import SafeLoading
from .objective import Targets, Term, Views, loss_terms, weighted_losses

logger = logging.get_logger(__name__)


@dataclass
class Data2VecPreTrainingOutput(ModelOutput):
    """The output of every pretraining model.

    Attributes:
        loss: scalar, the sum of `losses`; None where `return_loss` is False.
        losses: each term of the loss by its name, a scalar that is already weighted: "regression_loss", which is the
            mean over masked positions of the loss summed over channels; "cls_loss" where a CLS token has one; terms of
            one's own; of paired samples "cross_modal_loss" alone (`cross_modal.py`).
        constant_loss: scalar, of paired samples: what it would be if the same were predicted for all samples.
        predictions: [B, M, T, D], the student's prediction of every position. In training 1.0 on a CPU without terms
            of one's own, those of visible positions are 0, since no loss looks at them.
        targets: [B, T, D] fp32, what the teacher computed; of paired samples [B, modalities, D].
        mask: bool [B, M, T], the positions that count.
        student_states: the student's encoder output: [R, S, D] at the tokens it saw in 2.0, [R, T, D] at all positions
            in 1.0.
        local_features: [B, T, D], the student's local feature encoder, in 2.0 before positions.
        target_spread: scalar, spread of the teacher's layers before normalisation.
        valid: bool [B, T], True at real positions; None where nothing is padded.
        visible_valid: bool [R, V] or [R, T], which of `student_states` (without extra tokens) are real positions that
            the student saw; None for all.
        pooled_states: of paired samples, the mean of the student's states of each modality, [B, D].
        constant_position_loss: of paired samples as `constant_loss`, of what is predicted at positions.
        cross_modal_weight: of paired samples that are masked: scalar, the factor of the terms across modalities.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    constant_loss: Tensor | None = None
    predictions: Tensor | None = None
    targets: Tensor | None = None
    mask: Tensor | None = None
    student_states: Tensor | None = None
    local_features: Tensor | None = None
    target_spread: Tensor | None = None
    valid: Tensor | None = None
    visible_valid: Tensor | None = None
    pooled_states: dict[str, Tensor] | None = None
    constant_position_loss: Tensor | None = None
    cross_modal_weight: Tensor | None = None

    @property
    def regression_loss(self) -> Tensor | None:
        """The term of the hidden positions; None without a loss."""
        return (self.losses or {}).get("regression_loss")

    @property
    def cls_loss(self) -> Tensor | None:
        """The weighted term of the CLS token; None without one."""
        return (self.losses or {}).get("cls_loss")


class StudentOutput(NamedTuple):
    """The student's part of `Data2VecPreTrainingOutput`, with the same fields."""

    predictions: Tensor
    states: Tensor
    visible_valid: Tensor | None
    ids_keep: Tensor | None = None  # int64 [B, M, V], the positions of what was visible; None in 1.0, which keeps all


class Observation(NamedTuple):
    """A batch as student and teacher see it, with what `Views` leaves out of it.

    Attributes:
        views: the argument of the terms of the loss.
        layers: the teacher's, each [B, T, D].
        grid: the shape of the T positions.
        ids_keep: as in `StudentOutput`.
    """

    views: Views
    layers: list[Tensor]
    grid: tuple[int, ...]
    ids_keep: Tensor | None


class StudentTeacher:
    """The interface of one modality's student and teacher: how each of them sees raw input."""

    @property
    def config(self) -> Any:
        """The modality's."""
        raise NotImplementedError

    def embed(self, inputs: Tensor, attention_mask: Tensor | None) -> Embedding:
        """Raw input before any position is hidden."""
        raise NotImplementedError

    def student(
        self, inputs: Tensor, embedding: Embedding, mask: Tensor, valid: Tensor | None, **view: Any
    ) -> StudentOutput:
        """Encode what is visible, and predict what is hidden.

        Args:
            inputs: raw input, B samples.
            embedding: what `embed` made of it.
            mask: bool [B, M, T], True at hidden positions.
            valid: bool [B, T] where padding is to be kept out, else None.
            view: further arguments of the host's forward.
        """
        raise NotImplementedError

    def run_teacher(
        self,
        inputs: Tensor,
        embedding: Embedding,
        attention_mask: Tensor | None,
        mask: Tensor | None,
        *,
        end_of_block: bool,
    ) -> list[Tensor]:
        """Run the teacher.

        Args:
            inputs: raw input, B samples.
            embedding: the student's embedding of it.
            attention_mask: 1 at real, 0 at padded input; None where nothing is padded.
            mask: bool [B, M, T], for teachers that do not see everything.
            end_of_block: return the ends of layers instead of their feed-forward outputs.

        Returns:
            One tensor [B, T, D] for each layer, from first to last.
        """
        raise NotImplementedError


class Data2VecCore(SafeLoading):
    """Turns a `PreTrainedModel` into a student with a teacher: a mixin of every `...ForPreTraining` class.

    The host class has `base_model` (the student's encoder), `head`, `teacher` and a `config`, and calls `pretrain` in
    its forward. What it does with its input is said by its `side`. State-dict keys are `<base_model_prefix>.*`,
    `teacher.*` and `head.*`.
    """

    # For type checkers: the host class is a PreTrainedModel.
    config: Any
    base_model: Any
    training: bool
    head: Any
    teacher: Teacher

    # Beginnings of the names of those of the teacher's weights that are copied from the student, not averaged.
    copied_into_teacher: tuple[str, ...] = ()

    _keep_in_fp32_modules_strict = {"teacher"}  # an average in bf16 does not move  # noqa: RUF012
    accepts_loss_kwargs = False  # the loss is a mean over masked positions, to be averaged over micro-batches

    def get_input_embeddings(self) -> Any:
        """The student's embeddings, or None where it has no table of them; accelerate asks for it before it shards."""
        try:
            return self.base_model.get_input_embeddings()
        except NotImplementedError:
            return None

    # ---- the teacher ----

    def freeze_teacher(self) -> None:
        """Freeze the teacher, in eval mode and in fp32 (or fp64, as the model's)."""
        precise = torch.promote_types(self.dtype, torch.float32)  # type: ignore[attr-defined]
        self.teacher.to(precise).requires_grad_(False).eval()

    def sync_teacher(self) -> None:
        """Set the teacher to an exact copy of the student."""
        copy_weights(self.teacher, self.base_model)
        self.freeze_teacher()

    def update_teacher(self, step: int) -> float:
        """Average the student into the teacher after optimizer step `step` (from 1); returns the decay used."""
        config = self.config
        decay = ema_decay_at(step, config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step)
        update_ema(self.teacher, self.base_model, decay, self.copied_into_teacher)
        return decay

    def train(self, mode: bool = True):
        super().train(mode)  # type: ignore[misc]
        self.teacher.eval()
        return self

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a model; a checkpoint without a (complete) teacher gets one that equals the loaded student.

        What the checkpoint lacks is named in a warning.

        Raises:
            ValueError: the checkpoint has none of the student's weights.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        student = f"{model.base_model_prefix}."
        if all(key in info["missing_keys"] for key in model.state_dict() if key.startswith(student)):
            raise ValueError(
                f"{args[0] if args else kwargs.get('pretrained_model_name_or_path')} holds no weight of a "
                f"{cls.__name__} or of its encoder: it is a checkpoint of another model"
            )
        fresh = sorted(key for key in info["missing_keys"] if not key.startswith("teacher."))
        if fresh:
            shown = ", ".join(fresh[:6]) + (f" and {len(fresh) - 6} more" if len(fresh) > 6 else "")
            logger.warning(f"Not in the checkpoint, and so with new weights: {shown}.")
        missing = {key.removeprefix("teacher.") for key in info["missing_keys"] if key.startswith("teacher.")}
        if missing and all(key.startswith(model.copied_into_teacher) for key in missing):
            copy_weights(model.teacher, model.base_model, missing)  # at any time they are the student's
        elif missing:
            logger.warning(
                f"The checkpoint has no teacher ({len(missing)} weights missing): it starts as a copy of the student."
            )
            model.sync_teacher()
        model.freeze_teacher()
        return (model, info) if output_loading_info else model

    def floating_point_ops(self, *args: Any, **kwargs: Any) -> int:
        """Return 0: the Trainer's formula ignores masks and teacher (`data2vec inspect` has them)."""
        return 0

    def side(self, modality: str | None = None) -> StudentTeacher:
        """Return student and teacher of a modality, or of the only one."""
        raise NotImplementedError

    # ---- the objective ----

    def build_targets(self, config: Any) -> Targets:
        """Return the object that turns the teacher's layers into targets; override it for other targets.

        Args:
            config: the config of the batch's modality; of a model with one modality, its own.
        """
        return Targets.from_config(config)

    def build_terms(self, config: Any) -> list[Term]:
        """List the terms of the loss; override it to add, drop or weight terms (docs/objectives.md).

        Args:
            config: as for `build_targets`.
        """
        return loss_terms(config)

    # ---- one step ----

    @torch.no_grad()
    def teacher_layers(
        self,
        inputs: Tensor,
        embedding: Embedding,
        attention_mask: Tensor | None = None,
        mask: Tensor | None = None,
        modality: str | None = None,
    ) -> list[Tensor]:
        """The teacher's view, once for all M masks: a list of [B, T, D], first to last layer."""
        side = self.side(modality)
        end_of_block = self.build_targets(side.config).end_of_block_targets
        dtype = embedding.tokens.dtype
        # The teacher's weights are fp32. In a half-precision model it still computes in that precision; under autocast
        # the surrounding context already decides.
        device_type = embedding.tokens.device.type
        half = dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, dtype=dtype) if half else nullcontext():
            return side.run_teacher(inputs, embedding, attention_mask, mask, end_of_block=end_of_block)

    def pretrain(
        self,
        inputs: Any,
        mask: Any,
        attention_mask: Tensor | None = None,
        return_loss: bool = True,
        modality: str | None = None,
        **view: Any,
    ) -> Data2VecPreTrainingOutput:
        """Student, teacher, targets and loss for one batch.

        Args:
            inputs: raw input of the modality, B samples.
            mask: bool [B, M, T], True where the student must predict; None to draw them as the config says: anew in
                training, from torch's generator as dropout, and always the same ones in evaluation.
            attention_mask: 1 at real, 0 at padded input; None where nothing is padded.
            return_loss: whether to compute the loss.
            modality: whose input it is, of a model with several.
            view: further arguments of `student`.

        Raises:
            ValueError: input is missing, or input and masks don't fit the model or each other.
        """
        with own_linear():
            views = self.observe(inputs, mask, attention_mask, modality, **view).views
        losses = weighted_losses(self.build_terms(self.side(modality).config), views) if return_loss else {}
        return Data2VecPreTrainingOutput(**total_loss(losses), **vars(views))

    def observe(
        self, inputs: Any, mask: Any, attention_mask: Tensor | None = None, modality: str | None = None, **view: Any
    ) -> Observation:
        """Student, teacher and targets for one batch, without a loss; the arguments are those of `pretrain`."""
        side = self.side(modality)
        config: Data2VecPreTrainingConfig = side.config
        embedding = side.embed(inputs, attention_mask)
        # None as well where padding is to count as in the authors' code.
        valid = embedding.valid if config.padding == "exact" else None
        if mask is None:
            mask, keys = self._drawn_masks(config, embedding)
            if view.get("noise_keys") is None:
                view["noise_keys"] = keys
        mask = _checked_mask(mask, embedding, valid)
        seen = side.student(inputs, embedding, mask, valid, **view)
        layers = self.teacher_layers(inputs, embedding, attention_mask, mask, modality)
        targets = self.build_targets(config)
        views = Views(
            predictions=seen.predictions,
            targets=targets(layers, valid),
            mask=mask,
            student_states=seen.states,
            local_features=embedding.local_features,
            target_spread=targets.spread(layers, embedding.valid),
            valid=embedding.valid,
            visible_valid=seen.visible_valid,
        )
        return Observation(views, layers, embedding.grid, seen.ids_keep)

    def _drawn_masks(self, config: Any, embedding: Embedding) -> tuple[Tensor, Tensor]:
        """Masks [B, M, T] by the config, and the keys [B, M] of the noise behind them."""
        try:
            # Not by `from`, by which it would be copied along with a model that is shared with its code.
            drawn_masks = import_module(".drawn_masks", __package__)
        except ModuleNotFoundError as error:
            raise ValueError(
                "mask is missing, and masks are drawn by the package data2vec, not by a model's copied code: install "
                "it, or give a bool tensor [batch, masks, positions], True at what is to be predicted"
            ) from error
        tokens = embedding.tokens
        numbers = range(len(tokens)) if not self.training else torch.randint(-(2**31), 2**31, (len(tokens),)).tolist()
        lengths = None if embedding.valid is None else embedding.valid.sum(1)
        keys = torch.tensor(numbers, dtype=torch.int32, device=tokens.device)
        mask, keys, _ = drawn_masks.draw_views(config, keys, embedding.grid, lengths)
        return mask, keys


def total_loss(losses: dict[str, Tensor]) -> dict[str, Any]:
    """Sum the terms of a loss into the output's fields `loss` and `losses`; none without terms."""
    return {"loss": sum(losses.values()), "losses": losses} if losses else {}


def _checked_mask(mask: Tensor, embedding: Embedding, valid: Tensor | None) -> Tensor:
    if not isinstance(mask, Tensor):
        raise ValueError(
            f"mask is a {type(mask).__name__}, but must be a bool tensor [batch, masks, positions], True at what is to "
            "be predicted, or None for masks as the config says"
        )
    batch, length = embedding.tokens.shape[0], prod(embedding.grid)
    if mask.ndim != 3 or mask.shape[0] != batch or mask.shape[2] != length:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, but {batch} samples of {length} positions "
            f"(grid {embedding.grid}) need [{batch}, masks, {length}]"
        )
    mask = mask.bool()
    return mask if valid is None else mask & valid[:, None]  # there is nothing to predict in padding
