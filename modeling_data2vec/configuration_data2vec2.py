"""Configs of data2vec 2.0: everything in which the published recipes differ is a field of the modality's config."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_pretraining import (
    MAX_LAYERS,
    MAX_SIZE,
    MAX_TABLE,
    Data2VecPreTrainingConfig,
    ImageShape,
    Number,
    PatchShape,
    WaveformShape,
)


@strict
class Data2Vec2PreTrainingConfig(Data2VecPreTrainingConfig):
    """What the data2vec 2.0 configs of all modalities share: trunk, masks, targets, teacher and decoder.

    Names in brackets are fairseq's, where they differ.

    Args:
        hidden_size: width D [embed_dim].
        num_hidden_layers: layers of the trunk [depth]; the prenet's are not counted.
        num_attention_heads: attention heads H; must divide `hidden_size` [num_heads].
        intermediate_size: width of the feed-forward part [mlp_ratio * embed_dim].
        hidden_act: activation; "gelu" is the exact one.
        norm_position: "post" (all recipes), "pre", or "pre_doubled", which is what the authors' pre-norm computes.
        layer_norm_eps: epsilon of the affine norms [norm_eps].
        initializer_range: std of the linear layers' initial weights.
        hidden_dropout: dropout of the attention branch [encoder_dropout].
        attention_dropout: dropout of attention weights.
        activation_dropout: dropout inside the feed-forward part and on its output.
        post_mlp_dropout: dropout of the feed-forward branch [post_mlp_drop].
        drop_path_rate: stochastic depth, growing linearly from 0 to this over the trunk.
        layerdrop: probability of skipping a whole trunk layer.
        num_prenet_layers: layers that belong to the modality and run before the trunk [prenet_depth].
        prenet_dropout: dropout of what enters the prenet, whether or not it has layers.
        prenet_layerdrop: probability of skipping a whole prenet layer.
        use_alibi: bias attention by distance, ALiBi [use_alibi_encoder].
        learned_alibi_scale: train the factor of the ALiBi bias, which starts at 1.
        alibi_scale_per_head, alibi_scale_per_layer: one such factor for each head, and for each layer of prenet and
            trunk, instead of a shared one.
        num_extra_tokens: learned tokens before the sequence; the last one is the CLS token.
        mask_prob_adjust: added to the share that blocks should cover, to make up for overlaps.
        inverse_mask: blocks are what stays visible.
        mask_noise_std: std of the noise that stands at hidden positions in the decoder's input.
        cls_loss_weight: weight of predicting the mean target from the CLS token [cls_loss]; 0 for none.
        cls_loss_reduction: "mean" over student views, or "sum" as in the authors' code, which grows with the batch.
        teacher_scope: what the teacher owns an average of: "trunk" alone [ema_encoder_only], the "encoder" (also extra
            tokens and prenet), or the whole "model" with the local feature encoder [ema_local_encoder].
        decoder_dim, decoder_groups, decoder_kernel, decoder_layers, decoder_residual: shape of the conv decoder.
        decoder_dropout: dropout of the student's states before the decoder [input_dropout].
        decoder_projection_layers: linear layers after the decoder's convolutions [projection_layers].
        decoder_projection_ratio: width between those layers as a multiple of `decoder_dim` [projection_ratio].

    The other arguments are those of `Data2VecPreTrainingConfig`.
    """

    base_model_fsdp_plan = {"trunk.layers.*": "free_full_weight"}  # noqa: RUF012

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    norm_position: Literal["post", "pre", "pre_doubled"] = "post"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout: Number = 0.0
    attention_dropout: Number = 0.0
    activation_dropout: Number = 0.0
    post_mlp_dropout: Number = 0.0
    drop_path_rate: Number = 0.0
    layerdrop: Number = 0.0
    num_prenet_layers: int = 0
    prenet_dropout: Number = 0.0
    prenet_layerdrop: Number = 0.0
    use_alibi: bool = False
    learned_alibi_scale: bool = False
    alibi_scale_per_head: bool = False
    alibi_scale_per_layer: bool = False
    num_extra_tokens: int = 0
    num_masks: int = 8
    mask_prob_adjust: Number = 0.0
    inverse_mask: bool = False
    mask_noise_std: Number = 0.01
    instance_norm_target_layer: bool = True
    cls_loss_weight: Number = 0.0
    cls_loss_reduction: Literal["mean", "sum"] = "mean"
    ema_end_decay: Number = 0.99999
    ema_anneal_end_step: int = 75_000
    teacher_scope: Literal["trunk", "encoder", "model"] = "encoder"
    decoder_dim: int = 384
    decoder_groups: int = 16
    decoder_kernel: int = 7
    decoder_layers: int = 4
    decoder_residual: bool = True
    decoder_dropout: Number = 0.0
    decoder_projection_layers: int = 1
    decoder_projection_ratio: Number = 2.0

    @property
    def depth(self) -> int:
        """Layers in all: the prenet's and the trunk's."""
        return self.num_prenet_layers + self.num_hidden_layers

    def validate_sizes(self) -> None:
        super().validate_sizes()
        self.at_least(1, "decoder_dim decoder_groups decoder_kernel")
        self.at_least(1, "decoder_layers decoder_projection_layers", MAX_LAYERS)
        self.at_least(0, "num_extra_tokens")
        self.at_least(0, "num_prenet_layers", MAX_LAYERS)
        self.not_negative("mask_noise_std")

    def validate_masks(self) -> None:
        super().validate_masks()
        if not 0.0 <= self.mask_prob_adjust <= 1.0:
            raise ValueError(f"mask_prob_adjust is {self.mask_prob_adjust}, but must not be negative, nor above 1")

    def validate_targets(self) -> None:
        super().validate_targets()
        self.not_negative("cls_loss_weight")
        if self.cls_loss_weight and not self.num_extra_tokens:
            raise ValueError(
                f"cls_loss_weight is {self.cls_loss_weight}, but num_extra_tokens is 0, so there is no CLS token to "
                "predict from: set num_extra_tokens to 1, or cls_loss_weight to 0"
            )

    def validate_decoder(self) -> None:
        for name in ("hidden_size", "decoder_dim"):
            if getattr(self, name) % self.decoder_groups:
                raise ValueError(
                    f"decoder_groups is {self.decoder_groups}, which does not divide {name} {getattr(self, name)}: "
                    "choose a common divisor of hidden_size and decoder_dim"
                )
        if not 1 <= self.decoder_dim * self.decoder_projection_ratio <= MAX_SIZE:
            raise ValueError(
                f"decoder_projection_ratio is {self.decoder_projection_ratio}, but times decoder_dim "
                f"{self.decoder_dim} it must be at least 1, and at most {MAX_SIZE:,}"
            )


@strict
class Data2Vec2VisionConfig(ImageShape, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for images; the defaults are the published ViT-B recipe.

    Args:
        image_size: pixels of an edge, or (height, width), that the recipe trains on; the model takes any size that
            `patch_size` divides.
        patch_size: edge of a square patch in pixels.
        num_channels: channels of an image: 1, 3 or any other number.
        alibi_dims: with `use_alibi`: 2 for distances in the grid of patches, 1 for those in their sequence, row by row.
        out_indices: the four layers that `Data2Vec2VisionForSemanticSegmentation` reads, shallow to deep, the first
            layer being 1 and a prenet's counted; None for those at each quarter of the depth.
        pool_scales: edges of the grids over which its last map is averaged.
        use_auxiliary_head, auxiliary_loss_weight: whether a second, small head on the third map helps in training, and
            the weight of its loss.
        auxiliary_channels, auxiliary_num_convs, auxiliary_concat_input: that head's width and convolutions, and whether
            its last layer sees the map as well.
        semantic_loss_ignore_index: pixels of this class don't count.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> config = Data2Vec2VisionConfig(image_size=32, patch_size=4, num_channels=1)
        >>> config.grid
        (8, 8)
    """

    model_type = "data2vec2-vision"

    num_hidden_layers: int = 10
    layer_norm_eps: float = 1e-6
    num_prenet_layers: int = 2
    num_extra_tokens: int = 1
    num_masks: int = 16
    mask_prob: Number = 0.8
    mask_length: int = 3
    mask_prob_adjust: Number = 0.07
    inverse_mask: bool = True
    average_top_k_layers: int = 10
    layer_norm_targets: bool = True
    cls_loss_weight: Number = 2.56
    ema_decay: Number = 0.9998
    ema_anneal_end_step: int = 100_000
    teacher_scope: Literal["trunk", "encoder", "model"] = "model"
    decoder_dim: int = 768
    decoder_kernel: int = 3
    decoder_layers: int = 6
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    alibi_dims: Literal[1, 2] = 2
    out_indices: list[int] | tuple[int, ...] | None = None
    pool_scales: list[int] | tuple[int, ...] = (1, 2, 3, 6)
    use_auxiliary_head: bool = True
    auxiliary_loss_weight: Number = 0.4
    auxiliary_channels: int = 256
    auxiliary_num_convs: int = 1
    auxiliary_concat_input: bool = False
    semantic_loss_ignore_index: int = 255

    @property
    def segmentation_layers(self) -> tuple[int, ...]:
        """The four layers that segmentation reads, counted from 1."""
        return tuple(self.out_indices or (math.ceil(self.depth * quarter / 4) for quarter in (1, 2, 3, 4)))

    def validate_segmentation(self) -> None:
        self.at_least(1, "num_hidden_layers", MAX_LAYERS)  # checks run by their names: this one before those of sizes
        layers = self.segmentation_layers
        if len(layers) != 4 or not all(1 <= layer <= self.depth for layer in layers):
            raise ValueError(f"out_indices is {self.out_indices}, but must be four layers from 1 to {self.depth}")
        self.at_least(1, "auxiliary_channels pool_scales")
        self.at_least(0, "auxiliary_num_convs", MAX_LAYERS)

    def validate_image(self) -> None:
        super().validate_image()
        check_sincos_width(self.hidden_size)


def check_sincos_width(hidden_size: int) -> None:
    """Raise a ValueError for a width that 2-D sin-cos positions can't have."""
    if hidden_size % 4:
        raise ValueError(f"hidden_size is {hidden_size}, but 2-D sin-cos positions need a multiple of 4")


@strict
class Data2Vec2SpectrogramConfig(PatchShape, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for log-mel spectrograms; the defaults are EAT's base recipe (arXiv 2401.03497).

    Args:
        num_mel_bins: mel bins of a frame; a multiple of the patches' edge.
        spectrogram_length: frames of a spectrogram that the recipe trains on [target_length]; the model takes any
            number.
        patch_size: edge of a square patch in frames and bins, or (frames, bins). Frames that don't fill a last patch
            are not seen.
        alibi_dims: as `Data2Vec2VisionConfig` has it.
        classifier_pooling: what `Data2Vec2SpectrogramForAudioClassification` reads: "cls", the first extra token, or
            "mean", the mean of the real patches [prediction_mode].
        vocab_size, pad_token_id: of `Data2Vec2SpectrogramForCTC`: its letters, and the one that is CTC's blank.
        final_dropout: dropout before its last layer.
        ctc_loss_reduction, ctc_zero_infinity: as `torch.nn.functional.ctc_loss` has them.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2SpectrogramConfig().grid
        (64, 8)
        >>> Data2Vec2SpectrogramConfig(patch_size=(4, 128)).num_time_patches(103)
        25
    """

    model_type = "data2vec2-spectrogram"

    layer_norm_eps: float = 1e-6
    num_extra_tokens: int = 1
    num_masks: int = 16
    mask_prob: Number = 0.8
    mask_length: int = 5
    mask_prob_adjust: Number = 0.07
    inverse_mask: bool = True
    layer_norm_targets: bool = True
    cls_loss_weight: Number = 192.0
    ema_decay: Number = 0.9998
    ema_anneal_end_step: int = 100_000
    teacher_scope: Literal["trunk", "encoder", "model"] = "model"
    decoder_dim: int = 768
    decoder_kernel: int = 3
    decoder_layers: int = 6
    num_mel_bins: int = 128
    spectrogram_length: int = 1024
    patch_size: int | list[int] | tuple[int, int] = 16
    alibi_dims: Literal[1, 2] = 2
    classifier_pooling: Literal["cls", "mean"] = "cls"
    vocab_size: int = 32
    pad_token_id: int | None = 0
    final_dropout: Number = 0.0
    ctc_loss_reduction: Literal["sum", "mean"] = "mean"
    ctc_zero_infinity: bool = False

    @property
    def input_shape(self) -> tuple[int, int]:
        """(frames, mel bins)."""
        return self.spectrogram_length, self.num_mel_bins

    @property
    def num_bands(self) -> int:
        """Patches along the mel axis."""
        return self.num_mel_bins // self.patch_shape[1]

    def num_time_patches(self, num_frames: Any) -> Any:
        """Patches along time of so many frames (an int or an integer tensor)."""
        return num_frames // self.patch_shape[0]

    def validate_spectrogram(self) -> None:
        self.at_least(1, "num_mel_bins spectrogram_length")
        self.at_least(1, "vocab_size", MAX_TABLE)
        if not isinstance(self.patch_size, int) and len(self.patch_size) != 2:
            raise ValueError(f"patch_size is {self.patch_size}, but must be one number, or (frames, mel bins)")
        frames, bins = self.patch_shape
        if min(frames, bins) < 1 or self.num_mel_bins % bins:
            raise ValueError(
                f"patch_size is {self.patch_size}, which does not divide num_mel_bins {self.num_mel_bins}: choose a "
                "divisor for the edge along the mel axis"
            )
        if self.spectrogram_length < frames:
            raise ValueError(
                f"spectrogram_length is {self.spectrogram_length}, which is less than one patch of {frames} frames"
            )
        check_sincos_width(self.hidden_size)


@strict
class Data2Vec2AudioConfig(WaveformShape, Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for speech; the defaults are the published base recipe.

    Args:
        conv_dim, conv_kernel, conv_stride: channels, kernel and stride of each convolution over the waveform
            [feature_encoder_spec].
        num_conv_pos_embeddings: convolutions that give position information [conv_pos_depth].
        conv_pos_kernel_size: their kernel; the published 19 is 95 // 5 [conv_pos_width // conv_pos_depth].
        num_conv_pos_embedding_groups: their groups; must divide `hidden_size` [conv_pos_groups].
        vocab_size, pad_token_id: of `Data2Vec2AudioForCTC`: its letters, and the one that is CTC's blank.
        final_dropout: dropout before its last layer.
        ctc_loss_reduction, ctc_zero_infinity: as `torch.nn.functional.ctc_loss` has them.
        mask_time_prob, mask_time_length: share of frames that are set to 0 in the training of a model for a task, in
            spans of so many frames [mask_prob, mask_length of fine-tuning]; pretraining has its own masks.
        mask_feature_prob, mask_feature_length: the same of channels [mask_channel_prob, mask_channel_length].
        use_weighted_layer_sum: heads for classes and speakers read all layers, weighted, instead of the last one.
        classifier_proj_size: width before the mean in `Data2Vec2AudioForSequenceClassification`.
        tdnn_dim, tdnn_kernel, tdnn_dilation: channels, kernel and dilation of each convolution over frames in
            `Data2Vec2AudioForXVector`.
        xvector_output_dim: width of its vectors.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2AudioConfig().num_frames(16_000)
        49
    """

    model_type = "data2vec2-audio"

    hidden_dropout: Number = 0.1
    attention_dropout: Number = 0.1
    post_mlp_dropout: Number = 0.1
    layerdrop: Number = 0.05
    prenet_dropout: Number = 0.1
    prenet_layerdrop: Number = 0.05
    use_alibi: bool = True
    learned_alibi_scale: bool = True
    alibi_scale_per_head: bool = True
    mask_length: int = 5
    mask_prob_adjust: Number = 0.05
    average_top_k_layers: int = 8
    decoder_dropout: Number = 0.1
    conv_dim: list[int] | tuple[int, ...] = (512,) * 7
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    num_conv_pos_embeddings: int = 5
    conv_pos_kernel_size: int = 19
    num_conv_pos_embedding_groups: int = 16
    vocab_size: int = 32
    pad_token_id: int | None = 0
    final_dropout: Number = 0.0
    ctc_loss_reduction: Literal["sum", "mean"] = "mean"
    ctc_zero_infinity: bool = False
    mask_time_prob: Number = 0.0
    mask_time_length: int = 10
    mask_feature_prob: Number = 0.0
    mask_feature_length: int = 64
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    tdnn_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 1500)
    tdnn_kernel: list[int] | tuple[int, ...] = (5, 3, 3, 1, 1)
    tdnn_dilation: list[int] | tuple[int, ...] = (1, 2, 3, 1, 1)
    xvector_output_dim: int = 512

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next; transformers' pipeline cuts long recordings by it."""
        return math.prod(self.conv_stride)

    def validate_heads(self) -> None:
        self.at_least(1, "classifier_proj_size xvector_output_dim mask_time_length mask_feature_length")
        self.at_least(1, "vocab_size", MAX_TABLE)
        for name in ("mask_time_prob", "mask_feature_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 0 and less than 1")
        sizes = (self.tdnn_dim, self.tdnn_kernel, self.tdnn_dilation)
        numbers = [number for values in sizes for number in values]
        if (
            len({len(values) for values in sizes}) != 1
            or not numbers
            or not 1 <= min(numbers) <= max(numbers) <= MAX_SIZE
        ):
            raise ValueError(
                f"tdnn_dim is {self.tdnn_dim}, tdnn_kernel {self.tdnn_kernel} and tdnn_dilation {self.tdnn_dilation}, "
                f"but each needs a number from 1 to {MAX_SIZE:,} for each convolution"
            )


@strict
class Data2Vec2TextConfig(Data2Vec2PreTrainingConfig):
    """Config of data2vec 2.0 for text; the defaults are the published base recipe.

    Args:
        vocab_size: tokens of the tokenizer.
        max_position_embeddings: tokens of the longest sequence [max_source_positions].
        position_embeddings: learned positions; False to leave order to `use_alibi` [no_token_positional_embeddings].
        embedding_dropout: dropout of the normalised embeddings [dropout].
        pad_token_id, bos_token_id, eos_token_id: the tokenizer's special tokens.
        classifier_dropout: dropout in the heads of `Data2Vec2TextForSequenceClassification` and
            `Data2Vec2TextForTokenClassification`.
        tie_word_embeddings: the head of `Data2Vec2TextForMaskedLM` shares the token embeddings.

    The other arguments are those of `Data2Vec2PreTrainingConfig`.

    Example:
        >>> Data2Vec2TextConfig(vocab_size=4000, max_position_embeddings=128).teacher_scope
        'trunk'
    """

    model_type = "data2vec2-text"

    hidden_dropout: Number = 0.1
    attention_dropout: Number = 0.1
    post_mlp_dropout: Number = 0.1
    mask_prob: Number = 0.48
    loss_scale: Number | None = 1.0
    ema_decay: Number = 0.9999
    ema_anneal_end_step: int = 100_000
    teacher_scope: Literal["trunk", "encoder", "model"] = "trunk"
    decoder_dim: int = 768
    decoder_groups: int = 1
    decoder_kernel: int = 9
    decoder_layers: int = 5
    decoder_residual: bool = False
    decoder_dropout: Number = 0.1
    decoder_projection_layers: int = 2
    vocab_size: int = 50265
    max_position_embeddings: int = 512
    position_embeddings: bool = True
    embedding_dropout: Number = 0.1
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    classifier_dropout: Number = 0.0
    tie_word_embeddings: bool = True

    @property
    def max_tokens(self) -> float:
        """Tokens of the longest sequence; infinity without learned positions."""
        return self.max_position_embeddings if self.position_embeddings else math.inf

    def validate_vocabulary(self) -> None:
        self.at_least(2, "vocab_size max_position_embeddings", MAX_TABLE)
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, but must be from 0 to {self.vocab_size - 1}")
