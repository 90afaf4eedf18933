"""The probe's table: every row, its numbers those of the probes, for images, speech and text; errors before work."""

import json

import numpy as np
import pytest
import torch
from encoders import IMAGE, OURS, encoder, samples
from sklearn.datasets import load_digits

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
from modeling_data2vec.trainers.evaluation.choice import choose_features
from modeling_data2vec.trainers.evaluation.features import encode
from modeling_data2vec.trainers.evaluation.options import ProbeOptions
from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
from modeling_data2vec.trainers.evaluation.probe_table import baseline_accuracy, probe_accuracy, probe_table
from modeling_data2vec.trainers.evaluation.probes import knn, leave_one_out, linear_probe, ridge_probe
from modeling_data2vec.trainers.media.mfcc import mfcc_statistics
from modeling_data2vec.trainers.modalities.base import RawFeatures, flattened

TEXT_NAMES = ["TF-IDF", "word vectors"]
PROBES = ("linear", "ridge", "kNN", "kNN, cosine")


def config(**changes):
    return Data2Vec2VisionConfig(**OURS | IMAGE | {"num_extra_tokens": 2} | changes)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Data2Vec2VisionModel(config())


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    return (images[:300], data.target[:300]), (images[300:400], data.target[300:400])


@pytest.fixture(scope="module")
def table(digits):
    torch.manual_seed(0)
    return probe_table(
        Data2Vec2VisionModel(config()), *digits, label_counts=(40, None, 300), seeds=(0, 1), layer=[1, -1]
    )


def test_table_has_every_row(table):
    kinds = [(row.features, row.labels, row.probe) for row in table.rows]
    names = ("random weights", "model", "raw pixels")
    assert kinds == [(name, count, probe) for name in names for count in (40, 300) for probe in PROBES]
    for row in table.rows:
        assert len(row.scores) == (2 if row.labels == 40 else 1)
        assert row.mean == pytest.approx(sum(row.scores) / len(row.scores)) and 0 <= row.mean <= 1
        assert row.std == pytest.approx(np.std(row.scores, ddof=1) if row.labels == 40 else 0.0)


def test_table_numbers_are_those_of_the_probes(table, digits):
    (images, labels), (test_images, test_labels) = digits
    rows = {(row.features, row.labels, row.probe): row for row in table.rows}
    x, test_x = flattened(images), flattened(test_images)
    chosen = label_subset(labels, 40, seed=1)
    assert rows["raw pixels", 40, "kNN"].scores[1] == knn(x[chosen], labels[chosen], test_x, test_labels)
    assert rows["raw pixels", 300, "linear"].mean == linear_probe(x, labels, test_x, test_labels)
    assert rows["raw pixels", 300, "linear"].mean > 0.8
    torch.manual_seed(0)
    accuracy = probe_accuracy(Data2Vec2VisionModel(config()), *digits, layer=[1, -1])
    names = {"linear": "linear", "ridge": "ridge", "knn": "kNN"}
    assert accuracy == {name: rows["model", 300, probe].mean for name, probe in names.items()}
    baselines = baseline_accuracy(Data2Vec2VisionModel(config()), *digits)
    assert baselines["linear_raw"] == rows["raw pixels", 300, "linear"].mean
    assert baselines["knn_raw"] == rows["raw pixels", 300, "kNN"].mean
    assert set(baselines) == {f"{name}_{kind}" for name in names for kind in ("random", "raw")}


def test_table_as_markdown_and_dict(table):
    text = table.to_markdown()
    lines = text.splitlines()
    assert lines[0] == "| labels | features | linear | ridge | kNN | kNN, cosine |"
    kinds = [(count, name) for count in (40, 300) for name in ("random weights", "model", "raw pixels")]
    for line, (count, name) in zip(lines[2:8], kinds, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows = [row for row in table.rows if (row.labels, row.features) == (count, name)]
        assert cells[:2] == ["40" if count == 40 else "all 300", name]
        assert cells[2:] == [
            f"{100 * row.mean:.1f}" + (f" ± {100 * row.std:.1f}" if row.labels == 40 else "") for row in rows
        ]
    assert "100 test samples" in text and "seeds 0, 1" in text and "layer [1, -1]" in text
    stored = json.loads(json.dumps(table.to_dict()))
    assert stored["rows"][0]["features"] == "random weights" and len(stored["rows"]) == 24
    assert stored["layer"] == [1, -1] and stored["pooling"] == "mean" and stored["num_test"] == 100


def test_errors_of_the_table_come_before_the_work(model, digits):
    train, test = digits
    model.forward = None  # any forward pass would fail in another way
    with pytest.raises(ValueError, match="301 labels.*there are 300"):
        probe_table(model, train, test, label_counts=(301,))
    with pytest.raises(ValueError, match="classes"):
        probe_table(model, train, test, label_counts=(5,))
    with pytest.raises(ValueError, match="at least 2 classes"):
        probe_table(model, (train[0], train[1] * 0), test)
    with pytest.raises(ValueError, match="train labels have shape"):
        probe_table(model, (train[0], train[1][1:]), test)
    with pytest.raises(ValueError, match="seeds"):
        probe_table(model, train, test, seeds=())


# ---- other inputs ----


@pytest.mark.parametrize(
    ("kind", "names"),
    [("our speech", ["MFCC", "log-mel"]), ("our text", TEXT_NAMES), ("BERT", TEXT_NAMES)],
)
def test_table_of_samples_of_unequal_length(kind, names):
    inputs, labels = samples(kind) * 4, [0, 0, 1, 1, 0, 1, 1] * 4
    model = encoder(kind)
    table = probe_table(model, (inputs, labels), (inputs[:14], labels[:14]), label_counts=(14, None), seeds=(0, 1))
    assert list(dict.fromkeys(row.features for row in table.rows)) == ["random weights", "model", *names]
    assert all(f"| {name} |" in table.to_markdown() for name in names) and "14 test samples" in table.to_markdown()
    x = encode(model, inputs)
    (row,) = [row for row in table.rows if (row.features, row.labels, row.probe) == ("model", 28, "linear")]
    assert row.scores == [linear_probe(x, labels, x[:14], labels[:14])]


def test_another_baseline():
    inputs, labels = samples("our speech") * 2, [0, 1] * 7

    def compute(train, test):
        return tuple(mfcc_statistics(clips, num_coefficients=13, sampling_rate=8_000) for clips in (train, test))

    raw = RawFeatures("13 MFCC at 8 kHz", compute)
    table = probe_table(encoder("our speech"), (inputs, labels), (inputs, labels), label_counts=[None], raw=[raw])
    assert table.rows[-1].features == "13 MFCC at 8 kHz"


def test_lists_of_classes(digits):
    """Labels "odd", "large" and "eight", of which a digit may have all or none."""

    def lists(numbers):
        return [["odd"] * (n % 2) + ["large"] * (n > 4) + ["eight"] * (n == 8) for n in numbers.tolist()]

    (images, labels), (test_images, test_labels) = digits
    torch.manual_seed(0)
    model = Data2Vec2VisionModel(config())
    sets = (images, lists(labels)), (test_images, lists(test_labels))
    table = probe_table(model, *sets, label_counts=(2, None), seeds=(0, 1), pooling="auto", layer="auto")
    assert table.metric == "mean average precision"
    shares = [np.mean([name in row for row in sets[1][1]]) for name in ("odd", "large", "eight")]
    assert table.chance == pytest.approx(np.mean(shares))
    rows = {(row.features, row.labels, row.probe): row for row in table.rows}
    x, test_x = flattened(images), flattened(test_images)
    assert rows["raw pixels", 300, "linear"].mean == linear_probe(x, sets[0][1], test_x, sets[1][1]) > 0.8
    assert "held-out" in rows["model", 300, "ridge"].chosen[0]
    assert "Mean average precision in % on 100 test samples (equal scores for all samples:" in table.to_markdown()
    accuracy = probe_accuracy(model, *sets)
    assert set(accuracy) == {"linear", "ridge", "knn"} and 0.5 < accuracy["linear"] <= 1


# ---- layer and pooling by the training labels ----


def test_each_subset_chooses_by_its_own_labels(digits):
    (images, labels), (test_images, test_labels) = digits
    torch.manual_seed(0)
    model = Data2Vec2VisionModel(config())
    table = probe_table(model, *digits, label_counts=(60, None), seeds=(0, 1), pooling="auto", layer="auto")
    (row,) = [row for row in table.rows if (row.features, row.labels, row.probe) == ("model", 60, "ridge")]
    assert len(row.chosen) == 2 and all("held-out" in one for one in row.chosen)
    (raw,) = [row for row in table.rows if (row.features, row.labels, row.probe) == ("raw pixels", 60, "ridge")]
    assert raw.chosen == []
    subsets = [label_subset(labels, 60, seed) for seed in (0, 1)]
    choices = choose_features(model, images, labels, subsets)
    assert [str(one) for one in choices] == row.chosen
    for ids, choice, score in zip(subsets, choices, row.scores, strict=True):
        x, test_x = (encode(model, one, pooling=choice.pooling, layer=choice.layer) for one in (images, test_images))
        assert score == ridge_probe(x[ids], labels[ids], test_x, test_labels)
        others = np.random.default_rng(0).permutation(labels)
        others[ids] = labels[ids]  # what the other samples are labelled has no say
        assert choose_features(model, images, others, [ids]) == [choice]
        # None of the candidates is better on the labels that choose.
        for pooling in ("mean", "mean+max", "grid2", "grid4", "cls"):
            assert leave_one_out(encode(model, images[ids], pooling=pooling), labels[ids]) <= choice.held_out + 0.02
    text = table.to_markdown()
    assert f"- model, 60 labels: {row.chosen[0]}" in text and 'layer auto, pooling "auto"' in text
    json.dumps(table.to_dict())


@pytest.mark.parametrize(
    ("kind", "widest"), [("our text", 8), ("HuBERT, group norm", 8), ("ViT", 16)], ids=["text", "speech", "images"]
)
def test_candidates_are_what_the_model_has(kind, widest, monkeypatch):
    """Of equal ones the first is taken; one that is asked for is not chosen."""
    model, inputs, labels = encoder(kind), samples(kind) * 2, np.array([0, 1] * 7)
    tried = []

    def nothing(features, _):
        tried.append(features.shape[1])
        return 0.5

    monkeypatch.setattr("modeling_data2vec.trainers.evaluation.choice.leave_one_out", nothing)
    assert choose_features(model, inputs, labels, [np.arange(14)]) == [(-1, "mean", 0.5)]
    assert max(tried) == widest * 32 * (3 if kind == "our text" else 2)  # all layers side by side
    one = choose_features(model, inputs, labels, [np.arange(14)], pooling="mean+max", layer=[0, -1])
    assert one == [((0, -1), "mean+max", 0.5)]
    assert one == choose_features(model, inputs, labels, [np.arange(14)], pooling="mean+max", layer="0+-1")


def test_options_of_the_choice():
    where = {"model": "m", "dataset": "d"}
    assert ProbeOptions(**where, layers=["auto"], pooling="auto").layer() == "auto"
    assert ProbeOptions(**where, layers=["0", "-1"]).layer() == [0, -1] and ProbeOptions(**where).layer() == -1
    assert ProbeOptions(**where, layers=["2+4"]).layer() == [2, 4] and ProbeOptions(**where, layers=[3]).layer() == 3
