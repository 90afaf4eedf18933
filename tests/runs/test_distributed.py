"""Two processes (gloo): the same teacher on both, and the same run as one process with the global batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

SCRIPT = str(Path(__file__).parents[1] / "support" / "tiny_runs.py")
OPTIONS = ["--steps", "20", "--save-steps", "20"]


@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_two_processes_equal_one(tmp_path, kind):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "two"), "--batch", "4", "--kind", kind, *OPTIONS], check=True)
    subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / "one"), "--batch", "8", "--kind", kind, *OPTIONS], check=True
    )
    ranks = [load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1)]
    one = load_file(tmp_path / "one" / "rank0.safetensors")
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name]), name
        torch.testing.assert_close(value, one[name], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert any(name.startswith("teacher.") for name in one)


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
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    options = ["--batch", "4", "--steps", "12", "--save-steps", "12"]
    command = [*torchrun, str(tmp_path / "stopped.py"), str(tmp_path / "run"), *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    for rank in (0, 1):
        assert f"rank {rank} 138 stopped by SIGUSR1 after step 7: {tmp_path}/run/checkpoint-7 is saved" in said
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "run"), *options], check=True)
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "whole"), *options], check=True)
    resumed, whole = (load_file(tmp_path / name / "rank0.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
