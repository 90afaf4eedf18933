"""What the data2vec 2.0 models of all modalities share: initial weights, the encoder, and its pretraining class.

`modeling_data2vec2_{audio,text,vision}.py` add the raw input's name and what reads it.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import OutputRecorder

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .core import Data2VecCore, StudentTeacher
from .ema import Teacher
from .feature_encoder import FeatureEncoder, WaveformConv
from .heads import ConvDecoder
from .length_groups import can_group, encode_in_groups, group_cost
from .losses import mean_over_positions
from .slices import SliceLoading
from .specialisation import TrunkDifferences
from .student_teacher import Data2Vec2StudentTeacher
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk, Weights


def _require_gradients(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    output.requires_grad_()


def recorded_layers() -> OutputRecorder:
    """Where transformers finds hidden states: it counts the prenet's layers, too, so that -1 is the trunk's last."""
    recorder = OutputRecorder(Data2Vec2Layer)
    recorder.num_hidden_layers_key = "depth"  # not an argument in the oldest transformers, which finds none by number
    return recorder


class Data2Vec2PreTrainedModel(SliceLoading, PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 models."""

    config: Data2Vec2PreTrainingConfig
    feature_encoder_class: type[FeatureEncoder]
    decoder_class: type[ConvDecoder] = ConvDecoder
    num_axes: int  # of the grid of positions
    supports_gradient_checkpointing = True
    _no_split_modules = ["Data2Vec2Layer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": recorded_layers(), "attentions": Data2Vec2Attention}  # noqa: RUF012

    def enable_input_require_grads(self) -> None:
        """Let the input of the first layers require gradients, whatever is frozen before them.

        Libraries ask for it where adapters on frozen weights are trained with checkpointing; `disable_...` ends it.
        """
        parts = dict(self.named_modules())
        encoders = [m for name, m in parts.items() if isinstance(m, FeatureEncoder) and not name.startswith("teacher.")]
        hooks = [encoder.dropout.register_forward_hook(_require_gradients) for encoder in encoders]  # the last before
        self._require_grads_hooks, self._require_grads_hook = hooks, hooks[0]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial weights as in the authors' code.

        | weights | distribution |
        |---|---|
        | linear layers and embeddings | N(0, initializer_range), bias and padding 0 |
        | norms | weight 1, bias 0 |
        | feature encoders, decoders, a modality's differences | as their own `init_weights` say |
        """
        if isinstance(module, FeatureEncoder | WaveformConv | ConvDecoder | TrunkDifferences):
            module.init_weights()
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear):
                init.zeros_(module.bias)
            elif module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


def encode(
    feature_encoder: FeatureEncoder,
    trunk: Data2Vec2Trunk,
    inputs: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> BaseModelOutputWithPooling:
    """Encode raw input [B, ...]: states of all tokens [B, E + T, D], and their mean over real positions [B, D].

    States at padding are 0, but for `padding="reference"`. Without gradients, rows of similar length go through the
    model together, each group as far as it is long (`length_groups.py`).
    """
    config = feature_encoder.config
    together: Any = partial(_encode_together, feature_encoder, trunk, **kwargs)
    if attention_mask is None or not can_group(inputs, attention_mask, config, trunk.training, **kwargs):
        return together(inputs, attention_mask)
    return encode_in_groups(
        together,
        inputs,
        attention_mask,
        num_positions=feature_encoder.num_positions,
        num_extra_tokens=config.num_extra_tokens,
        cost=group_cost(config.hidden_size),
    )


def _encode_together(
    feature_encoder: FeatureEncoder,
    trunk: Data2Vec2Trunk,
    inputs: Tensor,
    attention_mask: Tensor | None,
    weights: Weights | None = None,
    **kwargs: Any,
) -> BaseModelOutputWithPooling:
    config = feature_encoder.config
    embedding = feature_encoder.embed(inputs, attention_mask)
    tokens, attention_masks = feature_encoder.arrange(embedding)
    valid = embedding.valid
    del embedding  # its features would fill memory beside the layers
    tokens, attention_masks = feature_encoder.run_prenet(tokens, attention_masks, **kwargs)
    hidden_states = trunk(tokens, attention_masks, weights=weights, **kwargs)
    pooled = mean_over_positions(hidden_states[:, config.num_extra_tokens :], valid)
    if valid is not None and config.padding == "exact":
        real = F.pad(valid, (config.num_extra_tokens, 0), value=True)  # [B, E + T]
        hidden_states = hidden_states.masked_fill(~real[..., None], 0)
    return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


class Data2Vec2Encoder(Data2Vec2PreTrainedModel):
    """Feature encoder and trunk, without any head: the base of every `Data2Vec2...Model`."""

    # A pretraining checkpoint also holds these; the bare encoder does without.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        self.feature_encoder = self.feature_encoder_class(config)
        self.trunk = Data2Vec2Trunk(config)
        self.post_init()

    def encode(self, inputs: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode raw input [B, ...]; `attention_mask` is 1 at real, 0 at padded input."""
        return encode(self.feature_encoder, self.trunk, inputs, attention_mask, **kwargs)


def teacher_encoder(config: Any, feature_encoder_class: type[FeatureEncoder]) -> FeatureEncoder | None:
    """The teacher's own feature encoder by `teacher_scope`; None where it reads what the student's makes."""
    if config.teacher_scope == "trunk":
        return None
    own = feature_encoder_class(config)
    if config.teacher_scope == "encoder":
        own.drop_local_encoder()
    return own


class Data2Vec2Teacher(Teacher):
    """The averaged copy: a trunk and, by `teacher_scope`, a feature encoder of its own."""

    def __init__(self, config: Any, feature_encoder_class: type[FeatureEncoder]):
        super().__init__()
        self.feature_encoder = teacher_encoder(config, feature_encoder_class)
        # No target passes the last norm; the authors' average of the layers alone has none.
        self.trunk = Data2Vec2Trunk(config, last_norm=config.teacher_scope != "trunk")


class Data2Vec2EncoderForPreTraining(Data2VecCore, Data2Vec2PreTrainedModel):
    """Student, teacher and convolutional decoder: the base of every `Data2Vec2...ForPreTraining`.

    The student sees only what its masks leave; the decoder fills in what is hidden (arXiv 2212.07525 §3).
    """

    encoder_class: type[Data2Vec2Encoder]
    teacher: Data2Vec2Teacher
    # The teacher of several modalities has a last norm, whatever each of them averages.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.trunk\.norm\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.head = self.decoder_class(config, self.num_axes)
        self.teacher = Data2Vec2Teacher(config, self.feature_encoder_class)
        self.post_init()
        self.sync_teacher()

    def side(self, modality: str | None = None) -> StudentTeacher:
        """Student and teacher; there is one modality."""
        student, teacher = self.base_model, self.teacher
        return Data2Vec2StudentTeacher(
            student.feature_encoder, student.trunk, self.head, teacher.feature_encoder, teacher.trunk
        )
