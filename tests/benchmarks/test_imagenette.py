"""benchmarks/imagenette.py from pictures to its table, at tiny size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_data2vec import Data2Vec2VisionModel

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def imagenette(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import imagenette

    return imagenette


@pytest.fixture
def folder(tmp_path):
    """Photos of two classes, which their colours tell apart, as fast.ai's archive has them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for label, colour in enumerate(([200, 60, 40], [40, 80, 190])):
            place = tmp_path / "data" / split / f"n{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = (np.array(colour) + rng.integers(-40, 40, (40, 52, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "data"


def test_from_pictures_to_the_table(imagenette, folder, tmp_path, capsys):
    output = tmp_path / "out"
    result = imagenette.main(
        [
            *("--data", str(folder), "--model", "tiny", "--steps", "2", "--probe_epochs", "20"),
            *("--output_dir", str(output)),
        ]
    )
    assert result["steps"] == 2
    assert json.loads((output / "results.json").read_text())["accuracies"] == result["accuracies"]
    printed = capsys.readouterr().out
    for kind in ("random weights, CLS token", "data2vec 2.0, mean of patches", "raw pixels, 32 x 32"):
        assert f"| {kind} | " in printed and set(result["accuracies"][kind]) == {"linear", "best", "knn"}
    assert result["accuracies"]["raw pixels, 32 x 32"]["knn"] == 1.0
    assert Data2Vec2VisionModel.from_pretrained(output).config.hidden_size == 32


def test_vit_small(imagenette):
    """The model whose figures are compared: ViT-S/16, 12 blocks of width 384 with 6 heads, 224 pixels."""
    config = imagenette.load_recipe(imagenette.RECIPE).model_config(imagenette.VIT_S)
    assert (config.num_prenet_layers + config.num_hidden_layers, config.hidden_size) == (12, 384)
    assert (config.num_attention_heads, config.intermediate_size) == (6, 1536)
    assert (config.image_shape, config.patch_shape) == ((224, 224), (16, 16))


def test_neighbours_vote_by_distance(imagenette, monkeypatch):
    """One near neighbour outweighs two that are far; without weights the two would win."""
    monkeypatch.setattr(imagenette, "NEIGHBOURS", 3)
    train = torch.tensor([[0.0], [1.0], [1.1]]), torch.tensor([0, 1, 1])
    for query, label in ((0.05, 0), (0.9, 1)):
        assert imagenette.neighbours(train, (torch.tensor([[query]]), torch.tensor([label])), "cpu") == 1.0


def test_images_are_squeezed_and_cut_to_the_middle(imagenette):
    """224 x 224 of an image resized to 256 x 256, whatever its shape."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:4], picture[:, :8] = 255, 255  # a sixteenth at the top and at the left: exactly what is cut
    pixels, labels = imagenette.read([{"image": Image.fromarray(picture), "label": 3}], 224)
    assert pixels.shape == (1, 3, 224, 224) and labels.tolist() == [3]
    assert pixels[..., 4:, 4:].max() == 0
