"""Image models of data2vec 2.0 for tasks: classes of images and of their pixels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput, SemanticSegmenterOutput
from transformers.models.data2vec.modeling_data2vec_vision import Data2VecVisionFCNHead, Data2VecVisionUperHead
from transformers.utils.generic import can_return_tuple

from .configuration_data2vec2_vision import Data2Vec2VisionConfig
from .modeling_data2vec2_tasks import Data2Vec2ForPooledClasses, Data2Vec2ForTask, check_no_layer_is_skipped
from .modeling_data2vec2_vision import Data2Vec2VisionModel, Data2Vec2VisionPreTrainedModel


class Data2Vec2VisionForTask(Data2Vec2VisionPreTrainedModel, Data2Vec2ForTask):
    """An image encoder with a head."""

    encoder_class = Data2Vec2VisionModel
    raw_input_layers = ("patch_embed", "patch_projection")


class Data2Vec2VisionForImageClassification(Data2Vec2VisionForTask, Data2Vec2ForPooledClasses):
    """An image classifier: the mean of the patch tokens, a norm and a linear layer, as the authors fine-tune.

    Example:
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1, num_labels=10,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=32)
        >>> Data2Vec2VisionForImageClassification(config)(torch.randn(1, 3, 32, 32)).logits.shape
        torch.Size([1, 10])
    """

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Logits and loss.

        Args:
            pixel_values: [B, channels, height, width], normalised.
            labels: int64 [B] classes, or as `config.problem_type` says.

        Returns:
            `logits` [B, num_labels].
        """
        _, outputs = self.encode(pixel_values, **kwargs)
        loss, logits = self.classify(outputs.pooler_output, labels)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [B, num_labels] of `forward_features` [B, E + T, D], or what they are computed from, as in timm."""
        pooled = self.base_model.forward_head(features)
        return self.fc_norm(pooled) if pre_logits else self.classify(pooled, None)[1]


class Data2Vec2VisionForSemanticSegmentation(Data2Vec2VisionForTask):
    """A classifier of pixels: UPerNet over four layers of the encoder, with transformers' own heads of 1.0 (BEiT's).

    The four layers become maps of 4, 2, 1 and 1/2 cells for each patch edge (arXiv 1807.10221; BEiT, arXiv 2106.08254).

    Example:
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1, num_labels=5,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=64)
        >>> Data2Vec2VisionForSemanticSegmentation(config).eval()(torch.randn(1, 3, 64, 32)).logits.shape
        torch.Size([1, 5, 16, 8])
    """

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config)
        check_no_layer_is_skipped(config, "Data2Vec2VisionForSemanticSegmentation")
        dim = config.hidden_size

        def double() -> nn.Module:
            return nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)

        self.fpn1 = nn.Sequential(double(), nn.BatchNorm2d(dim), nn.GELU(), double())
        self.fpn2 = nn.Sequential(double())
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(kernel_size=2, stride=2)
        self.decode_head = Data2VecVisionUperHead(config)
        self.auxiliary_head = Data2VecVisionFCNHead(config) if config.use_auxiliary_head else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as the base class does; the head's convolutions N(0, initializer_range), batch norms 1 and 0."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            PreTrainedModel._init_weights(self, module)

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> SemanticSegmenterOutput:
        """Logits of small squares of pixels, and the loss over pixels.

        Args:
            pixel_values: [B, channels, height, width], normalised; at least two patches high and wide, and in training
                at least two images, since the head normalises over the batch.
            labels: int64 [B, height, width] classes; `config.semantic_loss_ignore_index` and what is negative don't
                count.

        Returns:
            `logits` [B, num_labels, 4 * height / patch, 4 * width / patch]; the image processor's
            `post_process_semantic_segmentation` brings them to any size.
        """
        rows, columns = (size // self.config.patch_size for size in pixel_values.shape[2:])
        if min(rows, columns) < 2 or (self.training and len(pixel_values) < 2):
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, but this head takes at least 2 x 2 patches of "
                f"{self.config.patch_size} pixels and, in training, at least 2 images: take larger images or batches "
                "(dataloader_drop_last=True in Trainer leaves out a last batch of one)"
            )
        layers, outputs = self.encode_layers(pixel_values, **kwargs)
        maps = [layers[i].transpose(1, 2).unflatten(2, (rows, columns)) for i in self.config.segmentation_layers]
        scales = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        maps = [scale(one) for scale, one in zip(scales, maps, strict=True)]  # [B, D, h, w]
        logits = self.decode_head(maps)
        loss = None
        if labels is not None:
            loss = self._pixel_loss(logits, labels)
            if self.auxiliary_head is not None:
                loss = loss + self.config.auxiliary_loss_weight * self._pixel_loss(self.auxiliary_head(maps), labels)
        return SemanticSegmenterOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _pixel_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits [B, num_labels, h, w], brought to the size of the labels."""
        logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
        ignored = self.config.semantic_loss_ignore_index
        return F.cross_entropy(logits, labels.masked_fill(labels < 0, ignored), ignore_index=ignored)
