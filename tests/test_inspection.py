"""The closed formulas of `inspection` against what the real model computes and keeps."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.collators import ImageMaskCollator
from modeling_data2vec.trainers.inspection import count_visible, inspect, inspect_target

BATCH = 2
# torch's counter takes a grouped convolution's weight gradient for an ungrouped one, hence decoder_groups = 1.
BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_prenet_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "average_top_k_layers": 2,
    "num_masks": 2,
    "decoder_dim": 64,
    "decoder_groups": 1,
    "image_size": 24,
    "patch_size": 4,
}
VARIANTS = [
    {},
    {"decoder_kernel": 4, "teacher_scope": "encoder"},
    {"num_prenet_layers": 0, "decoder_dim": 32, "decoder_layers": 2, "teacher_scope": "trunk"},
    {"num_extra_tokens": 0, "cls_loss_weight": 0.0, "mask_prob": 0.5, "mask_length": 1, "num_channels": 1},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def run(request):
    config = Data2Vec2VisionConfig(**(BASE | request.param))
    config._attn_implementation = "eager"  # torch counts no FLOPs of scaled_dot_product_attention on CPUs
    model = Data2Vec2VisionForPreTraining(config).train()
    pixels = torch.randn(BATCH, config.num_channels, *config.image_shape)
    batch = ImageMaskCollator(config)([{"pixel_values": image, "key": i} for i, image in enumerate(pixels)])
    return config, model, batch


def count(function) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_flops(run):
    config, model, batch = run
    embed = model.base_model.feature_encoder.embed
    flops = inspect(config, batch_size=BATCH).flops

    def student():
        model.student_states(embed(batch["pixel_values"]), batch["ids_keep"]).sum().backward()

    states = model.student_states(embed(batch["pixel_values"]), batch["ids_keep"]).detach().requires_grad_()
    embedding = embed(batch["pixel_values"])
    assert flops.student == pytest.approx(count(student), rel=0.03)
    decode = count(lambda: model.predict(states, batch["ids_keep"], config.grid).sum().backward())
    assert flops.decoder == pytest.approx(decode, rel=0.03)
    assert flops.teacher == pytest.approx(
        count(lambda: model.teacher_layers(batch["pixel_values"], embedding)), rel=0.03
    )
    assert flops.total == pytest.approx(count(lambda: model(**batch).loss.backward()), rel=0.03)


def test_flops_of_a_grouped_decoder():
    config = Data2Vec2VisionConfig(**(BASE | {"decoder_groups": 8}))
    model = Data2Vec2VisionForPreTraining(config).eval()
    tokens = torch.randn(1, 36, 64)
    with torch.no_grad():
        forward = count(lambda: model.head(tokens, config.grid))
    assert inspect(config, batch_size=1).flops.decoder == pytest.approx(3 * forward * config.num_masks, rel=0.03)


def test_parameters(run):
    config, model, _ = run
    counts = inspect(config).parameters
    assert counts.encoder == sum(p.numel() for p in model.base_model.parameters())
    assert counts.decoder == sum(p.numel() for p in model.head.parameters())
    assert counts.teacher == sum(p.numel() for p in model.teacher.parameters())
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_masks(run):
    config, _, batch = run
    inspection = inspect(config)
    assert inspection.num_visible == batch["ids_keep"].shape[-1] == count_visible(config)
    assert inspection.num_hidden == int(batch["mask"][0, 0].sum())
    assert inspection.num_patches == batch["mask"].shape[-1]


def test_activations_in_fp32(run):
    """The estimate lies within 10% of what autograd keeps, beside the parameters, and the teacher's layers."""
    config, model, batch = run
    model.set_attn_implementation("sdpa")
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(**batch)
    model.set_attn_implementation("eager")
    kept = sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in parameters)
    tokens = config.num_extra_tokens + output.mask.shape[-1]
    layers = 4 * config.num_hidden_layers * BATCH * tokens * config.hidden_size
    memory = inspect(config, batch_size=BATCH, dtype_bytes=4).memory
    assert memory.activations == pytest.approx(kept + layers, rel=0.1)


def test_memory_of_the_weights():
    full, half = (inspect(Data2Vec2VisionConfig(**BASE), dtype_bytes=size) for size in (4, 2))
    trainable, teacher = full.parameters.trainable, full.parameters.teacher
    assert full.memory.weights + full.memory.gradients + full.memory.optimizer == 16 * trainable
    assert full.memory.teacher == half.memory.teacher == 4 * teacher, "the teacher is fp32 in both"
    assert half.memory.weights == 6 * trainable, "autocast keeps a second copy"
    assert half.memory.activations < full.memory.activations


def test_recipe_by_name():
    inspection = inspect_target("data2vec2-vision-base")
    text = inspection.to_text()
    assert "encoder                     85.6M parameters" in text
    assert "196 (14 x 14)" in text and "39 visible, 157 hidden" in text
    assert inspection.recipe is not None and "75.0" in text and "375,300" in text
    assert "estimate" in text and "leaves out" in text
    for label, value in inspection.rows():
        assert f"| {label.strip()} | {value} |" in inspection.to_markdown()
    doubled = inspect_target("data2vec2-vision-base", batch_size=32)
    assert doubled.flops.total == 2 * inspection.flops.total


def test_model_folder(tmp_path):
    Data2Vec2VisionConfig(**BASE).save_pretrained(tmp_path)
    inspection = inspect_target(str(tmp_path), batch_size=BATCH)
    assert inspection.recipe is None and "epochs" not in inspection.to_text()
    assert inspection.flops == inspect(Data2Vec2VisionConfig(**BASE), batch_size=BATCH).flops


def test_recipe_by_folder_and_file():
    folder = recipe_folder("data2vec2-vision-tiny")
    assert inspect_target(str(folder)) == inspect_target(str(folder / "recipe.yaml"))


def test_nothing_to_inspect(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe.*data2vec2-vision-base"):
        inspect_target(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="vit model"):
        inspect_target(str(tmp_path))


def test_figures_in_the_docs():
    """docs/recipes.md shows what `data2vec inspect` prints today."""
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    assert inspect_target("data2vec2-vision-base").to_text() in page
    for size in ("base", "large", "huge", "huge14"):
        inspection = inspect_target(f"data2vec2-vision-{size}")
        shown = dict(inspection.rows())
        cells = [
            inspection.name,
            shown["encoder"].removesuffix(" parameters"),
            shown["  updates"],
            shown["  images an update"],
            shown["epochs"],
            f"{inspection.num_visible} of {inspection.num_patches}",
            shown["one forward and backward"],
            shown["memory, an estimate"].removesuffix(" in mixed precision"),
            shown["the whole run"],
        ]
        assert f"| {' | '.join(cells)} |" in page
