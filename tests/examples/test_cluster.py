"""The batch script of examples/cluster in a queue that stops it: the run ends as one that nobody stopped."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_slurm import FakeSlurm
from killed_runs import TINY
from safetensors.torch import load_file

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
OPTIONS = ["--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--use_cpu", "--disable_tqdm", "true"]
OPTIONS += ["--logging_steps", "1", "--warmup_steps", "1", "--save_strategy", "steps", "--save_total_limit", "2"]


def options(folder: Path, steps: int, batch: int = 8) -> list[str]:
    argv = [*OPTIONS, "--output_dir", str(folder), "--max_steps", str(steps), "--save_steps", str(steps // 10)]
    return [*argv, "--per_device_train_batch_size", str(batch), "--config", *TINY]


def losses(folder: Path, steps: int) -> list[float]:
    state = json.loads((folder / f"checkpoint-{steps}" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def in_queue(tmp_path: Path, kills: int, steps: int, tasks: int = 1, seconds: float = 1.0) -> dict[str, int]:
    """Run the script with and without kills, and compare; how often each signal was answered."""
    path = os.path.dirname(sys.executable)
    run, whole = tmp_path / "run", tmp_path / "whole"
    queue = FakeSlurm(tmp_path / "slurm", CLUSTER / "pretrain.sbatch", path, tasks)
    batch = 8 // tasks
    sign = run / ".incomplete" / "run.lock"  # the run has begun
    answered = queue.until_done(*options(run, steps, batch), kills=kills, sign=sign, seconds=seconds)
    assert queue.run(*options(whole, steps, batch), sign=sign) == 0
    weights, expected = (load_file(folder / "model.safetensors") for folder in (run, whole))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert losses(run, steps) == losses(whole, steps)
    return answered


def test_the_batch_script_goes_on_after_it_was_stopped(tmp_path):
    assert sum(in_queue(tmp_path, kills=1, steps=20).values()) == 1


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    answered = in_queue(tmp_path, kills=20, steps=1_000)
    assert sum(answered.values()) == 20 and all(answered.values()), answered


@pytest.mark.slow
def test_a_job_of_two_processes(tmp_path):
    answered = in_queue(tmp_path, kills=4, steps=60, tasks=2)
    assert sum(answered.values()) == 4, answered


def test_the_task_for_skypilot_is_one():
    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    assert "--resume" in task["run"] and "/runs" in task["file_mounts"]
