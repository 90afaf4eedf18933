"""Two processes (gloo): the same teacher on both, and the same run as one process with the global batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

SCRIPT = str(Path(__file__).parent / "tiny_runs.py")
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
