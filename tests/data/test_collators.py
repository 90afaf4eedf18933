"""The mask collator: what the student may not see is a function of a sample's key, whatever batch it comes in."""

import pytest
import torch
from tiny_runs import TINY, digit_images

from modeling_data2vec import Data2Vec2VisionConfig
from modeling_data2vec.trainers import ImageMaskCollator


def config(**overrides) -> Data2Vec2VisionConfig:
    return Data2Vec2VisionConfig(**(TINY | {"num_masks": 4} | overrides))


def examples(keys, height=16, width=16) -> list[dict]:
    return [{"pixel_values": torch.zeros(1, height, width), "key": key} for key in keys]


KINDS = [{}, {"inverse_mask": False}, {"mask_length": 1}, {"mask_prob": 0.8, "mask_length": 3, "mask_prob_adjust": 0.1}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_masks_depend_on_the_key_alone(kind):
    collator = ImageMaskCollator(config(**kind))
    together = collator(examples([7, -3, 2**31 - 1, 0]))
    reordered = collator(examples([0, 2**31 - 1, -3, 7]))
    alone = collator(examples([-3]))
    for name in ("mask", "ids_keep", "noise_keys"):
        assert torch.equal(together[name], reordered[name].flip(0)), name
        assert torch.equal(together[name][1:2], alone[name]), name


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_the_student_sees_is_what_the_mask_leaves(kind):
    settings = config(**kind)
    batch = ImageMaskCollator(settings)(examples(range(50)))
    mask, ids_keep = batch["mask"], batch["ids_keep"]
    assert mask.shape == (50, 4, 64) and mask.dtype == torch.bool
    # Rounding favours what is hidden, unless blocks are what is hidden.
    hides_blocks = not settings.inverse_mask and settings.mask_length > 1
    hidden = int(64 * settings.mask_prob) if hides_blocks else 64 - int(64 * (1 - settings.mask_prob))
    assert (mask.sum(-1) == hidden).all()
    assert (ids_keep.diff() > 0).all()  # in order, none twice
    shown = torch.zeros_like(mask).scatter(2, ids_keep, True)
    assert torch.equal(shown, ~mask)


def test_masks_of_a_sample_differ():
    batch = ImageMaskCollator(config())(examples(range(20)))
    for masks in batch["mask"]:
        assert len({tuple(mask.tolist()) for mask in masks}) == 4
    assert len(set(batch["noise_keys"].flatten().tolist())) == 80


def test_one_mask_is_the_first_of_many():
    one = ImageMaskCollator(config(num_masks=1))(examples([5]))
    many = ImageMaskCollator(config(num_masks=4))(examples([5]))
    assert torch.equal(one["mask"][:, 0], many["mask"][:, 0])


def test_images_need_not_be_square_or_of_the_configured_size():
    batch = ImageMaskCollator(config())(examples([1, 2], height=6, width=20))
    assert batch["mask"].shape == (2, 4, 3 * 10)
    assert (batch["mask"].sum(-1) == 30 - 12).all()


def test_images_without_keys_follow_the_global_seed():
    collator = ImageMaskCollator(config())
    plain = [{"pixel_values": torch.zeros(1, 8, 8)} for _ in range(3)]
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(collator(plain)["mask"])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0][0], masks[0][1])


def test_digits_get_new_masks_in_each_epoch():
    settings = config()
    images, collator = digit_images(settings), ImageMaskCollator(settings)
    before = collator([images[0], images[1]])
    images.set_epoch(1)
    after = collator([images[0], images[1]])
    images.set_epoch(0)
    again = collator([images[1]])
    assert not torch.equal(before["mask"], after["mask"])
    assert torch.equal(before["mask"][1:], again["mask"])
    assert torch.equal(before["pixel_values"][1:], again["pixel_values"])
