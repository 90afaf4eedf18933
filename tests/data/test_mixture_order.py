"""The order of modalities: exact shares, every modality in every step, the same whenever it is asked for."""

import pytest

from modeling_data2vec.trainers.data.mixture_order import MixtureOrder, temperature_shares

EQUAL = {"audio": 1, "vision": 1, "text": 1}


def test_every_step_covers_all_modalities_one_after_the_other():
    order = MixtureOrder(EQUAL, 6)
    assert order.step(0) == order.step(999) == ["audio", "audio", "vision", "vision", "text", "text"]
    assert order.before(10) == {"audio": 20, "vision": 20, "text": 20}


def test_shares_decide_how_many_micro_batches_a_modality_gets():
    order = MixtureOrder({"audio": 0.5, "vision": 0.25, "text": 0.25}, 4)
    assert order.counts == {"audio": 2, "vision": 1, "text": 1}


def test_shares_that_need_not_be_exact_are_rounded_but_not_to_nothing():
    assert MixtureOrder({"audio": 0.9, "vision": 0.09, "text": 0.01}, 10, exact=False).counts == {
        "audio": 8,
        "vision": 1,
        "text": 1,
    }
    assert MixtureOrder({"audio": 0.55, "text": 0.45}, 4, exact=False).counts == {"audio": 2, "text": 2}


def test_one_modality_a_step_keeps_to_the_shares():
    shares = {"audio": 0.6, "vision": 0.3, "text": 0.1}
    order = MixtureOrder(shares, 2, "step")
    steps = [order.step(number) for number in range(100)]
    assert all(len(step) == 2 and len(set(step)) == 1 for step in steps)
    for number in range(101):
        before = order.before(number)
        assert before == {name: 2 * sum(step[0] == name for step in steps[:number]) for name in shares}
        assert all(abs(before[name] - 2 * number * share) <= 2 for name, share in shares.items())
    # Asked from the middle, as by a resumed run, it is the same.
    again = MixtureOrder(shares, 2, "step")
    assert [again.step(number) for number in (57, 3, 80)] == [steps[57], steps[3], steps[80]]


@pytest.mark.parametrize("mixing", ["accumulate", "step"])
def test_steps_until_all_data_are_seen(mixing):
    order = MixtureOrder({"audio": 2, "text": 1}, 3, mixing)
    needed = {"audio": 31, "text": 12}
    steps = order.steps_to_see(needed)
    enough = [all(order.before(number)[name] >= count for name, count in needed.items()) for number in range(steps + 1)]
    assert enough[-1] and not any(enough[:-1])


def test_temperature_evens_out():
    tokens = {"audio": 100, "vision": 900, "text": 9_000}
    own = temperature_shares(tokens, 1.0)
    assert own == pytest.approx({"audio": 0.01, "vision": 0.09, "text": 0.9})
    milder = temperature_shares(tokens, 2.0)
    assert sum(milder.values()) == pytest.approx(1)
    assert milder["vision"] / milder["audio"] == pytest.approx(3)
    assert temperature_shares(tokens, 1e6) == pytest.approx(dict.fromkeys(tokens, 1 / 3), abs=1e-4)
    with pytest.raises(ValueError, match="temperature is 0"):
        temperature_shares(tokens, 0.0)


@pytest.mark.parametrize(
    ("shares", "accumulation", "options", "message"),
    [
        (EQUAL, 4, {}, "gradient_accumulation_steps is 4.*audio=1 vision=1 text=1.*multiple of 3"),
        ({"audio": 3, "text": 1}, 2, {}, "multiple of 4 micro-batches"),
        (EQUAL, 2, {"exact": False}, "gradient_accumulation_steps is 2, but a step covers 3 modalities"),
        ({"audio": 0}, 1, {}, "share of audio is 0"),
        (EQUAL, 3, {"mixing": "batch"}, "mixing is 'batch', but must be one of accumulate, step"),
    ],
)
def test_what_can_not_be_mixed_is_refused(shares, accumulation, options, message):
    with pytest.raises(ValueError, match=message):
        MixtureOrder(shares, accumulation, **options)
