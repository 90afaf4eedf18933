"""Maps of classes as people store them: the number in the file is the class, whatever it looks like."""

from typing import Any

import numpy as np
from PIL import Image

from ..data.samples import UnreadableError
from .image_files import RAW_MODE, open_image
from .image_transform import is_array

IGNORED_CLASS = 255
# Pillow brings grey values of few bits to 8, by these factors.
GRAY_FACTORS = {"L;2": 85, "L;4": 17}
OPAQUE = 255


def class_map(value: Any) -> np.ndarray:
    """Decode a map to classes [H, W], int64; 255 does not count.

    The index of a palette is the class, and so is a grey value of any depth: nothing is scaled. Colours and
    transparency must say the same in all channels.

    Args:
        value: a file or a PIL image, as for `open_image`, turned as its orientation tag says; or an array [H, W].

    Raises:
        UnreadableError: it can't be decoded, or its values are no classes from 0 to 255.

    Example:
        >>> class_map(Image.new("P", (2, 1), 7)).tolist()
        [[7, 7]]
    """
    classes = np.asarray(value) if is_array(value) else _numbers(open_image(value))
    if classes.ndim == 3 and 1 in (classes.shape[0], classes.shape[2]):
        classes = classes.squeeze(0 if classes.shape[0] == 1 else 2)
    if classes.ndim != 2 or not classes.size or classes.dtype.kind not in "biuf":
        raise UnreadableError(f"its map is an array of {classes.dtype} {classes.shape}, but must be numbers [H, W]")
    low, high = classes.min(), classes.max()
    if not (low >= 0 and high <= IGNORED_CLASS) or (classes.dtype.kind == "f" and (classes % 1).any()):
        raise UnreadableError(
            f"its map holds values from {low:g} to {high:g}, but classes are whole numbers from 0 to 254, and 255 "
            "marks what does not count: number the classes anew"
        )
    return classes.astype(np.int64)


def _numbers(image: Image.Image) -> np.ndarray:
    """The numbers in a file, [H, W]."""
    if image.format == "JPEG":
        raise UnreadableError("its map is a JPEG, which keeps no exact numbers: write the classes as PNG")
    raw_mode = str(image.info.get(RAW_MODE, ""))
    if image.mode in ("1", "L") and raw_mode in ("1;I", "1;IR", "L;I", "L;IR", "L;2I", "L;4I"):
        raise UnreadableError("its map counts from white to black: write it with 0 for black, as PNG")
    numbers = np.asarray(image)
    if image.mode == "L":
        return numbers // GRAY_FACTORS.get(raw_mode, 1)
    if numbers.ndim == 2:
        return numbers
    if image.mode in ("LA", "PA", "RGBA"):
        if (numbers[..., -1] != OPAQUE).any():
            raise UnreadableError("its map is transparent in places: give these the class 255, or another, as PNG")
        numbers = numbers[..., :-1]
    if (numbers != numbers[..., :1]).any():
        example = numbers.reshape(-1, numbers.shape[-1])[int(np.ptp(numbers, axis=-1).argmax())].tolist()
        raise UnreadableError(
            f"its map holds colours, such as {example}, which say nothing of classes: write the number of the class, "
            "from 0, into each pixel of a grey or palette PNG"
        )
    return numbers[..., 0]
