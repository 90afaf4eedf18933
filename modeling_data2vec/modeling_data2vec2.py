"""data2vec 2.0, whatever the modality: loading, initial weights, the encoder, its pretraining class, its task models.

`modeling_data2vec2_{audio,text,vision}.py` add the raw input's name and what reads it; `..._tasks.py` the heads.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import OutputRecorder

from .configuration_data2vec2 import Data2Vec2PreTrainingConfig
from .core import Data2VecCore, StudentTeacher
from .ema import Teacher
from .feature_encoder import FeatureEncoder
from .heads import ConvDecoder
from .model_files import SafeLoading
from .objective import mean_over_positions
from .student_teacher import Data2Vec2StudentTeacher
from .trunk import Data2Vec2Attention, Data2Vec2Layer, Data2Vec2Trunk, Weights

IGNORED = -100  # a label that doesn't count, everywhere in transformers
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def _require_gradients(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    output.requires_grad_()


def recorded_layers() -> OutputRecorder:
    """Tell transformers where hidden states are: the prenet's layers count, too, so that -1 is the trunk's last."""
    recorder = OutputRecorder(Data2Vec2Layer)
    recorder.num_hidden_layers_key = "depth"  # not an argument in the oldest transformers, which finds none by number
    return recorder


def model_of_parts(name: Any, hub: dict[str, Any]) -> Any:
    """The class of a checkpoint's model where it has several modalities, as the Auto classes know it; None otherwise.

    The joint model is built of the single ones. So these do not import it, and their code can be shared without it.

    Args:
        name: folder or Hub id.
        hub: how to reach the Hub: `revision`, `token` and so on.
    """
    try:
        values, _ = PreTrainedConfig.get_config_dict(name, **hub)
    except OSError:  # whoever loads the model will say it better
        return None
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    model = MODEL_MAPPING.get(CONFIG_MAPPING[model_type], None)
    return model if hasattr(model, "part_options") else None


class Data2Vec2PreTrainedModel(SafeLoading, PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 models."""

    config: Data2Vec2PreTrainingConfig
    modality: str | None = None  # the joint models have none
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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model; of a checkpoint with several modalities, the part that this class is for.

        Raises:
            ValueError: the checkpoint does not have the modality.
            OSError: there is no such model, or it has no safetensors.
        """
        name = pretrained_model_name_or_path
        if cls.modality is None or name is None or kwargs.get("state_dict") is not None:
            return super().from_pretrained(name, *args, **kwargs)
        whole = model_of_parts(name, {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs})
        if whole is None:
            return super().from_pretrained(name, *args, **kwargs)
        model = super().from_pretrained(None, *args, **whole.part_options(cls, name, **kwargs))
        (model[0] if isinstance(model, tuple) else model).config._name_or_path = str(name)
        return model

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
        | modules with `init_weights`, such as feature encoders and decoders | as they say |
        """
        if not isinstance(module, PreTrainedModel) and hasattr(module, "init_weights"):
            cast(Any, module).init_weights()
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
    attention_mask: Tensor | None = None,
    weights: Weights | None = None,
    **kwargs: Any,
) -> BaseModelOutputWithPooling:
    """Encode raw input [B, ...]: states of all tokens [B, E + T, D], and their mean over real positions [B, D].

    States at padding are 0, but for `padding="reference"`.
    """
    config = feature_encoder.config
    embedding = feature_encoder.embed(inputs, attention_mask)
    tokens, attention_masks = feature_encoder.arrange(embedding)
    valid = embedding.valid
    del embedding  # its features would fill memory beside the layers
    tokens, attention_masks = feature_encoder.run_prenet(tokens, attention_masks, **kwargs)
    hidden_states, _ = trunk(tokens, attention_masks, weights=weights, **kwargs)
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
        """What a forward returns: states of all tokens, and their mean over real positions; see `encode`."""
        return encode(self.feature_encoder, self.trunk, inputs, attention_mask, **kwargs)


def modality_models() -> dict[str, type["Data2Vec2EncoderForPreTraining"]]:
    """Pretraining classes of all kinds of data by `modality`, sorted: the package's, and those of imported files."""
    found = {str(one.modality): one for one in Data2Vec2EncoderForPreTraining.__subclasses__()}
    return dict(sorted(found.items()))


def teacher_encoder(config: Any, feature_encoder_class: Callable[..., FeatureEncoder]) -> FeatureEncoder | None:
    """The teacher's own feature encoder by `teacher_scope`; None where it reads what the student's makes."""
    if config.teacher_scope == "trunk":
        return None
    if config.teacher_scope == "model":
        return feature_encoder_class(config)
    return feature_encoder_class(config, local_encoder=False)


class Data2Vec2Teacher(Teacher):
    """The averaged copy: a trunk and, by `teacher_scope`, a feature encoder of its own."""

    def __init__(self, config: Any, feature_encoder_class: Callable[..., FeatureEncoder]):
        super().__init__()
        self.feature_encoder = teacher_encoder(config, feature_encoder_class)
        # No target passes the last norm; the authors' average of the layers alone has none.
        self.trunk = Data2Vec2Trunk(config, last_norm=config.teacher_scope != "trunk")


def is_foreign(model_class: type) -> bool:
    """Whether a class stands in a file outside of this package, and so has to be made known to the Auto classes."""
    return not model_class.__module__.startswith(f"{__package__}.")


class Data2Vec2EncoderForPreTraining(Data2VecCore, Data2Vec2PreTrainedModel):
    """Student, teacher and convolutional decoder: the base of every `Data2Vec2...ForPreTraining`.

    The student sees only what its masks leave; the decoder fills in what is hidden (arXiv 2212.07525 §3).

    A direct subclass is a kind of data: one in a file of one's own is known to the Auto classes and to the joint model
    by its `config_class`, `encoder_class`, `modality` and `main_input_name` from then on.
    """

    encoder_class: type[Data2Vec2Encoder]
    teacher: Data2Vec2Teacher
    # The teacher of several modalities has a last norm, whatever each of them averages.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.trunk\.norm\."]  # noqa: RUF012

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Data2Vec2EncoderForPreTraining in cls.__bases__ and is_foreign(cls):
            config_class: Any = cls.config_class
            name = config_class.model_type
            if name in CONFIG_MAPPING and not is_foreign(CONFIG_MAPPING[name]):
                raise ValueError(
                    f"{cls.__name__} has the model_type {name!r} of {CONFIG_MAPPING[name].__name__}: give its config "
                    'one of its own, "data2vec2-" and a name'
                )
            AutoConfig.register(name, config_class, exist_ok=True)
            AutoModel.register(config_class, cls.encoder_class, exist_ok=True)
            AutoModelForPreTraining.register(config_class, cls, exist_ok=True)

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


# ---- models for tasks ----


def label_loss(logits: Tensor, labels: Tensor, config: Any, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy, binary cross-entropy or squared error over whatever has a label, as `config.problem_type` says.

    Args:
        logits: [..., num_labels].
        labels: int64 [...] classes; or [..., num_labels] of 0 and 1, where several labels may hold, or of numbers to
            predict; [...] of numbers where `num_labels` is 1. What is -100 does not count.
        config: with `num_labels` and `problem_type`, which is filled in from the labels where it is None.
        valid: bool [...], False where labels don't count whatever they are, as in padding.

    Example:
        >>> import torch
        >>> from transformers import PreTrainedConfig
        >>> logits, labels = torch.zeros(2, 5, 3), torch.tensor([[0, 1, 2, 1, -100], [2, -100, -100, -100, -100]])
        >>> float(label_loss(logits, labels, PreTrainedConfig(num_labels=3)).exp())
        3.0
    """
    keep = labels != IGNORED
    if labels.ndim == logits.ndim:
        keep = keep.all(-1)
        labels = labels.to(logits.dtype)
    if valid is not None:
        keep = keep & valid
    return ForSequenceClassificationLoss(labels[keep], logits[keep], config)


def ctc_loss(logits: Tensor, labels: Tensor, num_frames: Tensor, config: Any) -> Tensor:
    """CTC over each clip's real frames and each sentence's real letters (Graves et al. 2006).

    Args:
        logits: [B, T, vocab_size].
        labels: int64 [B, letters], negative after the end of a sentence.
        num_frames: int [B], real frames.
        config: with `vocab_size`, `pad_token_id` (the blank), `ctc_loss_reduction` and `ctc_zero_infinity`.

    Raises:
        ValueError: a label is beyond the vocabulary.
    """
    if labels.max() >= config.vocab_size:
        raise ValueError(f"labels go up to {int(labels.max())}, but vocab_size is {config.vocab_size}")
    letters = labels >= 0
    return F.ctc_loss(
        F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1),  # [T, B, vocab_size]
        labels.masked_select(letters),
        num_frames,
        letters.sum(1),
        blank=config.pad_token_id or 0,
        reduction=config.ctc_loss_reduction,
        zero_infinity=config.ctc_zero_infinity,
    )


def real_lengths(inputs: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Real raw input [B] of each row of [B, length, ...], in samples, frames or tokens."""
    if attention_mask is None:
        return inputs.new_full(inputs.shape[:1], inputs.shape[1], dtype=torch.long)
    return attention_mask.long().sum(1)


class Data2Vec2ForTask(Data2Vec2PreTrainedModel):
    """An encoder with a head: the base of every data2vec 2.0 model that is fine-tuned for a task.

    A subclass adds the layers of its head after `super().__init__(config)`, then calls `post_init()`. One in a file of
    one's own says by `auto_class` which of the Auto classes leads to it.
    """

    encoder_class: type[Data2Vec2Encoder]
    auto_class: Any = None  # of the package's own classes, `auto.py` says it
    raw_input_layers: tuple[str, ...]  # of the feature encoder
    # Trainer then divides by the number of micro-batches itself: losses are means over one of them.
    accepts_loss_kwargs = False
    # A pretraining checkpoint also holds these.
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^head\."]  # noqa: RUF012

    def __init__(self, config: Any):
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.encoder_class(config))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.auto_class is not None and is_foreign(cls):
            cls.auto_class.register(cls.config_class, cls, exist_ok=True)

    def freeze_feature_encoder(self) -> None:
        """Keep the layers that read raw input as they are: convolutions over the waveform, embeddings."""
        for name in self.raw_input_layers:
            layer = getattr(self.base_model.feature_encoder, name)
            if layer is not None:
                layer.requires_grad_(False)

    def freeze_base_model(self) -> None:
        """Train the head alone."""
        self.base_model.requires_grad_(False)

    def encode(self, *inputs: Tensor | None, **kwargs: Any) -> tuple[Tensor, BaseModelOutputWithPooling]:
        """States [B, T, D] without extra tokens, and the encoder's outputs."""
        outputs = self.base_model(*inputs, **kwargs)
        return outputs.last_hidden_state[:, self.config.num_extra_tokens :], outputs

    def encode_layers(self, *inputs: Tensor | None, **kwargs: Any) -> tuple[list[Tensor], BaseModelOutputWithPooling]:
        """States [B, T, D] at the end of every layer, what enters the first one before them; and the outputs.

        The outputs hold hidden states only where the caller asks for them.
        """
        asked = kwargs.pop("output_hidden_states", None)
        outputs = self.base_model(*inputs, output_hidden_states=True, **kwargs)
        layers = [states[:, self.config.num_extra_tokens :] for states in outputs.hidden_states]
        asked = self.config.output_hidden_states if asked is None else asked
        outputs.hidden_states = hidden_states_asked_for(outputs.hidden_states, asked)
        return layers, outputs


class Data2Vec2ForPooledClasses(Data2Vec2ForTask):
    """A classifier of whole samples: one pooled state, a norm and a linear layer, as the authors fine-tune."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.fc_norm = nn.LayerNorm(config.hidden_size, 1e-6)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def classify(self, pooled: Tensor, labels: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """(loss or None, logits [B, num_labels]) of pooled states [B, D]."""
        logits = self.classifier(self.fc_norm(pooled))
        return None if labels is None else label_loss(logits, labels, self.config), logits


def hidden_states_asked_for(
    hidden_states: tuple[Tensor, ...], asked: bool | int | list[int]
) -> tuple[Tensor | None, ...] | None:
    """Select the states that `output_hidden_states` asks for: all, none, or some numbers, and None for the others."""
    if isinstance(asked, bool):
        return hidden_states if asked else None
    kept = {number % len(hidden_states) for number in ([asked] if isinstance(asked, int) else asked)}
    return tuple(states if number in kept else None for number, states in enumerate(hidden_states))


def check_no_layer_is_skipped(config: Any, reader: str) -> None:
    """Raise a ValueError where training skips layers at random whose states `reader` needs."""
    for name in ("layerdrop", "prenet_layerdrop"):
        if getattr(config, name):
            raise ValueError(
                f"{name} is {getattr(config, name)}, but {reader} reads every layer, so none can be skipped in "
                "training: set layerdrop and prenet_layerdrop to 0, e.g. from_pretrained(..., layerdrop=0.0, "
                "prenet_layerdrop=0.0)"
            )
