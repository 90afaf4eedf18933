"""Loss: the loss of a position by hand, its scale, and what a mask counts."""

import math

import pytest
import torch

from modeling_data2vec.objective import masked_mean, regression_loss


@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_squared_error_is_summed_over_channels(scale):
    predictions, targets = torch.randn(2, 3, 9), torch.randn(2, 3, 9)
    expected = ((predictions - targets) ** 2).sum(-1) * (1 / 3 if scale is None else scale)
    torch.testing.assert_close(regression_loss(predictions, targets, loss_scale=scale), expected)


@pytest.mark.parametrize("beta", [0.5, 4])
def test_smooth_l1_is_quadratic_below_beta_and_linear_above(beta):
    distances = torch.tensor([0.0, 0.5 * beta, -0.5 * beta, 3.0 * beta])
    expected = 0.125 * beta + 0.125 * beta + 2.5 * beta
    loss = regression_loss(distances[None], torch.zeros(1, 4), loss_beta=beta, loss_scale=1.0)
    assert float(loss) == pytest.approx(expected)


def test_one_target_serves_all_masks_of_a_sample():
    predictions, targets = torch.randn(2, 3, 5, 4), torch.randn(2, 5, 4)
    loss = regression_loss(predictions, targets[:, None])
    assert loss.shape == (2, 3, 5)
    torch.testing.assert_close(loss[:, 1], regression_loss(predictions[:, 1], targets))


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_half_precision_predictions_give_an_fp32_loss(beta):
    predictions, targets = torch.randn(2, 3, 256).bfloat16().requires_grad_(), torch.randn(2, 3, 256)
    loss = regression_loss(predictions, targets, loss_beta=beta)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, regression_loss(predictions.float(), targets, loss_beta=beta), rtol=0, atol=0)
    loss.sum().backward()
    assert predictions.grad.dtype == torch.bfloat16


def test_perfect_predictions_cost_nothing():
    targets = torch.randn(2, 3, 8)
    assert not regression_loss(targets, targets).any()
    assert not regression_loss(targets, targets, loss_beta=1.0).any()


def test_masked_mean_counts_masked_positions_only():
    values = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, True]])
    mean = masked_mean(values, mask)
    assert mean.item() == pytest.approx((1 + 4 + 32) / 3)
    mean.backward()
    torch.testing.assert_close(values.grad, mask / 3)


def test_default_scale_makes_the_loss_grow_with_the_root_of_the_width():
    narrow, wide = (regression_loss(torch.ones(1, width), torch.zeros(1, width)) for width in (16, 64))
    assert float(wide / narrow) == pytest.approx(math.sqrt(4))
