"""The report on what a model or a recipe costs; its formulas are tested in test_costs.py."""

from pathlib import Path

import pytest

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2Config, Data2Vec2TextConfig, Data2Vec2VisionConfig
from modeling_data2vec.hub_configs import recipe_folder, recipe_names
from modeling_data2vec.trainers.inspection.report import inspect, inspect_target
from modeling_data2vec.trainers.recipes.recipe import load_recipe

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "average_top_k_layers": 2,
    "decoder_dim": 64,
}
CONFIGS = [Data2Vec2VisionConfig(**SMALL), Data2Vec2AudioConfig(**SMALL), Data2Vec2TextConfig(**SMALL)]


def test_an_image_recipe():
    inspection = inspect_target("data2vec2-vision-base")
    text = inspection.to_text()
    assert "encoder                     85.6M parameters" in text
    assert "196 (14 x 14)" in text and "39 visible, 157 hidden" in text
    assert "16 images x 16 masks = 256 rows of 40 tokens" in text
    assert "images an update" in text and "75.0" in text and "375,300" in text
    assert "estimate" in text and "leaves out" in text
    for label, value in inspection.rows():
        assert f"| {label.strip()} | {value} |" in inspection.to_markdown()
    doubled = inspect_target("data2vec2-vision-base", batch_size=32)
    assert doubled.flops.total == 2 * inspection.flops.total


def test_a_speech_recipe():
    inspection = inspect_target("data2vec2-audio-base")
    shown = dict(inspection.rows())
    assert shown["frames"] == "499 (clips of 10 s)" and shown["a mask leaves"] == "250 visible, 249 hidden"
    assert shown["student's batch"].startswith("6 clips x 8 masks"), "62.5 s of audio hold 6 clips of 10 s"
    assert shown["  seconds an update"] == "500" and shown["  seconds in the data"] == "3,456,000"
    assert shown["  epochs"] == "at most 57.9"
    assert inspect_target("data2vec2-audio-base", seconds=3).shape.batch_size == 20
    assert inspect_target("data2vec2-audio-base", seconds=100).shape.batch_size == 1
    assert inspect_target("data2vec2-audio-tiny").seconds == 2.0, "no clip is longer"


def test_the_whole_run_hardly_depends_on_how_it_is_cut_into_clips():
    shorter, longer = (inspect_target("data2vec2-audio-base", seconds=seconds, batch_size=1) for seconds in (5, 15))
    per_second = [inspection.flops.total / inspection.seconds for inspection in (shorter, longer)]
    assert per_second[0] < per_second[1] < 1.2 * per_second[0], "attention grows with the length, the rest does not"


def test_a_text_recipe_of_unknown_data():
    inspection = inspect_target("data2vec2-text-base")
    shown = dict(inspection.rows())
    assert shown["tokens"] == "512" and shown["a mask leaves"] == "266 visible, 246 hidden"
    assert shown["student's batch"] == "4 sequences x 8 masks = 32 rows of 266 tokens"
    assert shown["  sequences an update"] == "64"
    assert "epochs" not in inspection.to_text() and "in the data" not in inspection.to_text()
    assert inspect_target("data2vec2-text-base", tokens=128).shape.num_positions == 128
    assert inspect_target("data2vec2-text-tiny").shape.num_positions == 32


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_model_folder(config, tmp_path):
    config.save_pretrained(tmp_path)
    inspection = inspect_target(str(tmp_path), batch_size=2)
    assert inspection.recipe is None and "epochs" not in inspection.to_text()
    assert inspection.flops == inspect(config, batch_size=2).flops


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_inspected(name):
    for modality in load_recipe(name).modalities:
        inspection = inspect_target(name, modality=modality)
        shape = inspection.shape
        assert inspection.name in inspection.to_text() and name in inspection.to_markdown()
        assert 0 < shape.num_visible < shape.num_positions and shape.batch_size >= 1


def test_several_modalities_and_one_of_them(tmp_path):
    joint, vision = inspect_target("data2vec2-tiny"), inspect_target("data2vec2-tiny", modality="vision")
    assert vision.shape.batch_size == 8 and joint.parts["vision"] == vision
    separate = [part.parameters for part in joint.parts.values()]
    assert max(one.encoder for one in separate) < joint.parameters.encoder < sum(one.encoder for one in separate)
    assert joint.memory.total > max(part.memory.total for part in joint.parts.values()), "it holds all weights"
    shown = dict(joint.rows())
    assert shown["  audio an update"] == "8 seconds" and shown["more of each"] == "--modality audio, text, vision"
    assert "| updates | 500 |" in joint.to_markdown() and "mixed precision" in joint.to_text()
    longer = inspect_target("data2vec2-tiny", seconds=1, tokens=64)
    assert longer.parts["audio"].seconds == 1 and longer.parts["text"].shape.num_positions == 64

    config = load_recipe("data2vec2-tiny").model_config()
    config.save_pretrained(tmp_path)
    assert inspect_target(str(tmp_path)).parameters == joint.parameters
    Data2Vec2Config(audio_config=config.of("audio"), vision_config=config.of("vision")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokens is 9, but .* none of them counted in tokens: leave tokens out"):
        inspect_target(str(tmp_path), tokens=9)
    with pytest.raises(ValueError, match="has the modalities audio, vision, but not 'text'"):
        inspect_target(str(tmp_path), modality="text")


def test_recipe_by_folder_and_file():
    folder = recipe_folder("data2vec2-vision-tiny")
    assert inspect_target(str(folder)) == inspect_target(str(folder / "recipe.yaml"))


def test_lengths_of_another_modality():
    with pytest.raises(ValueError, match="seconds is 3, but data2vec2-vision-base is a data2vec2-vision model"):
        inspect_target("data2vec2-vision-base", seconds=3)
    with pytest.raises(ValueError, match="tokens is 3, but data2vec2-audio-base is a data2vec2-audio model"):
        inspect_target("data2vec2-audio-base", tokens=3)


def test_nothing_to_inspect(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe.*data2vec2-vision-base"):
        inspect_target(str(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="type 'vit'.*data2vec2-audio"):
        inspect_target(str(tmp_path))


def test_figures_in_the_docs():
    """docs/recipes.md shows what `data2vec inspect` prints today."""
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert inspect_target("data2vec2-audio-base").to_text() in page
    for name in recipe_names():
        if name.endswith("-tiny") or len(load_recipe(name).modalities) > 1:
            continue
        inspection = inspect_target(name)
        shown = dict(inspection.rows())
        unit, shape = inspection.recipe.unit, inspection.shape
        cells = [
            name,
            shown["encoder"].removesuffix(" parameters"),
            shown["updates"],
            f"{shown[f'  {unit} an update']} {unit}",
            shown.get("  epochs", "unknown"),
            f"{shape.num_visible} of {shape.num_positions}",
            f"{shape.batch_size} x {shape.num_masks}",
            shown["one forward and backward"],
            shown["memory, an estimate"].removesuffix(" in mixed precision"),
            shown["the whole run"],
        ]
        assert f"| {' | '.join(cells)} |" in page, name


@pytest.mark.parametrize("seconds", [1e6, 1e12, 1e300])
def test_samples_without_end_are_refused(seconds):
    with pytest.raises(ValueError, match="positions, but at most 1,000,000 are looked at"):
        inspect_target("data2vec2-audio-base", seconds=seconds)
