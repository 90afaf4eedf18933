"""Images as people have them: every kind of source, broken files, odd formats, and crops that repeat."""

import io
import math
from random import Random

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from transformers import ViTImageProcessorPil
from transformers.utils import logging

from modeling_data2vec.trainers import ImageTransform, load_images
from modeling_data2vec.trainers.image_transform import decode_image
from modeling_data2vec.trainers.images import ImageReader, load_labelled_images
from modeling_data2vec.trainers.samples import PretrainingSamples, StreamedSamples, UnreadableError

PLAIN = ImageTransform((8, 8), 1, [0.3], [0.4])


def arrays(num: int = 12) -> list[np.ndarray]:
    return [(image * 15.9).astype(np.uint8) for image in load_digits().images[:num]]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """datasets' cache in a folder of its own; its figures are kept in module variables."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def caplog(caplog):
    """transformers' loggers don't propagate by themselves."""
    logging.enable_propagation()
    yield caplog
    logging.disable_propagation()


@pytest.fixture
def folder(tmp_path):
    """Twelve digits as files, a folder for each of three classes."""
    for i, array in enumerate(arrays()):
        path = tmp_path / "pictures" / str(i % 3) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def table():
    """The same digits as a table in memory."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(3)})
    columns = {"image": [Image.fromarray(a) for a in arrays()], "label": [i % 3 for i in range(12)]}
    return datasets.Dataset.from_dict(columns, features=features)


def pixels(dataset, column) -> list[np.ndarray]:
    found = [np.asarray(decode_image(example[column], 1)) for example in dataset]
    return sorted(found, key=lambda array: array.tobytes())


def assert_are_the_digits(dataset, column) -> None:
    expected = sorted(arrays(), key=lambda array: array.tobytes())
    assert all(np.array_equal(*pair) for pair in zip(pixels(dataset, column), expected, strict=True))


# ---- sources ----


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_images(folder, streaming):
    dataset, column = load_images(str(folder), streaming=streaming)
    assert column == "image"
    assert_are_the_digits(dataset, column)
    assert isinstance(dataset, datasets.IterableDataset) == streaming


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_parquet(tmp_path, table, streaming, what):
    for part in range(2):
        table.shard(2, part).to_parquet(tmp_path / f"part{part}.parquet")
    table.to_parquet(tmp_path / "one" / "all.parquet") if what == "file" else None
    source = tmp_path / "one" / "all.parquet" if what == "file" else tmp_path
    dataset, column = load_images(str(source), streaming=streaming)
    assert_are_the_digits(dataset, column)


def test_saved_datasets(tmp_path, table):
    table.save_to_disk(tmp_path / "arrow")
    assert_are_the_digits(*load_images(str(tmp_path / "arrow")))
    splits = datasets.DatasetDict({"train": table.select(range(3)), "everything": table})
    splits.save_to_disk(tmp_path / "splits")
    assert_are_the_digits(*load_images(str(tmp_path / "splits"), split="everything"))
    assert len(load_images(str(tmp_path / "splits"))[0]) == 3
    with pytest.raises(ValueError, match=r"no split 'validation', only \['everything', 'train'\]"):
        load_images(str(tmp_path / "splits"), split="validation")


def test_splits_of_a_folder(tmp_path):
    for split, num in (("train", 4), ("test", 2)):
        (tmp_path / split).mkdir()
        for i in range(num):
            Image.fromarray(arrays()[i]).save(tmp_path / split / f"{i}.png")
    assert len(load_images(str(tmp_path), split="train")[0]) == 4
    assert len(load_images(str(tmp_path), split="test")[0]) == 2
    with pytest.raises(ValueError, match=r"no split 'validation', only \['test', 'train'\]"):
        load_images(str(tmp_path), split="validation")


def test_digits():
    train, column = load_images("digits")
    test, _ = load_images("digits", split="test")
    assert (len(train), len(test), column) == (1297, 500, "image")
    image = np.asarray(decode_image(train[0][column], 1))
    assert image.shape == (8, 8) and image.max() > 200
    with pytest.raises(ValueError, match="'train' and 'test', not 'validation'"):
        load_images("digits", split="validation")


def test_column_is_found_or_named(tmp_path, table):
    pictures = [Image.fromarray(array) for array in arrays()]
    columns = {"left": pictures[::-1], "right": pictures, "depth": list(range(12))}
    features = {"left": datasets.Image(), "right": datasets.Image(), "depth": datasets.Value("int64")}
    two = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    two.save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match=r"2 image columns among .*'left'.*'right'.*image_column"):
        load_images(str(tmp_path / "two"))
    dataset, column = load_images(str(tmp_path / "two"), image_column="right")
    assert column == "right"
    assert_are_the_digits(dataset, column)
    with pytest.raises(ValueError, match=r"no column 'center', only \['depth', 'left', 'right'\]"):
        load_images(str(tmp_path / "two"), image_column="center")
    table.remove_columns("image").save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match=r"0 image columns among \['label'\]"):
        load_images(str(tmp_path / "none"))


def test_sources_without_images_are_errors(tmp_path, table):
    with pytest.raises(ValueError, match="missing is not a folder of images.*or does not exist"):
        load_images(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="./missing is not a folder"):
        load_images("./missing")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("no images here")
    with pytest.raises(ValueError, match=r"text holds no images \(.*\.png.*\)"):
        load_images(str(tmp_path / "text"))
    with pytest.raises(ValueError, match=r"readme.txt is not a folder of images"):
        load_images(str(tmp_path / "text" / "readme.txt"))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_an_empty_source_is_an_error(tmp_path, table, kind):
    path = tmp_path / f"none.{kind}"
    table.select([]).to_parquet(path) if kind == "parquet" else table.select([]).save_to_disk(path)
    with pytest.raises(ValueError, match="none.*is empty: there is nothing to train on"):
        load_images(str(path))


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


def test_five_channels_go_through_the_transform():
    transform = ImageTransform((8, 8), 5, [0.5] * 5, [0.5] * 5)
    image = decode_image(np.random.default_rng(0).integers(0, 256, (20, 16, 5), dtype=np.uint8), 5)
    assert transform(image).shape == (5, 8, 8)
    assert transform(image, Random(3)).shape == (5, 8, 8)


# ---- augmentation ----


def photo(width=40, height=30) -> Image.Image:
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array)


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


# ---- datasets for the trainer ----


def test_an_item_is_a_function_of_seed_epoch_and_index(table):
    transform = ImageTransform((8, 8), 1, [0.3], [0.4], crop_scale=(0.3, 0.9))
    images = PretrainingSamples(table, ImageReader(transform), seed=3)
    first = images[5]
    images.set_epoch(2)
    images[4]
    later = images[5]
    other_seed = PretrainingSamples(table, ImageReader(transform), seed=4)[5]
    assert len({item["key"] for item in (first, later, other_seed, images[6])}) == 4
    assert not torch.equal(first["pixel_values"], later["pixel_values"])

    again = PretrainingSamples(table, ImageReader(transform), seed=3)
    assert again[5]["key"] == first["key"] and torch.equal(again[5]["pixel_values"], first["pixel_values"])
    again.set_epoch(2)
    assert again[5]["key"] == later["key"] and torch.equal(again[5]["pixel_values"], later["pixel_values"])
    whole = PretrainingSamples(table, ImageReader(transform), seed=3, augment=False)
    assert torch.equal(whole[5]["pixel_values"], transform(Image.fromarray(arrays()[5])))


def test_workers_see_a_new_epoch(table):
    images = PretrainingSamples(table, ImageReader(PLAIN))
    loader = DataLoader(images, 4, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        images.set_epoch(epoch)
        keys = torch.cat([batch["key"] for batch in loader]).tolist()
        assert keys == [images[i]["key"] for i in range(12)]


@pytest.fixture
def damaged(folder):
    """A truncated PNG, a text file and an empty file among twelve digits, and their names."""
    large = io.BytesIO()
    photo(200, 200).save(large, "png")
    (folder / "0" / "broken.png").write_bytes(large.getvalue()[:2000])
    (folder / "1" / "text.png").write_text("not an image")
    (folder / "2" / "empty.png").write_bytes(b"")
    return folder, {"broken.png", "text.png", "empty.png"}


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_replaced_and_named_once(damaged, workers, caplog):
    folder, names = damaged
    dataset, column = load_images(str(folder))
    images = PretrainingSamples(dataset, ImageReader(PLAIN, column))
    loader = DataLoader(images, 5, num_workers=workers)
    for epoch in range(2):
        images.set_epoch(epoch)
        batches = list(loader)
        assert sum(len(batch["key"]) for batch in batches) == 15
        assert len(set(torch.cat([batch["key"] for batch in batches]).tolist())) == 15
    assert sorted(name.split("/")[-1] for name in images.unreadable()) == sorted(names)
    if not workers:  # those of workers go to stderr of their own
        assert all(sum(name in record.getMessage() for record in caplog.records) == 1 for name in names)


def test_a_broken_image_is_replaced_by_the_next(damaged):
    dataset, column = load_images(str(damaged[0]))
    images = PretrainingSamples(dataset, ImageReader(PLAIN, column), augment=False)
    names = [images.name(i).split("/")[-1] for i in range(15)]
    broken = names.index("broken.png")
    following = next(i for i in range(broken + 1, 30) if names[i % 15] not in damaged[1]) % 15
    assert torch.equal(images[broken]["pixel_values"], images[following]["pixel_values"])
    assert images[broken]["key"] != images[following]["key"]


def test_nothing_readable_is_an_error(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_text("text")
    dataset, column = load_images(str(tmp_path))
    images = PretrainingSamples(dataset, ImageReader(PLAIN, column))
    with pytest.raises(ValueError, match="none of the 3 images can be read; the first is .*0.png"):
        images[1]
    with pytest.raises(ValueError, match="none of the 3 images"):
        load_labelled_images(str(tmp_path), PLAIN, split="train", label_column="image")


def test_a_stream_repeats_itself(damaged, caplog):
    folder, names = damaged
    transform = ImageTransform((8, 8), 1, [0.3], [0.4], crop_scale=(0.3, 0.9))
    dataset, column = load_images(str(folder), streaming=True)
    runs = []
    for epoch in (0, 0, 1):
        images = StreamedSamples(dataset, ImageReader(transform, column), seed=1)
        images.set_epoch(epoch)
        runs.append(list(images))
    first, again, later = runs
    assert len(first) == 12 == len({item["key"] for item in first})
    for left, right in zip(first, again, strict=True):
        assert left["key"] == right["key"] and torch.equal(left["pixel_values"], right["pixel_values"])
    assert not {item["key"] for item in first} & {item["key"] for item in later}
    assert images.unreadable() == [f"{len(names)} images of the stream"]
    assert sum("Passing over image" in record.getMessage() for record in caplog.records) == 3 * len(names)

    whole = StreamedSamples(dataset, ImageReader(PLAIN, column), augment=False)
    expected = [transform(decode_image(value[column], 1)) for value in dataset if is_readable(value[column])]
    assert all(torch.equal(item["pixel_values"], value) for item, value in zip(whole, expected, strict=True))


def is_readable(value) -> bool:
    try:
        decode_image(value, 1)
    except UnreadableError:
        return False
    return True


def test_stream_through_workers_sees_the_epoch(folder):
    dataset, column = load_images(str(folder), streaming=True)
    images = StreamedSamples(dataset, ImageReader(PLAIN, column))
    loader = DataLoader(images, 4, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (0, 1):
        images.set_epoch(epoch)
        seen.append(torch.cat([batch["key"] for batch in loader]).tolist())
    assert len(seen[0]) == len(seen[1]) == 12
    assert not set(seen[0]) & set(seen[1])


# ---- labelled images ----


def test_labels(folder, tmp_path, table):
    images, labels = load_labelled_images(str(folder), PLAIN, split="train")
    assert images.shape == (12, 1, 8, 8) and sorted(labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    images, labels = load_labelled_images("digits", PLAIN, split="test", limit=20)
    again, same = load_labelled_images("digits", PLAIN, split="test", limit=20)
    assert len(images) == len(labels) == 20
    assert torch.equal(images, again) and np.array_equal(labels, same)
    everything, _ = load_labelled_images("digits", PLAIN, split="test", limit=10_000)
    assert len(everything) == 500
    assert not torch.equal(images, everything[:20])

    names = table.remove_columns("label").add_column("label", ["cat", "ant", "bee"] * 4)
    names.save_to_disk(tmp_path / "names")
    _, labels = load_labelled_images(str(tmp_path / "names"), PLAIN, split="train")
    assert labels.tolist() == ["cat", "ant", "bee"] * 4


def test_labels_that_are_missing_are_errors(tmp_path, table):
    table.remove_columns("label").save_to_disk(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"0 label columns among \['image'\]: probes need labels"):
        load_labelled_images(str(tmp_path / "bare"), PLAIN, split="train")
    table.add_column("labels", table["label"]).cast_column("labels", datasets.ClassLabel(3)).save_to_disk(
        tmp_path / "two"
    )
    with pytest.raises(ValueError, match=r"2 label columns.*label_column"):
        load_labelled_images(str(tmp_path / "two"), PLAIN, split="train")
    with pytest.raises(ValueError, match=r"no column 'species', only \['image', 'label', 'labels'\]"):
        load_labelled_images(str(tmp_path / "two"), PLAIN, split="train", label_column="species")


def test_unreadable_images_are_left_out_of_probes(damaged, caplog):
    images, labels = load_labelled_images(str(damaged[0]), PLAIN, split="train")
    assert len(images) == len(labels) == 12
    assert caplog.text.count("Leaving out image") == 3
