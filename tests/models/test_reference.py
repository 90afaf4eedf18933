"""Parity with the authors' code: data2vec 2.0 in all modalities and EAT, numbers stored in tests/reference."""

import pytest
import reference_cases
import torch
from safetensors.torch import load_file
from transformers import AutoModelForPreTraining

from modeling_data2vec.fairseq.data2vec2_config import config_from_fairseq
from modeling_data2vec.fairseq.data2vec2_options import modality_of
from modeling_data2vec.fairseq.data2vec2_weights import state_from_fairseq
from modeling_data2vec.fairseq.files import read_checkpoint
from modeling_data2vec.fairseq.model_from_checkpoint import from_fairseq
from modeling_data2vec.fairseq.tasks import IMAGE_CLASSES

CASES = reference_cases.training("2.0")


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return reference_cases.load_convertible(request.param)


def our_state(case, student: str, teacher: str | None = None) -> dict[str, torch.Tensor]:
    return state_from_fairseq(case.group(student), case.group(teacher) if teacher else {}, our_config(case))


def our_config(case):
    return config_from_fairseq(case.info["config"], vocab_size=case.info["vocab"])


def build(case, attention: str = "sdpa"):
    config = our_config(case)
    config._attn_implementation = attention
    model = AutoModelForPreTraining.from_config(config, attn_implementation=attention)
    model.load_state_dict(our_state(case, "state", "ema"))
    return model.train()


def raw_input(source: torch.Tensor, model) -> torch.Tensor:
    """What the model takes; EAT's spectrograms have an axis for their one channel."""
    return source.squeeze(1) if model.main_input_name == "input_features" else source


def raw_inputs(case, model) -> dict[str, torch.Tensor]:
    inputs = {model.main_input_name: raw_input(case.tensors["input.source"], model)}
    if "input.padding_mask" in case.tensors:
        inputs["attention_mask"] = ~case.tensors["input.padding_mask"]
    return inputs


def step_inputs(case, step: int, model) -> dict[str, torch.Tensor]:
    inputs = raw_inputs(case, model)
    group = case.group(f"step{step}")
    per_sample = {"mask": group["mask"].bool(), "ids_keep": group["ids_keep"].long()}
    per_sample["mask_noise"] = group["mask_noise_dense"]
    batch = len(inputs[model.main_input_name])
    return inputs | {k: v.unflatten(0, (batch, -1)) for k, v in per_sample.items()}


def test_reference_cases_are_there():
    reference_cases.skip_unless_own_folder()
    for modality in ("audio", "image", "spectrogram", "text"):
        assert reference_cases.training("2.0", modality), f"no cases of {modality} in {reference_cases.FOLDER}"


def test_every_reference_case_is_read():
    if unknown := reference_cases.unknown():
        pytest.skip(f"no test is for {', '.join(unknown)}: neither cases of the authors' data2vec nor files of theirs")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_reference_first_step(case, attention):
    model = build(case, attention)
    inputs = step_inputs(case, 0, model)
    source, attention_mask = inputs[model.main_input_name], inputs.get("attention_mask")
    embedding = model.base_model.feature_encoder.embed(source, attention_mask)
    output = model(**inputs)
    figures, group = case.info["steps"][0], case.group("step0")

    reference_cases.assert_close(embedding.local_features, group["local_features"])
    reference_cases.assert_close(output.student_states, group["student_encoder_out"], relative=True)
    # The stored predictions carry rounding themselves: run in fp64, a speech model differs from them by 2.5e-5.
    reference_cases.assert_close(output.predictions.flatten(0, 1), group["decoder_out"], relative=True)
    layers = model.teacher_layers(source, embedding, attention_mask)
    for i, layer in enumerate(layers):
        reference_cases.assert_close(layer, group[f"teacher.layer_result.{i}"])
    reference_cases.assert_close(output.targets, group["targets_all_positions"])

    size = figures["sample_size"]
    assert int(output.mask.sum()) == size
    assert float(output.loss.detach()) * size == pytest.approx(figures["loss_total_sum"], rel=1e-5)
    assert float(output.regression_loss.detach()) * size == pytest.approx(
        figures[f"loss_{modality_of(case.info['config'])}_regression_sum"], rel=1e-5
    )
    if "loss_cls_sum" in figures:
        assert float(output.cls_loss.detach()) * size == pytest.approx(figures["loss_cls_sum"], rel=1e-5)
    else:
        assert output.cls_loss is None

    (output.loss * size).backward()
    reference_cases.assert_gradients(model, our_state(case, "grad"))


def test_reference_three_updates(case):
    model = build(case)
    reference_cases.run_updates(model, case, lambda step: step_inputs(case, step, model))
    reference_cases.assert_state(model, our_state(case, "state_after", "ema_after"))


def test_reference_evaluation(case):
    if not (group := case.group("eval")):
        pytest.skip("the case has no figures of evaluation")
    model = build(case).eval()
    encoder = model.base_model
    extra = model.config.num_extra_tokens
    with torch.no_grad():
        inputs = raw_inputs(case, model)
        output = encoder(**inputs, output_hidden_states=True)
        embedding = encoder.feature_encoder.embed(*inputs.values())
        tokens, attention_masks = encoder.feature_encoder.contextualize(embedding)
        keep = "end_of_block" if model.config.end_of_block_targets else "feed_forward"
        _, layers = encoder.trunk(tokens, attention_masks, keep)
    if "padding_mask" in group and embedding.valid is not None:
        assert torch.equal(group["padding_mask"], ~embedding.valid)
    reference_cases.assert_close(output.last_hidden_state, group["x_with_extra_tokens"], relative=True)
    reference_cases.assert_close(output.last_hidden_state[:, extra:], group["x"], relative=True)
    for i, layer in enumerate(layers):
        reference_cases.assert_close(layer, group[f"layer_result.{i}"], relative=True)
    for length in case.info.get("eval_lengths", []):  # shorter and longer than what it trains on
        group = case.group(f"eval_t{length}")
        with torch.no_grad():
            states = encoder(raw_input(group["source"], model)).last_hidden_state
        torch.testing.assert_close(states, group["x_with_extra_tokens"], rtol=0, atol=1e-5)


def eat_file(name: str):
    """A stored file of EAT as a model, and what fairseq computed with it."""
    path = reference_cases.FOLDER / "eat_checkpoints" / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    model, _ = from_fairseq(read_checkpoint(path))
    stored = load_file(path.with_suffix(".tensors.safetensors"))
    return model.eval(), reference_cases.Case(name, {}, stored)


def test_reference_file_of_eat_gives_the_stored_states():
    model, stored = eat_file("eat_pretrained")
    for name in ("", "_short"):
        source, group = stored.group(f"input{name}")["source"], stored.group(f"eval{name}")
        with torch.no_grad():
            states = model.base_model(raw_input(source, model)).last_hidden_state
        torch.testing.assert_close(states, group["x_with_extra_tokens"], rtol=0, atol=1e-5)


def test_reference_fine_tuned_file_of_eat_gives_the_stored_logits_losses_and_gradients():
    model, stored = eat_file("eat_finetuned")
    inputs, expected = stored.group("input"), stored.group("eval")
    output = model(raw_input(inputs["source"], model), labels=inputs["label"])
    torch.testing.assert_close(output.logits, expected["logits"], rtol=0, atol=1e-5)
    size = expected["loss"].numel()
    assert float(output.loss.detach()) * size == pytest.approx(float(expected["loss"].sum()), rel=1e-5)
    (output.loss * size).backward()  # the authors take the sum
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = stored.group("grad")
    encoder = {name.removeprefix("model."): value for name, value in theirs.items() if name.startswith("model.")}
    ours = state_from_fairseq(encoder, {}, model.config)
    ours |= {IMAGE_CLASSES.heads.ours(name): value for name, value in theirs.items() if not name.startswith("model.")}
    assert gradients.keys() == ours.keys()
    floor = 1e-6 * max(float(value.norm()) for value in ours.values())
    for name, value in ours.items():
        assert float((gradients[name] - value).norm()) <= 1e-4 * float(value.norm()) + floor, name
