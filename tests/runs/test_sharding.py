"""Weights that are sharded between processes (FSDP2), in all the ways that models and runs differ: slow tests."""

import json
from pathlib import Path

import pytest
import torch
from distributed_runs import VARIANTS, assert_close, assert_goes_on, chain, in_processes, runs
from safetensors.torch import load_file
from tiny_runs import JOINT, KINDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    torch.set_num_threads(1)
    forms = [f"{form}:{name}" for name in VARIANTS for form in ("fsdp", "ddp") if form == "fsdp" or "drop" not in name]
    in_processes(2, folder, *forms)
    return folder


@pytest.mark.parametrize("name", [name for name in VARIANTS if "bf16" not in name and "drop" not in name])
def test_variants(folder, name):
    assert_close(folder / "fsdp" / name, folder / "ddp" / name)


@pytest.mark.parametrize("name", [name for name in VARIANTS if "drop" in name])
def test_processes_drop_layers_for_themselves(folder, name):
    weights = load_file(folder / "fsdp" / name / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("name", [name for name in VARIANTS if "bf16" in name])
def test_half_precision_is_that_of_whole_weights(folder, name):
    losses = [torch.tensor(logged(folder / form / name)) for form in ("fsdp", "ddp")]
    torch.testing.assert_close(*losses, rtol=1e-2, atol=0)


def logged(folder: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((folder / "log.json").read_text()) if "loss" in entry]


@pytest.mark.parametrize("kind", ["images 2.0", "joint"])
def test_groups_of_processes_with_all_weights_each(tmp_path, kind):
    in_processes(4, tmp_path, f"hsdp:{kind}")
    runs(tmp_path, f"one:{kind}")[0]()
    assert_close(tmp_path / "hsdp" / kind, tmp_path / "one" / kind)


def test_a_config_file_of_accelerate(tmp_path):
    in_processes(2, tmp_path, "launched:text 1.0")
    runs(tmp_path, "one:text 1.0")[0]()
    assert_close(tmp_path / "launched" / "text 1.0", tmp_path / "one" / "text 1.0")


@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_any_form_goes_on_from_any_other(tmp_path, kind):
    in_processes(2, tmp_path, *chain(tmp_path, kind))
    runs(tmp_path, f"one:{kind}")[0]()
    assert_goes_on(tmp_path, kind)
