"""Parity with the authors' implementation of data2vec 1.0 in all modalities, numbers stored in tests/reference.

Outputs at padded tokens are not compared in evaluation: transformers' text encoder embeds padding, the authors' does
not. In pretraining ours doesn't, either.
"""

import pytest
import reference_cases
import torch
from torch import nn
from transformers import Data2VecAudioConfig
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioPositionalConvEmbedding
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderStableLayerNorm

from modeling_data2vec import (
    Data2VecAudioForPreTraining,
    Data2VecTextForPreTraining,
    Data2VecVisionForPreTraining,
)
from modeling_data2vec.fairseq.data2vec_config import config_from_fairseq_v1
from modeling_data2vec.fairseq.data2vec_weights import state_from_fairseq_v1
from modeling_data2vec.modeling_data2vec import OutputRecorder

CASES = reference_cases.training("1.0")
MODELS = {
    "data2vec_audio": Data2VecAudioForPreTraining,
    "data2vec_text": Data2VecTextForPreTraining,
    "data2vec_vision": Data2VecVisionForPreTraining,
}
PRE_NORM = {"layer_norm_first": True}


class PreNormEncoder(Wav2Vec2EncoderStableLayerNorm):
    """The pre-norm encoder that transformers' data2vec lacks, of its other parts: core and teacher take any encoder."""

    def __init__(self, config: Data2VecAudioConfig):
        super().__init__(config)
        self.pos_conv_embed = Data2VecAudioPositionalConvEmbedding(config)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return reference_cases.load_convertible(request.param, accepted=PRE_NORM)


def our_config(case):
    reference = case.info["config"] | {"layer_norm_first": False}
    special = case.info.get("special_tokens") or {}
    vocabulary = {"vocab_size": case.info["vocab"] or special.get("mask", 0) + 1, "mask_token_id": special.get("mask")}
    config = config_from_fairseq_v1(reference, case.info["model"], **vocabulary)
    if case.info["model"] == "data2vec_text":
        full = torch.equal(case.tensors["input.target_tokens"], case.tensors["input.target_tokens_full"])
        config.teacher_input = "whole" if full else "masked"
    return config


def build(case, attention: str = "sdpa"):
    config = our_config(case)
    config._attn_implementation = attention
    model = MODELS[case.info["model"]](config)
    if case.info["config"].get("layer_norm_first"):
        model.base_model.encoder, model.teacher.encoder = PreNormEncoder(config), PreNormEncoder(config)
        model.freeze_teacher()
    model.load_state_dict(state_from_fairseq_v1(case.group("state"), case.group("ema"), config))
    model.freeze_teacher()
    return model.train()


def raw_inputs(case) -> dict[str, torch.Tensor]:
    tensors = case.tensors
    if case.info["model"] == "data2vec_audio":
        inputs = {"input_values": tensors["input.source"]}
        if "input.padding_mask" in tensors:
            inputs["attention_mask"] = ~tensors["input.padding_mask"]
        return inputs
    if case.info["model"] == "data2vec_vision":
        return {"pixel_values": tensors["input.img"]}
    ids = tensors["input.target_tokens_full"]
    real = ids != case.info["special_tokens"]["pad"]
    return {"input_ids": ids} if real.all() else {"input_ids": ids, "attention_mask": real}


def step_inputs(case, step: int) -> dict[str, torch.Tensor]:
    if case.info["model"] == "data2vec_text":
        mask = case.tensors["input.src_tokens"] == case.info["special_tokens"]["mask"]
    else:
        mask = case.tensors[f"step{step}.mask"].bool().flatten(1)
    return raw_inputs(case) | {"mask": mask[:, None]}


def test_reference_cases_are_there():
    reference_cases.skip_unless_own_folder()
    for modality in ("audio", "text", "vision"):
        assert reference_cases.training("1.0", modality), f"no cases of {modality} in {reference_cases.FOLDER}"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_reference_first_step(case, attention):
    model = build(case, attention)
    inputs = step_inputs(case, 0)
    output = model(**inputs)
    figures, group = case.info["steps"][0], case.group("step0")
    embedding = model.side().embed(inputs[model.main_input_name], inputs.get("attention_mask"))

    for name in ("features_after_post_extract_proj", "patch_embed_out"):
        if name in group:
            reference_cases.assert_close(embedding.local_features, group[name])
    reference_cases.assert_close(output.student_states, group["student_encoder_out"], relative=True)
    layers = model.teacher_layers(
        inputs[model.main_input_name], embedding, inputs.get("attention_mask"), inputs["mask"]
    )
    stored = [name for name in group if ".layer_result." in name or ".fc_layer_result." in name]
    assert stored
    stored.sort(key=lambda name: int(name.rpartition(".")[2]))
    for layer, name in zip(layers[-len(stored) :], stored, strict=True):
        reference_cases.assert_close(layer, group[name])

    mask = output.mask
    reference_cases.assert_close(output.predictions[mask], group["pred_masked"], relative=True)
    reference_cases.assert_close(output.targets[mask[:, 0]], group["target_masked"])
    size = figures["sample_size"]
    assert int(mask.sum()) == size
    assert float(output.loss.detach()) * size == pytest.approx(figures["loss_total_sum"], rel=1e-5)

    (output.loss * size).backward()
    expected = state_from_fairseq_v1(case.group("grad"), {}, model.config)
    expected = {name: gradient for name, gradient in expected.items() if "token_type" not in name}
    reference_cases.assert_gradients(model, expected)


def test_reference_three_updates(case):
    model = build(case)
    reference_cases.run_updates(model, case, lambda step: step_inputs(case, step))
    expected = state_from_fairseq_v1(case.group("state_after"), case.group("ema_after"), model.config)
    reference_cases.assert_state(model, expected)


def test_reference_evaluation(case):
    """transformers' own encoder, as users call it, gives the authors' outputs."""
    if not (group := case.group("eval")):
        pytest.skip("the case has no figures of evaluation")
    model = build(case).eval()
    encoder = model.base_model
    inputs = raw_inputs(case)
    modules = model.target_modules(encoder.encoder, model.config.end_of_block_targets)
    recorder = OutputRecorder()
    recorder.watch(modules)
    with torch.no_grad(), recorder.recording() as layers:
        states = encoder(**inputs).last_hidden_state
    if isinstance(model.head, nn.LayerNorm):
        states = model.head(states)
    num_extra = states.shape[1] - group["x"].shape[1]
    real = torch.ones(group["x"].shape[:2], dtype=torch.bool)
    if "padding_mask" in group:
        real = ~group["padding_mask"]
    elif "attention_mask" in inputs:
        real = inputs["attention_mask"]
    reference_cases.assert_close(states[:, num_extra:][real], group["x"][real], relative=True)
    assert len(layers) == model.config.num_hidden_layers
    for i, layer in enumerate(layers):
        if f"layer.{i}.fc" not in group:
            continue
        name = "end" if model.config.end_of_block_targets else "fc"
        if name == "fc" and getattr(model.config, "layer_scale_init_value", 0):
            layer = encoder.encoder.layer[i].lambda_2 * layer
        reference_cases.assert_close(layer[:, num_extra:][real], group[f"layer.{i}.{name}"][real], relative=True)
