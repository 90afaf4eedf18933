"""Rows that are held out to evaluate on: of each class, and the same ones for a seed."""

from collections import Counter

import datasets
import pytest

from modeling_data2vec.trainers.sources.holding_out import hold_out


def table(classes):
    return datasets.Dataset.from_dict({"label": classes, "row": list(range(len(classes)))})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_each_class_gives_its_share_and_keeps_a_row(seed, fraction, caplog):
    sizes = {"a": 40, "b": 13, "c": 7, "d": 2, "once": 1}
    classes = [name for name, size in sizes.items() for _ in range(size)]
    data = table(classes)
    parts = hold_out(data, fraction, seed=seed, classes=classes)
    assert sorted([*parts["train"]["row"], *parts["validation"]["row"]]) == list(range(63))
    train, held = Counter(parts["train"]["label"]), Counter(parts["validation"]["label"])
    assert set(train) == set(sizes) and "once" not in held
    for name, size in sizes.items():
        assert abs(held[name] - fraction * size) <= 1 + (size <= 2), name
    if fraction <= 0.5:
        assert sum(held.values()) == -(-63 * fraction // 1)
    assert "trained on, but not evaluated: 'once'" in caplog.text
    again = hold_out(data, fraction, seed=seed, classes=classes)
    assert list(again["validation"]["row"]) == list(parts["validation"]["row"])


def test_seeds_draw_different_rows():
    classes = ["a", "b"] * 50
    drawn = {tuple(hold_out(table(classes), 0.2, seed=seed, classes=classes)["validation"]["row"]) for seed in range(5)}
    assert len(drawn) == 5


def test_without_classes_the_draw_is_plain():
    data = table(["a", "b"] * 10)
    parts, plain = hold_out(data, 0.25, seed=3), data.train_test_split(test_size=0.25, seed=3)
    assert list(parts["train"]["row"]) == list(plain["train"]["row"])
    assert list(parts["validation"]["row"]) == list(plain["test"]["row"])


@pytest.mark.parametrize(
    ("classes", "fraction", "message"),
    [
        (["a", "b"] * 5, 0.05, "--eval_fraction is 0.05, but of 10 rows that is less than one"),
        (["a", "b"], 0.9, "--eval_fraction is 0.9, but of 2 rows that is all"),
        (["a", "b", "c"], 0.5, "each of the 3 classes has one row only"),
    ],
)
def test_nothing_to_hold_out(classes, fraction, message):
    with pytest.raises(ValueError, match=message):
        hold_out(table(classes), fraction, seed=0, classes=classes)
