"""The tests of parity themselves: every valid form of a stored case is taken, and what no test knows is left out.

The cases here are the authors' own in another form, of which the numbers follow from the stored ones.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reference_cases
import test_conversion
import test_conversion_v1
import test_mask_statistics
import test_reference
import test_reference_v1
import torch
from safetensors.torch import save_file

from modeling_data2vec.fairseq.data2vec2_config import config_from_fairseq
from modeling_data2vec.fairseq.data2vec2_weights import state_from_fairseq

SCALE = 1000.0


def variant(name: str, *without: str, **options) -> reference_cases.Case:
    """A stored case without some groups of its tensors, and with other options of its model."""
    if reference_cases.FOLDER != reference_cases.OWN_FOLDER:
        pytest.skip("made of the committed cases")
    case = copy.deepcopy(reference_cases.load(name))
    case.info["config"] |= options
    case.tensors = {key: value for key, value in case.tensors.items() if key.split(".")[0] not in without}
    return case


def modality_options(case: reference_cases.Case) -> dict:
    return case.info["config"]["modalities"][case.modality]


def check(case: reference_cases.Case, updates: bool = True) -> None:
    tests = test_reference if case.version == "2.0" else test_reference_v1
    tests.test_reference_first_step(case, "sdpa")
    if updates:
        tests.test_reference_three_updates(case)
    tests.test_reference_evaluation(case)


# ---- less than all numbers ----


@pytest.mark.parametrize("name", ["v1_audio_base", "v1_vision_fc", "v2_text_base_M2"])
def test_a_case_without_gradients_and_states(name):
    check(variant(name, "grad", "state_after", "ema_after"))


@pytest.mark.parametrize("name", ["v1_text_base", "v2_image_base_M2"])
def test_a_case_without_evaluation_is_skipped_there(name):
    case = variant(name, "eval")
    with pytest.raises(pytest.skip.Exception, match="no figures of evaluation"):
        check(case)


# ---- options of which the stored numbers don't depend ----


@pytest.mark.parametrize("name", ["v1_vision_base", "v1_vision_fc"])
def test_a_case_without_layer_scale(name):
    """The scale is made part of the matrix before it, and everything but gradients stays as it was."""
    case = variant(name, "grad", "state_after", "ema_after", layer_scale_init_value=0.0)
    for group, prefix in (("state", "encoder."), ("ema", "")):
        for layer in range(case.info["config"]["depth"]):
            for number, part in ((1, "attn.proj"), (2, "mlp.2")):
                block = f"{group}.{prefix}blocks.{layer}"
                gamma = case.tensors.pop(f"{block}.gamma_{number}")
                case.tensors[f"{block}.{part}.weight"] *= gamma[:, None]
                case.tensors[f"{block}.{part}.bias"] *= gamma
    check(case, updates=False)


@pytest.mark.parametrize("name", ["v1_text_base", "v1_vision_base", "v2_image_base_M2"])
def test_more_target_layers_than_there_are_mean_all(name):
    case = variant(name)
    depth = case.info["config"].get("depth") or case.info["config"]["transformer"]["encoder"]["layers"]
    every = our_config(variant(name, average_top_k_layers=depth))
    assert our_config(variant(name, average_top_k_layers=depth + 5)) == every


def test_more_target_layers_than_there_are_give_the_same_numbers():
    check(variant("v2_image_base_M2", average_top_k_layers=99))


def test_layers_alone_are_averaged_whatever_the_other_option_says():
    check(variant("v1_audio_base", ema_transformer_only=False))


def test_a_decoder_of_images_has_one_projection():
    case = variant("v2_image_base_M2")
    modality_options(case)["decoder"]["projection_layers"] = 2
    check(case)


def test_text_without_a_prenet_has_no_dropout_before_it():
    case = variant("v2_text_base_M2")
    assert not modality_options(case)["prenet_depth"]
    modality_options(case)["prenet_dropout"] = 0.5
    check(case)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_loss_scale_of_images_that_is_not_positive_is_none(scale):
    case = variant("v1_vision_fc", loss_scale=scale)
    assert reference_cases.load(case.name).info["config"]["loss_scale"] == 0.5
    case.tensors |= {key: 2 * value for key, value in case.tensors.items() if key.startswith("grad.")}
    for step in case.info["steps"]:
        step["loss_total_sum"] *= 2
    case.info["sgd_lr"] /= 2
    check(case)
    assert our_config(variant("v1_text_base", loss_scale=scale)).loss_scale is None  # 1/sqrt(D)


def our_config(case: reference_cases.Case):
    return (test_reference if case.version == "2.0" else test_reference_v1).our_config(case)


# ---- large numbers ----


def test_student_states_of_large_scale():
    """A last norm times 1,000, and what reads it divided by as much."""
    case = variant("v2_image_endblock_M2", "grad", "state_after", "ema_after")
    last = case.info["config"]["depth"] - 1
    first_conv = "state.modality_encoders.IMAGE.decoder.blocks.0.0.weight"
    case.tensors[first_conv] /= SCALE
    norm = f"state.blocks.{last}.norm2."
    states = (norm, "step0.student_encoder_out", "step0.mask_noise_dense", "eval.x", f"eval.layer_result.{last}")
    for key in case.tensors:
        if key.startswith(states):
            case.tensors[key] = SCALE * case.tensors[key]
    check(case, updates=False)


def test_predictions_of_large_scale_of_images():
    case = variant("v1_vision_base", "grad", "state_after", "ema_after", loss_beta=0.0)
    for key in ("state.encoder.norm.weight", "state.encoder.norm.bias", "eval.x"):
        case.tensors[key] = SCALE * case.tensors[key]
    for key in ("step0.student_encoder_out", "step0.pred_masked"):
        case.tensors[key] = SCALE * case.tensors[key]
    differences = case.tensors["step0.pred_masked"].double() - case.tensors["step0.target_masked"].double()
    case.info["steps"][0]["loss_total_sum"] = (
        float(differences.square().sum()) / case.info["config"]["embed_dim"] ** 0.5
    )
    check(case, updates=False)


def test_a_wrong_number_of_any_scale_is_seen():
    for expected in (torch.tensor([0.5, 1.0]), torch.tensor([0.5, 1000.0])):
        for relative in (False, True):
            with pytest.raises(AssertionError):
                reference_cases.assert_close(expected * (1 + 5e-5), expected, relative=relative)
    reference_cases.assert_close(torch.tensor([1000.005]), torch.tensor([1000.0]), relative=True)
    with pytest.raises(AssertionError):
        reference_cases.assert_close(torch.tensor([1000.005]), torch.tensor([1000.0]))


# ---- what is left out ----

LEFT_OUT = [
    ("v1_audio_base", {"mask_dropout": 0.5}),
    ("v1_vision_base", {"shared_rel_pos_bias": False}),
    ("v2_image_base_M2", {"recon_loss": 1.0}),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the committed one."""
    monkeypatch.setattr(reference_cases, "FOLDER", tmp_path)
    return tmp_path


def write(folder: Path, case: reference_cases.Case, name: str | None = None) -> str:
    name = name or case.name
    (folder / name).mkdir()
    (folder / name / "case.json").write_text(json.dumps(case.info))
    save_file(case.tensors, folder / name / "tensors.safetensors")
    return name


@pytest.mark.parametrize(("name", "options"), LEFT_OUT)
def test_options_that_are_left_out_are_skipped_everywhere(name, options, tmp_path, monkeypatch):
    case = variant(name, **options)
    monkeypatch.setattr(reference_cases, "FOLDER", tmp_path)
    write(tmp_path, case)
    tests = test_conversion if case.version == "2.0" else test_conversion_v1
    with pytest.raises(pytest.skip.Exception, match=f"leaves out .*{next(iter(options))}"):
        reference_cases.load_convertible(name)
    for test in (
        tests.test_reference_names_map_to_the_models_names_one_to_one,
        tests.test_weights_and_configs_go_back_as_they_came,
    ):
        with pytest.raises(pytest.skip.Exception, match="leaves out"):
            test(name)


def test_a_folder_with_some_cases_and_things_that_no_test_knows(tmp_path, monkeypatch):
    text, image = variant("v1_text_base"), variant("v2_image_base_M2")
    monkeypatch.setattr(reference_cases, "FOLDER", tmp_path)
    write(tmp_path, text, "any_name_at_all")
    image.info["reference"] = {"repo": "another/repository"}
    write(tmp_path, image, "v2_image_of_others_M2")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "logs").mkdir()
    assert reference_cases.training("1.0") == reference_cases.training("1.0", "text") == ["any_name_at_all"]
    assert not reference_cases.training("2.0") and not reference_cases.training("1.0", "audio")
    assert reference_cases.unknown() == ["README.md", "logs", "v2_image_of_others_M2"]
    with pytest.raises(pytest.skip.Exception, match=r"no test is for README\.md, logs, v2_image_of_others_M2"):
        test_reference.test_every_reference_case_is_read()
    for tests in (test_reference, test_reference_v1):
        with pytest.raises(pytest.skip.Exception, match="may hold some kinds of cases alone"):
            tests.test_reference_cases_are_there()


@pytest.mark.slow
def test_pytest_of_such_a_folder_passes(tmp_path):
    folder = tmp_path / "cases"
    folder.mkdir()
    write(folder, variant("v1_text_base", "grad", "eval"), "first")
    write(folder, variant("v1_audio_base", mask_dropout=0.5), "second")
    shutil.copytree(reference_cases.FOLDER / "targets_v2", folder / "targets_v2")
    (folder / "eat_of_others").mkdir()
    (folder / "eat_of_others" / "case.json").write_text('{"reference": {"repo": "another/repository"}}')
    files = ["reference", "reference_v1", "conversion", "conversion_v1", "targets", "masking", "positions", "ema"]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-k", "reference", *(f"test_{name}.py" for name in files)]
    environment = os.environ | {"DATA2VEC_REFERENCE": str(folder)}
    done = subprocess.run(command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "eat_of_others" in done.stdout and "leaves out {'mask_dropout': 0.5}" in done.stdout


# ---- masks ----


def test_statistics_of_blocks_with_a_largest_one_below_the_number_of_positions(tmp_path, monkeypatch):
    """As large as what is hidden in all, which is no limit: the stored figures stay."""
    if reference_cases.FOLDER != reference_cases.OWN_FOLDER:
        pytest.skip("made of the committed cases")
    name = "mask_statistics"
    case, entry = reference_cases.load(name), "v1_vision_default75"
    args = case.info["statistics"][entry]["args"]
    assert args["max_masks"] > args["num_masks"]
    args["max_masks"] = args["num_masks"]
    monkeypatch.setattr(reference_cases, "FOLDER", tmp_path)
    write(tmp_path, case)
    test_mask_statistics.test_reference_mask_statistics(name, entry, test_mask_statistics.keys)


# ---- a teacher of the layers alone ----


def test_layers_alone_with_a_norm_before_them():
    """The authors' average of the blocks has no last norm, which no target passes: two ways to one teacher."""
    case = variant("v2_image_preln_M2", "grad")
    student = case.group("state")
    blocks = {key.removeprefix("blocks."): value for key, value in case.group("ema").items() if "blocks." in key[:7]}
    alone = variant("v2_image_preln_M2", ema_encoder_only=True).info["config"]
    ours = state_from_fairseq(student, blocks, config_from_fairseq(alone))
    inputs = test_reference.step_inputs(case, 0, whole := test_reference.build(case).eval())
    layers = type(whole)(config_from_fairseq(alone)).eval()
    assert ours.keys() == layers.state_dict().keys()
    layers.load_state_dict(ours)
    whole.teacher.feature_encoder.load_state_dict(whole.base_model.feature_encoder.state_dict())
    assert torch.equal(layers(**inputs).targets, whole(**inputs).targets)
