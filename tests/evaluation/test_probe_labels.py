"""Labels that are lists: as marks of classes, in parts that keep rare classes, and refused where they are mixed."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from modeling_data2vec.trainers.evaluation.probe_labels import (
    chance,
    check_labels,
    held_out_quarter,
    label_subset,
    mean_average_precision,
    metric_of,
    score,
    strata,
)


def test_lists_of_names_in_any_order_are_marks_of_the_classes_of_both_splits():
    train, test = check_labels("abc", [["x", "y"], [], ("y",)], "de", [{"z", "y"}, []])
    assert train.tolist() == [[True, True, False], [False] * 3, [False, True, False]]
    assert test.tolist() == [[False, True, True], [False] * 3]
    assert metric_of(train) == "mean average precision" and metric_of(np.arange(3)) == "accuracy"
    assert chance(test) == 0.5 and score(test.astype(float), test) == 1.0


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        ([["x"], "y", []], [[]], r"train labels are lists of classes in some rows and .* \(row 2: 'y'\)"),
        (["x", "y", ["x"]], ["x"], r"in some rows and single classes in others \(row 3: \['x'\]\)"),
        ([["x"], [], ["y"]], ["x"], "the train labels are lists of classes, but the test labels are single classes"),
        (["x", "y", "x"], [["x"]], "the test labels are lists of classes, but the train labels are single classes"),
        ([["x"], [], ["y"]], [["x"]] * 2, "the test labels have shape"),
        ([["x"], ["x"], ["x"]], [["x"]], "the train labels are the same lists for all samples"),
        (np.eye(3), [0], r"the train labels have shape \(3, 3\)"),
    ],
)
def test_labels_that_do_not_go_together(train, test, match):
    with pytest.raises(ValueError, match=match):
        check_labels("abc", train, "d", test)


def test_classes_that_only_test_samples_have_are_named(caplog):
    check_labels("abc", ["x", "y", "x"], "de", ["y", "x"])
    assert not caplog.text
    check_labels("abc", ["x", "y", "x"], "def", ["y", "z", "z"])
    assert "2 of 3 test samples are of classes that the training split lacks (z)" in caplog.text


def test_parts_keep_rare_classes():
    rng = np.random.default_rng(0)
    marks = rng.random((400, 4)) < [0.5, 0.3, 0.05, 0.0]
    marks[7, 3] = True
    assert set(strata(marks)) == {-1, 0, 1, 2, 3} and strata(marks)[7] == 3
    assert (strata(marks) == -1).tolist() == (~marks.any(1)).tolist()
    for seed in range(5):
        chosen = label_subset(marks, 100, seed)
        assert len(set(chosen)) == 100 and 7 in chosen
        np.testing.assert_allclose(marks[chosen].sum(0)[:3], marks.sum(0)[:3] / 4, rtol=0.25)
        kept, held = held_out_quarter(marks, seed)
        assert 7 in kept and len(held) == 100 and sorted([*kept, *held]) == list(range(400))
    assert len(label_subset(marks, 2, 0)) == 2  # fewer than there are classes
    with pytest.raises(ValueError, match="1 labels are asked for, but a probe needs at least 2"):
        label_subset(marks, 1, 0)
    assert held_out_quarter(marks[:3], 0) is None


# ---- mean average precision ----


def scikit_learn(scores, marks, counted):
    occurs = marks[counted].any(0)
    return average_precision_score(marks[counted][:, occurs], scores[counted][:, occurs], average="macro")


@pytest.mark.parametrize("steps", [3, 10_000], ids=["many ties", "few ties"])
def test_it_is_scikit_learns(steps):
    rng = np.random.default_rng(0)
    marks = rng.random((80, 6)) < np.array([0.5, 0.3, 0.1, 0.02, 0.9, 0.0])
    scores = np.round(rng.random((80, 6)) * steps) / steps + 0.3 * marks.round()
    counted = rng.random((4, 80)) < 0.7
    expected = [scikit_learn(scores, marks, one) for one in counted]
    np.testing.assert_allclose(mean_average_precision(scores, marks, counted), expected)
    everyone = np.ones(80, bool)
    assert mean_average_precision(scores, marks) == pytest.approx(scikit_learn(scores, marks, everyone))


def test_without_any_class_it_is_zero_and_equal_scores_have_the_classes_shares():
    assert mean_average_precision(np.ones((3, 2)), np.zeros((3, 2))) == 0
    assert mean_average_precision(np.ones((4, 2)), np.array([[1, 0], [0, 0], [0, 0], [1, 1]])) == (0.5 + 0.25) / 2
