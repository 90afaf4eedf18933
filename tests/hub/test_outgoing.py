"""outgoing.py and public_names.py: what leaves this machine is the model, and nothing that says where it was made."""

import getpass
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import arguments, tiny_model, tiny_samples

from modeling_data2vec.model_files import EMBEDDING_FILES
from modeling_data2vec.trainers import Data2VecTrainer
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.hub.outgoing import FolderError, prepare
from modeling_data2vec.trainers.hub.provenance import Provenance
from modeling_data2vec.trainers.hub.public_names import public_data, public_name, without_places
from modeling_data2vec.trainers.hub.publishing import PushOptions, publish

NAME = "anna/tiny"
TOKEN = "hf_anna"


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# ---- links and names ----


@pytest.mark.parametrize("name", ["LICENSE", "vocab.txt", "curves.png", "README.md", "probe.json", "model.safetensors"])
@pytest.mark.parametrize("target", ["outside", "inside", "missing", "folder"])
def test_links_are_refused_by_name(hub, folder, tmp_path, name, target):
    (tmp_path / "secret").write_text("{}")
    places = {
        "outside": tmp_path / "secret",
        "inside": folder / "config.json",
        "missing": tmp_path / "no",
        "folder": tmp_path,
    }
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(places[target])
    with pytest.raises(FolderError, match=f"{name} is a link to .*published"):
        publish(folder, NAME, token=TOKEN)
    assert not hub.requests


def test_a_part_that_is_a_link_is_refused(hub, folder, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "vocab.txt").write_text("secret")
    (folder / "audio").symlink_to(tmp_path / "private")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"audio_config": {"hidden_size": 8}}))
    with pytest.raises(FolderError, match="audio is a link to"):
        publish(folder, NAME, token=TOKEN)


def test_links_that_are_not_published_do_not_matter(folder, tmp_path):
    (folder / "notes.md").symlink_to(tmp_path / "secret")
    (folder / "data").symlink_to(tmp_path)
    prepare(folder, tmp_path / "staging")
    assert {file.name for file in (tmp_path / "staging").iterdir()} == {
        "config.json",
        "model.safetensors",
        *EMBEDDING_FILES,
    }


@pytest.mark.parametrize("name", ["..\\up.png", "C:evil.png", "line\nbreak.png"])
def test_names_that_lead_elsewhere_are_refused(hub, folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(FolderError, match="rename or remove it"):
        publish(folder, NAME, token=TOKEN)
    assert not hub.requests


@pytest.mark.parametrize(
    "name",
    [
        "../other/model.safetensors",
        "/etc/model.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "..",
        "",
        5,
        "x.bin",
    ],
)
def test_an_index_names_files_of_its_folder_alone(folder, tmp_path, name, capsys):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    commands = (
        ["push", str(folder), NAME],
        ["convert", str(folder), str(tmp_path / "out.pt"), "--to", "fairseq"],
        ["export", str(folder), str(tmp_path / "out")],
    )
    for command in commands:
        assert run(command[0], command[1:]) == 2
        assert "model.safetensors.index.json names" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must name safetensors of its own folder"):
        type(tiny_model()).from_pretrained(folder)


# ---- weights that are not numbers ----


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_named(hub, folder, tmp_path, value, capsys):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, weight in weights.items() if weight.numel() > 3)
    weights[name].view(-1)[:2] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    commands = (
        ["push", str(folder), NAME],
        ["export", str(folder), str(tmp_path / "out")],
        ["merge", f"vision={folder}", "--output_dir", str(tmp_path / "out")],
    )
    for command in commands:
        assert run(command[0], command[1:]) == 2
        error = capsys.readouterr().err
        assert (
            f"{name.removeprefix('data2vec2_vision.')} (2 of {weights[name].numel():,})" in error
            and str(folder) in error
        )
    assert not hub.requests and not (tmp_path / "out").exists()


# ---- where it was made ----


def test_names_in_public(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "model").write_text("")
    assert public_name("runs/first") == "first" and public_name("runs/first/") == "first"
    assert public_name("lab/model") == "model" and public_name("lab/other") == "lab/other"
    assert public_name("../x/y.csv") == "y.csv" and public_name("C:\\Users\\ann\\y.csv") == "y.csv"
    assert public_name(str(Path.home())) == public_name("~") == "a local folder"
    assert public_name("hf://datasets/lab/speech") == "hf://datasets/lab/speech"
    assert public_data(f"vision={tmp_path}/runs/first audio=lab/other") == "vision=first audio=lab/other"
    assert public_data("a b=c/d e.csv") == "d e.csv" and public_data("digits") == "digits"


def test_labels_that_look_like_paths_stay():
    values = {
        "id2label": {"0": "/m/09x0r/x", "1": "and/or"},
        "_name_or_path": "/data/ann/model",
        "list": [str(Path.home() / "x")],
    }
    assert without_places(values) == values | {"_name_or_path": "model", "list": ["x"]}
    assert without_places({"data": "/checkpoint/ann/x", "n": 1}, all_paths=True) == {"data": "x", "n": 1}


@pytest.mark.parametrize(
    "strategy",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("end", "checkpoint")), "every_save", "all_checkpoints"],
)
def test_nothing_published_says_where_it_was_made(hub, tmp_path, monkeypatch, strategy):
    home = tmp_path / "tell-tale-path"
    base, output = home / "base", home / "run"
    monkeypatch.setattr(getpass, "getuser", lambda: "tell-tale-user")
    monkeypatch.setattr(socket, "gethostname", lambda: "tell-tale-host")
    tiny_model().save_pretrained(base)
    model = type(tiny_model()).from_pretrained(base)
    args = arguments(
        output,
        push_to_hub=True,
        hub_model_id=NAME,
        hub_token=TOKEN,
        hub_strategy=strategy,
        hub_always_push=True,
        save_strategy="steps",
        save_steps=2,
        max_steps=4,
    )
    data = home / "photos"
    data.mkdir()
    provenance = Provenance(base_model=str(base), dataset=str(data))
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model), provenance=provenance)
    trainer.state.best_model_checkpoint = str(output / "checkpoint-2")
    trainer.train()
    config = json.loads((output / "config.json").read_text())
    (output / "config.json").write_text(json.dumps(config | {"_name_or_path": str(base)}))
    (output / "fairseq.json").write_text(json.dumps({"config": {"data": "/else/tell-tale-user/x"}}))
    for options in (PushOptions(with_code=True), PushOptions(with_teacher=True)):
        publish(output, NAME, options, token=TOKEN)
    files = hub.files(NAME)
    assert "Data: photos" in files["README.md"].decode() and "Started from: base" in files["README.md"].decode()
    sent = [blob.data for commit in hub.repositories["model", NAME].commits.values() for blob in commit.files.values()]
    for data in (*sent, *hub.bodies, *(path.encode() for _, path, _ in hub.requests)):
        assert b"tell-tale" not in data and str(tmp_path).encode() not in data
    assert (strategy == "all_checkpoints") == any("checkpoint-4/trainer_state.json" in name for name in files)


def test_a_token_is_in_no_file(tmp_path):
    model = tiny_model()
    settings = {
        "push_to_hub": True,
        "hub_model_id": NAME,
        "hub_token": TOKEN,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    args = arguments(tmp_path / "run", **settings)
    trainer = Data2VecTrainer(model, args, train_dataset=tiny_samples(model), push_at_end=False)
    trainer.train()
    trainer.save_model()
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert [file for file in files if file.name == "training_args.bin"]
    for file in files:
        assert TOKEN.encode() not in file.read_bytes(), file
    assert trainer.args.hub_token == TOKEN and TOKEN not in str(trainer.args)


def test_what_people_keep_beside_a_model_stays_there(hub, folder):
    for name in ("training_args.bin", "events.out.tfevents.1.host", "photo.jpg", ".env"):
        (folder / name).write_bytes(b"mine")
    os.mkfifo(folder / "pipe.png")
    publish(folder, NAME, PushOptions(with_code=False), token=TOKEN)
    assert set(hub.files(NAME)) == {"README.md", "config.json", "model.safetensors", *EMBEDDING_FILES}
    shutil.rmtree(folder)


def test_metadata_of_weights_name_no_place(hub, folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "from": str(folder)})
    with pytest.raises(FolderError, match="local path in its metadata"):
        publish(folder, NAME, token=TOKEN)
    assert torch.equal(next(iter(weights.values())), next(iter(load_file(folder / "model.safetensors").values())))
