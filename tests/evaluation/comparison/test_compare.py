"""Several encoders side by side: each number is that of the function it stands for."""

import json

import numpy as np
import pytest
import torch
from encoders import encoder, samples
from sklearn.datasets import load_digits

from modeling_data2vec.trainers.evaluation.attentive_probe import attentive_probe
from modeling_data2vec.trainers.evaluation.baselines import random_weights
from modeling_data2vec.trainers.evaluation.comparison.compare import Subject, compare, few_label_counts
from modeling_data2vec.trainers.evaluation.comparison.report import report
from modeling_data2vec.trainers.evaluation.comparison.views import two_views
from modeling_data2vec.trainers.evaluation.features import encode, frame_features
from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
from modeling_data2vec.trainers.evaluation.probes import knn, linear_probe, ridge_predictions
from modeling_data2vec.trainers.modalities.base import flattened
from modeling_data2vec.trainers.monitoring.similarity import alignment, cka


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    return (images[:300], data.target[:300]), (images[300:400], data.target[300:400])


@pytest.fixture(scope="module")
def subjects(digits):
    return [Subject("ours", encoder("our images"), *digits), Subject("theirs", encoder("ViT"), *digits)]


@pytest.fixture(scope="module")
def found(subjects):
    return compare(subjects, label_counts=[40], seeds=(0, 1), layer=[1, -1])


LINES = ["ours", "theirs", "ours, untrained", "theirs, untrained", "raw pixels"]


def test_scores_are_those_of_the_probes(found, digits, subjects):
    assert [line.name for line in found.features] == LINES
    scores = {(one.features, one.probe, one.labels): one for one in found.scores}
    assert len(scores) == 5 * 4 * 2 + 4  # four probes for two counts, attentive for all labels of an encoder
    (images, y), (test_images, test_y) = digits
    for name, model in (("theirs", subjects[1].model), ("ours, untrained", random_weights(subjects[0].model))):
        x, test_x = (encode(model, inputs, layer=[1, -1]) for inputs in (images, test_images))
        assert scores[name, "linear", 300].scores == [pytest.approx(linear_probe(x, y, test_x, test_y))]
        chosen = label_subset(y, 40, seed=1)
        assert scores[name, "kNN", 40].scores[1] == pytest.approx(knn(x[chosen], y[chosen], test_x, test_y))
        frames = [frame_features(model, inputs, layer=[1, -1]) for inputs in (images, test_images)]
        attentive = attentive_probe(frames[0], y, frames[1], test_y)
        assert scores[name, "attentive", 300].accuracy.value == pytest.approx(attentive, abs=0.02)
    pixels = linear_probe(flattened(images), y, flattened(test_images), test_y)
    assert scores["raw pixels", "linear", 300].accuracy.value == pytest.approx(pixels)
    for one in found.scores:
        assert one.accuracy.value == pytest.approx(np.mean(one.scores))
        assert one.accuracy.low <= one.accuracy.value <= one.accuracy.high
        assert len(one.scores) == (2 if one.labels == 40 else 1)


def test_differences_are_of_pairs(found):
    scores = {(one.features, one.probe, one.labels): one.accuracy for one in found.scores}
    pairs = {(one.features, one.than) for one in found.differences}
    assert pairs == {
        ("ours", "ours, untrained"),
        ("ours", "raw pixels"),
        ("theirs", "theirs, untrained"),
        ("theirs", "raw pixels"),
        ("ours", "theirs"),
    }
    for one in found.differences:
        first, second = (scores[name, one.probe, one.labels] for name in (one.features, one.than))
        assert one.difference.value == pytest.approx(first.value - second.value)
        widest = max(first.high, second.high) - min(first.low, second.low) + 0.1
        assert one.difference.high - one.difference.low < 2 * widest


def test_the_best_layer_is_chosen_by_held_out_training_labels(found, digits, subjects):
    (images, y), (test_images, test_y) = digits
    rows = [one for one in found.layers if one.features == "theirs"]
    assert [one.layer for one in rows] == [0, 1, 2]
    for one in rows:
        layer = -1 if one.layer == 2 else one.layer
        x, test_x = (encode(subjects[1].model, inputs, layer=layer) for inputs in (images, test_images))
        classes, held_out = ridge_predictions(x, y, test_x)
        assert one.held_out == held_out and one.accuracy.value == pytest.approx(np.mean(classes == test_y))
    for name in LINES[:-1]:
        rows = [one for one in found.layers if one.features == name]
        assert [one.layer for one in rows if one.best] == [int(np.argmax([one.held_out for one in rows]))]


def test_similarities_of_layers_and_models(found, digits, subjects):
    maps = {(one.first, one.second): one for one in found.similarities}
    assert list(maps) == [("ours", "ours"), ("ours", "theirs"), ("theirs", "theirs")]
    np.testing.assert_allclose(np.diag(maps["ours", "ours"].cka), 1.0)
    outputs = [encode(one.model, digits[1][0])[None] for one in subjects]
    expected = cka(*outputs)[0, 0]
    assert maps["ours", "theirs"].output.value == pytest.approx(expected, abs=1e-4)
    assert np.array(maps["ours", "theirs"].cka).shape == (4, 3)
    assert maps["ours", "theirs"].cka[-1][-1] == pytest.approx(expected, abs=1e-4)


def test_geometry_is_around_the_training_mean(found, digits, subjects):
    (geometry,) = [one for one in found.geometry if one.features == "ours"]
    model, images = subjects[0].model, digits[1][0]
    centre = encode(model, digits[0][0], layer=[1, -1]).mean(0)
    views = [encode(model, view, layer=[1, -1]) - centre for view in two_views(images)]
    assert geometry.view_alignment.value == pytest.approx(alignment(*views).mean(), abs=1e-4)
    assert 1 <= geometry.rank.low < geometry.rank.value < 64 and -4.5 < geometry.uniformity.value < 0
    assert geometry.view_alignment.value < geometry.class_alignment.value < 2.1  # two crops of one are nearer
    assert found.num_geometry == 100


def test_a_comparison_is_plain_json(found):
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["label_counts"] == [40, 300] and stored["layer"] == [1, -1] and stored["classes"] == 10
    assert set(stored["scores"][0]["accuracy"]) == {"value", "low", "high"}


def test_what_is_not_defined_is_said_so(digits):
    """Ten test samples of ten classes: no two of one class."""
    (images, y), _ = digits
    ten = [int(np.flatnonzero(y == digit)[0]) for digit in range(10)]
    found = compare([Subject("ours", encoder("our images"), (images, y), (images[ten], y[ten]))], seeds=[0])
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["geometry"][0]["class_alignment"] == {"value": None, "low": None, "high": None}
    assert " | none | " in report(found, title="Ten")


@pytest.mark.parametrize(
    ("kinds", "raw"),
    [
        (["our speech", "HuBERT, group norm"], ["MFCC", "log-mel"]),
        (["our text", "BERT", "RoBERTa"], ["TF-IDF", "word vectors"]),
    ],
)
def test_samples_of_unequal_length(kinds, raw):
    inputs, labels = samples(kinds[0]) * 4, [0, 0, 1, 1, 0, 1, 1] * 4
    subjects = [Subject(kind, encoder(kind), (inputs, labels), (inputs[:14], labels[:14])) for kind in kinds]
    found = compare(subjects, label_counts=[None], seeds=[0])
    assert [line.name for line in found.features] == [*kinds, *(f"{kind}, untrained" for kind in kinds), *raw]
    assert len(found.similarities) == len(kinds) * (len(kinds) + 1) // 2


def test_no_layer_is_chosen_where_no_label_can_be_held_back(digits):
    (images, y), test = digits
    few = label_subset(y, 20, seed=0)
    found = compare([Subject("ours", encoder("our images"), (images[few], y[few]), test)], seeds=[0])
    assert found.label_counts == [10, 20]
    assert not any(one.best for one in found.layers) and {one.held_out for one in found.layers} == {None}


def test_label_counts_by_default():
    assert few_label_counts(2, 100) == [2, 6, 20, 100]
    assert few_label_counts(10, 15) == [15]


def test_errors_of_comparisons(digits, subjects):
    (images, y), test = digits
    ours = subjects[0]
    with pytest.raises(ValueError, match="subjects is empty"):
        compare([])
    with pytest.raises(ValueError, match=r"names are \['ours', 'ours'\]"):
        compare([ours, ours])
    with pytest.raises(ValueError, match="theirs has other labels than ours"):
        compare([ours, Subject("theirs", encoder("ViT"), (images, np.roll(y, 1)), test)])
    with pytest.raises(ValueError, match="ours takes pixel_values, but BERT takes input_ids"):
        texts = samples("BERT"), [0, 1, 0, 1, 0, 1, 0]
        compare([ours, Subject("BERT", encoder("BERT"), texts, texts)])
    with pytest.raises(ValueError, match="7 test samples are too few"):
        compare([Subject("ours", ours.model, (images, y), (images[:7], y[:7]))])
    with pytest.raises(ValueError, match="301 labels"):
        compare([ours], label_counts=[301])
    with pytest.raises(ValueError, match="layer is 7"):
        compare([ours], layer=7)
    with pytest.raises(ValueError, match="pooling is 'flatten'"):
        compare([ours], pooling="flatten")
