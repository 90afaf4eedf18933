"""Statistics of samples that run over batches, and what is normalised by them."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import tiny_joint_model

from modeling_data2vec import Data2Vec2ForPreTraining
from modeling_data2vec.running_norm import HORIZON, SHRINKAGE, RunningWhitening, inverse_root


def samples(count: int, size: int = 8, layers: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Batches [8, K, 6] with means far from 0 and channels that say much the same."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=generator) + 2
    return [torch.randn(size, layers, 6, generator=generator) @ mixing + 20 for _ in range(count)]


def trained(batches: list[torch.Tensor]) -> RunningWhitening:
    norm = RunningWhitening(*batches[0].shape[1:]).train()
    for batch in batches:
        norm(batch)
    return norm.eval()


def test_statistics_are_those_of_all_samples_until_the_horizon():
    norm = trained(samples(HORIZON))
    seen = torch.cat(samples(HORIZON)).double().numpy()
    np.testing.assert_allclose(norm.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.variance, seen.var(0), rtol=1e-3)
    assert norm.batches == HORIZON


def test_statistics_of_a_long_run_are_moving_means_by_numpy():
    batches = samples(3 * HORIZON)
    mean, square, covariance = np.zeros((2, 6)), np.zeros((2, 6)), np.zeros((6, 6))
    for number, batch in enumerate(batches, start=1):
        x, rate = batch.double().numpy(), max(1 / number, 1 / HORIZON)
        mean += rate * (x.mean(0) - mean)
        square += rate * ((x**2).mean(0) - square)
        variance = square - mean**2
        rows = ((x - mean) / np.sqrt(variance + 1e-5)).mean(1)
        covariance += rate * (rows.T @ rows / len(rows) - covariance)
    norm = trained(batches)
    np.testing.assert_allclose(norm.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(norm.variance, variance, rtol=1e-3)
    np.testing.assert_allclose(norm.covariance, covariance, rtol=1e-2, atol=1e-3)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 6 * np.eye(6)
    values, vectors = np.linalg.eigh(shrunk)
    expected = rows @ (vectors / np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(norm(batches[-1]), expected, rtol=1e-2, atol=1e-2)


def test_a_sample_does_not_depend_on_its_batch_and_no_direction_leads():
    norm = trained(samples(3 * HORIZON))
    x = torch.cat(samples(200, seed=1)[:100] + samples(3 * HORIZON)[-100:])
    found = norm(x)
    torch.testing.assert_close(norm(x[3:5]), found[3:5])
    given = x.mean(1) - x.mean((0, 1))
    before, after = torch.linalg.svdvals(given), torch.linalg.svdvals(norm(torch.cat(samples(3 * HORIZON))))
    assert before[0] / before[1] > 3 and after[0] / after[1] < 1.3


def test_evaluation_looks_at_statistics_and_leaves_them():
    norm = trained(samples(3))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(samples(1, seed=5)[0])
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_without_statistics_single_layers_pass_as_they_are():
    x = samples(1, layers=1)[0]
    torch.testing.assert_close(RunningWhitening(1, 6).eval()(x), x[:, 0], rtol=1e-4, atol=0)


def test_a_constant_is_zero():
    assert not trained([torch.ones(4, 1, 6)] * 3)(torch.ones(4, 1, 6)).any()


@pytest.mark.parametrize("rank", [1, 200])
def test_the_root_by_iterations_is_that_by_eigenvalues(rank):
    x = torch.randn(300, rank, generator=torch.Generator().manual_seed(0)) @ torch.randn(rank, 200)
    matrix = x.T @ x / 300
    matrix = 0.9 * matrix + 0.1 * matrix.diagonal().mean() * torch.eye(200)
    values, vectors = torch.linalg.eigh(matrix.double())
    expected = (vectors * values.rsqrt()) @ vectors.T
    torch.testing.assert_close(inverse_root(matrix).double(), expected, rtol=0, atol=1e-3 * float(expected.max()))


def test_it_stays_in_full_precision():
    norm = trained(samples(3)).bfloat16()
    assert {value.dtype for value in norm.buffers()} == {torch.float32, torch.int64}
    batches, expected = samples(3), trained(samples(3))(samples(1)[0])
    torch.testing.assert_close(norm(batches[0]), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(trained(batches)(batches[0]), expected)


def test_a_step_is_one_program_that_never_asks_the_device():
    batches = samples(4)
    norm = RunningWhitening(2, 6).train()
    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    found = [compiled(batch) for batch in batches][-1]
    torch.testing.assert_close(found, trained(batches)(batches[-1]))
    assert RunningWhitening(2, 6).train().to("meta")(torch.empty(8, 2, 6, device="meta")).shape == (8, 6)


def test_checkpoints_without_statistics_load_without_a_word(tmp_path, caplog):
    model = tiny_joint_model(("text", "vision"), cross_modal_layers=1)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    norms = {name for name in weights if name.startswith("cross_norms.")}
    assert len(norms) == 2 * 2 * 5
    save_file({n: v for n, v in weights.items() if n not in norms}, tmp_path / "model.safetensors", {"format": "pt"})
    loaded, info = Data2Vec2ForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not caplog.records
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    half = Data2Vec2ForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.cross_norms.states["text"].covariance.dtype == torch.float32
