"""The same data have the same fingerprint, whatever is drawn from them; others have another."""

import pytest
from tiny_runs import KINDS, tiny_joint_model, tiny_mix, tiny_model, tiny_samples

from modeling_data2vec.trainers.data.samples import SampleDataset, UnreadableError
from modeling_data2vec.trainers.runs.fingerprint import fingerprint


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("2.0")])
def test_the_first_and_the_last_sample_decide(kind):
    samples = tiny_samples(tiny_model(kind))
    again = SampleDataset(samples.dataset, samples.reader, seed=7)
    again.set_epoch(3)
    assert fingerprint(samples) == fingerprint(again) != fingerprint(tiny_samples(tiny_model(kind), 44))


def test_of_a_mix_and_of_what_has_no_index():
    model = tiny_joint_model()
    both = tiny_mix(model), tiny_mix(model)
    assert fingerprint(both[0]) == fingerprint(both[1])
    both[1].sources.pop("text")
    assert fingerprint(both[0]) != fingerprint(both[1])
    assert fingerprint(iter(())) is None and fingerprint([]) is None


class Broken:
    """Reads numbers, of which some are broken."""

    noun = "number"

    def __call__(self, example, rng):
        if example in (0, 9):
            raise UnreadableError("it is broken")
        return {"input_ids": [example], "labels": 1}

    def name(self, example):
        return None


def test_what_can_not_be_read_is_passed_over(caplog):
    samples = SampleDataset(range(10), Broken())
    assert fingerprint(samples) == fingerprint(SampleDataset([1, 1], Broken()))  # after the last comes the first
    assert samples.unreadable() == [] and not caplog.text


class Pairs:
    """Reads numbers as pairs of two parts, each with a key of its own."""

    noun = "pair"

    def __call__(self, example, rng):
        return {"pairs": {"text": {"input_ids": [example], "key": id(rng)}, "vision": {"pixel_values": [2.0]}}}

    def name(self, example):
        return None


def test_of_pairs_all_parts_count_but_their_keys():
    assert fingerprint(SampleDataset([1, 2], Pairs())) == fingerprint(SampleDataset([1, 2], Pairs(), seed=3))
    assert fingerprint(SampleDataset([1, 2], Pairs())) != fingerprint(SampleDataset([1, 3], Pairs()))
