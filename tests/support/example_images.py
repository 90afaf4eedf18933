"""Images for tests: scikit-learn's digits as arrays and as files in a folder for each class, and one in colour."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def arrays(num: int = 12) -> list[np.ndarray]:
    return [(image * 15.9).astype(np.uint8) for image in load_digits().images[:num]]


def save(folder: Path) -> Path:
    """Twelve digits as files, a folder for each of three classes."""
    for i, array in enumerate(arrays()):
        path = folder / str(i % 3) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return folder


def photo(width: int = 40, height: int = 30) -> Image.Image:
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array)
