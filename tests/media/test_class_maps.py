"""Maps of classes in every form that people store: the number in the file is the class, or an error says why not."""

import io
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from example_images import photo
from PIL import Image

from modeling_data2vec.trainers import ImageTransform
from modeling_data2vec.trainers.data.samples import SampleDataset, UnreadableError
from modeling_data2vec.trainers.finetuning.tasks.segmentation import MapReader, SemanticSegmentation
from modeling_data2vec.trainers.media.class_maps import class_map

pytestmark = pytest.mark.usefixtures("datasets_cache")

CLASSES = np.zeros((32, 24), np.uint8)
CLASSES[8:24, 8:20], CLASSES[12:16, 12:16], CLASSES[0, 0] = 1, 2, 255


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette(classes: np.ndarray) -> Image.Image:
    image = Image.fromarray(classes).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + 747 * [200])
    return image


FORMS = {
    "grey": lambda classes: saved(Image.fromarray(classes)),
    "palette": lambda classes: saved(palette(classes)),
    "palette GIF": lambda classes: saved(palette(classes), "GIF", optimize=False),
    "palette with transparency": lambda classes: saved(palette(classes), transparency=0),
    "16 bits": lambda classes: saved(Image.fromarray(classes.astype(np.uint16))),
    "16 bits, big-endian": lambda classes: saved(Image.fromarray(classes.astype(">u2")), "TIFF"),
    "32 bits": lambda classes: saved(Image.fromarray(classes.astype(np.int32)), "TIFF"),
    "floats": lambda classes: saved(Image.fromarray(classes.astype(np.float32)), "TIFF"),
    "grey in colour": lambda classes: saved(Image.fromarray(classes).convert("RGB")),
    "grey and opaque": lambda classes: saved(Image.fromarray(classes).convert("RGBA")),
    "a picture": Image.fromarray,
    "array": lambda classes: classes,
    "nested lists": lambda classes: classes.tolist(),
    "array with a channel": lambda classes: classes[..., None],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_number_is_the_class(form):
    found = class_map(FORMS[form](CLASSES))
    assert found.dtype == np.int64 and np.array_equal(found, CLASSES)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_not_scaled(bits):
    classes = np.minimum(CLASSES % 255, 2**bits - 1)
    image = Image.fromarray(classes if bits > 1 else classes.astype(bool))
    data = saved(image, bits=bits)
    assert len(data) < len(saved(Image.fromarray(CLASSES))) or bits == 4
    assert np.array_equal(class_map(data), classes)


def test_maps_are_turned_like_images():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(CLASSES), exif=exif)
    assert np.array_equal(class_map(data), np.rot90(CLASSES, -1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (saved(Image.fromarray(np.stack([CLASSES, CLASSES * 0, CLASSES], -1))), r"colours, such as \[255, 0, 255\]"),
        (saved(Image.fromarray(CLASSES), "JPEG", quality=100), "JPEG, which keeps no exact numbers"),
        (saved(Image.fromarray(CLASSES.astype(np.uint16) * 300)), "values from 0 to 10964, but classes"),
        (saved(Image.fromarray(CLASSES.astype(np.int32) - 1), "TIFF"), "values from -1 to 254, but classes"),
        (saved(Image.fromarray(CLASSES / np.float32(255)), "TIFF"), "classes are whole numbers"),
        (saved(Image.new("LA", (4, 4), (1, 0))), "transparent in places"),
        (np.full((4, 4), np.nan), "classes are whole numbers"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\), but must be numbers \[H, W\]"),
        (b"text", "no picture"),
        (None, "holds no image here"),
    ],
    ids=["colours", "JPEG", "above 255", "negative", "fractions", "transparent", "NaN", "3-D", "text", "nothing"],
)
def test_what_holds_no_classes_says_so(value, message):
    with pytest.raises(UnreadableError, match=message):
        class_map(value)


# ---- images with their maps ----


def table(folder, images, maps, kind="png"):
    """Files and the table that names them."""
    rows = []
    for index, (image, one) in enumerate(zip(images, maps, strict=True)):
        (folder / f"photo{index}.png").write_bytes(image)
        (folder / f"map{index}.{kind}").write_bytes(one)
        rows.append(json.dumps({"image": f"photo{index}.png", "label": f"map{index}.{kind}"}))
    (folder / "maps.jsonl").write_text("\n".join(rows) + "\n")
    return str(folder / "maps.jsonl")


def opened(source: str, num_labels: int | None = None) -> tuple[SemanticSegmentation, datasets.Dataset]:
    options = SimpleNamespace(column=None, label_column=None, num_labels=num_labels)
    task = SemanticSegmentation(SimpleNamespace(), SimpleNamespace(), options, SimpleNamespace())
    train = task.open(source, "train")
    task.fit(train)
    return task, train


PHOTO = saved(photo(24, 32))
TRANSFORM = ImageTransform((32, 24), crop_scale=(1.0, 1.0), horizontal_flip=False)


@pytest.mark.parametrize("form", ["grey", "palette", "16 bits"])
def test_classes_are_found(tmp_path, form):
    task, _ = opened(table(tmp_path, [PHOTO] * 3, [FORMS[form](CLASSES)] * 3))
    assert task.config.id2label == {0: "0", 1: "1", 2: "2"} and task.config.semantic_loss_ignore_index == 255


@pytest.mark.parametrize(
    ("classes", "num_labels", "message"),
    [
        (CLASSES * 0, None, r"hold 1 class\(es\), \[0\], but segmentation needs 2 or more"),
        (np.where(CLASSES == 1, 255, 0).astype(np.uint8), None, "a mask of 0 and 255 must become one of 0 and 1"),
        (np.where(CLASSES == 1, 255, 0).astype(np.uint8), 2, "a mask of 0 and 255 must become one of 0 and 1"),
        (CLASSES, 1, "num_labels is 1, but segmentation needs 2 classes or more"),
    ],
)
def test_one_class_is_an_error(tmp_path, classes, num_labels, message):
    with pytest.raises(ValueError, match=message):
        opened(table(tmp_path, [PHOTO] * 2, [saved(Image.fromarray(classes))] * 2), num_labels)


def test_a_broken_map_is_passed_over_and_all_broken_are_an_error(tmp_path):
    grey = FORMS["grey"](CLASSES)
    task, train = opened(table(tmp_path, [PHOTO] * 3, [b"broken", grey, grey]))
    assert len(task.config.id2label) == 3
    samples = SampleDataset(train, MapReader(TRANSFORM, "image", "label", 3, crop_scale=(1, 1), flip=False))
    assert samples[0]["labels"].tolist() == samples[1]["labels"].tolist()
    assert samples.unreadable() == [str(tmp_path / "photo0.png")]
    with pytest.raises(ValueError, match=r"none of 2 maps in column 'label' can be used; .*map0.png: .*no picture"):
        opened(table(tmp_path, [PHOTO] * 2, [b"broken"] * 2))


def test_another_size_names_both_files(tmp_path):
    _, train = opened(table(tmp_path, [saved(photo(32, 24))], [FORMS["grey"](CLASSES)]))
    reader = MapReader(TRANSFORM, "image", "label", 3, crop_scale=(1, 1), flip=False)
    assert reader.name(train[0]).endswith("photo0.png")
    with pytest.raises(UnreadableError, match=r"it has 32 x 24 pixels, but .*map0.png 24 x 32: .*upright"):
        reader(train[0])


def test_image_and_map_stay_together(tmp_path):
    """Where the image is turned by its tag, cropped and flipped, the map is too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.where(CLASSES == 1, 255, 0).astype(np.uint8)).convert("RGB")
    maps = Image.fromarray(np.where(CLASSES == 1, 1, 0).astype(np.uint8))
    _, train = opened(table(tmp_path, [saved(image, exif=exif)], [saved(maps, exif=exif)]))
    transform = ImageTransform((24, 32), mean=[0] * 3, std=[1] * 3, crop_scale=(1.0, 1.0), horizontal_flip=False)
    reader = MapReader(transform, "image", "label", 2, crop_scale=(0.3, 0.9), flip=True)
    samples = SampleDataset(train, reader)
    seen = set()
    for epoch in range(12):
        samples.set_epoch(epoch)
        sample = samples[0]
        seen.add(tuple(sample["labels"].flatten().tolist()))
        agreement = (sample["pixel_values"][0] > 0.5) == (sample["labels"] == 1)
        assert agreement.float().mean() > 0.85
    assert len(seen) == 12


def test_a_class_too_many_names_the_map(tmp_path):
    _, train = opened(table(tmp_path, [PHOTO], [FORMS["grey"](CLASSES)]))
    reader = MapReader(TRANSFORM, "image", "label", 2, crop_scale=(1, 1), flip=False)
    with pytest.raises(ValueError, match=r"map0.png has the class 2, but the model 2 classes: raise --num_labels"):
        reader(train[0])
