"""The closed formulas of `costs` against what the real models compute and keep."""

import pytest
import torch
from tiny_runs import tiny_model, tiny_samples
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForPreTraining

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
)
from modeling_data2vec.drawn_masks import draw_masks
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.trainers.inspection.costs import (
    count_parameters,
    count_visible,
    step_flops,
    step_memory,
    step_shape,
)
from modeling_data2vec.trainers.modalities.names import mask_collator
from modeling_data2vec.trainers.recipes.recipe import SAMPLING_RATE

BATCH, SECONDS, TOKENS = 2, 0.4, 24
# torch's counter takes a grouped convolution's weight gradient for an ungrouped one, hence groups of 1.
BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_prenet_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "average_top_k_layers": 2,
    "num_masks": 2,
    "decoder_dim": 64,
    "decoder_layers": 2,
    "decoder_groups": 1,
    # On a CPU, dropout keeps four times what it keeps on a GPU, and attention with dropout its scores.
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "post_mlp_dropout": 0.0,
    "decoder_dropout": 0.0,
}
VISION = BASE | {"image_size": 24, "patch_size": 4}
AUDIO = BASE | {
    "conv_dim": [48, 32, 32, 64, 32, 32, 32],
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 1,
    "layerdrop": 0.0,
    "prenet_dropout": 0.0,
    "prenet_layerdrop": 0.0,
    "learned_alibi_scale": False,  # on a CPU, attention with a bias that needs a gradient keeps its scores
}
MELS = BASE | {"num_mel_bins": 32, "spectrogram_length": 48, "patch_size": (4, 8)}
TEXT = BASE | {"vocab_size": 100, "embedding_dropout": 0.0}
CONFIGS = [
    Data2Vec2VisionConfig(**VISION),
    Data2Vec2VisionConfig(**VISION | {"decoder_kernel": 4, "teacher_scope": "encoder"}),
    Data2Vec2VisionConfig(
        **VISION | {"num_prenet_layers": 0, "decoder_dim": 32, "decoder_layers": 3, "teacher_scope": "trunk"}
    ),
    Data2Vec2VisionConfig(
        **VISION
        | {"num_extra_tokens": 0, "cls_loss_weight": 0.0, "mask_prob": 0.5, "mask_length": 1, "num_channels": 1}
    ),
    Data2Vec2AudioConfig(**AUDIO),
    Data2Vec2AudioConfig(
        **AUDIO | {"teacher_scope": "model", "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 8, "num_masks": 3}
    ),
    Data2Vec2AudioConfig(**AUDIO | {"teacher_scope": "trunk", "alibi_scale_per_layer": True, "decoder_kernel": 4}),
    Data2Vec2SpectrogramConfig(**MELS),
    Data2Vec2SpectrogramConfig(**MELS | {"decoder_kernel": 4, "teacher_scope": "encoder", "num_prenet_layers": 0}),
    Data2Vec2TextConfig(**TEXT),
    Data2Vec2TextConfig(**TEXT | {"num_prenet_layers": 0, "decoder_projection_layers": 3, "decoder_dim": 48}),
    Data2Vec2TextConfig(
        **TEXT | {"use_alibi": True, "teacher_scope": "encoder", "num_extra_tokens": 2, "mask_length": 3}
    ),
]


def shape_of(config, batch_size=BATCH):
    return step_shape(config, batch_size, {"data2vec2-audio": SECONDS, "data2vec2-text": TOKENS}.get(config.model_type))


def draw_inputs(config):
    if isinstance(config, Data2Vec2VisionConfig):
        return torch.randn(BATCH, config.num_channels, *config.image_shape)
    if isinstance(config, Data2Vec2SpectrogramConfig):
        return torch.randn(BATCH, *config.input_shape)
    if isinstance(config, Data2Vec2AudioConfig):
        return torch.randn(BATCH, int(SECONDS * SAMPLING_RATE))
    return torch.randint(config.vocab_size, (BATCH, TOKENS))


def draw_mask(config, grid):
    """Bool [B, M, T]."""
    keys = torch.arange(BATCH * config.num_masks, dtype=torch.int32)
    return draw_masks(config, keys, grid).unflatten(0, (BATCH, config.num_masks))


def name_of(config):
    changed = {key: value for key, value in config.to_diff_dict().items() if key in ("teacher_scope", "num_masks")}
    return "-".join([config.model_type.removeprefix("data2vec2-"), *map(str, changed.values())])


@pytest.fixture(scope="module", params=CONFIGS, ids=name_of)
def run(request):
    """Config, model, inputs and mask; attention is eager, since torch counts no FLOPs of the other on CPUs."""
    config = request.param
    torch.manual_seed(0)
    model = AutoModelForPreTraining.from_config(config, attn_implementation="eager").train()
    inputs = draw_inputs(config)
    grid = model.base_model.feature_encoder.embed(inputs).grid
    return config, model, inputs, draw_mask(config, grid)


def count(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_flops(run):
    config, model, inputs, mask = run
    flops = step_flops(config, shape_of(config))
    with torch.no_grad():
        embedding = model.base_model.feature_encoder.embed(inputs)
    teacher = count(lambda: model.teacher_layers(inputs, embedding))
    tokens = torch.randn(mask[..., 0].numel(), mask.shape[-1], config.hidden_size, requires_grad=True)
    decoder = count(lambda: model.head(tokens, embedding.grid).sum().backward())
    total = count(lambda: model(inputs, mask=mask).loss.backward())
    assert flops.teacher == pytest.approx(teacher, rel=0.03)
    assert flops.decoder == pytest.approx(decoder, rel=0.03)
    assert flops.student == pytest.approx(total - teacher - decoder, rel=0.03)
    assert flops.total == pytest.approx(total, rel=0.03)


@pytest.mark.parametrize(
    "config",
    [
        Data2Vec2VisionConfig(**VISION | {"decoder_groups": 8}),
        Data2Vec2AudioConfig(**AUDIO | {"decoder_groups": 8, "num_conv_pos_embedding_groups": 8}),
    ],
    ids=name_of,
)
def test_flops_of_grouped_convolutions(config):
    model = AutoModelForPreTraining.from_config(config, attn_implementation="eager").eval()
    inputs, shape = draw_inputs(config), shape_of(config)
    with torch.no_grad():
        embedding = model.base_model.feature_encoder.embed(inputs)
        forward = count(lambda: model.head(embedding.tokens[:1], embedding.grid))
        teacher = count(lambda: model.teacher_layers(inputs, embedding))
    flops = step_flops(config, shape)
    assert flops.decoder == pytest.approx(3 * forward * shape.rows, rel=0.03)
    assert flops.teacher == pytest.approx(teacher, rel=0.03)


@pytest.mark.parametrize("num_masks", [1, 2])
@pytest.mark.parametrize("kind", ["images 1.0", "speech 1.0", "text 1.0"])
def test_figures_of_data2vec_1(kind, num_masks):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_masks": num_masks}
    if kind == "speech 1.0":
        sizes["num_conv_pos_embedding_groups"] = 1  # torch counts the backward pass of grouped ones as if they weren't
    model = tiny_model(kind, **sizes, attn_implementation="eager").eval()
    config, name = model.config, model.main_input_name
    samples = tiny_samples(model, 3)
    batch = mask_collator(config)([samples[i] for i in range(3)])
    seconds = batch[name].shape[1] / 16_000 if name == "input_values" else None
    tokens = batch[name].shape[1] if name == "input_ids" else None
    shape = step_shape(config, 3, seconds or tokens)
    assert shape.num_positions == batch["mask"].shape[2] and shape.rows == 3 * num_masks
    with torch.no_grad():
        embedding = model.side().embed(batch[name], None)
    extra = embedding.tokens.shape[1] - shape.num_positions
    assert shape.tokens == shape.num_positions + extra

    flops = step_flops(config, shape)
    teacher = count(lambda: model.teacher_layers(batch[name], embedding))
    if kind == "images 1.0":
        teacher += count(lambda: model.side().embed(batch[name], None))
    head = 0
    if list(model.head.parameters()):
        states = torch.randn(shape.rows, shape.num_positions, 64, requires_grad=True)
        head = count(lambda: model.head(states).sum().backward())
    total = count(lambda: model(**batch).loss.backward())
    assert flops.teacher == pytest.approx(teacher, rel=0.03)
    assert flops.decoder == pytest.approx(head, rel=0.03)
    assert flops.total == pytest.approx(total, rel=0.03)

    counts = count_parameters(config)
    for part, module in (("encoder", model.base_model), ("decoder", model.head), ("teacher", model.teacher)):
        assert getattr(counts, part) == sum(parameter.numel() for parameter in module.parameters())
    assert step_memory(config, shape, counts, 4).total > step_memory(config, shape, counts, 2).activations > 0


def test_parameters(run):
    config, model, _, _ = run
    counts = count_parameters(config)
    assert counts.encoder == sum(p.numel() for p in model.base_model.parameters())
    assert counts.decoder == sum(p.numel() for p in model.head.parameters())
    assert counts.teacher == sum(p.numel() for p in model.teacher.parameters())
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_shape(run):
    config, model, inputs, mask = run
    shape = shape_of(config)
    assert shape.grid == model.base_model.feature_encoder.embed(inputs).grid
    assert shape.num_visible == visible_ids(mask).shape[-1] == count_visible(config, shape.grid)
    assert shape.num_hidden == int(mask[0, 0].sum())
    assert shape.num_positions == mask.shape[-1]
    assert shape.rows == BATCH * config.num_masks


def test_activations_in_fp32(run):
    """The estimate lies within 10% of what autograd keeps, beside the parameters, and the teacher's layers."""
    config, model, inputs, mask = run
    model.set_attn_implementation("sdpa")
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs, mask=mask)
    model.set_attn_implementation("eager")
    kept = sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in parameters)
    shape = shape_of(config)
    length = shape.num_extra_tokens + shape.num_positions
    layers = 4 * config.num_hidden_layers * BATCH * length * config.hidden_size
    memory = step_memory(config, shape, count_parameters(config), dtype_bytes=4)
    assert memory.activations == pytest.approx(kept + layers, rel=0.1)


def test_memory_of_the_weights(run):
    config = run[0]
    parameters, shape = count_parameters(config), shape_of(config)
    full, half = (step_memory(config, shape, parameters, size) for size in (4, 2))
    assert full.weights + full.gradients + full.optimizer == 16 * parameters.trainable
    assert full.teacher == half.teacher == 4 * parameters.teacher, "the teacher is fp32 in both"
    assert half.weights == 6 * parameters.trainable, "autocast keeps a second copy"
    assert half.activations < full.activations


def test_everything_grows_with_the_batch(run):
    config = run[0]
    once, twice = (shape_of(config, batch) for batch in (3, 6))
    parameters = count_parameters(config)
    assert step_flops(config, twice).total == 2 * step_flops(config, once).total
    sizes = [step_memory(config, shape, parameters, 2).activations for shape in (once, twice)]
    assert sizes[1] == 2 * sizes[0]


def test_lengths_that_do_not_suit_the_model():
    with pytest.raises(ValueError, match=r"seconds is 0\.02, which makes 0 frame"):
        step_shape(Data2Vec2AudioConfig(**AUDIO), 1, 0.02)
    with pytest.raises(ValueError, match="tokens is 600.*takes 512"):
        step_shape(Data2Vec2TextConfig(**TEXT), 1, 600)
