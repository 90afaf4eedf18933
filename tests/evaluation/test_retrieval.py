"""Ranks, recalls and the ways to predict latents."""

import numpy as np
import pytest
import torch
from tiny_runs import tiny_joint_model, tiny_model

from modeling_data2vec.running_norm import RunningWhitening
from modeling_data2vec.trainers.evaluation.retrieval import (
    Latents,
    PooledFeatures,
    Retrieval,
    head_predictions,
    pooled_features,
    ranks,
    retrieval_table,
    retrieve,
    ridge_predictions,
)


def features(num: int, seed: int, shift: np.ndarray | None = None) -> tuple[dict[str, PooledFeatures], np.ndarray]:
    """Two modalities that see the same hidden causes through maps of their own, each with noise."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(num, 4))
    maps = np.random.default_rng(99).normal(size=(4, 4, 16))
    noise = 0.1 * rng.normal(size=(4, num, 16))
    views = [causes @ one + more for one, more in zip(maps, noise, strict=True)]
    found = {
        "audio": PooledFeatures(views[0], views[1][:, None]),
        "text": PooledFeatures(views[2], views[3][:, None]),
    }
    return found, causes


def test_ranks_by_hand():
    true = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    predicted = np.array([[2.0, 0.1], [0.0, 3.0], [-1.0, 0.1]])
    assert ranks(predicted, true).tolist() == [1, 2, 1]


def test_latents_that_are_all_the_same_find_nothing():
    rng = np.random.default_rng(0)
    constant = np.tile(rng.normal(size=8), (20, 1))
    for predicted, true in ((constant, constant), (rng.normal(size=(20, 8)), constant), (np.zeros((20, 8)), constant)):
        result = Retrieval.of_ranks(ranks(predicted, true))
        assert result.recalls == {1: 0.0, 5: 0.0, 10: 0.0} and result.median_rank == 10.5


def test_guessing_is_at_the_chance_level():
    rng = np.random.default_rng(0)
    results = [Retrieval.of_ranks(ranks(rng.normal(size=(50, 6)), rng.normal(size=(50, 6)))) for _ in range(60)]
    chance = Retrieval.chance(50)
    for k, share in chance.recalls.items():
        assert np.mean([result.recalls[k] for result in results]) == pytest.approx(share, abs=0.02)
    assert np.mean([result.median_rank for result in results]) == pytest.approx(chance.median_rank, abs=1.5)


def test_a_ridge_regression_finds_what_is_shared_and_nothing_in_shuffled_pairs():
    train, _ = features(200, 0)
    test, _ = features(60, 1)
    found = retrieve(train, test)
    assert set(found) == {("audio", "text"), ("text", "audio")}
    assert all(result.recalls[1] > 0.5 and result.recalls[5] > 0.9 and result.num == 60 for result in found.values())
    order = np.random.default_rng(2).permutation(200)
    shuffled = {
        "audio": train["audio"],
        "text": PooledFeatures(train["text"].states[order], train["text"].layers[order]),
    }
    assert all(result.recalls[1] < 0.15 for result in retrieve(shuffled, test).values())


def test_latents_take_the_training_samples_norm():
    train, _ = features(300, 0)
    latents = Latents(train["text"])
    own = latents(train["text"])
    covariance = np.linalg.eigvalsh(own.T @ own / 300)  # four causes, and noise that is left small
    assert np.abs(own.mean(0)).max() < 1e-6
    assert covariance[-4:] == pytest.approx(1.0, abs=0.1) and covariance[:12].max() < 0.2
    norm = RunningWhitening(1, 16).train()  # as targets are made in training, of one large batch
    np.testing.assert_allclose(own, norm(torch.from_numpy(train["text"].layers)).numpy(), rtol=0.1, atol=0.1)
    one = PooledFeatures(train["text"].states[:1], train["text"].layers[:1])
    assert latents(one) == pytest.approx(own[:1])


def test_features_and_heads_of_a_joint_model():
    model = tiny_joint_model(["text", "vision"], cross_modal_layers=1).train()
    texts = torch.randint(4, 58, (5, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([12, 12, 9, 12, 12])[:, None]
    text = pooled_features(model, "text", [{"inputs": texts, "attention_mask": mask}])
    whole = model.base_model.eval()(input_ids=texts, attention_mask=mask).pooler_output
    np.testing.assert_allclose(text.states, whole.detach().numpy(), atol=1e-6)
    assert text.layers.shape == (5, 2, 16)
    assert model.training
    predicted = head_predictions(model, "text", "vision", text.states)
    np.testing.assert_allclose(predicted, model.cross_modal["text_to_vision"](whole).detach().numpy(), atol=1e-6)


def test_features_of_a_single_model():
    model = tiny_model("images 2.0")
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one = pooled_features(model, "vision", [{"inputs": images}])
    two = pooled_features(model, "vision", [{"inputs": images[:2]}, {"inputs": images[2:]}])
    np.testing.assert_allclose(one.states, two.states, atol=1e-6)
    np.testing.assert_allclose(one.layers, two.layers, atol=1e-6)


def test_the_ridge_chooses_its_strength():
    """Of noise it predicts next to nothing, instead of what the noise happened to fit."""
    rng = np.random.default_rng(0)
    predicted = ridge_predictions(rng.normal(size=(40, 16)), rng.normal(size=(40, 3)), rng.normal(size=(500, 16)))
    assert predicted.std(0).max() < 0.5


def test_the_table_has_the_chance_level():
    table = retrieval_table({"model": {("audio", "text"): Retrieval({1: 0.25, 5: 0.5, 10: 1.0}, 3.0, 40)}})
    assert "| model | 25.0 / 50.0 / 100.0; 3.0 |" in table
    assert "| chance | 2.5 / 12.5 / 25.0; 20.5 |" in table


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(4, 2\)"):
        ranks(np.zeros((3, 2)), np.zeros((4, 2)))
