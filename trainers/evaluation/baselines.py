"""What features have to beat: the same encoder with random weights, and features of the raw input that cost nothing."""

import copy

import torch
from transformers import PreTrainedModel

from ..modalities.base import RawFeatures as RawFeatures
from ..modalities.names import modality


def random_weights(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """An untrained encoder of the same class, config, device and dtype, in eval mode.

    A given `seed` always gives the same weights; neither `model` nor any global random state is touched.
    """
    encoder = model.base_model
    # Weights are drawn on the CPU: torch.manual_seed would also reset the accelerators' generators.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        fresh = type(encoder)(copy.deepcopy(encoder.config))
    return fresh.to(device=encoder.device, dtype=encoder.dtype).eval()


def raw_features(model: PreTrainedModel) -> list[RawFeatures]:
    """The usual baselines for what `model` reads: raw pixels; MFCC and log-mel of 16 kHz sound; TF-IDF of texts; ..."""
    encoder = model.base_model
    return modality(encoder)(encoder.config).raw_features()
