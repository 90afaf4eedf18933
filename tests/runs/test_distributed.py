"""Two processes (gloo), sharded or not: the same run as one process with the global batch; any goes on from any."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from distributed_runs import PAIRS, TORCHRUN, assert_close, assert_goes_on, chain, in_processes, runs
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

SUPPORT = Path(__file__).parents[1] / "support"
SCRIPT = str(SUPPORT / "tiny_runs.py")
ALL = [*KINDS, JOINT, PAIRS]


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


def test_any_form_goes_on_from_any_other(folder):
    assert_goes_on(folder, "images 2.0")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[], [20, 3, 1, 17, 4]], ids=["equal shares", "sizes unknown"])
def test_two_processes_go_on_in_a_stream(tmp_path, sizes):
    """Two workers each; the resumed run ends as the one that never stopped, bit for bit, on both processes."""
    torchrun = [*TORCHRUN, "2"]
    options = ["--batch", "4", "--kind", "text 2.0", "--streamed", "--save-steps", "7", "--steps", "14"]
    options += ["--sizes", *map(str, sizes)] if sizes else []
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "whole"), *options], check=True)
    shutil.copytree(tmp_path / "whole" / "checkpoint-7", tmp_path / "resumed" / "checkpoint-7")
    subprocess.run([*torchrun, SCRIPT, str(tmp_path / "resumed"), *options], check=True)
    for rank in (0, 1):
        resumed, whole = (load_file(tmp_path / name / f"rank{rank}.safetensors") for name in ("resumed", "whole"))
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())
        state = json.loads((tmp_path / "whole" / "checkpoint-14" / f"stream_{rank}.json").read_text())
        epochs = [position["text"]["epoch"] for position in state["workers"].values()]
        if sizes:
            assert state["epoch"] == 2 and state["shards"] == {"text": [5, None]}, "56 of 45 an epoch"
            continue
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
