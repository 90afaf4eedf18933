"""Probes of frozen encoders: what the features are, that the baselines are honest, and that errors help."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from transformers import (
    IJepaConfig,
    IJepaModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.trainers.evaluation import (
    extract_features,
    knn,
    label_subset,
    linear_probe,
    probe_accuracy,
    probe_table,
    random_weights,
    raw_pixels,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IMAGE = {"image_size": 8, "patch_size": 2, "num_channels": 1}


def config(**changes):
    fields = {"num_prenet_layers": 1, "average_top_k_layers": 2, "decoder_dim": 32, "num_extra_tokens": 2}
    return Data2Vec2VisionConfig(**SIZES | IMAGE | fields | changes)


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
def images(digits):
    return digits[0][0][:10]


@torch.no_grad()
def states(encoder, images):
    """hidden_states [B, S, D] of every layer and, last, the encoder's output."""
    outputs = encoder.eval()(pixel_values=images, output_hidden_states=True)
    return [*outputs.hidden_states, outputs.last_hidden_state]


# ---- features ----


def test_pooling_means_what_it_says(model, images):
    tokens = states(model, images)[-1]
    patches = tokens[:, 2:]
    expected = {
        "mean": patches.mean(1),
        "max": patches.amax(1),
        "flatten": patches.reshape(10, -1),
        "cls": tokens[:, 1],
    }
    for pooling, value in expected.items():
        features = extract_features(model, [images], pooling=pooling)
        np.testing.assert_array_equal(features, value.numpy())
        assert features.dtype == np.float32


def test_layers_index_hidden_states(model, images):
    hidden = [state[:, 2:].mean(1).numpy() for state in states(model, images)]
    for layer in (0, 1, 2, 3, -2):  # 1 prenet layer and 2 of the trunk
        np.testing.assert_array_equal(extract_features(model, [images], layer=layer), hidden[:-1][layer])
    both = extract_features(model, [images], layer=[0, -1])
    np.testing.assert_array_equal(both, np.concatenate([hidden[0], hidden[-1]], axis=1))


def test_minus_one_is_the_encoders_output_and_not_the_last_layers(images):
    encoder = Data2Vec2VisionModel(config(norm_position="pre"))  # with a norm after the last layer
    last_layer, output = (state[:, 2:].mean(1).numpy() for state in states(encoder, images)[-2:])
    assert not np.allclose(last_layer, output)
    np.testing.assert_array_equal(extract_features(encoder, [images]), output)
    np.testing.assert_array_equal(extract_features(encoder, [images], layer=3), last_layer)


def test_batches_do_not_matter(model, images):
    whole = extract_features(model, [images])
    np.testing.assert_allclose(extract_features(model, images.split(3)), whole, atol=1e-5)


def test_pretraining_model_is_judged_by_its_student_and_keeps_its_modes(images):
    pretraining = Data2Vec2VisionForPreTraining(config(hidden_dropout=0.5)).train()
    pretraining.data2vec2_vision.trunk.layers[0].eval()  # someone froze a layer
    before = [module.training for module in pretraining.modules()]
    features = extract_features(pretraining, [images])
    assert [module.training for module in pretraining.modules()] == before
    np.testing.assert_array_equal(features, extract_features(pretraining.data2vec2_vision.eval(), [images]))


def test_training_mode_returns_after_an_error(model, images):
    model.train()
    with pytest.raises(ValueError, match="layer"):
        extract_features(model, [images], layer=9)
    assert model.training and model.trunk.layers[0].training


def test_training_works_after_extraction(model, images):
    extract_features(model, [images])
    model.train()(images).last_hidden_state.sum().backward()
    assert model.feature_encoder.patch_embed.weight.grad is not None


def test_half_precision_gives_fp32_features(model, images):
    features = extract_features(model.to(torch.bfloat16), [images])
    assert features.dtype == np.float32 and features.shape == (10, 32)


def test_any_image_size(images):
    features = extract_features(Data2Vec2VisionModel(config()), [torch.randn(2, 1, 6, 12)], pooling="flatten")
    assert features.shape == (2, 3 * 6 * 32)


def test_hugging_face_encoders(images):
    vit = ViTModel(ViTConfig(**SIZES, **IMAGE), add_pooling_layer=False)
    tokens = states(vit, images)[-1].numpy()
    np.testing.assert_array_equal(extract_features(vit, [images], pooling="cls"), tokens[:, 0])
    np.testing.assert_allclose(extract_features(vit, [images]), tokens[:, 1:].mean(1), atol=1e-6)

    ijepa = IJepaModel(IJepaConfig(**SIZES, **IMAGE), add_pooling_layer=False)  # has patches only
    np.testing.assert_allclose(extract_features(ijepa, [images]), states(ijepa, images)[-1].mean(1).numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="no extra tokens"):
        extract_features(ijepa, [images], pooling="cls")

    fields = {"decoder_hidden_size": 32, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
    with pytest.raises(ValueError, match="mask_ratio"):
        extract_features(ViTMAEModel(ViTMAEConfig(**SIZES, **IMAGE, **fields)), [images])
    resnet = ResNetModel(ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1]))
    with pytest.raises(ValueError, match="ResNetConfig has no patch_size"):
        extract_features(resnet, [images])


def test_errors_of_features(model, images):
    with pytest.raises(ValueError, match="pooling is 'avg'.*'mean', 'cls', 'max', 'flatten'"):
        extract_features(model, [images], pooling="avg")
    for layer in (4, -5, [0, 4]):
        with pytest.raises(ValueError, match=r"layer is -?\d, but .* 0 .* to 3"):
            extract_features(model, [images], layer=layer)
    with pytest.raises(ValueError, match="layer is empty"):
        extract_features(model, [images], layer=[])
    with pytest.raises(ValueError, match="split"):
        extract_features(model, images)
    with pytest.raises(ValueError, match="empty"):
        extract_features(model, [])
    with pytest.raises(ValueError, match="no extra tokens"):
        extract_features(Data2Vec2VisionModel(config(num_extra_tokens=0, cls_loss_weight=0.0)), [images], pooling="cls")
    with pytest.raises(ValueError, match="diverged"):
        extract_features(model, [images * float("nan")])


# ---- baselines ----


def test_raw_pixels_are_the_pixels(images):
    np.testing.assert_array_equal(raw_pixels(images), images.reshape(10, 64).numpy())


@pytest.mark.parametrize("cls", [Data2Vec2VisionModel, Data2Vec2VisionForPreTraining])
def test_random_weights_are_reproducible_and_touch_nothing(cls):
    given = cls(config())
    weights, states_before = copy.deepcopy(given.state_dict()), torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    fresh, again, other = random_weights(given), random_weights(given), random_weights(given, seed=1)
    assert torch.equal(torch.get_rng_state(), states_before)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert all(torch.equal(given.state_dict()[name], weight) for name, weight in weights.items())
    assert type(fresh) is Data2Vec2VisionModel and not fresh.training
    assert fresh.config is not given.config and fresh.config.to_dict() == given.base_model.config.to_dict()
    name = "trunk.layers.0.mlp.fc1.weight"
    assert torch.equal(fresh.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], other.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], given.base_model.state_dict()[name])


# ---- probes ----


@pytest.fixture(scope="module")
def blobs():
    """400 points of 4 classes, well apart, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    return (10 * np.eye(4)[labels] + rng.normal(size=(400, 4))).astype(np.float32), labels


@pytest.mark.parametrize("probe", [linear_probe, knn])
def test_separable_features_give_one_and_shuffled_labels_chance(probe, blobs):
    x, y = blobs
    assert probe(x[:200], y[:200], x[200:], y[200:]) == 1.0
    shuffled = np.random.default_rng(1).permutation(y)
    assert 0.13 < probe(x[:200], shuffled[:200], x[200:], shuffled[200:]) < 0.37


@pytest.mark.parametrize("probe", [linear_probe, knn])
def test_scale_and_offset_of_features_do_not_matter(probe, blobs):
    x, y = blobs
    x = x + 4 * np.random.default_rng(2).normal(size=x.shape).astype(np.float32)  # hard enough to be below 1
    plain = probe(x[:200], y[:200], x[200:], y[200:])
    x = x * np.array([1, 100, 0.01, 1], np.float32) + np.array([0, 5, 0, -3], np.float32)
    assert plain < 1.0 and probe(x[:200], y[:200], x[200:], y[200:]) == pytest.approx(plain, abs=0.011)


def test_no_warning_leaks():
    rng = np.random.default_rng(0)
    x, y = np.exp(3 * rng.normal(size=(300, 30))), rng.integers(0, 10, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_probe(x, y, x, y)


def test_labels_of_any_kind_and_few_neighbours(blobs):
    x, y = blobs
    expected = knn(x[:3], y[:3], x, y)
    assert knn(x[:3], list(y[:3]), x, torch.tensor(y)) == expected
    assert knn(x[:40], [f"class {n}" for n in y[:40]], x, [f"class {n}" for n in y]) == 1.0


@pytest.mark.parametrize("probe", [linear_probe, knn])
def test_errors_of_probes(probe, blobs):
    x, y = blobs
    with pytest.raises(ValueError, match="at least 2 classes"):
        probe(x, y * 0, x, y)
    with pytest.raises(ValueError, match=r"train labels have shape \(399,\), but 400"):
        probe(x, y[1:], x, y)
    with pytest.raises(ValueError, match="test labels"):
        probe(x, y, x[:0], y[:0])


def test_label_subsets_are_stratified_reproducible_and_nested():
    labels = np.random.default_rng(0).permutation([0] * 600 + [1] * 300 + [2] * 97 + [3] * 3)
    chosen = label_subset(labels, 100, seed=0)
    assert len(set(chosen)) == 100
    assert np.abs(np.bincount(labels[chosen]) - [60, 30, 9.7, 0.3]).max() <= 1
    assert (np.bincount(labels[label_subset(labels, 4, seed=0)]) == 1).all()
    np.testing.assert_array_equal(chosen, label_subset(labels, 100, seed=0))
    assert set(chosen) != set(label_subset(labels, 100, seed=1))
    assert set(chosen) < set(label_subset(labels, 200, seed=0))
    np.testing.assert_array_equal(label_subset(labels, 1000, seed=0), np.arange(1000))
    with pytest.raises(ValueError, match="1001 labels.*there are 1000"):
        label_subset(labels, 1001, seed=0)
    with pytest.raises(ValueError, match="3 labels.*4 classes"):
        label_subset(labels, 3, seed=0)


# ---- the table ----


@pytest.fixture(scope="module")
def table(digits):
    torch.manual_seed(0)
    return probe_table(
        Data2Vec2VisionModel(config()), *digits, label_counts=(40, None, 300), seeds=(0, 1), layer=[1, -1]
    )


def test_table_has_every_row(table):
    kinds = [(row.features, row.labels, row.probe) for row in table.rows]
    names = ("random weights", "model", "raw pixels")
    assert kinds == [(name, count, probe) for name in names for count in (40, 300) for probe in ("linear", "kNN")]
    for row in table.rows:
        assert len(row.scores) == (2 if row.labels == 40 else 1)
        assert row.mean == pytest.approx(sum(row.scores) / len(row.scores)) and 0 <= row.mean <= 1
        assert row.std == pytest.approx(np.std(row.scores, ddof=1) if row.labels == 40 else 0.0)


def test_table_numbers_are_those_of_the_probes(table, digits):
    (images, labels), (test_images, test_labels) = digits
    rows = {(row.features, row.labels, row.probe): row for row in table.rows}
    x, test_x = raw_pixels(images), raw_pixels(test_images)
    chosen = label_subset(labels, 40, seed=1)
    assert rows["raw pixels", 40, "kNN"].scores[1] == knn(x[chosen], labels[chosen], test_x, test_labels)
    assert rows["raw pixels", 300, "linear"].mean == linear_probe(x, labels, test_x, test_labels)
    assert rows["raw pixels", 300, "linear"].mean > 0.8
    torch.manual_seed(0)
    accuracy = probe_accuracy(Data2Vec2VisionModel(config()), *digits, layer=[1, -1])
    assert accuracy == {"linear": rows["model", 300, "linear"].mean, "knn": rows["model", 300, "kNN"].mean}


def test_table_as_markdown_and_dict(table):
    text = table.to_markdown()
    lines = text.splitlines()
    heads = "40 labels, linear | 40 labels, kNN | all 300 labels, linear | all 300 labels, kNN"
    assert lines[0] == f"| features | {heads} |"
    for line, name in zip(lines[2:5], ("random weights", "model", "raw pixels"), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows = [row for row in table.rows if row.features == name]
        assert cells[0] == name
        assert cells[1:] == [
            f"{100 * row.mean:.1f}" + (f" ± {100 * row.std:.1f}" if row.labels == 40 else "") for row in rows
        ]
    assert "100 test images" in text and "seeds 0, 1" in text and "layer [1, -1]" in text
    stored = json.loads(json.dumps(table.to_dict()))
    assert stored["rows"][0]["features"] == "random weights" and len(stored["rows"]) == 12
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
