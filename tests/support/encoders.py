"""Tiny encoders of every kind, ours and Hugging Face's, and samples of unequal length for them."""

import torch
from recordings import voice
from transformers import (
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioModel,
    Data2Vec2TextConfig,
    Data2Vec2TextModel,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
OURS = SIZES | {"num_prenet_layers": 1, "average_top_k_layers": 2, "decoder_dim": 32}
IMAGE = {"image_size": 8, "patch_size": 2, "num_channels": 1}
WAVE = {"conv_dim": [16, 16], "conv_kernel": [20, 16], "conv_stride": [10, 16]}  # a frame every 10 ms
THEIR_WAVE = SIZES | WAVE | {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "hidden_dropout": 0.5}
THEIR_WAVE |= {"num_conv_pos_embedding_groups": 2}
VOCABULARY = {"vocab_size": 60, "pad_token_id": 1}

KINDS = {
    "our images": lambda: Data2Vec2VisionModel(Data2Vec2VisionConfig(**OURS, **IMAGE, num_extra_tokens=2)),
    "our speech": lambda: Data2Vec2AudioModel(Data2Vec2AudioConfig(**OURS, **WAVE)),
    "our speech with extra tokens": lambda: Data2Vec2AudioModel(
        Data2Vec2AudioConfig(**OURS, **WAVE, num_extra_tokens=2)
    ),
    "our text": lambda: Data2Vec2TextModel(Data2Vec2TextConfig(**OURS, **VOCABULARY, max_position_embeddings=40)),
    "ViT": lambda: ViTModel(ViTConfig(**SIZES, **IMAGE), add_pooling_layer=False),
    "wav2vec 2.0, layer norm": lambda: Wav2Vec2Model(
        Wav2Vec2Config(**THEIR_WAVE, feat_extract_norm="layer", do_stable_layer_norm=True)
    ),
    "HuBERT, group norm": lambda: HubertModel(HubertConfig(**THEIR_WAVE)),
    "RoBERTa": lambda: RobertaModel(RobertaConfig(**SIZES, **VOCABULARY, max_position_embeddings=50)),
    "BERT": lambda: BertModel(BertConfig(**SIZES, **VOCABULARY), add_pooling_layer=False),
}
IMAGES = {"our images", "ViT"}
TEXT = {"our text", "RoBERTa", "BERT"}


def encoder(kind: str):
    torch.manual_seed(0)
    return KINDS[kind]()


def samples(kind: str) -> list[torch.Tensor]:
    """Seven unbatched inputs, unequally long but for images."""
    generator = torch.Generator().manual_seed(1)
    if kind in IMAGES:
        return list(torch.randn(7, 1, 8, 8, generator=generator))
    if kind in TEXT:
        return [torch.randint(5, 60, (length,), generator=generator) for length in (4, 9, 2, 30, 5, 9, 17)]
    return [
        torch.from_numpy(voice(seconds, seed=seed))
        for seed, seconds in enumerate((0.1, 0.3, 0.05, 0.3, 0.21, 0.4, 0.1))
    ]
