"""conversion.py: names and options of the authors' checkpoints, mapped completely or refused."""

import copy
from collections import ChainMap

import differences
import pytest
import reference_cases
import torch
from transformers import AutoModelForPreTraining

from modeling_data2vec import Data2Vec2TextConfig
from modeling_data2vec.conversion import (
    CONFIGS,
    LEFT_OUT_COMMON,
    LEFT_OUT_DECODER,
    LEFT_OUT_MODALITY,
    POSITIONS,
    config_from_fairseq,
    config_to_fairseq,
    left_out_options,
    state_from_fairseq,
    state_to_fairseq,
)

CASES = reference_cases.names("v2_*_M*")
IMAGE_CASES = reference_cases.names("v2_image_*_M*")
TABLES = {"model": LEFT_OUT_COMMON, "modality": LEFT_OUT_MODALITY, "decoder": LEFT_OUT_DECODER}
MASK_OPTIONS = {"expand_adjcent": False, "non_overlapping": False}  # of the mask functions, not of the model


def convertible(name: str) -> reference_cases.Case:
    case = reference_cases.load(name)
    if used := left_out_options(case.info["config"]):
        pytest.skip(f"docs/differences.md leaves out {used}")
    return case


@pytest.fixture
def model_config() -> dict:
    """A reference config that can be converted, to be spoilt."""
    configs = (reference_cases.load(name).info["config"] for name in IMAGE_CASES)
    config = next((config for config in configs if not left_out_options(config)), None)
    if config is None:
        pytest.skip(f"no v2_image case that can be converted in {reference_cases.FOLDER}")
    return copy.deepcopy(config)


@pytest.mark.parametrize("name", CASES)
def test_reference_names_map_to_the_models_names_one_to_one(name):
    case = convertible(name)
    student, teacher = case.group("state"), case.group("ema")
    config = config_from_fairseq(case.info["config"], vocab_size=case.info["vocab"])
    state = state_from_fairseq(student, teacher, config)
    model = AutoModelForPreTraining.from_config(config)
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in expected.items()}
    dropped = sum(key.endswith(POSITIONS) for key in (*student, *teacher))
    assert len(state) == len(student) + len(teacher) - dropped


@pytest.mark.parametrize("name", CASES)
def test_converted_configs_keep_what_the_reference_computes(name):
    case = convertible(name)
    reference = case.info["config"]
    config = config_from_fairseq(reference, vocab_size=case.info["vocab"])
    assert config.cls_loss_reduction == "sum" and config.padding == "reference"
    assert config.norm_position == ("pre_doubled" if reference["layer_norm_first"] else "post")
    assert config.num_masks == reference["clone_batch"]
    assert config.average_top_k_layers == reference["average_top_k_layers"]
    assert config.cls_loss_weight == reference["cls_loss"]


@pytest.mark.parametrize("modality", ["AUDIO", "IMAGE", "TEXT"])
@pytest.mark.parametrize("name", ["norm", "encoder.layers.0.fc1.weight", "modality_encoders.VIDEO.extra_tokens"])
def test_an_unknown_name_is_an_error(name, modality):
    config = CONFIGS[modality]()
    with pytest.raises(KeyError, match=f"not weights of a data2vec 2.0 model of the reference for {modality}: {name}"):
        state_from_fairseq({name: torch.zeros(1)}, {}, config)
    with pytest.raises(KeyError, match="is not a weight that the reference's model"):
        state_to_fairseq({"surprise": torch.zeros(1)}, config)


def test_all_unknown_names_are_listed():
    names = ["modality_encoders.IMAGE.local_encoder.proj.weight", "blocks.0.surprise", "surprise"]
    with pytest.raises(KeyError, match=f"for TEXT: {names[0]}, surprise, teacher.surprise"):
        weights = {name: torch.zeros(1) for name in names}
        state_from_fairseq(weights, {"surprise": torch.zeros(1)}, Data2Vec2TextConfig(teacher_scope="encoder"))


@pytest.mark.parametrize("value", [None, "VIDEO", "AUDIO,IMAGE"])
def test_a_model_of_no_single_known_modality_is_refused(model_config, value):
    model_config["supported_modality"] = value
    with pytest.raises(ValueError, match="supported_modality"):
        config_from_fairseq(model_config)


def test_a_text_model_needs_its_vocabulary():
    for name in reference_cases.names("v2_text_*_M*"):
        with pytest.raises(ValueError, match="vocab_size"):
            config_from_fairseq(convertible(name).info["config"])


@pytest.mark.parametrize("name", CASES)
def test_weights_and_configs_go_back_as_they_came(name):
    case = convertible(name)
    config = config_from_fairseq(case.info["config"], vocab_size=case.info["vocab"])
    weights = case.group("state"), case.group("ema")
    again = state_to_fairseq(state_from_fairseq(*weights, config), config)
    for part, expected in zip(again, weights, strict=True):
        assert part.keys() == expected.keys()
        assert all(torch.equal(part[key], value) for key, value in expected.items())
    assert config_from_fairseq(config_to_fairseq(config), vocab_size=case.info["vocab"]) == config


def test_a_model_that_the_reference_does_not_have_is_refused():
    with pytest.raises(ValueError, match='norm_position is "pre"'):
        config_to_fairseq(Data2Vec2TextConfig(norm_position="pre"))


@pytest.mark.parametrize(("table", "option"), [(table, option) for table in TABLES for option in TABLES[table]])
def test_an_option_that_is_left_out_is_refused_by_name(model_config, table, option):
    image = model_config["modalities"]["image"]
    image |= {"num_extra_tokens": 1, "use_alibi_encoder": True}  # otherwise some options have no effect, and are free
    image["alibi_distance"] = "manhattan"
    section = {"model": model_config, "modality": image, "decoder": image["decoder"]}[table]
    accepted = TABLES[table][option]
    section[option] = accepted
    config_from_fairseq(model_config)
    if isinstance(accepted, str):
        section[option] = "another"
    else:
        section[option] = (not accepted) if isinstance(accepted, bool) else (accepted or 0) + 1
    with pytest.raises(ValueError, match=rf"'{option}': {section[option]!r}.*differences\.md"):
        config_from_fairseq(model_config)


def test_a_modality_of_another_width_is_refused(model_config):
    model_config["modalities"]["image"]["embed_dim"] *= 2
    with pytest.raises(ValueError, match=r"modalities\.image\.embed_dim"):
        config_from_fairseq(model_config)


def test_how_extra_tokens_start_is_free_where_there_are_none(model_config):
    model_config["cls_loss"] = 0.0
    model_config["modalities"]["image"] |= {"num_extra_tokens": 0, "init_extra_token_zero": True}
    assert config_from_fairseq(model_config).num_extra_tokens == 0


def test_the_page_of_differences_lists_what_the_code_leaves_out():
    for option in LEFT_OUT_COMMON.keys() & LEFT_OUT_MODALITY.keys():
        assert LEFT_OUT_COMMON[option] == LEFT_OUT_MODALITY[option], f"{option} needs two rows in the table"
    assert differences.left_out() == dict(ChainMap(*TABLES.values(), MASK_OPTIONS))
