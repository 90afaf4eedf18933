"""Speech models of data2vec 2.0 for tasks: recognition, classes of clips and of frames, speaker vectors."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    CausalLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    XVectorOutput,
)
from transformers.models.data2vec.modeling_data2vec_audio import AMSoftmaxLoss, TDNNLayer
from transformers.utils import is_torchdynamo_exporting
from transformers.utils.generic import can_return_tuple

from .configuration_data2vec2_audio import Data2Vec2AudioConfig
from .ctc import ctc_loss, real_lengths
from .embedding import mean_over_positions, real_positions
from .modeling_data2vec2_audio import Data2Vec2AudioModel, Data2Vec2AudioPreTrainedModel
from .modeling_data2vec2_tasks import IGNORED, Data2Vec2ForTask, check_no_layer_is_skipped, label_loss


class Data2Vec2AudioForTask(Data2Vec2AudioPreTrainedModel, Data2Vec2ForTask):
    """A speech encoder with a head."""

    encoder_class = Data2Vec2AudioModel
    raw_input_layers = ("convs",)

    def num_real_frames(self, input_values: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Frames [B] that each clip of [B, samples] gives."""
        return self.config.num_frames(real_lengths(input_values, attention_mask))


class Data2Vec2AudioForCTC(Data2Vec2AudioForTask):
    """A speech recogniser: the encoder, and a linear layer that names a letter or none for every frame.

    Example:
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=30,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> Data2Vec2AudioForCTC(config)(torch.randn(1, 16_000)).logits.shape
        torch.Size([1, 49, 30])
    """

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.final_dropout)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutput:
        """Letters' logits for every frame, and the CTC loss.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            labels: int64 [B, letters], -100 after the end of a sentence.

        Returns:
            `logits` [B, T, vocab_size].
        """
        states, outputs = self.encode(input_values, attention_mask, **kwargs)
        logits = self.lm_head(self.dropout(states))  # [B, T, vocab_size]
        loss = None
        if labels is not None:
            loss = ctc_loss(logits, labels, self.num_real_frames(input_values, attention_mask), self.config)
        return CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2AudioForLabels(Data2Vec2AudioForTask):
    """A speech encoder whose head reads the last layer, or all of them (`config.use_weighted_layer_sum`), weighted.

    The weights are trained with the head (SUPERB, arXiv 2105.01051 §3.2).
    """

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        if config.use_weighted_layer_sum:
            check_no_layer_is_skipped(config, "use_weighted_layer_sum")
            num_layers = config.depth + 1  # with what enters the first one
            self.layer_weights = nn.Parameter(torch.ones(num_layers) / num_layers)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as the base class does; all layers weigh the same."""
        super()._init_weights(module)
        if isinstance(module, Data2Vec2AudioForLabels) and self.config.use_weighted_layer_sum:
            init.constant_(module.layer_weights, 1 / len(module.layer_weights))

    def encode(self, *inputs: Tensor | None, **kwargs: Any) -> tuple[Tensor, BaseModelOutputWithPooling]:
        if not self.config.use_weighted_layer_sum:
            return super().encode(*inputs, **kwargs)
        layers, outputs = self.encode_layers(*inputs, **kwargs)
        weights = self.layer_weights.softmax(0)
        return torch.stack([weight * states for weight, states in zip(weights, layers, strict=True)]).sum(0), outputs

    def real_frames(self, states: Tensor, input_values: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """bool [B, T] for states [B, T, D]; None where nothing is padded."""
        if attention_mask is None:
            return None
        return real_positions(self.num_real_frames(input_values, attention_mask), states.shape[1])


class Data2Vec2AudioForSequenceClassification(Data2Vec2AudioForLabels):
    """A classifier of clips: a projection, the mean of the real frames, and a linear layer.

    Example:
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_labels=3,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> Data2Vec2AudioForSequenceClassification(config)(torch.randn(2, 16_000)).logits.shape
        torch.Size([2, 3])
    """

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Logits and loss of each clip.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            labels: int64 [B] classes, or as `config.problem_type` says.

        Returns:
            `logits` [B, num_labels].
        """
        states, outputs = self.encode(input_values, attention_mask, **kwargs)
        valid = self.real_frames(states, input_values, attention_mask)
        logits = self.classifier(mean_over_positions(self.projector(states), valid))
        loss = None if labels is None else label_loss(logits, labels, self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2AudioForAudioFrameClassification(Data2Vec2AudioForLabels):
    """A classifier of frames: who speaks, or which sound is heard, every 20 ms.

    Example:
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_labels=3,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> Data2Vec2AudioForAudioFrameClassification(config)(torch.randn(2, 16_000)).logits.shape
        torch.Size([2, 49, 3])
    """

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Logits of each frame, and the loss over real ones.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            labels: int64 [B, T] classes, -100 at frames that don't count; or [B, T, num_labels] of 0 and 1, where
                several labels may hold at once, as when speakers interrupt each other.

        Returns:
            `logits` [B, T, num_labels] with T = `config.num_frames(samples)`.
        """
        states, outputs = self.encode(input_values, attention_mask, **kwargs)
        logits = self.classifier(states)
        loss = None
        if labels is not None:
            loss = label_loss(logits, labels, self.config, self.real_frames(states, input_values, attention_mask))
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TimeDelayLayer(TDNNLayer):
    """transformers' dilated convolution over frames, which also runs when its linear layer is quantised."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[B, T, C] to [B, T - (kernel - 1) * dilation, C']."""
        if isinstance(self.kernel.weight, Tensor):
            return super().forward(hidden_states)
        length = hidden_states.shape[1] - (self.kernel_size - 1) * self.dilation
        starts = (i * self.dilation for i in range(self.kernel_size))
        windows = torch.cat([hidden_states[:, start : start + length] for start in starts], dim=-1)
        return self.activation(self.kernel(windows))


class Data2Vec2AudioForXVector(Data2Vec2AudioForLabels):
    """Vectors of speakers: dilated convolutions over frames, their mean and spread, two linear layers.

    It is trained as a classifier of speakers with a margin between them. The vectors of two clips with one voice are
    alike (cosine), also where the voice is new (x-vectors, Snyder et al. 2018).

    Example:
        >>> config = Data2Vec2AudioConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_labels=3,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, conv_dim=[32] * 7)
        >>> Data2Vec2AudioForXVector(config)(torch.randn(2, 16_000)).embeddings.shape
        torch.Size([2, 512])
    """

    def __init__(self, config: Data2Vec2AudioConfig):
        super().__init__(config)
        self.projector = nn.Linear(config.hidden_size, config.tdnn_dim[0])
        self.tdnn = nn.ModuleList(TimeDelayLayer(config, i) for i in range(len(config.tdnn_dim)))
        self.feature_extractor = nn.Linear(config.tdnn_dim[-1] * 2, config.xvector_output_dim)
        self.classifier = nn.Linear(config.xvector_output_dim, config.xvector_output_dim)
        self.objective = AMSoftmaxLoss(config.xvector_output_dim, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as the base class does; the speakers' directions are N(0, 1)."""
        super()._init_weights(module)
        if isinstance(module, AMSoftmaxLoss):
            init.normal_(module.weight)

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> XVectorOutput:
        """A vector for each clip, and the loss.

        Args:
            input_values: [B, samples] at 16 kHz, normalised, padded on the right.
            attention_mask: [B, samples], 1 at real samples; None where nothing is padded.
            labels: int64 [B], the speakers; clips of -100 don't count.

        Returns:
            `embeddings` [B, xvector_output_dim], the vectors; `logits` [B, xvector_output_dim], what the loss compares
            with the speakers' directions, the columns of `objective.weight`.

        Raises:
            ValueError: a clip is too short for the convolutions.
        """
        states, outputs = self.encode(input_values, attention_mask, **kwargs)
        lost = sum((k - 1) * d for k, d in zip(self.config.tdnn_kernel, self.config.tdnn_dilation, strict=True))
        counts = self.num_real_frames(input_values, attention_mask) - lost  # [B]
        if not is_torchdynamo_exporting() and int(counts.min()) < 1:
            raise ValueError(
                f"a clip has {int(counts.min()) + lost} frames, but the convolutions of tdnn_kernel "
                f"{list(self.config.tdnn_kernel)} and tdnn_dilation {list(self.config.tdnn_dilation)} need at least "
                f"{lost + 1}: leave out shorter clips"
            )
        states = self.projector(states)
        for layer in self.tdnn:
            states = layer(states)  # [B, T - lost, tdnn_dim] in the end
        embeddings = self.feature_extractor(mean_and_spread(states, real_positions(counts, states.shape[1])))
        logits = self.classifier(embeddings)
        loss = None
        if labels is not None:
            loss = self.objective(logits[labels != IGNORED], labels[labels != IGNORED])
        return XVectorOutput(
            loss=loss,
            logits=logits,
            embeddings=embeddings,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def mean_and_spread(x: Tensor, valid: Tensor) -> Tensor:
    """Mean and standard deviation of each sample over its real positions: x [B, T, D], valid bool [B, T] to [B, 2D]."""
    mean = mean_over_positions(x, valid)
    squares = (x - mean[:, None]).square().masked_fill(~valid[..., None], 0).sum(1)  # [B, D]
    variance = squares / (valid.sum(1, keepdim=True) - 1).clamp_min(1)
    return torch.cat([mean, variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()], dim=1)
