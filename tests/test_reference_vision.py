"""Parity with the authors' implementation: data2vec 2.0 on images, numbers stored in tests/reference."""

import pytest
import reference_cases
import torch

from modeling_data2vec import Data2Vec2VisionForPreTraining
from modeling_data2vec.conversion import left_out_options, vision_config_from_fairseq, vision_state_from_fairseq

CASES = reference_cases.names("v2_image_*_M*")


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-12))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    case = reference_cases.load(request.param)
    if used := left_out_options(case.info["config"]):
        pytest.skip(f"docs/differences.md leaves out {used}")
    return case


def build(case, attention: str = "sdpa") -> Data2Vec2VisionForPreTraining:
    config = vision_config_from_fairseq(case.info["config"])
    config._attn_implementation = attention
    model = Data2Vec2VisionForPreTraining(config)
    scope = {"ema_encoder_only": case.info["config"]["ema_encoder_only"]}
    model.load_state_dict(vision_state_from_fairseq(case.group("state"), case.group("ema"), **scope))
    return model.train()


def step_inputs(case, step: int, model) -> dict[str, torch.Tensor]:
    pixels = case.tensors["input.source"]
    batch = pixels.shape[0]
    group = case.group(f"step{step}")
    per_sample = {"mask": group["mask"].bool(), "ids_keep": group["ids_keep"].long()}
    per_sample["mask_noise"] = group["mask_noise_dense"]
    return {"pixel_values": pixels} | {k: v.unflatten(0, (batch, -1)) for k, v in per_sample.items()}


def test_reference_cases_are_there():
    assert CASES, f"no v2_image cases in {reference_cases.FOLDER}"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_reference_first_step(case, attention):
    model = build(case, attention)
    inputs = step_inputs(case, 0, model)
    embedding = model.base_model.feature_encoder.embed(inputs["pixel_values"])
    output = model(**inputs)
    figures, group = case.info["steps"][0], case.group("step0")

    torch.testing.assert_close(embedding.local_features, group["local_features"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.student_states, group["student_encoder_out"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.predictions.flatten(0, 1), group["decoder_out"], rtol=0, atol=1e-5)
    layers = model.teacher_layers(inputs["pixel_values"], embedding)
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer, group[f"teacher.layer_result.{i}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.targets, group["targets_all_positions"], rtol=0, atol=1e-5)

    size = figures["sample_size"]
    assert int(output.mask.sum()) == size
    assert float(output.loss.detach()) * size == pytest.approx(figures["loss_total_sum"], rel=1e-5)
    assert float(output.regression_loss.detach()) * size == pytest.approx(
        figures["loss_IMAGE_regression_sum"], rel=1e-5
    )
    if "loss_cls_sum" in figures:
        assert float(output.cls_loss.detach()) * size == pytest.approx(figures["loss_cls_sum"], rel=1e-5)
    else:
        assert output.cls_loss is None

    (output.loss * size).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    expected = vision_state_from_fairseq(case.group("grad"), {})
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        # A gradient that is zero by symmetry (the key bias) holds rounding only; compare it with its layer's scale.
        floor = 1e-6 * max(float(g.norm()) for g in expected.values())
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()) + floor, name


def test_reference_three_updates(case):
    model = build(case)
    info = case.info
    for step in range(info["nsteps"]):
        output = model(**step_inputs(case, step, model))
        size = info["steps"][step]["sample_size"]
        assert float(output.loss.detach()) * size == pytest.approx(info["steps"][step]["loss_total_sum"], rel=1e-5)
        model.zero_grad()
        output.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter -= info["sgd_lr"] * parameter.grad
        decay = model.update_teacher(step + 1)
        assert decay == pytest.approx(info["ema_decay_applied_before_forward_of_step"][step], rel=1e-9)

    scope = {"ema_encoder_only": info["config"]["ema_encoder_only"]}
    state = model.state_dict()
    expected = vision_state_from_fairseq(case.group("state_after"), case.group("ema_after"), **scope)
    assert {name for name in state if name.startswith("teacher.")} <= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_reference_evaluation(case):
    model = build(case).eval()
    encoder = model.base_model
    group = case.group("eval")
    extra = model.config.num_extra_tokens
    with torch.no_grad():
        pixels = case.tensors["input.source"]
        output = encoder(pixels, output_hidden_states=True)
        layers: list[torch.Tensor] = []
        tokens = encoder.feature_encoder.contextualize(encoder.feature_encoder.embed(pixels).tokens)
        encoder.trunk(tokens, target_layers=layers, block_targets=model.config.end_of_block_targets)
    torch.testing.assert_close(output.last_hidden_state, group["x_with_extra_tokens"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.last_hidden_state[:, extra:], group["x"], rtol=0, atol=1e-5)
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer, group[f"layer_result.{i}"], rtol=0, atol=1e-5)
