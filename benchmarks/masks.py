"""What a mask costs: all six kinds beside a plain loop over the samples, as the authors' code draws them.

    OMP_NUM_THREADS=1 python benchmarks/masks.py

The loops take one sample at a time, with numpy and a generator seeded by the sample's key, as one writes it who wants
masks that don't depend on the batch. They make masks of the same distribution, not the same masks. Ours include
deriving M keys from a sample's. CPU time, medians, in turns.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
    Data2VecVisionPreTrainingConfig,
)
from modeling_data2vec.drawn_masks import draw_views

FRAMES, TOKENS, GRID = 500, 512, (14, 14)


def spans(length: int, config, fit: bool, rng: np.random.Generator) -> np.ndarray:
    """1.0 speech and text."""
    mask = np.zeros(length, dtype=bool)
    count = max(1, int(config.mask_prob * length / config.mask_length + rng.random()))
    starts = rng.choice(length - config.mask_length if fit else length, count, replace=False)
    for start in starts:
        mask[start : start + config.mask_length] = True
    return mask


def rectangles(config, rng: random.Random) -> np.ndarray:
    """1.0 images: BEiT's algorithm 1."""
    height, width = GRID
    mask, missing = np.zeros(GRID, dtype=bool), round(height * width * config.mask_prob)
    while missing > 0:
        found = 0
        for _ in range(10):
            allowed = min(missing, config.max_mask_block or height * width)
            area = rng.uniform(config.min_mask_block, allowed)
            aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if high < height and wide < width:
                top, left = rng.randint(0, height - high), rng.randint(0, width - wide)
                block = mask[top : top + high, left : left + wide]
                found = high * wide - int(block.sum())
                if 0 < found <= allowed:
                    block[:] = True
                    break
                found = 0
        if not found:
            break
        missing -= found
    return mask


def exactly(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Hide or show single positions until so many are hidden."""
    hidden = np.flatnonzero(mask)
    if len(hidden) > count:
        mask[rng.choice(hidden, len(hidden) - count, replace=False)] = False
    elif len(hidden) < count:
        mask[rng.choice(np.flatnonzero(~mask), count - len(hidden), replace=False)] = True
    return mask


def blocks(shape: tuple[int, ...], config, rng: np.random.Generator) -> np.ndarray:
    """2.0 images and speech: blocks around random centres, then the exact count; the inverse is what is hidden."""
    size, total = config.mask_length, math.prod(shape)
    share = 1 - config.mask_prob if config.inverse_mask else config.mask_prob
    mask = np.zeros(shape, dtype=bool)
    count = int(total * (share + config.mask_prob_adjust) / size ** len(shape))
    for centre in rng.integers(0, total, count):
        cell = np.unravel_index(centre, shape)
        mask[tuple(slice(max(0, at - size // 2), at - size // 2 + size) for at in cell)] = True
    mask = exactly(mask.reshape(-1), int(total * share), rng)
    return ~mask if config.inverse_mask else mask


def single_positions(length: int, config, rng: np.random.Generator) -> np.ndarray:
    """2.0 text."""
    mask = np.zeros(length, dtype=bool)
    mask[rng.choice(length, int(length * config.mask_prob), replace=False)] = True
    return mask


def with_numpy(draw: Callable, *args: object) -> Callable[[int], np.ndarray]:
    return lambda key: draw(*args, np.random.default_rng(key))


def kinds() -> dict[str, tuple[Any, tuple[int, ...], Callable[[int], np.ndarray]]]:
    """Config, grid of positions, and the loop for one key."""
    images, speech, text = (
        Data2VecVisionPreTrainingConfig(),
        Data2VecAudioPreTrainingConfig(),
        Data2VecTextPreTrainingConfig(),
    )
    images2, speech2, text2 = Data2Vec2VisionConfig(), Data2Vec2AudioConfig(), Data2Vec2TextConfig()
    return {
        "1.0 images": (images, GRID, lambda key: rectangles(images, random.Random(key))),
        "1.0 speech": (speech, (FRAMES,), with_numpy(spans, FRAMES, speech, True)),
        "1.0 text": (text, (TOKENS,), with_numpy(spans, TOKENS, text, False)),
        "2.0 images": (images2, GRID, with_numpy(blocks, GRID, images2)),
        "2.0 speech": (speech2, (FRAMES,), with_numpy(blocks, (FRAMES,), speech2)),
        "2.0 text": (text2, (TOKENS,), with_numpy(single_positions, TOKENS, text2)),
    }


def one_by_one(loop: Callable[[int], np.ndarray], config, keys: torch.Tensor) -> torch.Tensor:
    """The M masks of each key."""
    each = [key % 2**31 * config.num_masks + number for key in keys.tolist() for number in range(config.num_masks)]
    return torch.from_numpy(np.stack([loop(key) for key in each]))


def seconds_per_thousand(draw: Callable[[], object], samples: int = 64) -> float:
    start = time.process_time()
    draw()
    return (time.process_time() - start) / samples * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}; {options.repetitions} repetitions\n")
    print("| masks | M | batch | loop, s per 1,000 samples | ours | ratio |\n|---|---:|---:|---:|---:|---:|")
    for name, (config, grid, loop) in kinds().items():
        for batch in (1, 8, 64):
            # Rectangles of one key take longer than those of another: small batches go through many keys.
            batches = torch.randint(-(2**31), 2**31, (64,), dtype=torch.int32).split(batch)
            draw = {
                "loop": lambda config=config, batches=batches, loop=loop: [
                    one_by_one(loop, config, k) for k in batches
                ],
                "ours": lambda config=config, batches=batches, grid=grid: [
                    draw_views(config, k, grid) for k in batches
                ],
            }
            times: dict[str, list[float]] = {side: [] for side in draw}
            for turn in range(options.repetitions + 1):
                for side in list(draw)[:: 1 if turn % 2 else -1]:
                    times[side].append(seconds_per_thousand(draw[side]))
            theirs, ours = (statistics.median(times[side][1:]) for side in ("loop", "ours"))
            print(f"| {name} | {config.num_masks} | {batch} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
