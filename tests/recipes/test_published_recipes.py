"""Recipes of the published models hold the authors' figures: sizes, masks, teachers, optimizers, batches."""

import pytest
import torch

from modeling_data2vec.beit_masks import beit_block_mask
from modeling_data2vec.hub_configs import recipe_names
from modeling_data2vec.trainers.inspection.costs import count_parameters
from modeling_data2vec.trainers.recipes.recipe import load_recipe

PUBLISHED = {
    # encoder parameters in millions, GPUs, samples or seconds an update, epochs as written
    "data2vec2-vision-base": (86, 16, 256, 75.0),
    "data2vec2-vision-large": (303, 16, 128, 37.5),
    "data2vec2-vision-huge": (631, 16, 128, 37.5),
    "data2vec2-vision-huge14": (630, 32, 256, 99.9),
    "data2vec2-audio-base": (93.2, 8, 500, 57.9),
    "data2vec2-audio-large": (313, 48, 960, 2.67),
    "data2vec2-spectrogram-base": (85.3, 4, 48, None),
    "data2vec2-spectrogram-large": (303, 4, 48, None),
    "data2vec2-text-base": (124, 16, 64, None),
    "data2vec2-text-large": (354, 32, 64, None),
}
PUBLISHED_V1 = {  # the same of data2vec 1.0
    "data2vec-vision-base": (85.8, 16, 2048, 599.9),
    "data2vec-audio-base": (93.2, 16, 3800, 439.8),
    "data2vec-audio-audioset": (93.2, 24, 5100, None),
    "data2vec-audio-large": (314, 16, 3800, 7.04),
    "data2vec-text-base": (124, 16, 256, None),
    "data2vec-vision-large": (303, 64, 4096, 800.0),
}
METHODS_V1 = {  # share and span of masks; K; EMA; teacher; beta, scale of the loss
    "data2vec-vision-base": ((0.6, 1), 6, (0.999, 0.9998, 375_300), "encoder", (2, None)),
    "data2vec-audio-base": ((0.65, 10), 8, (0.999, 0.9999, 30_000), "layers", (0, None)),
    "data2vec-audio-audioset": ((0.65, 10), 12, (0.999, 0.9999, 30_000), "encoder", (0, None)),
    "data2vec-audio-large": ((0.65, 10), 8, (0.999, 0.9999, 30_000), "layers", (0, None)),
    "data2vec-text-base": ((0.35, 4), 10, (0.999, 0.9999, 300_000), "layers", (4, 1)),
    "data2vec-vision-large": ((0.6122, 1), 6, (0.9998, 0.9998, 0), "encoder", (2, None)),
}


# What the authors' files say, in their words; tables of the files are in docs/recipes.md.
WIDTHS = {"base": (768, 12), "large": (1024, 16), "huge": (1280, 16), "huge14": (1280, 16)}
LAYERS = {  # prenet, trunk, targets
    "data2vec2-audio-base": (0, 12, 8),
    "data2vec2-audio-large": (8, 16, 16),
    "data2vec2-text-base": (0, 12, 12),
    "data2vec2-text-large": (0, 24, 24),
}
MASKS = {
    "data2vec2-audio-base": (8, 0.5, 0.05, 5),
    "data2vec2-audio-large": (12, 0.55, 0.1, 5),
    "data2vec2-text-base": (8, 0.48, 0.0, 1),
    "data2vec2-text-large": (8, 0.5, 0.0, 1),
}
TEACHERS = {
    "data2vec2-audio-base": (0.999, 0.99999, 75_000, "encoder"),
    "data2vec2-audio-large": (0.9997, 1.0, 300_000, "encoder"),
    "data2vec2-text-base": (0.9999, 0.99999, 100_000, "trunk"),
    "data2vec2-text-large": (0.9999, 0.99999, 100_000, "trunk"),
}
DECODERS = {
    "data2vec2-audio-base": (384, 16, 7, 4, True, 1),
    "data2vec2-audio-large": (768, 16, 7, 4, True, 1),
    "data2vec2-text-base": (768, 1, 9, 5, False, 2),
    "data2vec2-text-large": (768, 1, 9, 5, False, 2),
}
DROPS = {  # attention branch, weights, feed-forward branch; trunk's layers; prenet, prenet's layers; decoder
    "data2vec2-audio-base": (0.1, 0.1, 0.1, 0.05, 0.1, 0.05, 0.1),
    "data2vec2-audio-large": (0.1, 0.1, 0.1, 0.0, 0.1, 0.0, 0.1),
    "data2vec2-text-base": (0.1, 0.1, 0.1, 0.0, 0.0, 0.0, 0.1),
    "data2vec2-text-large": (0.1, 0.1, 0.1, 0.0, 0.0, 0.0, 0.1),
}
OPTIMIZERS = {  # updates, warm-up, learning rate, beta2, epsilon, weight decay, gradient norm
    "data2vec2-vision-base": (375_300, 50_040, 1e-3, 0.95, 1e-8, 0.05, 4),
    "data2vec2-vision-large": (375_300, 50_040, 4e-4, 0.95, 1e-8, 0.05, 4),
    "data2vec2-vision-huge": (375_300, 50_040, 4e-4, 0.95, 1e-8, 0.05, 4),
    "data2vec2-vision-huge14": (500_000, 50_040, 4e-4, 0.95, 1e-8, 0.05, 4),
    "data2vec2-audio-base": (400_000, 8_000, 7.5e-4, 0.98, 1e-6, 0.01, 0),
    "data2vec2-audio-large": (600_000, 10_000, 4e-4, 0.98, 1e-6, 0.01, 1),
    "data2vec2-spectrogram-base": (400_000, 53_333, 5e-4, 0.95, 1e-8, 0.05, 4),
    "data2vec2-spectrogram-large": (400_000, 53_333, 4e-4, 0.95, 1e-8, 0.05, 4),
    "data2vec2-text-base": (1_000_000, 4_000, 2e-4, 0.98, 1e-6, 0.01, 1),
    "data2vec2-text-large": (600_000, 4_000, 1e-4, 0.98, 1e-6, 0.01, 1),
    "data2vec-vision-base": (375_300, 12_510, 5e-4, 0.999, 1e-8, 0.05, 3),
    "data2vec-audio-base": (400_000, None, 5e-4, 0.98, 1e-6, 0.01, 0),
    "data2vec-audio-audioset": (200_000, 10_000, 5e-4, 0.98, 1e-6, 0.01, 0),
    "data2vec-audio-large": (400_000, None, 5e-4, 0.98, 1e-6, 0.01, 0),
    "data2vec-text-base": (1_000_000, 10_000, 2e-4, 0.98, 1e-6, 0.01, 5),
    "data2vec-vision-large": (250_228, 25_023, 1e-3, 0.999, 1e-8, 0.05, 3),
}
SIZES_V1 = {  # layers, width, heads
    "data2vec-vision-base": (12, 768, 12),
    "data2vec-audio-base": (12, 768, 12),
    "data2vec-audio-audioset": (12, 768, 12),
    "data2vec-audio-large": (24, 1024, 16),
    "data2vec-text-base": (12, 768, 12),
    "data2vec-vision-large": (24, 1024, 16),
}
CLAIMS_V1 = {  # what the authors report, and under which licence they released the weights
    "data2vec-vision-base": ({"epochs": 800, "imagenet_top1": 84.2}, "CC-BY-NC"),
    "data2vec-audio-base": ({"librispeech_wer": 5.5}, "MIT"),
    "data2vec-audio-audioset": ({"audioset_map": 34.5}, None),
    "data2vec-audio-large": ({"librispeech_wer": 3.7}, "MIT"),
    "data2vec-text-base": ({"glue": 82.9}, "MIT"),
    "data2vec-vision-large": ({"epochs": 1600, "imagenet_top1": 86.6}, "CC-BY-NC"),
}
TINY = ("vision", "audio", "spectrogram", "text")  # modalities with recipes that train in minutes, or on one GPU


def test_every_recipe_is_published_or_our_own():
    own = {f"data2vec2-{modality}-{size}" for modality in TINY for size in ("tiny", "small")}
    joint = {"data2vec2-tiny", "data2vec2-joint-base", "data2vec2-audiovisual-base"}
    assert {*PUBLISHED, *PUBLISHED_V1, *own, *joint} == set(recipe_names())


def fields_of(config, names):
    return tuple(getattr(config, name) for name in names.split())


def run_of(name, millions, gpus, batch):
    """Recipe and config of a name, with the parameters, GPUs, batch and optimizer that were published."""
    recipe = load_recipe(name)
    config = recipe.model_config()
    assert (recipe.num_gpus, recipe.global_batch) == (gpus, batch)
    assert count_parameters(config).encoder == pytest.approx(millions * 1e6, rel=0.005)
    names = "max_steps warmup_steps learning_rate adam_beta2 adam_epsilon weight_decay max_grad_norm"
    assert tuple(recipe.training.get(key) for key in names.split()) == OPTIMIZERS[name]
    assert recipe.training["adam_beta1"] == 0.9
    return recipe, config


def speech_of(name, samples):
    """Recipe and config of a name, with batches of so many samples, clips and convolutions as published."""
    recipe = load_recipe(name)
    config, data = recipe.model_config(), recipe.data
    assert recipe.training_arguments()["max_batch_length"] == data["max_batch_seconds"] * 16_000 == samples
    assert (data["min_seconds"], data["max_seconds"], data["crop"]) == (2, 20, "shortest")
    assert list(config.conv_dim) == [512] * 7
    assert (config.num_conv_pos_embeddings, config.conv_pos_kernel_size) == (5, 95 // 5)
    return recipe, config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    *run, epochs = PUBLISHED[name]
    recipe, config = run_of(name, *run)
    if epochs is None:
        assert recipe.epochs is None and any("not published" in " ".join(note.split()) for note in recipe.notes)
    else:
        assert recipe.epochs == pytest.approx(epochs, abs=0.05)
        assert any(f"{epochs} epochs" in note or f"trains for {epochs}" in note for note in recipe.notes)
    assert recipe.license_of_published_weights == {
        "vision": "CC-BY-NC", "audio": "MIT", "spectrogram": "MIT", "text": None if "large" in name else "MIT"
    }[name.split("-")[1]]  # fmt: skip
    assert recipe.training["lr_scheduler_type"] == "cosine"
    width, heads = WIDTHS[name.split("-")[2]]
    assert fields_of(config, "hidden_size intermediate_size num_attention_heads") == (width, 4 * width, heads)


def encoder_parameters(config) -> int:
    """Of a transformer encoder of data2vec 1.0, counted by hand."""
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    norm = 2 * width
    layer = 4 * width**2 + 4 * width + 2 * width * inner + inner + width + 2 * norm
    if config.model_type == "data2vec-text":
        rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
        return config.num_hidden_layers * layer + rows * width + norm
    if config.model_type == "data2vec-vision":
        layer += 2 * width - width  # two layer scales, no bias of keys
        (rows, columns), patch = config.grid, config.num_channels * config.patch_size**2
        bias = ((2 * rows - 1) * (2 * columns - 1) + 3) * heads
        return config.num_hidden_layers * layer + (patch + 1) * width + 2 * width + bias + norm
    widths = [1, *config.conv_dim]
    convolutions = sum(a * b * k + 2 * b for a, b, k in zip(widths, widths[1:], config.conv_kernel, strict=False))
    positions = width * (width // config.num_conv_pos_embedding_groups) * config.conv_pos_kernel_size + width
    projection = 2 * widths[-1] + (widths[-1] + 1) * width + width  # and the mask embedding
    return (
        config.num_hidden_layers * layer + convolutions + config.num_conv_pos_embeddings * positions + projection + norm
    )


@pytest.mark.parametrize("name", PUBLISHED_V1)
def test_published_figures_of_data2vec_1(name):
    *run, epochs = PUBLISHED_V1[name]
    recipe, config = run_of(name, *run)
    assert count_parameters(config).encoder == encoder_parameters(config)
    assert recipe.epochs == (None if epochs is None else pytest.approx(epochs, abs=0.05))
    three_stages = recipe.training.get("tri_stage")
    assert three_stages == (None if "warmup_steps" in recipe.training else [0.03, 0.9, 0.07])
    masks, top_k, ema, teacher, loss = METHODS_V1[name]
    assert fields_of(config, "mask_prob mask_length") == masks and config.average_top_k_layers == top_k
    assert fields_of(config, "ema_decay ema_end_decay ema_anneal_end_step") == ema
    assert (config.teacher_scope, fields_of(config, "loss_beta loss_scale")) == (teacher, loss)
    per_layer = "instance_norm_target_layer layer_norm_target_layer layer_norm_targets end_of_block_targets"
    speech, text, images = (f"-{modality}-" in name for modality in ("audio", "text", "vision"))
    assert fields_of(config, per_layer) == (speech, text, images or "audioset" in name, images)
    layers, width, heads = SIZES_V1[name]
    assert fields_of(config, "num_hidden_layers num_attention_heads") == (layers, heads)
    assert fields_of(config, "hidden_size intermediate_size") == (width, 4 * width)
    others = "batch_norm_target_layer group_norm_target_layer instance_norm_targets num_masks layer_norm_eps"
    assert fields_of(config, others) == (False, False, False, 1, 1e-5)
    assert (recipe.published, recipe.license_of_published_weights) == CLAIMS_V1[name]
    assert recipe.training.get("lr_scheduler_type") == (None if three_stages else "cosine")


def test_large_speech_says_what_is_carried_over():
    base, large = load_recipe("data2vec-audio-base"), load_recipe("data2vec-audio-large")
    values = [recipe.model_config().to_dict() for recipe in (base, large)]
    changed = {key for key in values[0] if values[0][key] != values[1][key]}
    sizes = {"hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "output_hidden_size"}
    assert changed == sizes and base.training == large.training
    assert any("carried over from data2vec-audio-base" in " ".join(note.split()) for note in large.notes)


@pytest.mark.parametrize("name", [name for name in PUBLISHED_V1 if "-audio-" in name])
def test_published_speech_of_data2vec_1(name):
    _, config = speech_of(name, 3_400_000 if "audioset" in name else 3_800_000)
    assert (config.equal_mask_counts, config.head_layers) == (True, 1)
    drops = "hidden_dropout attention_dropout activation_dropout feat_proj_dropout layerdrop"
    assert fields_of(config, drops) == (0.1, 0.1, 0, 0, 0.05)
    assert config.num_conv_pos_embedding_groups == 16 and not config.conv_bias
    assert list(config.conv_kernel) == [10, 3, 3, 3, 3, 2, 2] and list(config.conv_stride) == [5, 2, 2, 2, 2, 2, 2]


def test_published_text_of_data2vec_1():
    recipe = load_recipe("data2vec-text-base")
    config = recipe.model_config()
    assert recipe.data["block_length"] == config.max_tokens == 512 and recipe.data["tokenizer"] == "roberta-base"
    assert recipe.training["per_device_train_batch_size"] * config.max_tokens == 8_192, "tokens on a GPU"
    assert fields_of(config, "bos_token_id pad_token_id eos_token_id mask_token") == (0, 1, 2, 50_264)
    assert fields_of(config, "vocab_size type_vocab_size head_layers teacher_input") == (50_265, 1, 2, "whole")
    assert fields_of(config, "hidden_dropout_prob attention_probs_dropout_prob") == (0.1, 0.1)


def test_published_images_of_data2vec_1():
    recipe = load_recipe("data2vec-vision-base")
    config = recipe.model_config()
    drops = "drop_path_rate attention_probs_dropout_prob hidden_dropout_prob"
    assert fields_of(config, drops) == (0.25, 0.05, 0)
    assert fields_of(config, "image_size patch_size layer_scale_init_value min_mask_block") == (224, 16, 1e-4, 16)
    positions = "use_shared_relative_position_bias use_relative_position_bias use_absolute_position_embeddings"
    assert fields_of(config, positions) == (True, False, False)
    assert recipe.augmentation["crop_scale"] == (0.08, 1.0) and recipe.augmentation["horizontal_flip"]
    masks = [beit_block_mask(64, config.grid, share, generator=torch.Generator()) for share in (0.6, 0.6122, 0.3827)]
    assert [int(mask.sum(1).max()) for mask in masks] == [118, 120, 75], "as the notes say"


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "-vision-" in name or "-spectrogram-" in name])
def test_cls_loss_is_the_authors_sum_as_a_mean(name):
    """They sum over a GPU's rows, weighted 0.01, or 1 by EAT."""
    recipe = load_recipe(name)
    config = recipe.model_config()
    rows = recipe.training["per_device_train_batch_size"] * config.num_masks
    weight = 0.01 if "-vision-" in name else 1.0
    assert config.cls_loss_reduction == "mean" and config.cls_loss_weight == pytest.approx(weight * rows)


@pytest.mark.parametrize(
    ("name", "layers", "masks", "decoder", "annealed"),
    [
        ("data2vec2-spectrogram-base", 12, (16, 0.8, 0.07, 5), (768, 16, 3, 6), 100_000),
        ("data2vec2-spectrogram-large", 24, (16, 0.75, 0.1, 5), (1024, 16, 5, 3), 150_000),
    ],
)
def test_published_models_of_spectrograms(name, layers, masks, decoder, annealed):
    config = load_recipe(name).model_config()
    counts = fields_of(config, "num_prenet_layers num_hidden_layers average_top_k_layers num_extra_tokens")
    assert counts == (0, layers, layers, 1)
    assert fields_of(config, "num_masks mask_prob mask_prob_adjust mask_length") == masks and config.inverse_mask
    assert fields_of(config, "decoder_dim decoder_groups decoder_kernel decoder_layers") == decoder
    teacher = fields_of(config, "ema_decay ema_end_decay ema_anneal_end_step teacher_scope")
    assert teacher == (0.9998, 0.99999, annealed, "model")
    assert fields_of(config, "instance_norm_target_layer layer_norm_targets layer_norm_eps") == (True, True, 1e-6)
    assert config.grid == (64, 8) and config.input_shape == (1024, 128)
    assert not any(getattr(config, rate) for rate in ("hidden_dropout", "attention_dropout", "drop_path_rate"))


@pytest.mark.parametrize("name", MASKS)
def test_published_models_of_speech_and_text(name):
    config = load_recipe(name).model_config()
    assert fields_of(config, "num_prenet_layers num_hidden_layers average_top_k_layers") == LAYERS[name]
    assert fields_of(config, "num_masks mask_prob mask_prob_adjust mask_length") == MASKS[name]
    assert fields_of(config, "ema_decay ema_end_decay ema_anneal_end_step teacher_scope") == TEACHERS[name]
    shape = "decoder_dim decoder_groups decoder_kernel decoder_layers decoder_residual decoder_projection_layers"
    assert fields_of(config, shape) == DECODERS[name]
    drops = (
        "hidden_dropout attention_dropout post_mlp_dropout layerdrop prenet_dropout prenet_layerdrop decoder_dropout"
    )
    assert fields_of(config, drops) == DROPS[name]
    per_layer = "instance_norm_target_layer layer_norm_target_layer instance_norm_targets layer_norm_targets"
    large_text = name == "data2vec2-text-large"
    assert fields_of(config, per_layer) == ((False, True, True, False) if large_text else (True, False, False, False))
    assert (config.loss_beta, config.loss_scale) == (0, 1.0 if "-text-" in name else None)
    assert (config.num_extra_tokens, config.layer_norm_eps, config.norm_position) == (0, 1e-5, "post")
    assert (config.inverse_mask, config.mask_noise_std, config.activation_dropout) == (False, 0.01, 0)
    alibi = "use_alibi learned_alibi_scale alibi_scale_per_head"
    assert fields_of(config, alibi) == (("-audio-" in name),) * 3


@pytest.mark.parametrize(("name", "samples"), [("data2vec2-audio-base", 1_000_000), ("data2vec2-audio-large", 320_000)])
def test_published_batches_of_speech(name, samples):
    speech_of(name, samples)


@pytest.mark.parametrize("name", ["data2vec2-text-base", "data2vec2-text-large"])
def test_published_blocks_of_text(name):
    recipe = load_recipe(name)
    config = recipe.model_config()
    assert recipe.data["block_length"] == config.max_position_embeddings == 512
    assert recipe.data["tokenizer"] == "roberta-base" and config.vocab_size == 50_265
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.decoder_projection_ratio == 2 and config.embedding_dropout == 0.1
