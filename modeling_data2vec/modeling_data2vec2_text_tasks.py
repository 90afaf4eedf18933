"""Text models of data2vec 2.0 for tasks: classes of sentences and of tokens, answers, words under a mask."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import (
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.data2vec.modeling_data2vec_text import Data2VecTextClassificationHead, Data2VecTextLMHead
from transformers.utils.generic import can_return_tuple

from .configuration_data2vec2_text import Data2Vec2TextConfig
from .modeling_data2vec2_tasks import IGNORED, Data2Vec2ForTask, label_loss
from .modeling_data2vec2_text import Data2Vec2TextModel, Data2Vec2TextPreTrainedModel


class Data2Vec2TextForTask(Data2Vec2TextPreTrainedModel, Data2Vec2ForTask):
    """A text encoder with a head."""

    encoder_class = Data2Vec2TextModel
    raw_input_layers = ("embed_tokens", "embed_positions", "embed_norm")


class Data2Vec2TextForSequenceClassification(Data2Vec2TextForTask):
    """A classifier of sentences: the first token through transformers' own head of 1.0 (RoBERTa's).

    Example:
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, num_labels=3)
        >>> Data2Vec2TextForSequenceClassification(config)(torch.tensor([[0, 17, 42, 2]])).logits.shape
        torch.Size([1, 3])
    """

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config)
        self.classifier = Data2VecTextClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Logits and loss.

        Args:
            input_ids: int64 [B, T], beginning with the token that stands for the sentence.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            labels: int64 [B] classes, or numbers to predict where `num_labels` is 1.

        Returns:
            `logits` [B, num_labels].
        """
        states, outputs = self.encode(input_ids, attention_mask, **kwargs)
        logits = self.classifier(states)
        loss = None if labels is None else label_loss(logits, labels, self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2TextForTokenClassification(Data2Vec2TextForTask):
    """A tagger: a linear layer over every token.

    Example:
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64, num_labels=3)
        >>> Data2Vec2TextForTokenClassification(config)(torch.tensor([[0, 17, 42, 2]])).logits.shape
        torch.Size([1, 4, 3])
    """

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> TokenClassifierOutput:
        """Logits of each token, and the loss over labelled ones.

        Args:
            input_ids: int64 [B, T].
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            labels: int64 [B, T] classes, -100 at tokens that don't count, as the later pieces of a word.

        Returns:
            `logits` [B, T, num_labels].
        """
        states, outputs = self.encode(input_ids, attention_mask, **kwargs)
        logits = self.classifier(self.dropout(states))
        valid = None if attention_mask is None else attention_mask.bool()
        loss = None if labels is None else label_loss(logits, labels, self.config, valid)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class Data2Vec2TextForQuestionAnswering(Data2Vec2TextForTask):
    """Answers as spans of a text: where they start and where they end.

    Example:
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> Data2Vec2TextForQuestionAnswering(config)(torch.tensor([[0, 17, 42, 2]])).end_logits.shape
        torch.Size([1, 4])
    """

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Logits of each token as the first and as the last of an answer, and the loss.

        Args:
            input_ids: int64 [B, T], question and text.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            start_positions, end_positions: int64 [B], the answer's first and last token. What lies outside the tokens,
                as -100 does or the end of a text that was cut, does not count.

        Returns:
            `start_logits`, `end_logits` [B, T]; the lowest number there is at padding.
        """
        states, outputs = self.encode(input_ids, attention_mask, **kwargs)
        logits = self.qa_outputs(states)  # [B, T, 2]
        valid = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        start, end = logits.masked_fill(~valid[..., None], torch.finfo(logits.dtype).min).unbind(-1)  # 2 x [B, T]
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = (_position_loss(start, start_positions, valid) + _position_loss(end, end_positions, valid)) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start,
            end_logits=end,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _position_loss(logits: Tensor, positions: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of positions [B] that are real; logits [B, T], valid bool [B, T]."""
    length = logits.shape[1]
    inside = (positions >= 0) & (positions < length)
    inside = inside & valid.gather(1, positions.clamp(0, length - 1)[:, None])[:, 0]
    return F.cross_entropy(logits.float(), positions.masked_fill(~inside, IGNORED), ignore_index=IGNORED)


class Data2Vec2TextForMaskedLM(Data2Vec2TextForTask):
    """Words under a mask, by transformers' own head of 1.0 (RoBERTa's), which shares the token embeddings.

    data2vec has no use for it: pretraining predicts features. It is for adapting an encoder to a domain's words, and
    for reading what an encoder knows of them.

    Example:
        >>> config = Data2Vec2TextConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=128, average_top_k_layers=2, decoder_dim=64)
        >>> Data2Vec2TextForMaskedLM(config)(torch.tensor([[0, 17, 42, 2]])).logits.shape
        torch.Size([1, 4, 100])
    """

    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.decoder.weight": "data2vec2_text.feature_encoder.embed_tokens.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: Data2Vec2TextConfig):
        super().__init__(config)
        self.lm_head = Data2VecTextLMHead(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as the base class does; the words' bias is 0."""
        super()._init_weights(module)
        if isinstance(module, Data2VecTextLMHead):
            init.zeros_(module.bias)

    def get_output_embeddings(self) -> nn.Module:
        """The layer whose weight is that of the token embeddings."""
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another layer in its place, as for a larger vocabulary."""
        self.lm_head.decoder = new_embeddings
        self.lm_head.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> MaskedLMOutput:
        """Logits of each word at each token, and the loss over those to predict.

        Args:
            input_ids: int64 [B, T], some of them the tokenizer's mask token.
            attention_mask: [B, T], 1 at real tokens; None where nothing is padded.
            labels: int64 [B, T], the tokens under the masks, -100 elsewhere.

        Returns:
            `logits` [B, T, vocab_size].
        """
        states, outputs = self.encode(input_ids, attention_mask, **kwargs)
        logits = self.lm_head(states)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
