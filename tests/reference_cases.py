"""The authors' stored numbers: every case of a folder, which `DATA2VEC_REFERENCE` may name."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

FOLDER = Path(os.environ.get("DATA2VEC_REFERENCE") or Path(__file__).parent / "reference")


@dataclass
class Case:
    name: str
    info: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors under `prefix.`, without the prefix."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def names(pattern: str) -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob(f"{pattern}/case.json"))


def load(name: str) -> Case:
    folder = FOLDER / name
    tensors = load_file(folder / "tensors.safetensors") if (folder / "tensors.safetensors").exists() else {}
    return Case(name, json.loads((folder / "case.json").read_text()), tensors)


def run_updates(model, case: Case, step_inputs: Callable[[int], dict[str, torch.Tensor]]) -> None:
    """The stored protocol: steps of plain gradient descent and of the teacher, with losses and decays compared."""
    info = case.info
    for step in range(info["nsteps"]):
        output = model(**step_inputs(step))
        size = info["steps"][step]["sample_size"]
        assert float(output.loss.detach()) * size == pytest.approx(info["steps"][step]["loss_total_sum"], rel=1e-5)
        model.zero_grad()
        output.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter -= info["sgd_lr"] * parameter.grad
        decay = model.update_teacher(step + 1)
        assert decay == pytest.approx(info["ema_decay_applied_before_forward_of_step"][step], rel=1e-9)


def assert_state(model, expected: dict[str, torch.Tensor]) -> None:
    """The whole teacher, and whatever else is expected, within 1e-6."""
    state = model.state_dict()
    assert {name for name in state if name.startswith("teacher.")} <= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
