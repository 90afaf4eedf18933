"""Picture files as they are meant to be seen: upright, with their first frame, and with 8 bits."""

from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from transformers.utils import logging

from ..data.samples import UnreadableError
from .encoded_files import EncodedFile, encoded_file, not_opened

logger = logging.get_logger(__name__)

# In `Image.info`: how the file holds the values, in Pillow's notation ("L;4" has 4 bits, which Pillow scales to 8).
RAW_MODE = "raw mode"
# A few bytes may claim any size: this many take about 2 GB while they are decoded. Pillow's own limit is higher.
MAX_PIXELS = 2**27
FRAMED = ("GIF", "PNG", "TIFF", "WEBP")  # and not MPO: the other pictures of a phone's photo are no frames


def open_image(value: Any) -> Image.Image:
    """Decode a picture and turn it as its orientation tag says; mode and values are those of the file.

    Args:
        value: a PIL image, or what `encoded_file` takes.

    Raises:
        UnreadableError: it can't be decoded, is truncated, or has more than `MAX_PIXELS`.
        ValueError: the value is no picture.
    """
    if isinstance(value, Image.Image):
        return _upright(value.copy(), value.format)
    file = encoded_file(value, "image", "an array [H, W], [H, W, C] or [C, H, W]")
    try:
        with Image.open(file.source) as image:
            return _decoded(image, file)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise file.not_decoded(
            "it is no picture, or of a kind that Pillow doesn't read: convert it to PNG or JPEG"
        ) from error
    except OSError as error:
        raise not_opened(error, file.path, "image") if error.errno else UnreadableError(str(error)) from error
    except Exception as error:  # decoders raise anything on broken data: SyntaxError, struct.error, ...
        raise UnreadableError(f"it cannot be decoded: {error}") from error


def _decoded(image: Image.Image, file: EncodedFile) -> Image.Image:
    if image.format == "EPS":
        raise UnreadableError("it is PostScript, a program, which is not run: convert it to PNG")
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(
            f"it has {image.width:,} x {image.height:,} pixels, more than {MAX_PIXELS:,} in all: make it smaller"
        )
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else None
    image.load()
    if not image.width or not image.height:
        raise UnreadableError(f"it has {image.width} x {image.height} pixels")
    # Asking a GIF whether it has more frames may change it; of others, a copy would only take room.
    upright = _upright(image.copy() if image.format == "GIF" else image, image.format)
    upright.info[RAW_MODE] = arguments[0] if isinstance(arguments, tuple) else arguments
    with suppress(Exception):  # of the frames that aren't used
        if image.format in FRAMED and getattr(image, "is_animated", False):
            logger.warning_once(f"{file.name} holds several pictures, of which only the first is used.")
    return upright


def _upright(image: Image.Image, kind: str | None) -> Image.Image:
    """Turn an image upright by its EXIF tag, in place, as transformers' `load_image` and all viewers do."""
    with suppress(Exception):  # a damaged tag
        ImageOps.exif_transpose(image, in_place=True)
    image.format = kind
    return image


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits, of 32 bits and of floats as 8 bits, by one rule for all files; other modes as they are.

    16 bits are divided by 256 and floats from 0 to 1 multiplied by 255. 32 bits say nothing of their range: values to
    65535 are taken as 16 bits.

    Raises:
        UnreadableError: the values have no such range, so that scaling them would be a guess.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise _out_of_range("floats", low, high, "from 0 to 1")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    known_depth = image.format in ("PNG", "PPM")  # 16 bits, which Pillow hands out as 32
    if low < 0 or high > 65535 or (0 < high <= 255 and not known_depth):
        raise _out_of_range("32-bit integers", low, high, "from 0 to 65535, and beyond 255, or it may be of 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _out_of_range(kind: str, low: Any, high: Any, allowed: str) -> UnreadableError:
    return UnreadableError(
        f"its {kind} reach from {low:g} to {high:g}, but must be {allowed}: convert it to 8 or 16 bits"
    )
