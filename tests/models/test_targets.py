"""Targets: parity with the authors' targets, and what normalisation must not hide."""

import pytest
import reference_cases
import torch

from modeling_data2vec.objective import layer_spread, make_targets


@pytest.mark.parametrize("name", reference_cases.names("targets_v2*"))
def test_reference_targets(name):
    case = reference_cases.load(name)
    stored = case.group("layers")
    layers = [stored[str(i)] for i in range(len(stored))]
    assert {f"target.{key}" for key in case.group("target")} == case.info["targets"].keys()
    for key, options in case.info["targets"].items():
        torch.testing.assert_close(
            make_targets(layers, **options), case.tensors[key], rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
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
        targets = make_targets(layers, **options)
        if reference_norms_over_the_batch(case.info["model"], options):
            assert not torch.allclose(targets, case.tensors[key], rtol=0, atol=1e-2), key
            targets = make_targets([layer.transpose(0, 1) for layer in layers], **options).transpose(0, 1)
        torch.testing.assert_close(targets, case.tensors[key], rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("top_k", [-1, 0, 5])
def test_top_k_must_exist(top_k):
    layers = [torch.randn(2, 3, 8) for _ in range(4)]
    with pytest.raises(ValueError, match=rf"average_top_k_layers is {top_k}\b.* 4 layers.* 1 to 4"):
        make_targets(layers, top_k)


def test_only_the_top_layers_count():
    layers = [torch.full((1, 2, 3), float(value)) for value in (100, 1, 3)]
    torch.testing.assert_close(make_targets(layers, 2), torch.full((1, 2, 3), 2.0))


def test_targets_of_half_precision_layers_are_averaged_in_fp32():
    layers = [torch.randn(2, 5, 8).bfloat16() for _ in range(3)]
    targets = make_targets(layers, 3, instance_norm_target_layer=True, layer_norm_targets=True)
    assert targets.dtype == torch.float32
    exact = make_targets(
        [layer.float() for layer in layers], 3, instance_norm_target_layer=True, layer_norm_targets=True
    )
    torch.testing.assert_close(targets, exact, rtol=0, atol=0)


def test_layers_are_not_changed():
    layers = [torch.randn(2, 5, 8) for _ in range(2)]
    before = [layer.clone() for layer in layers]
    make_targets(layers, 1)
    make_targets(layers, 2, batch_norm_target_layer=True, instance_norm_targets=True)
    assert all(torch.equal(layer, copy) for layer, copy in zip(layers, before, strict=True))


def test_layer_spread_sees_a_collapse_that_normalisation_hides():
    layers = [torch.randn(4, 9, 16) for _ in range(3)]
    shrunken = [layer * 0.1 for layer in layers]
    healthy, collapsed = (make_targets(each, 2, instance_norm_target_layer=True) for each in (layers, shrunken))
    assert float(collapsed.std()) == pytest.approx(float(healthy.std()), rel=0.02)
    assert float(layer_spread(shrunken, 2)) == pytest.approx(0.1 * float(layer_spread(layers, 2)), rel=1e-4)
    assert float(layer_spread([*layers[:2], torch.ones(4, 9, 16)], 1)) == 0.0
