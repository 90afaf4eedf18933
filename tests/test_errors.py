"""errors.py: what is nobody's mistake in the code ends in one line; what is one shows its traceback."""

import errno
import pickle
import zipfile

import datasets.exceptions
import httpx2
import pytest
import torch
import yaml
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors import SafetensorError
from tiny_runs import tiny_model

from modeling_data2vec.trainers import cli


def ended(monkeypatch, capsys, error: BaseException) -> tuple[int, str]:
    def fails(argv):
        raise error

    monkeypatch.setattr(cli, "run_recipes", fails)
    code = cli.run("recipes", [])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "/data/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 2, "a/b: Not a directory"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), 2, "a: No such file"),
        (OSError(errno.ENOSPC, "No space left on device", "out"), 1, "free some space"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "ulimit -n"),
        (OSError("first line\nand a second"), 2, "first line and a second"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 1, "the Hub could not be reached"),
        (httpx2.ConnectError("no route"), 1, "the Hub could not be reached"),
        (OfflineModeIsEnabled("offline mode"), 1, "HF_HUB_OFFLINE"),
        (SafetensorError("header too large"), 2, "header too large"),
        (pickle.UnpicklingError("invalid load key"), 2, "damaged or incomplete"),
        (zipfile.BadZipFile("no zip"), 2, "damaged or incomplete"),
        (EOFError(), 2, "EOFError"),
        (yaml.YAMLError("bad"), 2, "damaged or incomplete"),
        (datasets.exceptions.DatasetNotFoundError("no such data"), 2, "no such data"),
        (MemoryError(), 1, "lower --per_device_train_batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "lower --per_device_train_batch_size"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), 1, "choose a smaller model"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:1"), 1, "another process of"),
        (ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard"), 2, "a package is missing"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_known_errors_are_one_line(monkeypatch, capsys, error, code, words):
    found, said = ended(monkeypatch, capsys, error)
    assert found == code and len(said.splitlines()) == 1 and said.startswith("data2vec recipes: ") and words in said


def test_data_sets_say_the_cause(monkeypatch, capsys):
    error = datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = ValueError("Expected 2 fields in line 7, saw 3")
    code, said = ended(monkeypatch, capsys, error)
    assert code == 2 and "Expected 2 fields in line 7, saw 3" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [TypeError("unsupported operand"), KeyError("x"), RuntimeError("shapes"), RecursionError()]
)
def test_mistakes_in_the_code_are_shown(monkeypatch, capsys, error):
    code, said = ended(monkeypatch, capsys, error)
    assert code == 1 and "Traceback" in said and "in fails" in said and "please report it" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing", "anna/none"), ("gated", "gated"), pytest.param("down", "anna/model", marks=pytest.mark.slow)],
)
def test_a_model_on_the_hub_that_can_not_be_had(hub, tmp_path, monkeypatch, capsys, kind, words):
    if kind == "gated":
        tiny_model().save_pretrained(tmp_path / "model")
        hub.put("anna/model", {"config.json": (tmp_path / "model" / "config.json").read_bytes()}, gated=True)
    name = "anna/none" if kind == "missing" else "anna/model"
    if kind == "down":
        for method in ("GET", "HEAD"):
            hub.fail(method, "anna/model", status=500, times=100)
    assert cli.run("export", [name, str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("data2vec")]) == 1 and words in said[-1]
    assert not any("Traceback" in line for line in said) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["inspect", "export", "push", "convert", "merge"])
def test_a_folder_that_may_not_be_read(tmp_path, capsys, command):
    """A folder by the name of a file stands for one that can't be opened: tests may run as root."""
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    arguments = {
        "inspect": [folder],
        "export": [folder, tmp_path / "out"],
        "push": [folder, "anna/x"],
        "convert": [folder, tmp_path / "out", "--to", "fairseq"],
        "merge": [f"vision={folder}", "--output_dir", tmp_path / "out"],
    }[command]
    assert cli.run(command, [str(one) for one in arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "model" in said[0]
