"""Images to tensors: decoding of whatever a data set holds, and crops and flips that keep to their bounds."""

import math
from random import Random

import numpy as np
import pytest
import torch
from example_images import arrays, photo, save
from PIL import Image
from transformers import ViTImageProcessorPil

from modeling_data2vec.trainers import ImageTransform
from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media.image_transform import decode_image


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "pictures")


# ---- decoding ----


def test_grey_and_colour_become_each_other():
    grey = Image.fromarray(arrays()[0])
    assert np.array_equal(np.asarray(decode_image(grey, 1)), arrays()[0])
    colour = decode_image(grey, 3)
    assert colour.mode == "RGB" and np.array_equal(np.asarray(colour)[..., 1], arrays()[0])
    assert np.array_equal(np.asarray(decode_image(colour, 1)), arrays()[0])
    transparent = colour.copy()
    transparent.putalpha(128)
    assert np.array_equal(np.asarray(decode_image(transparent, 3)), np.asarray(colour))
    assert decode_image(transparent, 1).mode == "L"
    palette = colour.convert("P")
    assert decode_image(palette, 3).mode == "RGB"


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = arrays()[0].astype(np.uint16) * 256
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for value in (Image.fromarray(deep), {"bytes": (tmp_path / "deep.png").read_bytes(), "path": None}):
        assert np.array_equal(np.asarray(decode_image(value, 1)), arrays()[0])
        assert np.array_equal(np.asarray(decode_image(value, 3))[..., 2], arrays()[0])


def test_bytes_and_paths(folder):
    path = folder / "0" / "00.png"
    for value in ({"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": None}):
        assert np.array_equal(np.asarray(decode_image(value, 1)), arrays()[0])


@pytest.mark.parametrize(
    "value",
    [
        {"bytes": b"text", "path": None},
        {"bytes": None, "path": "/missing.png"},
        {"bytes": None, "path": None},
        {"bytes": b"", "path": None},
        None,
    ],
    ids=["text", "no file", "neither", "no bytes", "null"],
)
def test_what_is_no_image_is_unreadable(value):
    with pytest.raises(UnreadableError):
        decode_image(value, 1)


def test_arrays_with_any_number_of_channels():
    array = np.random.default_rng(0).integers(0, 256, (6, 7, 5), dtype=np.uint8)
    expected = torch.tensor(array).permute(2, 0, 1) / 255
    assert torch.equal(decode_image(array, 5), expected)
    assert torch.equal(decode_image(array.transpose(2, 0, 1), 5), expected)
    assert torch.equal(decode_image(array.tolist(), 5), expected)
    assert torch.equal(decode_image(expected.numpy(), 5), expected)  # floats are 0 to 1 already
    assert decode_image(array[..., 0], 1).shape == (1, 6, 7)
    with pytest.raises(ValueError, match=r"shape \(6, 7, 5\).*4 channel.*num_channels"):
        decode_image(array, 4)
    with pytest.raises(ValueError, match="2 channel"):
        decode_image(Image.fromarray(arrays()[0]), 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, bool])
def test_the_type_of_an_array_says_what_is_white(dtype):
    white = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    array = (np.random.default_rng(0).random((6, 7, 3)).round(1) * white).astype(dtype)
    expected = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1) / white
    torch.testing.assert_close(decode_image(array, 3), expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4, 3), 255.0), "float64 values reach from 255 to 255, but must be from 0 to 1"),
        (np.full((4, 4, 3), -0.5), "reach from -0.5"),
        (np.full((4, 4, 3), 256), "int64 values reach from 256 to 256, but must be from 0 to 255"),
        (np.full((4, 4), np.nan), "NaN or infinite"),
        (np.full((4, 4, 5), np.inf), "NaN or infinite"),
        (np.zeros((0, 4, 3)), "no pixels"),
        ([[1, 2], [3]], "not equally long"),
    ],
)
def test_arrays_without_a_known_range_are_unreadable(array, message):
    channels = array.shape[2] if isinstance(array, np.ndarray) and array.ndim == 3 else 1
    with pytest.raises(UnreadableError, match=message):
        decode_image(array, channels)


def test_measurements_of_many_channels_are_taken_as_they_are():
    array = np.random.default_rng(0).normal(size=(5, 4, 4)).astype(np.float32)
    assert np.array_equal(decode_image(array, 5).numpy(), array)


def test_five_channels_go_through_the_transform():
    transform = ImageTransform((8, 8), 5, [0.5] * 5, [0.5] * 5)
    image = decode_image(np.random.default_rng(0).integers(0, 256, (20, 16, 5), dtype=np.uint8), 5)
    assert transform(image).shape == (5, 8, 8)
    assert transform(image, Random(3)).shape == (5, 8, 8)


# ---- augmentation ----


def test_without_a_generator_it_is_resize_and_normalisation():
    mean, std = (0.2, 0.5, 0.4), (0.3, 0.2, 0.1)
    result = ImageTransform((12, 20), 3, mean, std)(photo())
    array = np.asarray(photo().resize((20, 12), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    expected = ((array - mean) / std).transpose(2, 0, 1)
    assert result.shape == (3, 12, 20) and result.dtype == torch.float32 and result.is_contiguous()
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_the_generator_decides():
    transform = ImageTransform((8, 8))
    results = [transform(photo(), Random(i)) for i in range(10)]
    again = [transform(photo(), Random(i)) for i in range(10)]
    assert all(torch.equal(*pair) for pair in zip(results, again, strict=True))
    assert len({tuple(result.flatten().tolist()) for result in results}) == 10


@pytest.mark.parametrize(("width", "height"), [(400, 300), (224, 224), (300, 390)])
def test_crops_keep_to_their_bounds_and_reach_them(width, height):
    transform = ImageTransform((8, 8), crop_scale=(0.2, 0.9), crop_ratio=(0.5, 2.0))
    shares, ratios = [], []
    rng = Random(0)
    for _ in range(1000):
        left, top, right, bottom = transform.crop_box(width, height, rng)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        shares.append((right - left) * (bottom - top) / (width * height))
        ratios.append((right - left) / (bottom - top))
    assert min(shares) == pytest.approx(0.2, abs=0.02) and max(shares) == pytest.approx(0.9, abs=0.02)
    assert min(ratios) == pytest.approx(0.5, abs=0.05) and max(ratios) == pytest.approx(2.0, abs=0.15)
    if width == height:  # as often wide as high
        assert abs(np.mean(np.log(ratios))) < 0.05


def test_an_image_too_narrow_for_any_crop_is_cut_in_the_middle():
    transform = ImageTransform((8, 8), crop_scale=(0.9, 1.0))
    assert transform.crop_box(100, 10, Random(0)) == (43, 0, 56, 10)
    assert transform.crop_box(10, 100, Random(0)) == (0, 43, 10, 56)


def test_about_half_of_the_images_are_flipped():
    transform = ImageTransform((30, 40), crop_scale=(1.0, 1.0))
    plain = transform(photo())
    results = [transform(photo(), Random(i)) for i in range(400)]
    flipped = sum(torch.equal(result, plain.flip(2)) for result in results)
    assert flipped + sum(torch.equal(result, plain) for result in results) == 400
    assert abs(flipped - 200) < 4 * math.sqrt(400 / 4)
    transform.horizontal_flip = False
    assert all(torch.equal(transform(photo(), Random(i)), plain) for i in range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_channels": 1}, r"mean has 3 values, but images have 1 channel"),
        ({"std": [0.5]}, r"std has 1 values, but images have 3 channel"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale is \(0.5, 0.2\).*increasing.*\(0, 1\]"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale"),
        ({"crop_scale": (0.2, 1.2)}, r"crop_scale"),
    ],
)
def test_each_bad_setting_has_its_own_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform((8, 8), **arguments)


@pytest.mark.parametrize(("size", "expected"), [({"height": 6, "width": 10}, (6, 10)), ({"shortest_edge": 7}, (7, 7))])
def test_transform_of_a_processor(size, expected):
    processor = ViTImageProcessorPil(size=size, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    transform = ImageTransform.from_processor(processor, crop_scale=(0.5, 1.0), horizontal_flip=False)
    assert transform.size == expected and transform.num_channels == 3
    assert (list(transform.mean), list(transform.std)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert transform.crop_scale == (0.5, 1.0) and not transform.horizontal_flip
    if "height" in size:
        processed = processor(photo(), return_tensors="pt", resample=Image.Resampling.BICUBIC)
        torch.testing.assert_close(transform(photo()), processed["pixel_values"][0], atol=1e-4, rtol=0)


# ---- colours ----


def test_jitter_changes_colours_within_bounds_and_repeats():
    image = photo()
    transform = ImageTransform(image.size[::-1], 3, [0.0] * 3, [1.0] * 3, (1.0, 1.0), color_jitter=(0.4, 0.0, 0.0))
    plain = transform(image)
    for seed in range(20):
        changed = transform.jitter(image, Random(seed))
        factor = np.asarray(changed, float).mean() / np.asarray(image, float).mean()
        assert 0.58 < factor < 1.42
    assert torch.equal(transform(image, Random(3)), transform(image, Random(3)))
    assert not torch.equal(transform(image, Random(3)), transform(image, Random(4)))
    assert torch.equal(transform(image), plain)  # without augmentation


def test_each_part_of_the_jitter_does_what_it_says():
    image = photo()
    colours = np.asarray(image, float)

    def changed(*shares, seed=0):
        transform = ImageTransform((8, 8), 3, color_jitter=shares)
        return np.asarray(transform.jitter(image, Random(seed)), float)

    # A random factor f moves every pixel to mean + f (pixel - mean); grey stays where saturation alone changes.
    contrast = changed(0.0, 0.4, 0.0)
    assert contrast.std() != pytest.approx(colours.std(), rel=1e-3)
    saturation = changed(0.0, 0.0, 0.4)
    grey = np.asarray(image.convert("L"), float)
    grey_after = np.asarray(Image.fromarray(saturation.astype(np.uint8)).convert("L"), float)
    assert np.abs(grey - grey_after).mean() < 2.0
    assert np.ptp(saturation, axis=2).mean() != pytest.approx(np.ptp(colours, axis=2).mean(), rel=1e-3)
    assert np.array_equal(changed(0.0, 0.0, 0.0), colours)


def test_without_jitter_crops_are_what_they_were():
    """No random number is drawn for colours that don't change."""
    image = Image.fromarray(arrays()[0])
    one, other = (ImageTransform((8, 8), 1, [0.5], [0.5], color_jitter=jitter) for jitter in ((0, 0, 0), (0.0,) * 3))
    assert torch.equal(one(image, Random(5)), other(image, Random(5)))


@pytest.mark.parametrize(("channels", "jitter"), [(3, (0.4, 0.4)), (3, (0.4, -0.1, 0.0)), (5, (0.4, 0.4, 0.4))])
def test_jitter_that_can_not_be(channels, jitter):
    with pytest.raises(ValueError, match="color_jitter is"):
        ImageTransform((8, 8), channels, [0.5] * channels, [0.5] * channels, color_jitter=jitter)


def test_one_pass_over_the_bytes_is_the_usual_normalisation():
    """Flipped and normalised while they are bytes, pixels are those of division, mean and deviation one by one."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    transform = ImageTransform((16, 16))
    for seed in range(6):
        rng = Random(seed)
        left, top, right, bottom = transform.crop_box(40, 30, rng)
        cropped = image.crop((left, top, right, bottom)).resize((16, 16), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(cropped)).permute(2, 0, 1) / 255
        if rng.random() < 0.5:
            pixels = pixels.flip(2)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.mean, transform.std))
        made = transform(image, Random(seed))
        assert made.is_contiguous()
        torch.testing.assert_close(made, (pixels - mean) / std, rtol=0, atol=1e-6)
