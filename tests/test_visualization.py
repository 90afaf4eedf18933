"""Pictures exist, decode, and show what they claim to: for 1, 3 and 5 channels and images that are not square."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from transformers import ViTConfig, ViTModel

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.masking import block_mask_2d
from modeling_data2vec.trainers.evaluation import random_weights
from modeling_data2vec.trainers.visualization import HIDDEN, pca_maps, plot_curves, plot_masks

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SHAPES = [(1, 8, 8), (3, 16, 8), (5, 8, 16), (2, 8, 8)]
HIDDEN_RGB = np.round(np.array(HIDDEN) * 255)


def pixels(path):
    """RGB [H, W, 3] of a picture that is not blank."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        array = np.asarray(picture.convert("RGB"), dtype=float)
    assert array.shape[0] > 150 and array.shape[1] > 150 and array.std() > 5
    return array


def share_of(array, colour):
    return (np.abs(array - colour).max(-1) <= 2).mean()


def config(channels, height, width):
    return Data2Vec2VisionConfig(
        **SIZES,
        num_prenet_layers=1,
        average_top_k_layers=2,
        decoder_dim=32,
        image_size=[height, width],
        patch_size=2,
        num_channels=channels,
    )


def masks_for(grid, count, num_masks, prob=0.5):
    generator = torch.Generator().manual_seed(0)
    return block_mask_2d(count * num_masks, grid, prob, 1, generator=generator).view(count, num_masks, -1)


def history(steps=20):
    log = []
    for step in range(1, steps + 1):
        log.append(
            {
                "step": step,
                "epoch": step / 10,
                "loss": 2 / step,
                "regression_loss": 1.5 / step,
                "cls_loss": 0.5 / step,
                "constant_loss": 1.0,
                "target_std": 0.8,
                "prediction_std": 0.1 * step,
                "target_spread": 0.3,
                "feature_encoder_std": 0.2,
                "student_rank": 10 + step,
                "feature_encoder_rank": 9.0,
                "teacher_student_cosine": step / steps,
                "position_explained": 0.4,
                "learning_rate": 1e-4 * step,
                "ema_decay": 0.99 + step * 1e-4,
            }
        )
        if step % 5 == 0:
            log.append({"step": step, "probe_linear": 0.5 + step / 100, "probe_knn": 0.5, "probe_linear_random": 0.4})
    return [*log, {"train_runtime": 3.0}, {"step": steps, "train_loss": 1.0}]


# ---- curves ----


def test_curves_of_a_whole_run(tmp_path):
    path = plot_curves(history(), tmp_path / "new" / "curves.png")
    assert path == tmp_path / "new" / "curves.png"
    array = pixels(path)
    assert array.shape[1] > array.shape[0]  # 2 rows of 3 panels


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "log",
    [
        [{"step": 1, "loss": 1.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}],
        [{"step": 1, "learning_rate": 0.0}, {"step": 2, "learning_rate": 0.0}],
        [{"step": 1, "ema_decay": 0.99}, {"step": 2, "ema_decay": 0.999}],
        [{"step": 1, "target_std": 0.8}, {"step": 2, "prediction_std": 0.0}],
        [{"step": 0, "target_std": 0.0}],
        [{"step": 5, "probe_knn": 0.5, "probe_knn_raw": 0.6}, {"step": 5, "probe_knn_random": 0.4}],
    ],
    ids=["one point", "nan", "zero rate", "decay only", "zero spread", "only zeros", "probe only"],
)
def test_curves_of_what_there_is(log, tmp_path):
    """A single panel rather than a grid with holes."""
    array = pixels(plot_curves(log, tmp_path / "few.png"))
    assert array.shape[:2] == (480, 630)


def test_curves_without_data(tmp_path):
    with pytest.raises(ValueError, match="log_history"):
        plot_curves([], tmp_path / "curves.png")
    with pytest.raises(ValueError, match="2 entries"):
        plot_curves([{"loss": 1.0}, {"step": 3, "train_runtime": 1.0}], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_no_global_state_of_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_curves(history(), tmp_path / "curves.png")
    plot_masks(torch.rand(1, 1, 8, 8), masks_for((4, 4), 1, 1), (4, 4), tmp_path / "masks.png")
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == []


# ---- masks ----


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_grey_out_what_is_hidden(shape, tmp_path):
    channels, height, width = shape
    grid = (height // 2, width // 2)
    images = torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(0))
    few = pixels(plot_masks(images, masks_for(grid, 3, 4, 0.25), grid, tmp_path / "few.png"))
    many = pixels(plot_masks(images, masks_for(grid, 3, 4, 0.75), grid, tmp_path / "many.png"))
    assert few.shape == many.shape
    assert share_of(many, HIDDEN_RGB) == pytest.approx(3 * share_of(few, HIDDEN_RGB), rel=0.15)


def test_masks_hide_the_right_patches(tmp_path):
    """A bright upper left patch shows up only where it is visible."""
    images = torch.zeros(1, 1, 8, 8)
    images[:, :, :4, :4] = 1.0
    hidden, visible = torch.zeros(2, 1, 1, 4, dtype=torch.bool)
    hidden[..., 0], visible[..., 3] = True, True
    white = [
        share_of(pixels(plot_masks(images, mask, (2, 2), tmp_path / "masks.png")), 255) for mask in (hidden, visible)
    ]
    assert white[1] > white[0] + 0.05


def test_masks_undo_the_normalisation(tmp_path):
    colour, mean, std = torch.tensor([0.8, 0.4, 0.2]), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    images = ((colour - torch.tensor(mean)) / torch.tensor(std)).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    array = pixels(plot_masks(images, masks_for((4, 4), 1, 1), (4, 4), tmp_path / "masks.png", mean, std))
    assert share_of(array, colour.numpy() * 255) > 0.3
    array = pixels(plot_masks(images[:, :1] * 0, masks_for((4, 4), 1, 1), (4, 4), tmp_path / "grey.png", 0.3, 0.5))
    assert share_of(array, 0.3 * 255) > 0.3


def test_only_the_first_images_and_masks_are_shown(tmp_path):
    images = torch.rand(9, 1, 8, 8)
    many = pixels(plot_masks(images, masks_for((4, 4), 9, 8), (4, 4), tmp_path / "many.png"))
    few = pixels(plot_masks(images[:6], masks_for((4, 4), 6, 5), (4, 4), tmp_path / "few.png"))
    assert many.shape == few.shape


def test_errors_of_masks(tmp_path):
    images, path = torch.rand(2, 1, 8, 8), tmp_path / "masks.png"
    with pytest.raises(ValueError, match=r"masks has shape \(2, 1, 16\).*\[2, masks, 8\]"):
        plot_masks(images, masks_for((4, 4), 2, 1), (2, 4), path)
    with pytest.raises(ValueError, match="masks has shape"):
        plot_masks(images, masks_for((4, 4), 1, 2)[0], (4, 4), path)
    with pytest.raises(ValueError, match=r"grid is \(3, 4\).*8 x 8"):
        plot_masks(images, masks_for((3, 4), 2, 1), (3, 4), path)


# ---- PCA maps ----


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_pca_maps_are_coloured(shape, interpolation, tmp_path):
    model = Data2Vec2VisionModel(config(*shape)).train()
    path = pca_maps(model, torch.rand(2, *shape), tmp_path / "pca.png", interpolation=interpolation)
    colours = pixels(path)[:, pixels(path).shape[1] // 3 :]  # beside the picture
    assert (np.ptp(colours, axis=-1) > 60).mean() > 0.3
    assert model.training


def test_pca_maps_of_other_models(tmp_path):
    pretraining = Data2Vec2VisionForPreTraining(config(1, 8, 8))
    pixels(pca_maps(pretraining, torch.rand(1, 1, 8, 8), tmp_path / "pca.png", 0.5, 0.5, layer=1))
    vit = ViTModel(ViTConfig(**SIZES, image_size=8, patch_size=4, num_channels=1), add_pooling_layer=False)
    pixels(pca_maps(vit, torch.rand(1, 1, 8, 8), tmp_path / "vit.png"))


def test_pca_colours_mean_the_same_in_every_image(tmp_path):
    """The same image twice has the same colours twice, and an untrained model those of its baseline."""
    model = random_weights(Data2Vec2VisionModel(config(1, 8, 8)))
    images = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1)
    array = pixels(pca_maps(model, images, tmp_path / "pca.png"))
    assert array.shape == (45 + 2 * 237, 12 + 3 * 237, 3)  # a title, and 1.5 inches each with a gap of 0.08
    centres = np.array([45 + 14, 45 + 14 + 56, 45 + 14 + 112, 45 + 14 + 168])  # 4 patches of 56 dots
    model_column = array[centres[:, None], 249 + centres - 45]
    assert len(np.unique(model_column.reshape(-1, 3), axis=0)) > 10
    np.testing.assert_allclose(model_column, array[237 + centres[:, None], 249 + centres - 45], atol=1)
    np.testing.assert_allclose(model_column, array[centres[:, None], 486 + centres - 45], atol=1)


def test_too_few_patches(tmp_path):
    model = Data2Vec2VisionModel(config(1, 8, 8))
    with pytest.raises(ValueError, match="too few for 3 components"):
        pca_maps(model, torch.rand(2, 1, 2, 2), tmp_path / "pca.png")
