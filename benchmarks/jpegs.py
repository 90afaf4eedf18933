"""Images a second from JPEG files of 500 x 375 to batches of 224 x 224, beside plain PIL and numpy.

Both sides decode, crop, resize (bicubic) and flip at random by the same rules, normalise and stack, in a torch
`DataLoader` with the same worker processes, and take turns. "with masks" is what a run does: the masks of
`data2vec2-vision-base` are drawn as well. "bytes" leaves normalising to the device (`--normalize_on_device`).

    OMP_NUM_THREADS=1 python benchmarks/jpegs.py
    OMP_NUM_THREADS=1 python benchmarks/jpegs.py --workers 0 --images 256 --rounds 3
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from modeling_data2vec import Data2Vec2VisionConfig, load_recipe
from modeling_data2vec.trainers.data.samples import SampleDataset
from modeling_data2vec.trainers.media.image_transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from modeling_data2vec.trainers.modalities.image import ImageMaskCollator, ImageReader, load_images

BATCH, SIZE = 32, 224


class Plain(Dataset):
    """What one writes with PIL and numpy: float32 [3, 224, 224] of a file."""

    def __init__(self, files: list[Path]) -> None:
        self.files, self.transform = files, ImageTransform((SIZE, SIZE))  # for the rules of its crops alone
        self.mean, self.std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        rng = Random(index)
        image = Image.open(self.files[index]).convert("RGB")
        image = image.crop(self.transform.crop_box(*image.size, rng)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = (np.asarray(image, np.float32) / 255 - self.mean) / self.std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def stacked(samples: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(samples))


def pixels_alone(samples: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack([sample["pixel_values"] for sample in samples])


def write(folder: Path, number: int) -> list[Path]:
    """Smooth pictures with some noise, of about the size in bytes that photos have."""
    files = []
    for index in range(number):
        rng = np.random.default_rng(index)
        smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375), 3)
        noise = rng.normal(0, 6, (375, 500, 3))
        files.append(folder / f"{index:05}.jpg")
        Image.fromarray(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def sides(folder: Path, files: list[Path]) -> dict[str, tuple[Dataset, Callable[[Any], Any]]]:
    """Data sets, and what makes a batch of their samples."""
    dataset, column = load_images(str(folder))
    recipe = load_recipe("data2vec2-vision-base")
    masks = ImageMaskCollator(Data2Vec2VisionConfig(**recipe.config_overrides))

    def ours(normalize: bool) -> SampleDataset:
        return SampleDataset(dataset, ImageReader(ImageTransform((SIZE, SIZE), normalize=normalize), column))

    return {
        "PIL and numpy": (Plain(files), stacked),
        "data2vec": (ours(True), pixels_alone),
        "data2vec, with masks": (ours(True), masks),
        "data2vec, with masks, bytes": (ours(False), masks),
    }


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rates(dataset: Any, collate: Callable[[Any], Any], workers: int) -> tuple[float, float]:
    """Images a second by the clock, from the first batch on, and images a second of CPU."""
    before = cpu_seconds()
    batches: Iterator[Any] = iter(DataLoader(dataset, BATCH, collate_fn=collate, num_workers=workers))
    next(batches)
    began = time.perf_counter()
    number = sum(1 for _ in batches)
    seconds = time.perf_counter() - began
    del batches  # ends the workers, whose time counts then
    return number * BATCH / seconds, (number + 1) * BATCH / (cpu_seconds() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    print("| workers | | images/s | images per CPU second | of PIL and numpy |\n|---:|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder), options.images)
        compared = sides(Path(folder), files)
        for workers in options.workers:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in compared}
            for _ in range(options.rounds):
                for name, (dataset, collate) in compared.items():
                    found[name].append(rates(dataset, collate, workers))
            plain = median(cpu for _, cpu in found["PIL and numpy"])
            for name, each in found.items():
                clock, cpu = (median(values) for values in zip(*each, strict=True))
                print(f"| {workers} | {name} | {clock:.0f} | {cpu:.0f} | {cpu / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
