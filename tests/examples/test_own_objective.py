"""examples/own_objective.py at tiny size: it trains, and its own term is logged."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_trains_and_logs_its_own_term(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("own_objective", EXAMPLES / "own_objective.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    trainer = example.main(str(tmp_path / "run"), max_steps=4)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 4
    for entry in entries:  # each log is of one step and one micro-batch
        assert entry["regression_loss"] > 0 and entry["visible_loss"] > 0
        assert entry["loss"] == pytest.approx(entry["regression_loss"] + entry["visible_loss"], rel=1e-4)
