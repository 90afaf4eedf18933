"""Tiny joint models and inputs for tests."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2Config,
    Data2Vec2ForPreTraining,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.modalities.names import modalities

TRUNK: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-5,
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "post_mlp_dropout", "layerdrop"), 0.0),
    "ema_decay": 0.9,
    "ema_end_decay": 0.99,
    "ema_anneal_end_step": 100,
}
METHOD: dict[str, Any] = {
    "average_top_k_layers": 2,
    "decoder_dim": 32,
    "decoder_groups": 4,
    "decoder_layers": 2,
    "decoder_dropout": 0.0,
    "num_masks": 2,
}
CONFIGS: dict[str, Any] = {
    "audio": Data2Vec2AudioConfig(
        **TRUNK,
        **METHOD,
        conv_dim=[16, 16],
        conv_kernel=[20, 16],
        conv_stride=[10, 16],
        num_conv_pos_embeddings=1,
        num_conv_pos_embedding_groups=4,
        prenet_dropout=0.0,
        prenet_layerdrop=0.0,
    ),
    "spectrogram": Data2Vec2SpectrogramConfig(**TRUNK, **METHOD, num_mel_bins=12, patch_size=4, cls_loss_weight=1.0),
    "text": Data2Vec2TextConfig(**TRUNK, **METHOD, vocab_size=50, max_position_embeddings=40, embedding_dropout=0.0),
    "vision": Data2Vec2VisionConfig(
        **TRUNK, **METHOD, image_size=16, patch_size=4, num_channels=1, num_prenet_layers=1
    ),
}
# Different degrees of specialisation, and none.
SPECIALISATIONS: dict[str, dict[str, Any]] = {
    "shared": {},
    "norms": {"modality_norms": True},
    "lora": {"modality_lora_rank": 2},
    "ffn": {"modality_ffn_layers": 1},
    "all": {"modality_norms": True, "modality_lora_rank": 2, "modality_ffn_layers": 1},
}


def joint_config(modalities: tuple[str, ...] = tuple(CONFIGS), **options: Any) -> Data2Vec2Config:
    return Data2Vec2Config(**{f"{name}_config": CONFIGS[name].to_dict() for name in modalities}, **options)


def joint_model(modalities: tuple[str, ...] = tuple(CONFIGS), **options: Any) -> Data2Vec2ForPreTraining:
    """A model whose differences are not zero, as after some training."""
    torch.manual_seed(0)
    model = Data2Vec2ForPreTraining(joint_config(modalities, **options))
    for name, parameter in model.named_parameters():
        if ".differences." in name:
            parameter.data.normal_(std=0.05)
    return model


def save_paired_model(folder: Path) -> Data2Vec2ForPreTraining:
    """A model of sounds and pictures with heads across them, saved with its processors; pictures are 16 x 16."""
    model = joint_model(("audio", "vision"), cross_modal_layers=1)
    model.save_pretrained(folder)
    for name in ("audio", "vision"):
        modalities()[name].default_processor(model.config.of(name)).save_pretrained(folder / name)
    processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
    processor.size = {"height": 16, "width": 16}
    processor.save_pretrained(folder / "vision")
    return model


def inputs_of(modality: str, batch: int = 2) -> dict[str, Tensor]:
    """Input, mask and noise keys of a batch."""
    generator = torch.Generator().manual_seed(1)
    raw = {
        "audio": lambda: {"input_values": torch.randn(batch, 1_960, generator=generator)},  # 12 frames
        "spectrogram": lambda: {"input_features": torch.randn(batch, 16, 12, generator=generator)},  # 4 x 3 patches
        "text": lambda: {"input_ids": torch.randint(4, 50, (batch, 12), generator=generator)},
        "vision": lambda: {"pixel_values": torch.randn(batch, 1, 16, 16, generator=generator)},
    }[modality]()
    length = 16 if modality == "vision" else 12
    mask = torch.zeros(batch, 2, length, dtype=torch.bool)
    mask[:, 0, 2:8], mask[:, 1, 5:11] = True, True
    keys = torch.arange(2 * batch, dtype=torch.int32).view(batch, 2)
    return {**raw, "mask": mask, "noise_keys": keys}


def learn(model: Any, pairs: Any, *, steps: int, rate: float) -> list[Any]:
    """What a model gives in each of some steps of Adam on one batch of pairs."""
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], rate)
    outputs = []
    for _ in range(steps):
        outputs.append(model(pairs=pairs))
        outputs[-1].loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return outputs
