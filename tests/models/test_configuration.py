"""configuration_data2vec.py: errors that say what to change, and configs that survive being saved."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2PreTrainingConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)

CONFIGS = (Data2Vec2PreTrainingConfig, Data2Vec2SpectrogramConfig, Data2Vec2VisionConfig)
CONFIGS_1 = (Data2VecAudioPreTrainingConfig, Data2VecTextPreTrainingConfig, Data2VecVisionPreTrainingConfig)

# What is set, and what the error must say: the field, its value, what is allowed.
WRONG = [
    ({"hidden_size": 0}, r"hidden_size is 0\b.*at least 1"),
    ({"num_hidden_layers": 0, "average_top_k_layers": 0}, r"num_hidden_layers is 0\b.*at least 1"),
    ({"num_attention_heads": 0}, r"num_attention_heads is 0\b.*at least 1"),
    ({"intermediate_size": -4}, r"intermediate_size is -4\b.*at least 1"),
    ({"num_masks": 0}, r"num_masks is 0\b.*at least 1"),
    ({"num_attention_heads": 7}, r"num_attention_heads is 7\b.*hidden_size 768.*divisor"),
    ({"average_top_k_layers": 0}, r"average_top_k_layers is 0\b.*num_hidden_layers 1\d.*from 1 to 1\d"),
    ({"average_top_k_layers": 13}, r"average_top_k_layers is 13\b.*num_hidden_layers 1\d.*from 1 to 1\d"),
    ({"cls_loss_weight": 0.5, "num_extra_tokens": 0}, r"cls_loss_weight is 0\.5.*num_extra_tokens is 0.*to 1"),
    ({"mask_prob": 0}, r"mask_prob is 0\b.*strictly between 0 and 1"),
    ({"mask_prob": 1.0}, r"mask_prob is 1\.0.*strictly between 0 and 1"),
    ({"mask_length": 0}, r"mask_length is 0\b.*at least 1"),
    ({"ema_decay": 1.5}, r"ema_decay is 1\.5.*between 0 and 1"),
    ({"ema_end_decay": -0.1}, r"ema_end_decay is -0\.1.*between 0 and 1"),
    ({"decoder_groups": 0}, r"decoder_groups is 0\b.*at least 1"),
    ({"hidden_size": -4}, r"hidden_size is -4\b.*at least 1"),
    ({"decoder_groups": 5}, r"decoder_groups is 5\b.*hidden_size 768.*common divisor"),
    ({"decoder_dim": 100, "decoder_groups": 16}, r"decoder_groups is 16\b.*decoder_dim 100.*common divisor"),
]
TOO_MUCH = 10**9
WRONG += [
    ({"num_hidden_layers": -1, "average_top_k_layers": -1}, r"num_hidden_layers is -1\b.*at least 1"),
    ({"num_hidden_layers": TOO_MUCH}, r"num_hidden_layers is 1000000000\b.*at most 1,000"),
    ({"intermediate_size": TOO_MUCH}, r"intermediate_size is 1000000000\b.*at most 65,536"),
    ({"num_masks": TOO_MUCH}, r"num_masks is 1000000000\b.*at most 65,536"),
    ({"mask_length": TOO_MUCH}, r"mask_length is 1000000000\b.*at most 65,536"),
    ({"average_top_k_layers": -3}, r"average_top_k_layers is -3\b.*from 1 to 1\d"),
    ({"mask_prob": float("nan")}, r"mask_prob is nan.*strictly between 0 and 1"),
    ({"mask_prob": -0.5}, r"mask_prob is -0\.5.*strictly between 0 and 1"),
    ({"ema_decay": float("nan")}, r"ema_decay is nan.*between 0 and 1"),
    ({"ema_anneal_end_step": -1}, r"ema_anneal_end_step is -1\b.*not be negative"),
    ({"loss_beta": -1.0}, r"loss_beta is -1\.0.*not be negative"),
    ({"loss_beta": float("inf")}, r"loss_beta is inf.*finite"),
    ({"loss_scale": float("nan")}, r"loss_scale is nan.*finite"),
    ({"layer_norm_eps": 0.0}, r"layer_norm_eps is 0\.0.*strictly between 0 and 1"),
    ({"hidden_act": "gellu"}, r"hidden_act is 'gellu'.*one of .*gelu"),
    ({"drop_path_rate": 1.5}, r"drop_path_rate is 1\.5.*at least 0 and less than 1"),
]
# Of 2.0 alone.
WRONG_2 = [
    ({"decoder_layers": TOO_MUCH}, r"decoder_layers is 1000000000\b.*at most 1,000"),
    ({"decoder_layers": 0}, r"decoder_layers is 0\b.*at least 1"),
    ({"decoder_projection_layers": 1001}, r"decoder_projection_layers is 1001\b.*at most 1,000"),
    ({"decoder_projection_ratio": 0}, r"decoder_projection_ratio is 0\b.*at least 1"),
    ({"decoder_projection_ratio": 1e9}, r"decoder_projection_ratio is 1000000000.*at most 65,536"),
    ({"decoder_kernel": -3}, r"decoder_kernel is -3\b.*at least 1"),
    ({"num_prenet_layers": -1}, r"num_prenet_layers is -1\b.*at least 0"),
    ({"num_prenet_layers": TOO_MUCH}, r"num_prenet_layers is 1000000000\b.*at most 1,000"),
    ({"num_extra_tokens": TOO_MUCH}, r"num_extra_tokens is 1000000000\b.*at most 65,536"),
    ({"mask_prob_adjust": -0.1}, r"mask_prob_adjust is -0\.1.*not be negative"),
    ({"mask_prob_adjust": 1e9}, r"mask_prob_adjust is 1000000000.*nor above 1"),
    ({"mask_noise_std": float("inf")}, r"mask_noise_std is inf.*finite"),
    ({"cls_loss_weight": -1.0, "num_extra_tokens": 1}, r"cls_loss_weight is -1\.0.*not be negative"),
    *(
        ({name: value}, rf"{name} is {value}\b.*at least 0 and less than 1")
        for name in ("hidden_dropout", "attention_dropout", "layerdrop", "prenet_layerdrop", "decoder_dropout")
        for value in (-0.1, 1.0)
    ),
]
WRONG_AUDIO = [
    ({"conv_dim": [8] * 6}, r"conv_dim.*6\b.*conv_kernel.*7\b"),
    ({"conv_stride": [0] * 7}, r"conv_stride is .*at least 1"),
    ({"conv_kernel": [TOO_MUCH] * 7}, r"conv_kernel is .*at most 65,536"),
    ({"num_conv_pos_embeddings": -1}, r"num_conv_pos_embeddings is -1\b.*at least 0"),
    ({"num_conv_pos_embeddings": TOO_MUCH}, r"num_conv_pos_embeddings is 1000000000\b.*at most 1,000"),
    ({"conv_pos_kernel_size": 0}, r"conv_pos_kernel_size is 0\b.*at least 1"),
    ({"num_conv_pos_embedding_groups": 7}, r"num_conv_pos_embedding_groups is 7\b.*hidden_size 768.*divisor"),
]
WRONG_OTHERS = [
    (Data2Vec2AudioConfig, {"vocab_size": TOO_MUCH}, r"vocab_size is 1000000000\b.*at most 16,777,216"),
    (Data2Vec2AudioConfig, {"tdnn_dim": []}, r"tdnn_dim is \[\].*1 to 65,536"),
    (Data2Vec2AudioConfig, {"final_dropout": 2.0}, r"final_dropout is 2\.0.*less than 1"),
    (Data2Vec2TextConfig, {"vocab_size": TOO_MUCH}, r"vocab_size is 1000000000\b.*at most 16,777,216"),
    (Data2Vec2TextConfig, {"max_position_embeddings": 1}, r"max_position_embeddings is 1\b.*at least 2"),
    (Data2Vec2TextConfig, {"classifier_dropout": 1.0}, r"classifier_dropout is 1\.0.*less than 1"),
    (Data2Vec2VisionConfig, {"pool_scales": [0]}, r"pool_scales is \[0\].*at least 1"),
    (Data2VecTextPreTrainingConfig, {"head_layers": TOO_MUCH}, r"head_layers is 1000000000\b.*at most 1,000"),
    (Data2VecTextPreTrainingConfig, {"hidden_dropout_prob": -0.5}, r"hidden_dropout_prob is -0\.5.*at least 0"),
    (Data2VecVisionPreTrainingConfig, {"max_mask_block": 0}, r"max_mask_block is 0\b.*at least 1"),
    *(
        (config_class, fields, message)
        for config_class in (Data2Vec2AudioConfig, Data2VecAudioPreTrainingConfig)
        for fields, message in WRONG_AUDIO
    ),
]
WRONG_IMAGE = [
    ({"image_size": [224]}, r"image_size is \[224\].*height and width"),
    ({"image_size": 16 * TOO_MUCH}, r"image_size is 16000000000\b.*at most 65,536"),
    ({"patch_size": 448}, r"image_size is 224\b.*multiple of patch_size 448"),
    ({"num_channels": TOO_MUCH}, r"num_channels 1000000000\b.*at most 65,536"),
    ({"patch_size": 0}, r"patch_size is 0\b.*at least 1"),
    ({"num_channels": 0}, r"num_channels 0\b.*at least 1"),
    ({"image_size": 225}, r"image_size is 225\b.*multiple of patch_size 16"),
    ({"image_size": [224, 100]}, r"image_size is \[224, 100\].*multiple of patch_size 16"),
    ({"image_size": 0}, r"image_size is 0\b.*multiple of patch_size 16"),
    (
        {"hidden_size": 18, "num_attention_heads": 2, "decoder_dim": 18, "decoder_groups": 1},
        r"hidden_size is 18\b.*of 4",
    ),
]
WRONG_TYPE = [
    ({"hidden_size": 768.0}, "hidden_size.*int"),
    ({"mask_prob": "0.5"}, "mask_prob.*float"),
    ({"norm_position": "middle"}, r"norm_position.*'post', 'pre', 'pre_doubled'.*middle"),
    ({"teacher_scope": "all"}, r"teacher_scope.*'trunk', 'encoder', 'model'.*all"),
    ({"cls_loss_reduction": "max"}, r"cls_loss_reduction.*'mean', 'sum'.*max"),
    ({"inverse_mask": 1}, "inverse_mask.*bool"),
]


@pytest.mark.parametrize("config_class", CONFIGS)
@pytest.mark.parametrize(("fields", "message"), WRONG + WRONG_TYPE)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(config_class, fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        config_class(**fields)


@pytest.mark.parametrize(("fields", "message"), WRONG_2)
def test_a_wrong_field_of_2_is_named(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        Data2Vec2PreTrainingConfig(**fields)


@pytest.mark.parametrize(("config_class", "fields", "message"), WRONG_OTHERS)
def test_a_wrong_field_of_one_modality_is_named(config_class, fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        config_class(**fields)


@pytest.mark.parametrize(("fields", "message"), WRONG_IMAGE)
def test_a_wrong_field_of_images_is_named_with_its_value_and_what_is_allowed(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        Data2Vec2VisionConfig(**fields)


def test_integers_are_numbers():
    config = Data2Vec2VisionConfig(ema_decay=1, ema_end_decay=1, loss_beta=4, loss_scale=1, cls_loss_weight=0)
    assert (config.loss_beta, config.cls_loss_weight) == (4, 0)


@pytest.mark.parametrize(
    "config",
    [
        Data2Vec2VisionConfig(),
        Data2Vec2VisionConfig(image_size=[32, 48], patch_size=8, num_channels=1, loss_scale=0.3, mask_noise_std=0),
        Data2Vec2VisionConfig(image_size=(32, 48), patch_size=8, norm_position="pre", teacher_scope="trunk"),
    ],
    ids=["default", "list", "tuple"],
)
def test_saving_and_loading_changes_nothing(config, tmp_path):
    config.save_pretrained(tmp_path)
    for loaded in (Data2Vec2VisionConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is Data2Vec2VisionConfig
        assert loaded.grid == config.grid
        expected, actual = config.to_dict(), loaded.to_dict()
        for fields in (expected, actual):
            del fields["_name_or_path"]
            if not isinstance(fields["image_size"], int):
                fields["image_size"] = list(fields["image_size"])  # JSON has no tuples
        assert actual == expected


def test_a_saved_config_that_was_edited_wrongly_is_refused(tmp_path):
    Data2Vec2VisionConfig().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"average_top_k_layers": 10', '"average_top_k_layers": 20'))
    with pytest.raises((ValueError, StrictDataclassError), match="average_top_k_layers is 20"):
        Data2Vec2VisionConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_mel_bins": 0}, r"num_mel_bins is 0\b.*at least 1"),
        ({"num_mel_bins": 100}, r"patch_size is 16\b.*does not divide num_mel_bins 100.*divisor"),
        ({"patch_size": (4, 0)}, r"patch_size is \(4, 0\)"),
        ({"patch_size": [16]}, r"patch_size is \[16\].*one number, or \(frames, mel bins\)"),
        ({"spectrogram_length": 10}, r"spectrogram_length is 10\b.*one patch of 16 frames"),
        ({"classifier_pooling": "max"}, r"classifier_pooling.*'cls', 'mean'.*max"),
        ({"hidden_size": 18, "num_attention_heads": 2, "decoder_dim": 18, "decoder_groups": 1}, r"hidden_size is 18\b"),
    ],
)
def test_a_wrong_field_of_spectrograms_is_named(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        Data2Vec2SpectrogramConfig(**fields)


def test_grid_of_time_and_bands(tmp_path):
    config = Data2Vec2SpectrogramConfig(spectrogram_length=130, patch_size=(4, 32))
    assert config.grid == (32, 4) and config.num_bands == 4 and config.num_time_patches(11) == 2
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.grid == config.grid and again.patch_shape == (4, 32)


def test_grid_of_rows_and_columns():
    assert Data2Vec2VisionConfig(image_size=224).grid == (14, 14)
    assert Data2Vec2VisionConfig(image_size=(64, 160)).grid == (4, 10)


def test_defaults_are_the_published_vit_b():
    config = Data2Vec2VisionConfig()
    assert config.num_hidden_layers + config.num_prenet_layers == 12
    assert config.average_top_k_layers == config.num_hidden_layers == 10
    assert (config.num_masks, config.mask_prob, config.mask_prob_adjust, config.mask_length) == (16, 0.8, 0.07, 3)
    assert (config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step) == (0.9998, 0.99999, 100_000)
    rows_of_a_gpu = 16 * config.num_masks
    assert config.cls_loss_weight == pytest.approx(0.01 * rows_of_a_gpu)


# ---- data2vec 1.0 ----

OF_BOTH = [
    (fields, message)
    for fields, message in WRONG
    if not fields.keys() & {"decoder_groups", "decoder_dim", "cls_loss_weight", "drop_path_rate"}
]
WRONG_1 = [
    (Data2VecAudioPreTrainingConfig, {"mask_time_prob": 0.0}, r"no mask embedding.*mask_time_prob above 0"),
    (Data2VecAudioPreTrainingConfig, {"add_adapter": True}, r"add_adapter is True.*set it to False"),
    (Data2VecAudioPreTrainingConfig, {"head_layers": 0}, r"head_layers is 0\b.*at least 1"),
    (Data2VecAudioPreTrainingConfig, {"teacher_scope": "trunk"}, r"teacher_scope.*'layers', 'encoder', 'model'.*trunk"),
    (Data2VecTextPreTrainingConfig, {"mask_token_id": 1}, r"mask_token_id is 1\b.*another token than the padding 1"),
    (Data2VecTextPreTrainingConfig, {"mask_token_id": 50265}, r"mask_token_id is 50265\b.*from 0 to 50264"),
    (Data2VecTextPreTrainingConfig, {"pad_token_id": -1}, r"pad_token_id is -1\b"),
    (
        Data2VecTextPreTrainingConfig,
        {"max_position_embeddings": 3},
        r"leaves 1 tokens after.*at least 2",
    ),
    (Data2VecTextPreTrainingConfig, {"is_decoder": True}, r"is_decoder is True.*set it to False"),
    (Data2VecTextPreTrainingConfig, {"teacher_input": "all"}, r"teacher_input.*'whole', 'masked'.*all"),
    (Data2VecVisionPreTrainingConfig, {"image_size": 225}, r"image_size is 225\b.*multiple of patch_size 16"),
    (Data2VecVisionPreTrainingConfig, {"patch_size": [16, 16]}, r"patch_size is \[16, 16\]"),
    (Data2VecVisionPreTrainingConfig, {"min_mask_block": 0}, r"min_mask_block is 0\b.*at least 1"),
]


@pytest.mark.parametrize("config_class", CONFIGS_1)
@pytest.mark.parametrize(("fields", "message"), OF_BOTH)
def test_a_wrong_field_of_1_is_named_as_that_of_2(config_class, fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        config_class(**fields)


@pytest.mark.parametrize(("config_class", "fields", "message"), WRONG_1)
def test_a_wrong_field_of_1_is_named(config_class, fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){message}"):
        config_class(**fields)


@pytest.mark.parametrize("config_class", CONFIGS_1)
def test_configs_of_1_are_not_registered(config_class, tmp_path):
    """transformers' own class answers to their `model_type`, and reads what they save."""
    config = config_class(num_masks=2)
    config.save_pretrained(tmp_path)
    native = AutoConfig.from_pretrained(tmp_path)
    assert type(native).__module__.startswith("transformers.") and isinstance(config, type(native))
    assert config_class.from_pretrained(tmp_path).num_masks == 2
    with pytest.raises(ValueError, match="config of a model of type 'bert'"):
        config_class.from_dict({"model_type": "bert"})


def test_images_of_1_always_have_a_mask_token():
    assert Data2VecVisionPreTrainingConfig(use_mask_token=False).use_mask_token


# ---- fields that follow the size ----

SIZED = (*CONFIGS[1:], Data2Vec2AudioConfig, Data2Vec2TextConfig, *CONFIGS_1)
WIDTHS_AND_DEPTHS = [(16, 1), (64, 2), (96, 3), (100, 4), (192, 6), (384, 12), (768, 12), (1024, 24), (1280, 32)]


@pytest.mark.parametrize("config_class", SIZED)
@pytest.mark.parametrize(("width", "depth"), WIDTHS_AND_DEPTHS)
def test_a_config_follows_its_size(config_class, width, depth, tmp_path):
    config = config_class(hidden_size=width, num_hidden_layers=depth)
    assert width % config.num_attention_heads == 0 and config.intermediate_size == 4 * width
    assert config.average_top_k_layers == min(depth, config_class().average_top_k_layers)
    if depth < 10:  # nothing of it grows beyond the published
        assert config.num_prenet_layers <= config_class().num_prenet_layers
    config.save_pretrained(tmp_path)
    assert config_class.from_pretrained(tmp_path).to_dict() | {"_name_or_path": ""} == config.to_dict() | {
        "_name_or_path": ""
    }


@pytest.mark.parametrize("config_class", SIZED)
def test_the_published_size_keeps_what_was_published(config_class):
    default = config_class()
    given = config_class(hidden_size=default.hidden_size, num_hidden_layers=default.num_hidden_layers)
    assert given.to_dict() == default.to_dict()
    assert default.num_attention_heads == 12 and default.intermediate_size == 3072


def test_what_is_given_stays_or_is_refused():
    small = {"hidden_size": 64, "num_hidden_layers": 4}
    config = Data2Vec2VisionConfig(**small, num_attention_heads=4, average_top_k_layers=3, num_prenet_layers=2)
    assert (config.num_attention_heads, config.average_top_k_layers, config.num_prenet_layers) == (4, 3, 2)
    assert (config.decoder_dim, config.decoder_groups) == (64, 16)
    assert Data2Vec2VisionConfig(**small, decoder_dim=40).decoder_groups == 8
    for field, value in {"average_top_k_layers": 10, "num_attention_heads": 12, "decoder_groups": 48}.items():
        with pytest.raises(StrictDataclassError, match=f"{field} is {value}"):
            Data2Vec2VisionConfig(**small, **{field: value})
    with pytest.raises(StrictDataclassError, match="num_conv_pos_embedding_groups is 12"):
        Data2Vec2AudioConfig(**small, num_conv_pos_embedding_groups=12)


@pytest.mark.parametrize("config_class", SIZED)
def test_the_decay_follows_a_short_run_unless_it_is_given(config_class):
    config = config_class()
    assert not config.follow_run(400_000 if config.ema_anneal_end_step <= 400_000 else 10**6)
    assert config.to_dict() == config_class().to_dict()
    assert config.follow_run(2_000)
    assert config.ema_anneal_end_step == 500
    assert 0.9 <= config.ema_decay <= config.ema_end_decay < 0.999
    assert not config.follow_run(1_000)  # it is decided now
    for given in ({"ema_decay": 0.999}, {"ema_end_decay": 0.9999}, {"ema_anneal_end_step": 5_000}):
        assert not config_class(**given).follow_run(100)
