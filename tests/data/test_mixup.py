"""Mixup, CutMix and smoothed labels: shares of images and labels agree, and keys decide."""

from random import Random

import pytest
import torch

from modeling_data2vec.trainers.data.mixup import MixupCollator, cutmix, mixup, smoothed


def test_smoothed_labels_sum_to_one():
    targets = smoothed(torch.tensor([0, 2]), 4, 0.1)
    assert torch.allclose(targets.sum(1), torch.ones(2))
    assert float(targets[0, 0]) == pytest.approx(0.925) and float(targets[0, 1]) == pytest.approx(0.025)


def test_mixup_blends_images_and_labels_alike():
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    mixed, targets = mixup(images, smoothed(torch.tensor([0, 1]), 2), 0.75)
    assert torch.allclose(mixed[0], torch.full((1, 4, 4), 0.25))
    assert torch.allclose(targets, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_mixed_by_the_area_that_was_cut(seed):
    images = torch.stack([torch.zeros(1, 16, 12), torch.ones(1, 16, 12)])
    mixed, targets = cutmix(images, smoothed(torch.tensor([0, 1]), 2), 0.6, Random(seed))
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    assert float(targets[0, 1]) == pytest.approx(float(mixed[0].mean()), abs=1e-6)
    rows, columns = mixed[0, 0].nonzero(as_tuple=True)
    inside = mixed[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert inside.all()  # one rectangle


def collate(samples):
    return {
        "pixel_values": torch.stack([sample["pixel_values"] for sample in samples]),
        "labels": torch.tensor([sample["labels"] for sample in samples]),
    }


def samples(first_key=0):
    return [{"pixel_values": torch.full((1, 8, 8), float(i)), "labels": i, "key": first_key + i} for i in range(4)]


def test_batches_are_a_function_of_their_keys():
    collator = MixupCollator(collate, 4, mixup_alpha=0.8, cutmix_alpha=1.0)
    one, again, other = (collator(samples(key)) for key in (0, 0, 9))
    assert torch.equal(one["pixel_values"], again["pixel_values"]) and torch.equal(one["labels"], again["labels"])
    assert not torch.equal(one["pixel_values"], other["pixel_values"])


def test_how_often_and_how_batches_are_mixed():
    cut = blended = 0
    for key in range(0, 2_000, 10):
        batch = MixupCollator(collate, 4, mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.5)(samples(key))
        values = batch["pixel_values"]
        blended += bool((values != values.round()).any())
        cut += bool((values == values.round()).all() and (values.flatten(1).std(1) > 0).any())
    assert 30 < blended < 75 and 25 < cut < 75  # a quarter of 200 each
