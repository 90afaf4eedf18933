"""fairseq/data2vec2_{options,config,weights}.py: the authors' options and names, mapped completely or refused."""

import copy
from collections import ChainMap

import differences
import pytest
import reference_cases
import torch
from transformers import AutoModelForPreTraining

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)
from modeling_data2vec.fairseq.data2vec2_config import config_from_fairseq, config_to_fairseq, mlp_ratio
from modeling_data2vec.fairseq.data2vec2_options import (
    CONFIGS,
    LEFT_OUT_COMMON,
    LEFT_OUT_DECODER,
    LEFT_OUT_MODALITY,
    left_out_options,
)
from modeling_data2vec.fairseq.data2vec2_weights import POSITIONS, state_from_fairseq, state_to_fairseq

CASES = reference_cases.training("2.0")
IMAGE_CASES = reference_cases.training("2.0", "image")
TABLES = {"model": LEFT_OUT_COMMON, "modality": LEFT_OUT_MODALITY, "decoder": LEFT_OUT_DECODER}
MASK_OPTIONS = {
    "expand_adjcent": False,
    "non_overlapping": False,
}  # of the mask functions, not of the model


@pytest.fixture
def model_config() -> dict:
    """A reference config that can be converted, to be spoilt."""
    configs = (reference_cases.load(name).info["config"] for name in IMAGE_CASES)
    config = next((config for config in configs if not left_out_options(config)), None)
    if config is None:
        pytest.skip(f"no case of images that can be converted in {reference_cases.FOLDER}")
    return copy.deepcopy(config)


@pytest.mark.parametrize("name", CASES)
def test_reference_names_map_to_the_models_names_one_to_one(name):
    case = reference_cases.load_convertible(name)
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
    case = reference_cases.load_convertible(name)
    reference = case.info["config"]
    config = config_from_fairseq(reference, vocab_size=case.info["vocab"])
    assert config.cls_loss_reduction == "sum" and config.padding == "reference"
    assert config.norm_position == ("pre_doubled" if reference["layer_norm_first"] else "post")
    assert config.num_masks == reference["clone_batch"]
    assert config.average_top_k_layers == min(reference["average_top_k_layers"], reference["depth"])
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
    for name in reference_cases.training("2.0", "text"):
        with pytest.raises(ValueError, match="vocab_size"):
            config_from_fairseq(reference_cases.load_convertible(name).info["config"])


@pytest.mark.parametrize("name", CASES)
def test_weights_and_configs_go_back_as_they_came(name):
    case = reference_cases.load_convertible(name)
    config = config_from_fairseq(case.info["config"], vocab_size=case.info["vocab"])
    weights = case.group("state"), case.group("ema")
    again = state_to_fairseq(state_from_fairseq(*weights, config), config)
    for part, expected in zip(again, weights, strict=True):
        assert part.keys() == expected.keys()
        for key, value in expected.items():
            if case.modality == "spectrogram" and key.endswith(
                POSITIONS
            ):  # there in single precision, and for any length
                torch.testing.assert_close(part[key][:, : value.shape[1]], value, rtol=0, atol=1e-6)
            else:
                assert torch.equal(part[key], value), key
    assert config_from_fairseq(config_to_fairseq(config), vocab_size=case.info["vocab"]) == config


NOT_THERE = [
    (Data2Vec2TextConfig, {"norm_position": "pre"}, 'norm_position is "pre"'),
    (Data2Vec2TextConfig, {"hidden_act": "relu"}, "hidden_act is 'relu'.*'gelu'"),
    (Data2Vec2TextConfig, {"group_norm_target_layer": True}, "group_norm_target_layer is True.*False"),
    (Data2Vec2TextConfig, {"pad_token_id": 0}, "pad_token_id is 0.*with 1"),
    (Data2Vec2VisionConfig, {"decoder_projection_layers": 2}, "decoder_projection_layers is 2.*with 1"),
    (Data2Vec2VisionConfig, {"image_size": (224, 112)}, r"image_size is \(224, 112\).*square"),
    (Data2Vec2AudioConfig, {"conv_pos_kernel_size": 2}, "conv_pos_kernel_size 2.*kernel of at least 3"),
    (Data2Vec2AudioConfig, {"num_conv_pos_embeddings": 0}, "num_conv_pos_embeddings is 0.*at least 1"),
]


@pytest.mark.parametrize(("config_class", "fields", "message"), NOT_THERE)
def test_a_model_that_the_reference_does_not_have_is_refused(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        config_to_fairseq(config_class(**fields))


@pytest.mark.parametrize("hidden_size", [48, 768, 1020, 3 * 7 * 11 * 16])
def test_the_width_that_is_read_back_is_that_which_was_written(hidden_size):
    """The reference has a ratio, and cuts the product off: 49 * (1 / 49) is below 1."""
    for width in range(1, 4 * hidden_size, 7):
        assert int(hidden_size * mlp_ratio(hidden_size, width)) == width
    assert mlp_ratio(hidden_size, 4 * hidden_size) == 4.0
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "decoder_dim": 48, "decoder_groups": 16}
    for config in (
        Data2Vec2VisionConfig(**sizes, intermediate_size=97, alibi_dims=1, use_alibi=True, image_size=[32, 32]),
        Data2Vec2AudioConfig(**sizes, intermediate_size=101, conv_pos_kernel_size=3, num_conv_pos_embeddings=4),
    ):
        there = config_to_fairseq(config)
        assert there["modalities"].get("image", {}).get("input_size", 32) == 32
        again = config_from_fairseq(there)
        for name in ("intermediate_size", "conv_pos_kernel_size", "num_conv_pos_embeddings", "alibi_dims"):
            assert getattr(again, name, None) == getattr(config, name, None), name


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


def test_patches_of_another_width_and_no_other_modality(model_config):
    model_config["modalities"]["image"]["embed_dim"] *= 2
    config = config_from_fairseq(model_config)
    assert config.patch_embed_dim == 2 * config.hidden_size
    assert config_to_fairseq(config)["modalities"]["image"]["embed_dim"] == config.patch_embed_dim
    text = {"supported_modality": "TEXT", "embed_dim": 8, "modalities": {"text": {"embed_dim": 16, "decoder": {}}}}
    assert left_out_options(text) == {"modalities.text.embed_dim": 16}


def test_how_extra_tokens_started_does_not_matter_to_weights_that_are_there(model_config):
    model_config["modalities"]["image"] |= {"num_extra_tokens": 10, "init_extra_token_zero": True}
    assert config_from_fairseq(model_config).num_extra_tokens == 10


def test_spectrograms_are_told_from_images_of_one_channel(model_config):
    image = model_config["modalities"]["image"]
    image |= {"in_chans": 1}
    assert config_from_fairseq(model_config).model_type == "data2vec2-vision"
    image |= {"target_length": 512, "patch_size": 16}
    config = config_from_fairseq(model_config)
    assert config.model_type == "data2vec2-spectrogram" and config.grid == (32, 8)
    assert config_from_fairseq(config_to_fairseq(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_mel_bins": 64}, "num_mel_bins is 64, .* only models with 128"),
        ({"patch_size": 8}, r"patch_shape is \(8, 8\), .* only models with \(16, 16\)"),
        ({"patch_size": [4, 128]}, r"patch_shape is \(4, 128\)"),
        ({"decoder_projection_layers": 2}, "decoder_projection_layers is 2"),
    ],
)
def test_spectrograms_that_eat_does_not_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config_to_fairseq(Data2Vec2SpectrogramConfig(**fields))


def test_the_page_of_differences_lists_what_the_code_leaves_out():
    for option in LEFT_OUT_COMMON.keys() & LEFT_OUT_MODALITY.keys():
        assert LEFT_OUT_COMMON[option] == LEFT_OUT_MODALITY[option], f"{option} needs two rows in the table"
    assert differences.left_out() == dict(ChainMap(*TABLES.values(), MASK_OPTIONS))
