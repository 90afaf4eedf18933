"""Config of data2vec 2.0, as far as all modalities share it; each modality has a file of its own.

Everything in which the published recipes differ is a field.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_pretraining import (
    MAX_LAYERS,
    MAX_SIZE,
    Data2VecPreTrainingConfig,
    Number,
    Published,
    PublishedDecay,
)


@strict
class Data2Vec2PreTrainingConfig(Data2VecPreTrainingConfig):
    """The fields that the 2.0 configs of all modalities share: trunk, masks, targets, teacher and decoder.

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
    num_attention_heads: int = Published(12)
    intermediate_size: int = Published(3072)
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
    num_prenet_layers: int = Published(0)
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
    ema_end_decay: Number = PublishedDecay(0.99999)
    ema_anneal_end_step: int = Published(75_000)
    teacher_scope: Literal["trunk", "encoder", "model"] = "encoder"
    decoder_dim: int = Published(384)
    decoder_groups: int = Published(16)
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
        self.validate_sizes()  # else a size of 0 or below would be said not to be divided
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


class FrameMasks:
    """Frames and channels that are hidden in the training of a model for a task, for configs of sound."""

    mask_time_prob: Number
    mask_time_length: int
    mask_feature_prob: Number
    mask_feature_length: int

    def validate_frame_masks(self) -> None:
        config: Any = self
        config.at_least(1, "mask_time_length mask_feature_length")
        for name in ("mask_time_prob", "mask_feature_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 0 and less than 1")


def check_sincos_width(hidden_size: int, num_axes: int = 2) -> None:
    """Raise a ValueError for a width that sin-cos positions along so many axes can't have."""
    if hidden_size % (2 * num_axes):
        raise ValueError(
            f"hidden_size is {hidden_size}, but {num_axes}-D sin-cos positions need a multiple of {2 * num_axes}"
        )
