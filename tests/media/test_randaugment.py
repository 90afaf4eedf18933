"""RandAugment and random erasing: grey and colour images, strengths, timm's notation, and keys that decide."""

from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from modeling_data2vec.trainers.media.randaugment import OPERATIONS, FinetuningTransform, RandAugment, erase

DIGIT = Image.fromarray((load_digits().images[3] * 15.9).astype(np.uint8)).resize((24, 20))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_operations_keep_mode_and_size(mode, strength):
    image = DIGIT.convert(mode)
    for operation in OPERATIONS:
        result = operation(image, strength, Random(0))
        assert result.mode == mode and result.size == image.size


def test_the_magnitude_decides_how_much_changes():
    def change(magnitude):
        augment = RandAugment(magnitude, 0.0, num_ops=1, prob=1.0)
        moved = [np.asarray(OPERATIONS[3](DIGIT, magnitude / 10, Random(seed))) for seed in range(4)]
        assert augment(DIGIT, Random(0)).size == DIGIT.size
        return np.mean([np.abs(one.astype(float) - np.asarray(DIGIT)).mean() for one in moved])

    assert change(1) < change(5) < change(9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rand-m9-mstd0.5-inc1", RandAugment(9, 0.5, 2, 0.5)),
        ("rand-m7", RandAugment(7, 0, 2, 0.5)),
        ("rand-n3-m5-p1", RandAugment(5, 0, 3, 1)),
    ],
)
def test_timms_notation(text, expected):
    assert RandAugment.from_text(text) == expected


@pytest.mark.parametrize("text", ["m9", "rand-m11", "augmix-m9", "rand-m9-w0"])
def test_other_notations_are_refused(text):
    with pytest.raises(ValueError, match=f"rand_augment is '{text}', but must be like"):
        RandAugment.from_text(text)


def test_erasing_replaces_one_rectangle_with_noise():
    for seed in range(10):
        erased = erase(torch.zeros(3, 20, 24), Random(seed))
        rows, columns = (erased[0] != 0).nonzero(as_tuple=True)
        share = len(rows) / (20 * 24)
        assert 0.01 < share < 0.36
        assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_transforms_are_a_function_of_their_key_and_plain_without():
    transform = FinetuningTransform(
        (8, 8), 1, [0.3], [0.35], crop_scale=(0.5, 1.0), rand_augment=RandAugment(), erasing=0.5
    )
    one, again, other = (transform(DIGIT, Random(seed)) for seed in (1, 1, 2))
    assert one.shape == (1, 8, 8) and torch.equal(one, again) and not torch.equal(one, other)
    plain = transform(DIGIT)
    assert torch.equal(plain, transform(DIGIT)) and not torch.equal(plain, one)
