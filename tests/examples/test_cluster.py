"""The batch script of examples/cluster in a queue that stops it: the run ends as one that nobody stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_slurm import FakeSlurm
from killed_runs import TINY
from safetensors.torch import load_file
from torch.distributed.run import get_args_parser

from modeling_data2vec import Data2VecTrainingArguments
from modeling_data2vec.trainers.option_parser import OptionParser

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


@pytest.mark.parametrize("file", ["hf_jobs.sh", "skypilot.yaml"])
def test_what_torchrun_is_given_parses(tmp_path, file):
    """In the shell of the file, with programs that only say what they were given."""
    said = tmp_path / "said.json"
    stub = f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(said)!r}, 'w'))\n"
    for name in ("hf", "torchrun"):
        (tmp_path / name).write_text(stub)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pip").symlink_to("/bin/true")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SKYPILOT_NUM_GPUS_PER_NODE": "4"}
    command = ["bash", CLUSTER / file, "me/runs", "--recipe", "data2vec2-vision-base", "--dataset", "photos"]
    if file == "skypilot.yaml":
        task = yaml.safe_load((CLUSTER / file).read_text())
        env |= {name: str(value or "me/photos") for name, value in task["envs"].items()}
        command = ["bash", "-c", task["run"]]
    subprocess.run(command, env=env, cwd=tmp_path, check=True)
    if file == "hf_jobs.sh":
        given = json.loads(said.read_text())
        subprocess.run(given[given.index("bash") :], env=env, cwd=tmp_path, check=True)
    launch = get_args_parser().parse_args(json.loads(said.read_text()))
    assert launch.module and launch.training_script == "data2vec_cli" and launch.nproc_per_node == "4"
    name, *argv = launch.training_script_args
    options, _ = OptionParser(name, Data2VecTrainingArguments).parse(["--output_dir", "run", *argv])
    assert options.resume and options.recipe == "data2vec2-vision-base"
