"""Spectrogram models of data2vec 2.0 for tasks: classes of clips and of frames, recognition of speech.

Frames here are patches along time. A head of frames reads all bands of a frame side by side: a mean over bands would
mix low and high pitches up.
"""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_data2vec2_spectrogram import Data2Vec2SpectrogramConfig
from .ctc import ctc_loss, real_lengths
from .embedding import real_positions
from .modeling_data2vec2_spectrogram import Data2Vec2SpectrogramModel, Data2Vec2SpectrogramPreTrainedModel
from .modeling_data2vec2_tasks import Data2Vec2ForPooledClasses, Data2Vec2ForTask, label_loss


class Data2Vec2SpectrogramForTask(Data2Vec2SpectrogramPreTrainedModel, Data2Vec2ForTask):
    """A spectrogram encoder with a head."""

    encoder_class = Data2Vec2SpectrogramModel
    raw_input_layers = ("patch_embed", "patch_projection")


class Data2Vec2SpectrogramForAudioClassification(Data2Vec2SpectrogramForTask, Data2Vec2ForPooledClasses):
    """A classifier of clips: the first extra token or the mean of the patches, a norm and a linear layer, as EAT's.

    `config.classifier_pooling` says which. One label holds for each clip, or with
    `problem_type="multi_label_classification"` any number of them, as in AudioSet.

    Example:
        >>> import torch
        >>> config = Data2Vec2SpectrogramConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, num_mel_bins=64, num_labels=10)
        >>> Data2Vec2SpectrogramForAudioClassification(config)(torch.randn(1, 100, 64)).logits.shape
        torch.Size([1, 10])
    """

    def __init__(self, config: Data2Vec2SpectrogramConfig):
        if config.classifier_pooling == "cls" and not config.num_extra_tokens:
            raise ValueError(
                'classifier_pooling is "cls", but num_extra_tokens is 0, so there is no token to read: set '
                'classifier_pooling to "mean"'
            )
        super().__init__(config)

    @can_return_tuple
    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Logits and loss of each clip.

        Args:
            input_features: [B, frames, mel bins], log-mel, normalised, padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded.
            labels: int64 [B] classes; [B, num_labels] of 0 and 1 where several may hold; or as `config.problem_type`
                says.

        Returns:
            `logits` [B, num_labels].
        """
        _, outputs = self.encode(input_features, attention_mask, **kwargs)
        pooled = outputs.last_hidden_state[:, 0] if self.config.classifier_pooling == "cls" else outputs.pooler_output
        loss, logits = self.classify(pooled, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2SpectrogramForFrames(Data2Vec2SpectrogramForTask):
    """A spectrogram encoder whose head reads frames: all bands of a patch in time."""

    def frames(self, states: Tensor) -> Tensor:
        """Patches [B, T, D] to frames [B, T / bands, bands * D]."""
        return states.unflatten(1, (-1, self.config.num_bands)).flatten(2)

    def num_real_frames(self, input_features: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Frames [B] that each clip of [B, frames, mel bins] gives; EAT's padding counts as real."""
        real = attention_mask if self.config.padding == "exact" else None
        return self.config.num_time_patches(real_lengths(input_features, real))


class Data2Vec2SpectrogramForAudioFrameClassification(Data2Vec2SpectrogramForFrames):
    """A classifier of frames: which sound is heard, or who speaks, in each patch of time.

    Example:
        >>> import torch
        >>> config = Data2Vec2SpectrogramConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, patch_size=(4, 32), num_labels=3)
        >>> Data2Vec2SpectrogramForAudioFrameClassification(config)(torch.randn(2, 100, 128)).logits.shape
        torch.Size([2, 25, 3])
    """

    def __init__(self, config: Data2Vec2SpectrogramConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.num_bands * config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Logits of each frame, and the loss over real ones.

        Args:
            input_features: [B, frames, mel bins], log-mel, normalised, padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded.
            labels: int64 [B, F] classes, -100 at frames that don't count; or [B, F, num_labels] of 0 and 1, where
                several labels may hold at once.

        Returns:
            `logits` [B, F, num_labels] with F = `config.num_time_patches(frames)`.
        """
        states, outputs = self.encode(input_features, attention_mask, **kwargs)
        logits = self.classifier(self.frames(states))
        loss = None
        if labels is not None:
            counts = self.num_real_frames(input_features, attention_mask)
            loss = label_loss(logits, labels, self.config, real_positions(counts, logits.shape[1]))
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2SpectrogramForCTC(Data2Vec2SpectrogramForFrames):
    """A speech recogniser: the encoder, and a linear layer that names a letter or none for every frame.

    EAT's patches of 16 frames are 160 ms, in which several letters are spoken: choose a `patch_size` of few frames.

    Example:
        >>> import torch
        >>> config = Data2Vec2SpectrogramConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, patch_size=(4, 32), vocab_size=30)
        >>> Data2Vec2SpectrogramForCTC(config)(torch.randn(1, 100, 128)).logits.shape
        torch.Size([1, 25, 30])
    """

    def __init__(self, config: Data2Vec2SpectrogramConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.final_dropout)
        self.lm_head = nn.Linear(config.num_bands * config.hidden_size, config.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutput:
        """Letters' logits for every frame, and the CTC loss.

        Args:
            input_features: [B, frames, mel bins], log-mel, normalised, padded on the right.
            attention_mask: [B, frames], 1 at real frames; None where nothing is padded.
            labels: int64 [B, letters], -100 after the end of a sentence.

        Returns:
            `logits` [B, F, vocab_size] with F = `config.num_time_patches(frames)`.
        """
        states, outputs = self.encode(input_features, attention_mask, **kwargs)
        logits = self.lm_head(self.dropout(self.frames(states)))
        loss = None
        if labels is not None:
            loss = ctc_loss(logits, labels, self.num_real_frames(input_features, attention_mask), self.config)
        return CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
