"""Killed at any time, a run of any model goes on as if nothing had happened: bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

SCRIPT = [sys.executable, str(Path(__file__).parents[1] / "support" / "tiny_runs.py")]
STEPS = 12


def run(folder: Path, *options: str) -> int:
    return subprocess.run([*SCRIPT, str(folder), "--steps", str(STEPS), *options]).returncode


def assert_same_run(folder: Path, expected: Path) -> None:
    last = f"checkpoint-{STEPS}"
    weights, expected_weights = (load_file(f / last / "model.safetensors") for f in (folder, expected))
    assert weights.keys() == expected_weights.keys()
    for name, value in expected_weights.items():
        assert torch.equal(weights[name], value), name
    optimizer, expected_optimizer = (torch.load(f / last / "optimizer.pt") for f in (folder, expected))
    for index, state in expected_optimizer["state"].items():
        for name, value in state.items():
            assert torch.equal(optimizer["state"][index][name], value), (index, name)
    histories = [json.loads((f / last / "trainer_state.json").read_text())["log_history"] for f in (folder, expected)]
    losses, expected_losses = ([(e["step"], e["loss"]) for e in history if "loss" in e] for history in histories)
    assert losses == expected_losses


@pytest.fixture(scope="module", params=[*KINDS, JOINT])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def uninterrupted(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder, "--kind", kind) == 0
    return folder


def test_killed_during_a_save(tmp_path, kind, uninterrupted):
    assert run(tmp_path, "--kind", kind, "--kill-in-save", "8") == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [".incomplete", "checkpoint-4"]
    assert run(tmp_path, "--kind", kind) == 0
    assert not (tmp_path / ".incomplete").exists()
    assert_same_run(tmp_path, uninterrupted)


def test_killed_at_a_random_step(tmp_path, kind, uninterrupted):
    delay = random.uniform(0.0, 1.5)
    process = subprocess.Popen([*SCRIPT, str(tmp_path), "--kind", kind, "--steps", str(STEPS), "--slow", "0.2"])
    while not (tmp_path / "checkpoint-4").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL, f"it finished before it was killed after {delay:.2f} s"
    assert run(tmp_path, "--kind", kind) == 0
    assert_same_run(tmp_path, uninterrupted)
