"""The weights of micro-batches, by hand."""

import pytest
import torch

from modeling_data2vec.trainers.pretraining.step_loss import StepLoss


def batch(name: str, hidden: int) -> dict[str, torch.Tensor]:
    mask = torch.zeros(2, 1, 8, dtype=torch.bool)
    mask.flatten()[:hidden] = True
    return {name: torch.zeros(2), "mask": mask}


def total(batches, losses, weights) -> float:
    """What the Trainer makes of it: the sum over micro-batches, divided by their number."""
    step = StepLoss.from_batches(batches, weights, torch.device("cpu"), lambda x: x)
    names = {"pixel_values": "vision", "input_ids": "text", "input_values": "audio"}
    parts = [
        step.weighted(step.mean_part(torch.tensor(loss), one), names[next(iter(one))])
        for one, loss in zip(batches, losses, strict=True)
    ]
    return float(sum(parts)) / len(parts)


def test_hidden_positions_of_one_modality_weigh_the_same():
    batches = [batch("input_ids", 2), batch("input_ids", 6)]
    assert total(batches, [4.0, 8.0], {"text": 1.0}) == pytest.approx((2 * 4 + 6 * 8) / 8)


def test_modalities_weigh_by_their_weights_not_by_their_positions():
    batches = [batch("pixel_values", 12), batch("pixel_values", 4), batch("input_ids", 1)]
    vision, text = (12 * 2.0 + 4 * 6.0) / 16, 5.0
    weights = {"audio": 7.0, "vision": 1.0, "text": 3.0}  # there is no audio in this step
    assert total(batches, [2.0, 6.0, 5.0], weights) == pytest.approx((vision + 3 * text) / 4)
