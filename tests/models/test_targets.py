"""Targets: parity with the authors' targets, and what normalisation must not hide."""

import pytest
import reference_cases
import torch

from modeling_data2vec.objective import Targets, spread


@pytest.mark.parametrize("name", reference_cases.names("targets_v2*"))
def test_reference_targets(name):
    case = reference_cases.load(name)
    stored = case.group("layers")
    layers = [stored[str(i)] for i in range(len(stored))]
    assert {f"target.{key}" for key in case.group("target")} == case.info["targets"].keys()
    for key, options in case.info["targets"].items():
        torch.testing.assert_close(
            Targets(**options)(layers), case.tensors[key], rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
        )


def reference_norms_over_the_batch(model: str, options: dict) -> bool:
    """Whether the authors' speech code took the wrong axis: without a norm over channels first, its layers are still
    [T, B, D] when it comes to norms over positions (docs/differences.md)."""
    transposed = options["batch_norm_target_layer"] or options["instance_norm_target_layer"]
    over_positions = options.get("group_norm_target_layer") or options["instance_norm_targets"]
    return model == "a1" and over_positions and not transposed


@pytest.mark.parametrize("name", reference_cases.names("targets_v1*"))
def test_reference_targets_v1(name):
    """All options; where the authors' code norms over the batch, ours does so only if batch and time are exchanged."""
    case = reference_cases.load(name)
    stored = case.group("layers")
    layers = [stored[str(i)] for i in range(len(stored))]
    assert {f"target.{key}" for key in case.group("target")} == case.info["targets"].keys()
    for key, options in case.info["targets"].items():
        targets = Targets(**options)(layers)
        if reference_norms_over_the_batch(case.info["model"], options):
            assert not torch.allclose(targets, case.tensors[key], rtol=0, atol=1e-2), key
            targets = Targets(**options)([layer.transpose(0, 1) for layer in layers]).transpose(0, 1)
        torch.testing.assert_close(targets, case.tensors[key], rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("top_k", [-1, 0, 5])
def test_top_k_must_exist(top_k):
    layers = [torch.randn(2, 3, 8) for _ in range(4)]
    with pytest.raises(ValueError, match=rf"average_top_k_layers is {top_k}\b.* 4 layers.* 1 to 4"):
        Targets(top_k)(layers)


def test_only_the_top_layers_count():
    layers = [torch.full((1, 2, 3), float(value)) for value in (100, 1, 3)]
    torch.testing.assert_close(Targets(2)(layers), torch.full((1, 2, 3), 2.0))


def test_targets_of_half_precision_layers_are_averaged_in_fp32():
    layers = [torch.randn(2, 5, 8).bfloat16() for _ in range(3)]
    targets = Targets(3, instance_norm_target_layer=True, layer_norm_targets=True)(layers)
    assert targets.dtype == torch.float32
    exact = Targets(3, instance_norm_target_layer=True, layer_norm_targets=True)([layer.float() for layer in layers])
    torch.testing.assert_close(targets, exact, rtol=0, atol=0)


def test_layers_are_not_changed():
    layers = [torch.randn(2, 5, 8) for _ in range(2)]
    before = [layer.clone() for layer in layers]
    Targets(1)(layers)
    Targets(2, batch_norm_target_layer=True, instance_norm_targets=True)(layers)
    assert all(torch.equal(layer, copy) for layer, copy in zip(layers, before, strict=True))


def test_spread_sees_a_collapse_that_normalisation_hides():
    layers = [torch.randn(4, 9, 16) for _ in range(3)]
    shrunken = [layer * 0.1 for layer in layers]
    healthy, collapsed = (Targets(2, instance_norm_target_layer=True)(each) for each in (layers, shrunken))
    assert float(collapsed.std()) == pytest.approx(float(healthy.std()), rel=0.02)
    assert float(Targets(2).spread(shrunken)) == pytest.approx(0.1 * float(Targets(2).spread(layers)), rel=1e-4)
    assert float(Targets(1).spread([*layers[:2], torch.ones(4, 9, 16)])) == 0.0


def test_spread_is_the_standard_deviation_over_positions():
    layer = torch.randn(4, 9, 16) * 3 + 5
    expected = layer.flatten(0, 1).std(0).mean()
    torch.testing.assert_close(spread(layer), expected)
    torch.testing.assert_close(spread(layer, torch.ones(4, 9, dtype=torch.bool)), expected)
