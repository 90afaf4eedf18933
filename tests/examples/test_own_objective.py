"""examples/own_objective.py at tiny size: it trains, its term is logged, and its targets are layers side by side."""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / "examples" / "own_objective.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_objective", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_logs_its_own_term(example, tmp_path):
    trainer = example.main(str(tmp_path / "run"), max_steps=4)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 4
    for entry in entries:  # each log is of one step and one micro-batch
        assert entry["regression_loss"] > 0 and entry["context_loss"] > 0
        assert entry["loss"] == pytest.approx(entry["regression_loss"] + entry["context_loss"], rel=1e-4)


def test_visible_positions_far_from_hidden_ones_count_less(example):
    """One hidden corner of 3 x 3 positions; the loss by hand."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(1, 1, 9, 4, generator=generator), torch.randn(1, 9, 4, generator=generator)
    mask = torch.zeros(1, 1, 9, dtype=torch.bool)
    mask[..., 0] = True
    views = example.Views(predictions, targets, mask, *[torch.zeros(())] * 3, None, None)
    weights = {divmod(i, 3): (divmod(i, 3)[0] ** 2 + divmod(i, 3)[1] ** 2) ** -0.25 for i in range(1, 9)}
    losses = (predictions[0, 0] - targets[0]).square().sum(-1) / 2  # 1/sqrt(D)
    expected = sum(weights[divmod(i, 3)] * losses[i] for i in range(1, 9)) / sum(weights.values())
    torch.testing.assert_close(example.context_loss(views, (3, 3)), expected)


def test_layers_are_predicted_side_by_side(example):
    layers = [torch.full((1, 2, 3), float(number)) for number in range(1, 7)]
    targets = example.SeparateLayers(3)(layers)
    assert targets[0, 0].tolist() == [2.0] * 3 + [4.0] * 3 + [6.0] * 3


def test_it_is_short():
    """Below 80 lines without imports and docstring, as every example."""
    text = FILE.read_text()
    head = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    skipped = sum(node.end_lineno - node.lineno + 1 for node in head)
    assert sum(bool(line.strip()) for line in text.splitlines()) - skipped <= 80
