"""data/spec_augment.py and mixup of clips: what is hidden, and that padding is not mixed away."""

from random import Random

import torch

from modeling_data2vec.trainers.data.mixup import MixupCollator
from modeling_data2vec.trainers.data.spec_augment import SpecAugmentCollator, hide_bands


def collated(samples: list[dict]) -> dict:
    lengths = torch.tensor([sample["length"] for sample in samples])
    values = torch.stack([sample["values"] for sample in samples])
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    return {
        "input_features": values,
        "attention_mask": mask,
        "labels": torch.tensor([sample["labels"] for sample in samples]),
    }


def clips(labels) -> list[dict]:
    one, two = torch.ones(30, 8), torch.full((30, 8), 3.0)
    return [
        {"values": value, "length": length, "labels": label, "key": 5 + length}
        for value, length, label in zip((one, two), (30, 12), labels, strict=True)
    ]


def test_a_band_and_a_stretch_of_the_real_part_are_hidden():
    shares = []
    for seed in range(40):
        hidden = hide_bands(torch.ones(2, 40, 16), [40, 20], 0.5, Random(seed)) == 0
        bands, times = hidden.all(1), hidden.all(2)
        assert (hidden == (bands[:, None] | times[..., None])).all()  # and nothing else
        assert bands.sum(1).max() <= 8 and times[0].sum() <= 20 and times[1].sum() <= 10
        assert not times[1, 20:].any()
        for row in (bands[0].int(), times[0].int()):
            assert row.diff().abs().sum() <= 2  # in one piece
        shares.append(float(times[0].float().mean()))
    assert 0.15 < sum(shares) / len(shares) < 0.35  # half of the most, on average


def test_the_same_samples_are_hidden_alike_and_the_input_stays():
    samples = clips([0, 1])
    collate = SpecAugmentCollator(collated, 0.5, "input_features")
    assert torch.equal(collate(samples)["input_features"], collate(samples)["input_features"])
    assert (samples[0]["values"] == 1).all()


def test_mixed_clips_last_as_long_as_the_longer_one():
    mix = MixupCollator(collated, 2, input_name="input_features", mixup_alpha=0.8)
    batch = mix(clips([0, 1]))
    share = float(batch["labels"][0, 0])
    assert 0 < share < 1 and torch.allclose(batch["labels"].sum(1), torch.ones(2))
    torch.testing.assert_close(batch["input_features"][0], torch.full((30, 8), share + 3 * (1 - share)))
    assert batch["attention_mask"].all()
    untouched = MixupCollator(collated, 2, input_name="input_features", mixup_alpha=0.8, prob=0.0)(clips([0, 1]))
    assert untouched["attention_mask"].sum(1).tolist() == [30, 12]


def test_labels_of_several_classes_are_mixed_as_they_are():
    batch = MixupCollator(collated, 3, input_name="input_features", mixup_alpha=0.8)(
        clips([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    )
    assert torch.allclose(batch["labels"][:, 1], torch.ones(2)) and not batch["labels"][:, 2].any()
