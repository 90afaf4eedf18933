"""What makes a data2vec model of an encoder: teacher, targets and loss, the same for every modality.

Shapes in this package: B samples, M masks (student views) for each sample, R = B * M rows, T positions, V visible
positions, E extra tokens, S = E + V tokens of a row, D channels, K target layers, H attention heads.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput, logging

from .configuration_data2vec import Data2Vec2PreTrainingConfig
from .ema import copy_weights, ema_decay_at, update_ema
from .feature_encoders import Embedding, FeatureEncoder
from .losses import masked_mean, mean_over_positions, regression_loss
from .masking import visible_ids
from .targets import layer_spread, make_targets
from .trunk import Data2Vec2Trunk

logger = logging.get_logger(__name__)


@dataclass
class Data2VecPreTrainingOutput(ModelOutput):
    """What a pretraining model returns.

    Attributes:
        loss: scalar, the sum of the parts below; None where `return_loss` is False.
        regression_loss: scalar, mean over masked positions of the loss summed over channels.
        cls_loss: scalar, weighted loss of the CLS token; None without one.
        predictions: [B, M, T, D], the student's prediction of every position.
        targets: [B, T, D] fp32, what the teacher computed.
        mask: bool [B, M, T], the positions that count.
        student_states: [R, S, D], the student's encoder output at the tokens it saw.
        local_features: [B, T, D], the student's local feature encoder, before positions.
        target_spread: scalar, spread of the teacher's layers before normalisation.
        valid: bool [B, T], True at real positions; None where nothing is padded.
        visible_valid: bool [R, V], the same of the positions that the student saw.
    """

    loss: Tensor | None = None
    regression_loss: Tensor | None = None
    cls_loss: Tensor | None = None
    predictions: Tensor | None = None
    targets: Tensor | None = None
    mask: Tensor | None = None
    student_states: Tensor | None = None
    local_features: Tensor | None = None
    target_spread: Tensor | None = None
    valid: Tensor | None = None
    visible_valid: Tensor | None = None


class Teacher(nn.Module):
    """The averaged copy: a trunk and, by `teacher_scope`, a feature encoder of its own. Frozen, fp32, in eval mode."""

    def __init__(self, feature_encoder: FeatureEncoder | None, trunk: Data2Vec2Trunk):
        super().__init__()
        self.feature_encoder = feature_encoder
        self.trunk = trunk


class Data2VecCore:
    """Turns a `PreTrainedModel` into a student with a teacher: a mixin of every `...ForPreTraining` class.

    The host class has `base_model` with `feature_encoder` and `trunk`, `head` (the decoder) and a `config`; it calls
    `build_teacher` in its constructor and `pretrain` in its forward. State-dict keys are `<base_model_prefix>.*`,
    `teacher.*` and `head.*`.
    """

    # For type checkers: the host class is a PreTrainedModel.
    config: Any
    base_model: Any
    head: Any
    teacher: Teacher

    _keep_in_fp32_modules_strict = {"teacher"}  # an average in bf16 does not move  # noqa: RUF012
    accepts_loss_kwargs = False  # the loss is a mean over masked positions, to be averaged over micro-batches

    # ---- the teacher ----

    def build_teacher(self) -> None:
        """Create the teacher that `config.teacher_scope` asks for; call `sync_teacher` once weights are there."""
        config: Data2Vec2PreTrainingConfig = self.config
        feature_encoder = None
        if config.teacher_scope != "trunk":
            feature_encoder = type(self.base_model.feature_encoder)(config)
            if config.teacher_scope == "encoder":
                feature_encoder.drop_local_encoder()
        self.teacher = Teacher(feature_encoder, Data2Vec2Trunk(config))

    def freeze_teacher(self) -> None:
        """Keep the optimizer and training mode away from the teacher, and its weights in fp32."""
        self.teacher.float().requires_grad_(False).eval()

    def sync_teacher(self) -> None:
        """Set the teacher to an exact copy of the student."""
        copy_weights(self.teacher, self.base_model)
        self.freeze_teacher()

    def update_teacher(self, step: int) -> float:
        """Average the student into the teacher after optimizer step `step` (from 1); returns the decay used."""
        config = self.config
        decay = ema_decay_at(step, config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step)
        update_ema(self.teacher, self.base_model, decay)
        return decay

    def train(self, mode: bool = True):
        super().train(mode)  # type: ignore[misc]
        self.teacher.eval()
        return self

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a model; a checkpoint without a (complete) teacher gets one that equals the loaded student.

        Raises:
            ValueError: the checkpoint has none of the student's weights.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        student = f"{model.base_model_prefix}."
        if all(key in info["missing_keys"] for key in model.state_dict() if key.startswith(student)):
            raise ValueError(
                f"{args[0] if args else kwargs.get('pretrained_model_name_or_path')} holds no weight of a "
                f"{cls.__name__} or of its encoder: it is a checkpoint of another model"
            )
        missing = sorted(key for key in info["missing_keys"] if key.startswith("teacher."))
        if missing:
            logger.warning(
                f"The checkpoint has no teacher ({len(missing)} weights missing): it starts as a copy of the student."
            )
            model.sync_teacher()
        model.freeze_teacher()
        return (model, info) if output_loading_info else model

    def floating_point_ops(self, *args: Any, **kwargs: Any) -> int:
        """0: the Trainer asks at each step, and its formula knows no masks and no teacher (`data2vec inspect` does)."""
        return 0

    # ---- one step of data2vec 2.0 ----

    def pretrain(
        self,
        inputs: Tensor,
        mask: Tensor,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Student, teacher, targets and loss for one batch.

        Args:
            inputs: raw input of the modality, B samples.
            mask: bool [B, M, T], True where the student must predict.
            ids_keep: int64 [B, M, V], the positions the student sees, in the order in which it sees them; by default
                those that `mask` leaves visible. Giving them saves a synchronisation with the GPU.
            noise_keys: int32 [B, M], keys of the noise at hidden positions; by default drawn anew.
            mask_noise: [B, M, T, D], the noise itself, already scaled, instead of `noise_keys`.
            attention_mask: 1 at real, 0 at padded input; None where nothing is padded.
            return_loss: whether to compute the loss.
        """
        config: Data2Vec2PreTrainingConfig = self.config
        encoder: FeatureEncoder = self.base_model.feature_encoder
        embedding = encoder.embed(inputs, attention_mask)
        # None as well where padding is to count as in the authors' code.
        valid = embedding.valid if config.padding == "exact" else None
        mask, ids_keep = self._check_masks(mask, ids_keep, embedding, valid)
        tokens, attention_masks = encoder.contextualize(embedding, mask, ids_keep)
        states = self.base_model.trunk(tokens, attention_masks)
        predictions = self.predict(states, ids_keep, embedding.grid, noise_keys, mask_noise, valid)
        layers = self.teacher_layers(inputs, embedding, attention_mask)
        targets = make_targets(
            layers,
            config.average_top_k_layers,
            batch_norm_target_layer=config.batch_norm_target_layer,
            instance_norm_target_layer=config.instance_norm_target_layer,
            layer_norm_target_layer=config.layer_norm_target_layer,
            layer_norm_targets=config.layer_norm_targets,
            instance_norm_targets=config.instance_norm_targets,
            valid=valid,
        )
        output = Data2VecPreTrainingOutput(
            predictions=predictions,
            targets=targets,
            mask=mask,
            student_states=states,
            local_features=embedding.local_features,
            target_spread=layer_spread(layers, config.average_top_k_layers, embedding.valid),
            valid=embedding.valid,
            visible_valid=embedding.valid_at(ids_keep),
        )
        if return_loss:
            self._add_losses(output, valid)
        return output

    def _check_masks(
        self, mask: Tensor, ids_keep: Tensor | None, embedding: Embedding, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, length, _ = embedding.tokens.shape
        if mask.ndim != 3 or mask.shape[0] != batch or mask.shape[2] != length:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, but {batch} samples of {length} positions "
                f"(grid {embedding.grid}) need [{batch}, masks, {length}]"
            )
        mask = mask.bool()
        if valid is not None:
            mask = mask & valid[:, None]  # there is nothing to predict in padding
        if ids_keep is None:
            return mask, visible_ids(mask, None if valid is None else valid[:, None])
        if ids_keep.shape[:2] != mask.shape[:2] or not 0 < ids_keep.shape[2] < length:
            raise ValueError(
                f"ids_keep has shape {tuple(ids_keep.shape)}, but masks {tuple(mask.shape)} need "
                f"[{batch}, {mask.shape[1]}, visible] with 1 to {length - 1} visible positions"
            )
        return mask, ids_keep

    def predict(
        self,
        states: Tensor,
        ids_keep: Tensor,
        grid: tuple[int, ...],
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Fill hidden positions with noise and decode: [R, S, D] to [B, M, T, D]."""
        config = self.config
        batch, num_masks, num_visible = ids_keep.shape
        visible = states[:, config.num_extra_tokens :]  # [R, V, D]
        visible = F.dropout(visible, config.decoder_dropout, training=self.training)  # type: ignore[attr-defined]
        rows, _, dim = visible.shape
        length = prod(grid)
        if mask_noise is None:
            if noise_keys is None:
                noise_keys = torch.randint(-(2**31), 2**31, (batch, num_masks), dtype=torch.int32)
            noise = self.head.mask_noise(noise_keys.to(visible.device).flatten(), length, visible.dtype)
        else:
            noise = mask_noise.to(visible.dtype).reshape(rows * length, dim)
        offsets = torch.arange(rows, device=visible.device).unsqueeze(1) * length  # [R, 1]
        flat_ids = (ids_keep.reshape(rows, num_visible) + offsets).flatten()  # [R * V]
        filled = noise.index_copy(0, flat_ids, visible.reshape(-1, dim)).view(rows, length, dim)
        if valid is not None:
            valid = valid.repeat_interleave(num_masks, dim=0)  # [R, T]
        return self.head(filled, grid, valid).unflatten(0, (batch, num_masks))  # [B, M, T, D]

    @torch.no_grad()
    def teacher_layers(
        self, inputs: Tensor, embedding: Embedding, attention_mask: Tensor | None = None
    ) -> list[Tensor]:
        """The teacher's view of the whole input, once for all M masks: a list of [B, T, D], first to last layer."""
        config, teacher = self.config, self.teacher
        dtype = embedding.tokens.dtype
        # The teacher's weights are fp32. In a half-precision model it still computes in that precision; under autocast
        # the surrounding context already decides.
        device_type = embedding.tokens.device.type
        half = dtype in (torch.float16, torch.bfloat16) and not torch.is_autocast_enabled(device_type)
        with torch.autocast(device_type, dtype=dtype) if half else nullcontext():
            own = teacher.feature_encoder
            if own is not None and config.teacher_scope == "model":
                embedding = own.embed(inputs, attention_mask)
            encoder = self.base_model.feature_encoder if own is None else own
            layers: list[Tensor] = []
            tokens, attention_masks = encoder.contextualize(embedding)
            teacher.trunk(tokens, attention_masks, target_layers=layers, block_targets=config.end_of_block_targets)
        return [layer[:, config.num_extra_tokens :] for layer in layers]

    def _add_losses(self, output: Data2VecPreTrainingOutput, valid: Tensor | None) -> None:
        config: Data2Vec2PreTrainingConfig = self.config
        loss = partial(regression_loss, loss_beta=config.loss_beta, loss_scale=config.loss_scale)
        assert output.predictions is not None and output.targets is not None and output.mask is not None
        per_position = loss(output.predictions, output.targets[:, None])  # [B, M, T]
        output.regression_loss = masked_mean(per_position, output.mask)
        output.loss = output.regression_loss
        if config.cls_loss_weight:
            assert output.student_states is not None
            batch, num_masks, _ = output.mask.shape
            cls = output.student_states[:, config.num_extra_tokens - 1].unflatten(0, (batch, num_masks))  # [B, M, D]
            per_row = loss(cls, mean_over_positions(output.targets, valid)[:, None])  # [B, M]
            reduced = per_row.sum() if config.cls_loss_reduction == "sum" else per_row.mean()
            output.cls_loss = config.cls_loss_weight * reduced
            output.loss = output.regression_loss + output.cls_loss
