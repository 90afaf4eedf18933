"""Two processes (gloo), sharded or not: the same run as one process with the global batch; any goes on from any."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_runs import TinyRun, runs
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

SUPPORT = Path(__file__).parents[1] / "support"
SCRIPT = str(SUPPORT / "tiny_runs.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
ALL = [*KINDS, JOINT]
# One process, then two, then two with shards, twice: gathered and as they are.
CHAIN = {"one": 4, "ddp": 8, "fsdp": 12, "shards": 16}


def in_processes(count: int, folder: Path, *named: str) -> None:
    """Do runs of `distributed_runs.py` in so many processes."""
    script = str(SUPPORT / "distributed_runs.py")
    subprocess.run([*TORCHRUN, str(count), script, str(folder), *named], check=True, timeout=900)


def chain(folder: Path, kind: str) -> list[str]:
    """Begin a run in one process, and name what others do with it."""
    first, *others = (f"{form}:{kind}:{stop}" for form, stop in CHAIN.items())
    runs(folder, first)[0]()
    return others


def assert_close(folder: Path, expected: Path) -> None:
    weights, others = (load_file(one / "model.safetensors") for one in (folder, expected))
    assert weights.keys() == others.keys()
    assert any(name.startswith("teacher.") for name in weights)
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of all kinds: alone, in two processes, and sharded between two; and one that goes through all forms."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.set_num_threads(1)
    others = chain(folder, "images 2.0")
    in_processes(2, folder, *(f"{form}:{kind}" for form in ("ddp", "fsdp") for kind in ALL), *others)
    for run in runs(folder, *(f"one:{kind}" for kind in ALL)):
        run()
    return folder


@pytest.mark.parametrize("kind", ALL)
def test_two_processes_equal_one(folder, kind):
    ranks = [load_file(folder / "ddp" / f"{kind}-rank{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items())
    assert_close(folder / "ddp" / kind, folder / "one" / kind)


@pytest.mark.parametrize("kind", ALL)
def test_sharded_weights_equal_one_process(folder, kind):
    assert_close(folder / "fsdp" / kind, folder / "one" / kind)


def assert_goes_on(folder: Path, kind: str) -> None:
    """From gathered weights and from shards, a run of one process ends as one that was never distributed."""
    path = folder / "chain" / kind
    steps = {int(checkpoint.name[11:]) for checkpoint in path.glob("checkpoint-*")}
    assert steps == {3, 4, 7, 8, 11, 12, 15, 16}  # each part with `save_steps` of its own
    assert (path / "checkpoint-12" / "optimizer.pt").is_file()
    assert not (path / "checkpoint-16" / "model.safetensors").exists()
    for step in (12, 16):
        trainer = TinyRun("one", kind, path).trainer()
        trainer.train(resume_from_checkpoint=str(path / f"checkpoint-{step}"))
        trainer.save_model(str(folder / f"{kind} after {step}"))
        assert_close(folder / f"{kind} after {step}", folder / "one" / kind)


def test_any_form_goes_on_from_any_other(folder):
    assert_goes_on(folder, "images 2.0")


@pytest.mark.slow
def test_two_processes_go_on_in_a_stream(tmp_path):
    """Two workers each; the resumed run ends as the one that never stopped, bit for bit, on both processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    options = ["--batch", "4", "--kind", "text 2.0", "--streamed", "--save-steps", "7"]
    for folder, steps in (("whole", "14"), ("resumed", "7"), ("resumed", "14")):
        subprocess.run([*torchrun, SCRIPT, str(tmp_path / folder), *options, "--steps", steps], check=True)
    for rank in (0, 1):
        resumed, whole = (load_file(tmp_path / name / f"rank{rank}.safetensors") for name in ("resumed", "whole"))
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
        state = json.loads((tmp_path / "whole" / "checkpoint-14" / f"stream_{rank}.json").read_text())
        epochs = [position["text"]["epoch"] for position in state["workers"].values()]
        assert epochs == [2, 2] and state["shards"] == {"text": [3, [15, 15, 15]]}, "28 each of 11 an epoch"


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path):
    """And what they saved goes on to the same end."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(SCRIPT).parent)!r})
import tiny_runs
from transformers import TrainerCallback
from modeling_data2vec.trainers import Data2VecTrainer

class Send(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 6 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGUSR1)

build = Data2VecTrainer.__init__
Data2VecTrainer.__init__ = lambda self, *a, **k: build(self, *a, callbacks=[Send()], **k)
try:
    tiny_runs.main()
except SystemExit as stopped:
    print("rank", os.environ["RANK"], stopped.code, stopped, flush=True)
    os._exit(0)
"""
    (tmp_path / "stopped.py").write_text(script)
    torchrun = [*TORCHRUN, "2"]
    options = ["--batch", "4", "--steps", "12", "--save-steps", "12"]
    command = [*torchrun, str(tmp_path / "stopped.py"), str(tmp_path / "run"), *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    for rank in (0, 1):
        assert f"rank {rank} 138 stopped by SIGUSR1 after step 7: {tmp_path}/run/checkpoint-7 is saved" in said
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "run"), *options], check=True)
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "whole"), *options], check=True)
    resumed, whole = (load_file(tmp_path / name / "rank0.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
