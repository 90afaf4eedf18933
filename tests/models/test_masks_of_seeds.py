"""Masks of a seed stay what they are: those of keys and generators that were drawn once, as digests."""

import hashlib

import pytest
import torch

from modeling_data2vec.beit_masks import beit_block_mask
from modeling_data2vec.counter_rng import derive_key, derive_keys, uniform, uniform_of_key
from modeling_data2vec.masking import block_mask, random_mask
from modeling_data2vec.span_masks import span_mask

N = 64
SHORT = {"length": 101, "lengths": torch.arange(N) + 37}
DRAWN = {
    "rectangles": (beit_block_mask, {"grid": (14, 14), "mask_prob": 0.6}),
    "small rectangles": (beit_block_mask, {"grid": (5, 3), "mask_prob": 0.5, "min_block": 4, "max_block": 6}),
    "no room": (beit_block_mask, {"grid": (4, 4), "mask_prob": 0.5}),
    "speech": (span_mask, {"length": 500, "mask_prob": 0.65, "mask_length": 10}),
    "padded speech": (span_mask, {"mask_prob": 0.65, "mask_length": 10, **SHORT}),
    "equal counts": (span_mask, {"mask_prob": 0.65, "mask_length": 10, "equal_counts": True, **SHORT}),
    "all hidden": (span_mask, {"length": 12, "mask_prob": 0.9, "mask_length": 10, "fit": False}),
    "text": (span_mask, {"length": 512, "mask_prob": 0.35, "mask_length": 4, "fit": False}),
    "positions": (random_mask, {"length": 512, "mask_prob": 0.48}),
    "padded positions": (random_mask, {"mask_prob": 0.48, **SHORT}),
    "squares": (
        block_mask,
        {"grid": (14, 14), "mask_prob": 0.8, "mask_length": 3, "inverse": True, "mask_prob_adjust": 0.07},
    ),
    "blocks": (block_mask, {"grid": (500,), "mask_prob": 0.5, "mask_length": 5, "mask_prob_adjust": 0.05}),
    "padded blocks": (block_mask, {"grid": (101,), "mask_prob": 0.5, "mask_length": 5, "lengths": SHORT["lengths"]}),
}
DIGESTS = {
    "rectangles": ("effe0981ad5902c5", "459e5737bdc419d7"),
    "small rectangles": ("0a62334f2f472bbf", "888beb935202b032"),
    "no room": ("b395ef87a6594181", "457bbedfe336b578"),
    "speech": ("5dc574ead01af0c3", "d1bde423edc676d1"),
    "padded speech": ("1bf96cc256b7d782", "2bb18519ce78eb6d"),
    "equal counts": ("17b5e1e43d37ec15", "f423d32e0afb305e"),
    "all hidden": ("4909c636fe7c87ad", "0d162c38968555d6"),
    "text": ("15cda762b9c932b9", "7374321e571eee61"),
    "positions": ("9358a9ac94967dc7", "aa755c51de09cab3"),
    "padded positions": ("63d51989c4be0701", "3b517ceb56ca0c92"),
    "squares": ("a053d6032833d886", "1d94332b9f841e88"),
    "blocks": ("8b97fef5dfcd0b39", "1929016b95401f4f"),
    "padded blocks": ("3dc973fa60523b43", "1b2b37307786372a"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_masks_of_a_seed_stay(name):
    function, arguments = DRAWN[name]
    keys = torch.arange(-30, 34, dtype=torch.int32) * 7919
    for generator, digest in zip((keys, torch.Generator().manual_seed(5)), DIGESTS[name], strict=True):
        mask = function(N, generator=generator, **arguments)
        assert hashlib.sha256(bytes(mask.flatten().tolist())).hexdigest()[:16] == digest


def test_numbers_of_one_key_are_those_of_many():
    keys = torch.tensor([0, 1, -1, 2**31 - 1, -(2**31), 123456789], dtype=torch.int32)
    for stream in (0, 5, 8):
        assert uniform(keys, 9, stream).tolist() == [uniform_of_key(key, 9, stream) for key in keys.tolist()]
    for value in (0, 1, 9, 2**31, 2**40 + 3, -1):
        derived = [int(key) % 2**32 for key in derive_keys(keys, value)]
        assert derived == [derive_key(key, value) for key in keys.tolist()]


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    keys = torch.arange(3, dtype=torch.int32)
    longer = uniform(keys, 70, stream=77)
    assert torch.equal(uniform(keys, 30, stream=77), longer[:, :30])
    assert torch.equal(uniform(keys, 90, stream=77)[:, :70], longer)
