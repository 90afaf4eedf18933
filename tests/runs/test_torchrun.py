"""The command in several processes by torchrun, of which one dies: the others end, or torchrun starts all again."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from distributed_runs import TORCHRUN
from killed_runs import TINY
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
COMMAND = str(Path(__file__).parents[1] / "support" / "sharded_command.py")
OPTIONS = ["pretrain", "--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--per_device_train_batch_size", "4"]
OPTIONS += ["--use_cpu", "--ddp_backend", "gloo", "--disable_tqdm", "true", "--logging_steps", "1"]
OPTIONS += ["--warmup_steps", "1", "--save_strategy", "steps"]
FORMS = {"ddp": [], "fsdp": ["--fsdp"]}


def options(folder: Path, form: str, steps: int, *more: str) -> list[str]:
    save = ["--max_steps", str(steps), "--save_steps", str(steps // 6), "--output_dir", str(folder)]
    return [*OPTIONS, *save, *FORMS[form], *more, "--config", *TINY]


def start(launch: list[str], argv: list[str], pids: Path) -> subprocess.Popen:
    pids.mkdir(exist_ok=True)
    # Else torchrun keeps one store for all tries, with the addresses of processes that have ended.
    env = os.environ | {"PIDS": str(pids), "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with (pids / "log.txt").open("a") as log:
        return subprocess.Popen([*launch, COMMAND, *argv], env=env, stdout=log, stderr=log)


def kill_one(folder: Path, pids: Path, steps: int) -> None:
    """Kill the second process when there is a checkpoint."""
    deadline = time.monotonic() + 900
    while not list(folder.glob("checkpoint-*")):
        assert time.monotonic() < deadline, (pids / "log.txt").read_text()[-3000:]
        time.sleep(0.05)
    assert not (folder / f"checkpoint-{steps}").exists(), "the run ended too early"
    os.kill(int((pids / "1").read_text()), signal.SIGKILL)


def assert_equal(folder: Path, whole: Path) -> None:
    weights, expected = (load_file(one / "model.safetensors") for one in (folder, whole))
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@pytest.fixture(scope="module", params=FORMS)
def whole(request, tmp_path_factory):
    """A run that nothing happens to, its form, and its steps."""
    folder = tmp_path_factory.mktemp(request.param)
    assert start([*TORCHRUN, "2"], options(folder / "whole", request.param, 120), folder / "pids").wait(1200) == 0
    return folder / "whole", request.param, 120


def test_one_that_dies_ends_the_others_and_the_run_goes_on(whole, tmp_path):
    expected, form, steps = whole
    run, pids = tmp_path / "run", tmp_path / "pids"
    launched = start([*TORCHRUN, "2"], options(run, form, steps), pids)
    kill_one(run, pids, steps)
    killed = time.monotonic()
    assert launched.wait(60) != 0
    assert time.monotonic() - killed < 30
    assert "Signal 9 (SIGKILL) received" in (pids / "log.txt").read_text()
    assert start([*TORCHRUN, "2"], options(run, form, steps, "--resume"), pids).wait(1200) == 0
    assert_equal(run, expected)


def test_torchrun_restarts_all_and_the_run_goes_on_by_itself(whole, tmp_path):
    expected, form, steps = whole
    run, pids = tmp_path / "run", tmp_path / "pids"
    launched = start([*TORCHRUN, "2", "--max-restarts", "2"], options(run, form, steps, "--resume"), pids)
    kill_one(run, pids, steps)
    assert launched.wait(1200) == 0, (pids / "log.txt").read_text()[-3000:]
    assert_equal(run, expected)


def test_two_agents_restart_together_and_the_run_goes_on_by_itself(whole, tmp_path):
    """As on two machines, each with an agent of torchrun and a process; the process of the second one is killed."""
    expected, form, steps = whole
    run, pids = tmp_path / "run", tmp_path / "pids"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    agent = [*TORCHRUN[:-2], "--nnodes", "2", "--nproc_per_node", "1", "--max-restarts", "2", "--rdzv-id", "photos"]
    agent += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    agents = [start(agent, options(run, form, steps, "--resume"), pids) for _ in range(2)]
    try:
        kill_one(run, pids, steps)
        assert [one.wait(1200) for one in agents] == [0, 0], (pids / "log.txt").read_text()[-3000:]
    finally:
        for one in agents:
            one.kill()
    assert "failed (exitcode: -9)" in (pids / "log.txt").read_text()
    assert_equal(run, expected)


def test_a_sharded_run_draws_probes_and_reloads(tmp_path):
    """The main process does it with a whole copy; checkpoints are in shards here, and the model is whole."""
    shards = ["--fsdp_config", '{"state_dict_type": "SHARDED_STATE_DICT"}']
    probes = ["--probe_split", "test", "--probe_limit", "40", "--probe_steps", "3"]
    run = tmp_path / "run"
    launched = start([*TORCHRUN, "2"], options(run, "fsdp", 6, *shards, *probes), tmp_path / "pids")
    assert launched.wait(1200) == 0, (tmp_path / "pids" / "log.txt").read_text()[-3000:]
    names = {path.name for path in run.iterdir()}
    assert {"model.safetensors", "masks.png", "pca.png", "curves.png", "probe.json", "README.md"} <= names
    assert (run / "checkpoint-6" / "pytorch_model_fsdp_0").is_dir()
