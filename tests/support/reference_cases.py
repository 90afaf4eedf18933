"""The authors' stored numbers: every case of a folder, which `DATA2VEC_REFERENCE` may name.

A folder may hold some kinds of cases alone, and others that no test here knows: those are left out.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from modeling_data2vec.fairseq.data2vec2_options import left_out_options
from modeling_data2vec.fairseq.data2vec_options import left_out_options_v1

OWN_FOLDER = Path(__file__).parents[1] / "reference"
FOLDER = Path(os.environ.get("DATA2VEC_REFERENCE") or OWN_FOLDER)
FAIRSEQ, EAT = "facebookresearch/fairseq", "cwx-worst-one/EAT"
VERSIONS = {"a1": "1.0", "t1": "1.0", "v1": "1.0", "m2": "2.0"}  # by the kind of a training case
# Where other cases begin, which the tests of masking, positions, schedules and targets read.
OTHER_CASES = (
    *("mask_statistics", "schedules", "targets_v", "v2_alibi", "v2_image_sincos_positions", "checkpoints"),
    *("eat_mask_statistics", "eat_sincos_positions", "eat_fbank", "eat_checkpoints"),
)


@dataclass
class Case:
    name: str
    info: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under `prefix.`, without the prefix; empty where the case does not have them."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}

    @property
    def version(self) -> str:
        return VERSIONS[self.info["kind"]]

    @property
    def modality(self) -> str:
        """ "audio", "text", "vision" (1.0), "image" (2.0) or "spectrogram" (EAT)."""
        if repository(self.info) == EAT:
            return "spectrogram"
        if self.version == "1.0":
            return str(self.info["model"]).removeprefix("data2vec_")
        return str(self.info["config"]["supported_modality"]).lower()

    def left_out(self) -> dict[str, Any]:
        """Options of a training case that docs/differences.md leaves out."""
        if self.version == "1.0":
            return left_out_options_v1(self.info["config"], self.info["model"])
        return left_out_options(self.info["config"])


def names(pattern: str) -> list[str]:
    """Names of the stored cases that match a pattern."""
    return sorted(path.parent.name for path in FOLDER.glob(f"{pattern}/case.json"))


def training(version: str, modality: str = "") -> list[str]:
    """Names of the stored training cases of a version ("1.0", "2.0"), whatever they are called."""
    cases = (Case(name, read_info(name), {}) for name in names("*"))
    found = (case for case in cases if is_training(case.info) and case.version == version)
    return [case.name for case in found if modality in ("", case.modality)]


def others(pattern: str) -> list[str]:
    """Names of the stored cases that match a pattern and are not of training."""
    return [name for name in names(pattern) if not is_training(read_info(name))]


def is_training(info: Any) -> bool:
    """Whether a case has steps of training of the authors' data2vec or of EAT, and of no other model made of it."""
    if not isinstance(info, dict):
        return False
    return repository(info) in (FAIRSEQ, EAT) and info.get("kind") in VERSIONS and "steps" in info


def repository(info: dict[str, Any]) -> str:
    """Where the code is that a case was recorded from."""
    reference = info.get("reference")
    return reference.get("repo", FAIRSEQ) if isinstance(reference, dict) else FAIRSEQ


def unknown() -> list[str]:
    """What lies in the folder and no test reads."""
    known = {*training("1.0"), *training("2.0")}
    return sorted(p.name for p in FOLDER.iterdir() if p.name not in known and not p.name.startswith(OTHER_CASES))


def skip_unless_own_folder() -> None:
    """A check that all kinds of cases are there is for the committed ones."""
    if FOLDER != OWN_FOLDER:
        pytest.skip(f"{FOLDER} may hold some kinds of cases alone")


def read_info(name: str) -> Any:
    return json.loads((FOLDER / name / "case.json").read_text())


def load(name: str) -> Case:
    folder = FOLDER / name
    tensors = load_file(folder / "tensors.safetensors") if (folder / "tensors.safetensors").exists() else {}
    return Case(name, read_info(name), tensors)


def load_convertible(name: str, accepted: dict[str, Any] | None = None) -> Case:
    """A training case; skips one with options that are left out, unless they are just the `accepted` ones."""
    case = load(name)
    used = case.left_out()
    if used and used != accepted:
        pytest.skip(f"docs/differences.md leaves out {used}")
    return case


def assert_close(actual: Tensor, expected: Tensor, *, relative: bool = False) -> None:
    """Within 1e-5; `relative` to the largest of `expected`, where that is above 1."""
    largest = max(1.0, float(expected.abs().max())) if relative else 1.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * largest)


def assert_gradients(model, expected: dict[str, Tensor]) -> None:
    """As the stored ones, where there are any."""
    if not expected:
        return
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    # A gradient that is zero by symmetry (the key bias) holds rounding only; compare it with its layer's scale.
    floor = 1e-6 * max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in gradients.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()) + floor, name


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


def assert_state(model, expected: dict[str, Tensor]) -> None:
    """The whole teacher, and whatever else is expected, within 1e-6; where a case stores what comes after updates."""
    state = model.state_dict()
    if any(name.startswith("teacher.") for name in expected):
        assert {name for name in state if name.startswith("teacher.")} <= expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
