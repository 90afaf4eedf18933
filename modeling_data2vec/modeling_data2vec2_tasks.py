"""Base classes and the loss of the data2vec 2.0 models for tasks; `modeling_data2vec2_*_tasks.py` add the heads."""

from typing import Any

from torch import Tensor, nn
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2PreTrainedModel, is_foreign

IGNORED = -100  # a label that doesn't count, everywhere in transformers


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
