"""What the page shows, without the page: samples of four kinds, masks, colors, neighbors, as arrays and as HTML."""

import re

import numpy as np
import pytest
import tiny_tasks
import torch
from encoders import encoder
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor

from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.embedding.data import open_data
from modeling_data2vec.trainers.exploring.colours import ContentColours
from modeling_data2vec.trainers.exploring.explorer import MODEL, RANDOM, Explorer
from modeling_data2vec.trainers.exploring.options import ExploreOptions
from modeling_data2vec.trainers.exploring.run import open_explorers
from modeling_data2vec.trainers.exploring.views import colour_html, mask_html, neighbour_html, sample_html
from modeling_data2vec.trainers.modalities.image import ImageModality

DATA = {
    "images 2.0": tiny_tasks.few_digits,
    "speech 2.0": tiny_tasks.sounds,
    "spectrograms 2.0": tiny_tasks.sounds,
    "text 2.0": tiny_tasks.texts,
}
IN_HTML = {"images 2.0": "<img", "speech 2.0": "<audio", "spectrograms 2.0": "<audio", "text 2.0": "<p>"}


@pytest.fixture(scope="module", params=DATA)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def explorer(kind, tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("explored")
    model = tiny_tasks.body(kind, folder / "model", tokenizer)
    weights = load_file(model / "model.safetensors")
    torch.manual_seed(1)  # else random weights are the same
    trained = {name: value + 0.1 * torch.randn_like(value) for name, value in weights.items()}
    save_file(trained, model / "model.safetensors", metadata={"format": "pt"})
    data = DATA[kind](folder / "data")
    (found,) = open_explorers(str(model), [str(data)], ExploreOptions(limit=12, device="cpu"))
    return found


def test_every_kind_of_data(explorer, kind):
    assert len(explorer) == 12 and explorer.num_layers >= 2
    sample = explorer.sample(3)
    positions = len(explorer.kind.collator()([{explorer.kind.input_name: sample.inputs, "key": 0}])["mask"][0, 0])

    masks = explorer.masks(sample, 0)
    assert masks.shape[1] == positions and 0 < masks.mean() < 1
    assert (masks == explorer.masks(sample, 0)).all() and (masks != explorer.masks(sample, 1)).any()

    colours = explorer.colours_of(sample, layer=1)
    assert colours.keys() == {MODEL, RANDOM}
    for one in colours.values():
        assert one.shape == (positions, 3) and one.min() >= 0 and one.max() <= 1
    assert np.abs(colours[MODEL] - colours[RANDOM]).max() > 0.1

    near = explorer.neighbours(sample, explorer.num_layers)[MODEL]
    assert len(near) == 6 and 3 not in [one.number for one in near]
    assert near == sorted(near, key=lambda one: -one.similarity) and near[0].similarity < 1

    html = sample_html(explorer, sample)
    assert IN_HTML[kind] in html and "http" not in html
    assert mask_html(explorer, sample, 0).count("hidden</figcaption>") == len(masks)
    assert "random weights" in colour_html(explorer, sample, 0)
    assert neighbour_html(explorer, sample, 0).count("<figure") == 2 * len(near)


def test_ones_own_sample_finds_its_copy_in_the_data(explorer, kind, tmp_path):
    example = explorer.sample(5).example[explorer.stream.column]
    value = example
    if isinstance(example, dict):
        value = example["path"] if example["bytes"] is None else tmp_path / "own.png"
        if example["bytes"] is not None:
            value.write_bytes(example["bytes"])
    own = explorer.own(value)
    assert own.number is None and own.name.startswith("your ")
    for near in explorer.neighbours(own, explorer.num_layers).values():
        assert near[0].number == 5 and near[0].similarity == pytest.approx(1, abs=5e-3)


def image_explorer(model, tmp_path, count=6):
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
    processor.size = {"height": 8, "width": 8}
    kind = ImageModality(model.config, processor)
    return Explorer(model, kind, open_data(kind, str(tmp_path), cut=True))


def test_what_cannot_be_read_is_left_out_and_named(tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    explorer = image_explorer(encoder("our images"), tmp_path)
    assert len(explorer) == 6 and "Leaving out image broken.png" in caplog.text
    with pytest.raises(ValueError, match="this image can't be used"):
        explorer.own(str(tmp_path / "broken.png"))
    for path in tmp_path.glob("[1-5].png"):
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"only 1 image\(s\) can be read"):
        image_explorer(encoder("our images"), tmp_path, count=0)


def test_a_model_that_is_trained_without_masks_has_all_other_views(tmp_path):
    explorer = image_explorer(encoder("ViT"), tmp_path)
    sample = explorer.sample(0)
    assert explorer.masks(sample, 0) is None
    assert "not trained by hiding" in mask_html(explorer, sample, 0)
    assert re.search(r"\d\.\d\d · \d\.png", neighbour_html(explorer, sample, 2))


def test_colours_say_what_is_there_and_not_where():
    rng = np.random.default_rng(0)
    place = 10 * rng.normal(size=(16, 8))  # of each position
    contents = np.eye(8)[:4]
    which = rng.integers(0, 4, (40, 16))  # of each position of each sample
    colours = ContentColours((place + contents[which]).reshape(-1, 8), np.repeat(np.arange(40), 16))
    shown = colours(place + contents[which[0]])
    same, other = (
        [
            np.abs(shown[i] - shown[j]).max()
            for i in range(16)
            for j in range(i)
            if bool(which[0][i] == which[0][j]) is alike
        ]
        for alike in (True, False)
    )
    assert max(same) < 0.3 < min(other)
    assert colours(np.zeros((20, 8))).shape == (20, 3), "longer than any sample before"
