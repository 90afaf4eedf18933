"""Images as people have them: every kind of source, broken files, odd formats, and crops that repeat."""

import io

import datasets
import numpy as np
import pytest
import torch
from example_images import arrays, photo, save
from PIL import Image
from torch.utils.data import DataLoader

from modeling_data2vec.trainers import ImageTransform, load_images
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset, UnreadableError
from modeling_data2vec.trainers.media.image_transform import decode_image
from modeling_data2vec.trainers.modalities.image import ImageReader, load_labelled_images

pytestmark = pytest.mark.usefixtures("datasets_cache")

PLAIN = ImageTransform((8, 8), 1, [0.3], [0.4])


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "pictures")


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
    with pytest.raises(ValueError, match="there is no file or folder '.*missing' here: give a folder of images"):
        load_images(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="no file or folder './missing' here"):
        load_images("./missing")
    with pytest.raises(ValueError, match="no file or folder 'photos/list.csv' here: give"):
        load_images("photos/list.csv")  # the Hub isn't asked
    np.save(tmp_path / "photos.npy", np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="photos.npy is a file of a kind that is not read: give a folder of images"):
        load_images(str(tmp_path / "photos.npy"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("no images here")
    with pytest.raises(ValueError, match=r"text holds no images \(.*\.png.*\)"):
        load_images(str(tmp_path / "text"))
    with pytest.raises(ValueError, match=r"readme.txt is a file of a kind that is not read"):
        load_images(str(tmp_path / "text" / "readme.txt"))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_an_empty_source_is_an_error(tmp_path, table, kind):
    path = tmp_path / f"none.{kind}"
    table.select([]).to_parquet(path) if kind == "parquet" else table.select([]).save_to_disk(path)
    with pytest.raises(ValueError, match="none.*is empty: there is nothing to train on"):
        load_images(str(path))


# ---- datasets for the trainer ----


def test_an_item_is_a_function_of_seed_epoch_and_index(table):
    transform = ImageTransform((8, 8), 1, [0.3], [0.4], crop_scale=(0.3, 0.9))
    images = SampleDataset(table, ImageReader(transform), seed=3)
    first = images[5]
    images.set_epoch(2)
    images[4]
    later = images[5]
    other_seed = SampleDataset(table, ImageReader(transform), seed=4)[5]
    assert len({item["key"] for item in (first, later, other_seed, images[6])}) == 4
    assert not torch.equal(first["pixel_values"], later["pixel_values"])

    again = SampleDataset(table, ImageReader(transform), seed=3)
    assert again[5]["key"] == first["key"] and torch.equal(again[5]["pixel_values"], first["pixel_values"])
    again.set_epoch(2)
    assert again[5]["key"] == later["key"] and torch.equal(again[5]["pixel_values"], later["pixel_values"])
    whole = SampleDataset(table, ImageReader(transform), seed=3, augment=False)
    assert torch.equal(whole[5]["pixel_values"], transform(Image.fromarray(arrays()[5])))


def test_workers_see_a_new_epoch(table):
    images = SampleDataset(table, ImageReader(PLAIN))
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
    images = SampleDataset(dataset, ImageReader(PLAIN, column))
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
    images = SampleDataset(dataset, ImageReader(PLAIN, column), augment=False)
    names = [images.name(i).split("/")[-1] for i in range(15)]
    broken = names.index("broken.png")
    following = next(i for i in range(broken + 1, 30) if names[i % 15] not in damaged[1]) % 15
    assert torch.equal(images[broken]["pixel_values"], images[following]["pixel_values"])
    assert images[broken]["key"] != images[following]["key"]


def test_nothing_readable_is_an_error(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_text("text")
    dataset, column = load_images(str(tmp_path))
    images = SampleDataset(dataset, ImageReader(PLAIN, column))
    with pytest.raises(ValueError, match="none of the 3 images can be read; the first is .*0.png"):
        images[1]
    with pytest.raises(ValueError, match="none of the images of .* can be read"):
        load_labelled_images(str(tmp_path), PLAIN, split="train")


def test_a_stream_repeats_itself(damaged, caplog):
    folder, names = damaged
    transform = ImageTransform((8, 8), 1, [0.3], [0.4], crop_scale=(0.3, 0.9))
    dataset, column = load_images(str(folder), streaming=True)
    runs = []
    for epoch in (0, 0, 1):
        images = IterableSampleDataset(dataset, ImageReader(transform, column), seed=1)
        images.set_epoch(epoch)
        runs.append(list(images))
    first, again, later = runs
    assert len(first) == 12 == len({item["key"] for item in first})
    for left, right in zip(first, again, strict=True):
        assert left["key"] == right["key"] and torch.equal(left["pixel_values"], right["pixel_values"])
    assert not {item["key"] for item in first} & {item["key"] for item in later}
    assert images.unreadable() == [f"{len(names)} images of the stream"]
    assert sum("Passing over image" in record.getMessage() for record in caplog.records) == 3 * len(names)

    whole = IterableSampleDataset(dataset, ImageReader(PLAIN, column), augment=False)
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
    images = IterableSampleDataset(dataset, ImageReader(PLAIN, column))
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
