"""fairseq/data2vec_{options,config,weights}.py: the authors' options and names of 1.0, mapped completely or refused."""

import ast
import copy
import re

import differences
import pytest
import reference_cases
import torch
from test_reference_v1 import MODELS, PRE_NORM, our_config

from modeling_data2vec import (
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from modeling_data2vec.fairseq.data2vec_config import (
    config_from_fairseq_v1,
    config_to_fairseq_v1,
    reference_name,
)
from modeling_data2vec.fairseq.data2vec_options import LEFT_OUT_V1, left_out_options_v1
from modeling_data2vec.fairseq.data2vec_weights import DROPPED_V1, state_from_fairseq_v1, state_to_fairseq_v1

CASES = reference_cases.training("1.0")
OPTIONS = [(name, path) for name, options in LEFT_OUT_V1.items() for path in options]


@pytest.mark.parametrize("name", CASES)
def test_reference_names_map_to_the_models_names_one_to_one(name):
    case = reference_cases.load_convertible(name, accepted=PRE_NORM)
    config = our_config(case)
    student, teacher = case.group("state"), case.group("ema")
    state = state_from_fairseq_v1(student, teacher, config)
    expected = MODELS[case.info["model"]](config).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in expected.items()}
    dropped = [key for key in student if not state_from_fairseq_v1({key: student[key]}, {}, config)]
    assert all(key.endswith(DROPPED_V1) for key in dropped)
    kept = sum(value.numel() for key, value in student.items() if key not in dropped)
    ours = [key for key in state if not key.startswith("teacher.") and "token_type" not in key]
    assert kept == sum(state[key].numel() for key in ours)


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_weight_is_an_error(name):
    case = reference_cases.load_convertible(name, accepted=PRE_NORM)
    some = next(iter(case.tensors.values()))
    with pytest.raises(KeyError, match="not weights of a data2vec_.*: encoder.surprise, another"):
        state_from_fairseq_v1({"encoder.surprise": some, "another": some}, {}, our_config(case))


@pytest.mark.parametrize("name", CASES)
def test_weights_and_configs_go_back_as_they_came(name):
    """But for what no forward pass needs."""
    case = reference_cases.load_convertible(name, accepted=PRE_NORM)
    config = our_config(case)
    weights = case.group("state"), case.group("ema")
    again = state_to_fairseq_v1(state_from_fairseq_v1(*weights, config), config)
    for part, expected in zip(again, weights, strict=True):
        assert part.keys() == expected.keys()
        different = [key for key, value in expected.items() if not torch.equal(part[key], value)]
        assert all(key.startswith(("final_proj.", "norm.", "mask_emb")) for key in different)
    special = case.info.get("special_tokens") or {}
    vocabulary = {"vocab_size": getattr(config, "vocab_size", None), "mask_token_id": special.get("mask")}
    back = config_from_fairseq_v1(config_to_fairseq_v1(config), case.info["model"], **vocabulary)
    if case.info["model"] == "data2vec_text":
        back.teacher_input = config.teacher_input  # a matter of the reference's data pipeline
    assert back == config


NOT_THERE = [
    (Data2VecAudioPreTrainingConfig, {"end_of_block_targets": True}, "end_of_block_targets is True.*with False"),
    (Data2VecAudioPreTrainingConfig, {"conv_pos_kernel_size": 2}, "conv_pos_kernel_size 2.*kernel of at least 3"),
    (Data2VecAudioPreTrainingConfig, {"num_conv_pos_embeddings": 1}, "num_conv_pos_embeddings is 1.*at least 2"),
    (Data2VecTextPreTrainingConfig, {"end_of_block_targets": True}, "end_of_block_targets is True.*with False"),
    (Data2VecTextPreTrainingConfig, {"group_norm_target_layer": True}, "group_norm_target_layer is True"),
    (Data2VecTextPreTrainingConfig, {"pad_token_id": 0}, "pad_token_id is 0.*with 1"),
    (Data2VecVisionPreTrainingConfig, {"intermediate_size": 3000}, "intermediate_size is 3000.*with 3072"),
    (Data2VecVisionPreTrainingConfig, {"image_size": (224, 112)}, r"image_size is \(224, 112\).*square"),
]


@pytest.mark.parametrize(("config_class", "fields", "message"), NOT_THERE)
def test_a_model_that_the_reference_does_not_have_is_refused(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_to_fairseq_v1(config_class(**fields))


@pytest.mark.parametrize("config_class", [Data2VecAudioPreTrainingConfig, Data2VecTextPreTrainingConfig])
def test_no_option_is_written_that_the_reference_lacks(config_class):
    """Its configs refuse names that they don't know."""
    known = (reference_cases.read_info(name) for name in CASES)
    options = next((info["config"] for info in known if info["model"] == reference_name(config_class())), None)
    if options is None:
        pytest.skip(f"no such case in {reference_cases.FOLDER}")
    assert config_to_fairseq_v1(config_class()).keys() <= options.keys()


@pytest.mark.parametrize("largest", [20, 196, None])
def test_the_largest_block_of_images_is_kept(largest):
    written = config_to_fairseq_v1(Data2VecVisionPreTrainingConfig(max_mask_block=largest))
    assert written["max_mask_patches_per_block"] == (largest or 196)
    again = config_from_fairseq_v1(written, "data2vec_vision")
    assert again.max_mask_block == (20 if largest == 20 else None)  # as large as the image is no limit


def test_token_types_have_no_place_there():
    config = Data2VecTextPreTrainingConfig()
    with pytest.raises(ValueError, match="token types"):
        state_to_fairseq_v1({"data2vec_text.embeddings.token_type_embeddings.weight": torch.ones(1, 8)}, config)


@pytest.mark.parametrize(("name", "path"), OPTIONS)
def test_an_option_that_is_left_out_is_refused_by_name(name, path):
    cases = (reference_cases.read_info(case) for case in CASES)
    config = next((info["config"] for info in cases if info["model"] == name), None)
    if config is None:
        pytest.skip(f"no case of {name} in {reference_cases.FOLDER}")
    config = copy.deepcopy(config)
    *sections, option = path.split(".")
    section = config
    for part in sections:
        section = section[part]
    accepted = LEFT_OUT_V1[name][path]
    section[option] = accepted
    assert path not in left_out_options_v1(config, name)
    section[option] = "another" if isinstance(accepted, str) else (not accepted if isinstance(accepted, bool) else 0.5)
    with pytest.raises(ValueError, match=rf"'{re.escape(path)}': .*differences\.md"):
        config_from_fairseq_v1(config, name, vocab_size=41)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="'data2vec_multi', but only data2vec_audio, data2vec_text, data2vec_vision"):
        config_from_fairseq_v1({}, "data2vec_multi")


def test_a_text_model_needs_its_vocabulary():
    for name in reference_cases.training("1.0", "text"):
        with pytest.raises(ValueError, match="vocab_size"):
            config_from_fairseq_v1(reference_cases.load_convertible(name).info["config"], "data2vec_text")


def test_the_page_of_differences_lists_what_the_code_leaves_out():
    text = differences.section("data2vec 1.0").split("### Left out of 1.0\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (\w+) \| `([\w.]+)` \| `([^`]+)` \| .+ \|$", text, flags=re.MULTILINE)
    listed: dict[str, dict] = {}
    for model, option, value in rows:
        listed.setdefault(f"data2vec_{model}", {})[option] = ast.literal_eval(value)
    assert listed == LEFT_OUT_V1
