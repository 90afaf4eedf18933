"""Batches of tiny image models, and what their states are compared by."""

import torch

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining
from modeling_data2vec.trainers import ImageMaskCollator


def batch_for(config: Data2Vec2VisionConfig, size=(8, 8), num=3) -> dict[str, torch.Tensor]:
    images = torch.randn(num, config.num_channels, *size, generator=torch.Generator().manual_seed(1))
    return ImageMaskCollator(config)([{"pixel_values": image, "key": i} for i, image in enumerate(images)])


def moved(model: Data2Vec2VisionForPreTraining) -> Data2Vec2VisionForPreTraining:
    """The same model with a student that has left its teacher behind."""
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def assert_equal_states(a: torch.nn.Module, b: torch.nn.Module) -> None:
    a_states, b_states = a.state_dict(), b.state_dict()
    assert a_states.keys() == b_states.keys()
    for name, value in a_states.items():
        assert value.dtype == b_states[name].dtype and torch.equal(value, b_states[name]), name
