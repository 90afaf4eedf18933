"""Images: the feature encoder of data2vec 2.0, the model, and the one with a teacher for pretraining."""

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.output_capturing import capture_outputs

from .configuration_data2vec2 import Data2Vec2VisionConfig
from .core import Data2VecPreTrainingOutput
from .embedding import Embedding, check_images
from .modeling_data2vec2 import Data2Vec2Encoder, Data2Vec2EncoderForPreTraining, Data2Vec2PreTrainedModel, encode
from .patch_encoder import PatchFeatureEncoder


class ImageFeatureEncoder(PatchFeatureEncoder):
    """Patches of an image, for any size that the patch size divides."""

    def __init__(self, config: Data2Vec2VisionConfig):
        super().__init__(config, config.num_channels)
        self.config: Data2Vec2VisionConfig = config

    def embed(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Embedding:
        """Cut images into patches.

        Args:
            inputs: [B, channels, height, width], normalised pixels.
            attention_mask: must be None: the images of a batch are of one size.

        Raises:
            ValueError: for a wrong number of channels or a size that the patch size does not divide.
        """
        check_images(inputs, self.config.num_channels, self.config.patch_size)
        return self.embed_patches(inputs)


class Data2Vec2VisionPreTrainedModel(Data2Vec2PreTrainedModel):
    """Loading, saving and initial weights of all data2vec 2.0 image models."""

    config: Data2Vec2VisionConfig
    config_class = Data2Vec2VisionConfig
    base_model_prefix = "data2vec2_vision"
    modality = "vision"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    feature_encoder_class = ImageFeatureEncoder
    num_axes = 2


class Data2Vec2VisionModel(Data2Vec2VisionPreTrainedModel, Data2Vec2Encoder):
    """The data2vec 2.0 image encoder without any head.

    Example:
        >>> import torch
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=32)
        >>> outputs = Data2Vec2VisionModel(config)(torch.randn(1, 3, 48, 32))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 7, 64]), torch.Size([1, 64]))
    """

    def get_input_embeddings(self) -> Any:
        """The patch embedding."""
        return self.feature_encoder.patch_embed

    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode images.

        Args:
            pixel_values: [B, channels, height, width], normalised; any size that the patch size divides.
            output_hidden_states, output_attentions: also return those of every layer, the prenet's first.

        Returns:
            `last_hidden_state` [B, E + T, D], extra tokens first, then patches row by row; `pooler_output` [B, D], the
            mean of the patch tokens, as the authors' fine-tuning uses it.
        """
        return encode(self.feature_encoder, self.trunk, pixel_values, **kwargs)


class Data2Vec2VisionForPreTraining(Data2Vec2VisionPreTrainedModel, Data2Vec2EncoderForPreTraining):
    """data2vec 2.0 pretraining on images: student, teacher and convolutional decoder (arXiv 2212.07525).

    The teacher moves when `update_teacher(step)` is called after an optimizer step; `Data2VecTrainer` does that.

    Example:
        >>> import torch
        >>> from modeling_data2vec.masking import block_mask_2d
        >>> config = Data2Vec2VisionConfig(hidden_size=64, num_hidden_layers=2, num_prenet_layers=1,
        ...     num_attention_heads=4, intermediate_size=128, average_top_k_layers=2, decoder_dim=64, image_size=64)
        >>> masks = block_mask_2d(2 * 4, config.grid, 0.8, 3, inverse=True, generator=torch.Generator().manual_seed(0))
        >>> model = Data2Vec2VisionForPreTraining(config)
        >>> model(torch.randn(2, 3, 64, 64), mask=masks.view(2, 4, -1)).loss.shape
        torch.Size([])
    """

    encoder_class = Data2Vec2VisionModel

    def forward(
        self,
        pixel_values: Tensor | None = None,
        mask: Tensor | None = None,
        ids_keep: Tensor | None = None,
        noise_keys: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
    ) -> Data2VecPreTrainingOutput:
        """Compute the loss of one batch; see `Data2VecCore.pretrain` for the arguments.

        Args:
            pixel_values: [B, channels, height, width], normalised.
            mask: bool [B, M, T], True at the patches to predict; the same number in each row.
        """
        view: dict[str, Any] = {"ids_keep": ids_keep, "noise_keys": noise_keys, "mask_noise": mask_noise}
        return self.pretrain(pixel_values, mask, None, return_loss, **view)
