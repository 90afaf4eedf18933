"""Picture files of every kind come out upright, with the brightness they have; others say what to convert."""

import io

import numpy as np
import pytest
from example_images import photo
from PIL import Image
from transformers.image_utils import load_image

from modeling_data2vec.trainers.data.samples import UnreadableError
from modeling_data2vec.trainers.media.image_files import open_image
from modeling_data2vec.trainers.media.image_transform import decode_image

RAMP = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (16, 1))
# Where the corner that lies first in the file is seen, by the orientation tag: (row, column) of the shown picture.
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(kind: str, orientation: int) -> bytes:
    """40 x 20 pixels, all white but a black corner, with a tag."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 8, 8))
    exif = image.getexif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return saved(image, kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", CORNERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_tags_are_obeyed_as_pipelines_do(tmp_path, kind, orientation):
    path = tmp_path / "photo"
    path.write_bytes(turned(kind, orientation))
    image = decode_image({"bytes": None, "path": str(path)}, 3)
    assert image.size == ((20, 40) if orientation > 4 else (40, 20))
    row, column = CORNERS[orientation]
    assert np.asarray(image)[row, column].max() < 30 and np.asarray(image).mean() > 200
    assert np.array_equal(np.asarray(image), np.asarray(load_image(str(path))))
    again = decode_image({"bytes": path.read_bytes(), "path": None}, 3)
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_an_opened_picture_is_turned_and_left_as_it_was():
    image = Image.open(io.BytesIO(turned("JPEG", 6)))
    assert decode_image(image, 3).size == (20, 40)
    assert image.size == (40, 20)
    assert decode_image(decode_image(image, 3), 3).size == (20, 40)  # once, not twice


def test_a_damaged_tag_leaves_the_picture_as_it_lies():
    data = turned("JPEG", 6)
    damaged = data.replace(b"MM\0*", b"ZZ\0*")
    assert damaged != data
    assert decode_image(damaged, 3).size == (40, 20)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_each_mode_gives_what_a_pipeline_sees():
    colour = photo()
    clear = colour.copy()
    clear.putalpha(Image.linear_gradient("L").resize(colour.size))
    files = {
        "RGBA": saved(clear, "PNG"),
        "LA": saved(clear.convert("LA"), "PNG"),
        "palette": saved(colour.convert("P"), "PNG"),
        "palette, transparent": saved(colour.convert("P"), "PNG", transparency=bytes(range(256))),
        "one bit": saved(colour.convert("1"), "PNG"),
        "CMYK": saved(colour.convert("CMYK"), "JPEG"),
        "YCbCr": saved(colour.convert("YCbCr"), "TIFF"),
        "transparent colour": saved(colour, "PNG", transparency=(1, 2, 3)),
    }
    for name, data in files.items():
        expected = load_image(Image.open(io.BytesIO(data)))
        assert np.array_equal(np.asarray(decode_image(data, 3)), np.asarray(expected)), name
        assert np.asarray(decode_image(data, 1)).shape == (30, 40), name


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP),
        Image.fromarray((RAMP * 65535).astype(np.int32)),
        Image.fromarray((RAMP * 65535).astype(np.uint16)),
        Image.fromarray((RAMP * 65535).astype(">u2")),
    ],
    ids=["float", "int32", "uint16", "uint16 big-endian"],
)
@pytest.mark.parametrize("kind", ["TIFF", "memory"])
def test_deep_grey_values_keep_their_brightness(image, kind):
    value = image if kind == "memory" else saved(image, kind)
    for channels in (1, 3):
        decoded = np.asarray(decode_image(value, channels)).astype(int)
        assert decoded.shape[:2] == RAMP.shape
        np.testing.assert_allclose(decoded.reshape(*RAMP.shape, -1)[..., 0], RAMP * 255, atol=1)


def test_deep_grey_of_other_formats():
    deep = Image.fromarray((RAMP * 65535).astype(np.uint16))
    dark = Image.fromarray((RAMP * 200).astype(np.uint16))  # of a format that says that 65535 is white
    for kind in ("PNG", "PPM"):
        np.testing.assert_allclose(np.asarray(decode_image(saved(deep, kind), 1)), RAMP * 255, atol=1)
        assert not np.asarray(decode_image(saved(dark, kind), 1)).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP * 255, "floats reach from 0 to 255, but must be from 0 to 1: convert it to 8 or 16 bits"),
        (RAMP - 0.5, "floats reach from -0.5 to 0.5"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "floats reach from nan to nan"),
        (np.where(RAMP > 0.5, np.inf, RAMP).astype(np.float32), "floats reach from 0 to inf"),
        ((RAMP * 70_000).astype(np.int32), "32-bit integers reach from 0 to 70000"),
        ((RAMP * 100).astype(np.int32) - 50, "32-bit integers reach from -50 to 50"),
        ((RAMP * 255).astype(np.int32), "0 to 255, but must be from 0 to 65535, and beyond 255"),
    ],
    ids=["float to 255", "negative float", "NaN", "infinite", "above 16 bits", "negative", "8 bits in 32"],
)
def test_ranges_that_say_nothing_of_brightness_are_named(values, message):
    with pytest.raises(UnreadableError, match=message):
        decode_image(saved(Image.fromarray(values), "TIFF"), 1)


def test_colours_that_pillow_cannot_convert():
    with pytest.raises(UnreadableError, match="its colours are LAB"):
        decode_image(saved(Image.new("LAB", (4, 4)), "TIFF"), 1)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_pictures_the_first_is_taken_with_a_word(tmp_path, kind, caplog):
    first, second = Image.new("L", (4, 4), 200), Image.new("L", (4, 4), 10)
    path = tmp_path / f"film.{kind}"
    first.save(path, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    for _ in range(2):
        assert (np.asarray(decode_image(str(path), 1)) == 200).all()
    assert caplog.text.count(f"{path} holds several pictures, of which only the first is used") == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated_files_are_unreadable_and_suffixes_mean_nothing(tmp_path, kind):
    data = saved(photo(200, 200), kind)
    (tmp_path / "whole.jpg").write_bytes(data)
    assert decode_image(str(tmp_path / "whole.jpg"), 3).size == (200, 200)
    with pytest.raises(UnreadableError):
        decode_image(data[: len(data) // 2], 3)


def test_what_is_no_picture_says_so(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, said in (("text.jpg", "no picture, or of a kind that Pillow doesn't read"), ("empty.jpg", "is empty")):
        for value in (str(tmp_path / name), (tmp_path / name).read_bytes()):
            with pytest.raises(UnreadableError, match=said):
                open_image(value)
    with pytest.raises(UnreadableError, match="cannot be opened: No such file"):
        open_image(str(tmp_path / "missing.jpg"))
    with pytest.raises(UnreadableError, match="cannot be opened: Is a directory"):
        open_image(str(tmp_path))
    with pytest.raises(UnreadableError, match="addresses are not read; download the files"):
        open_image("https://example.org/photo.jpg")


def test_postscript_is_not_run():
    with pytest.raises(UnreadableError, match="PostScript, a program, which is not run"):
        open_image(saved(photo(), "EPS"))


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(
    ("side", "message"), [(12_000, "12,000 x 12,000 pixels, more than"), (60_000, "exceeds limit")]
)
def test_bombs_are_unreadable(side, message):
    """A few bytes that claim many pixels."""
    header = saved(Image.new("L", (4, 4)), "BMP")
    bomb = header[:18] + side.to_bytes(4, "little") * 2 + header[26:]
    with pytest.raises(UnreadableError, match=message):
        open_image(bomb)
