"""What stands in the files beside the weights, with code and without."""

import json

import pytest
from tiny_runs import tiny_model
from transformers import AutoModel

from modeling_data2vec.model_files import EMBEDDING_FILES
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.hub.publishing import publish

NAME = "anna/tiny"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_anna")
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_without_code_by_a_flag(hub, folder):
    """And nothing says that there were any, though the model came from a repository with code."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "a--b.Config"}}))
    assert run("push", [str(folder), NAME, "--with_code", "false"]) == 0
    files = hub.files(NAME)
    assert not any(name.endswith(".py") for name in files) and "auto_map" not in files["config.json"].decode()
    card = files["README.md"].decode()
    assert "import modeling_data2vec" in card and "trust_remote_code" not in card


def test_a_loaded_model_is_saved_without_the_names_of_code_elsewhere(hub, folder, tmp_path):
    publish(folder, NAME)
    model = AutoModel.from_pretrained(NAME, cache_dir=tmp_path)
    assert "auto_map" in model.config.to_dict()
    model.save_pretrained(tmp_path / "again")
    assert "auto_map" not in (tmp_path / "again" / "config.json").read_text()


def test_a_folder_from_before_gets_the_files_of_sentence_transformers(hub, folder):
    tiny_model("spectrograms 2.0").save_pretrained(folder)
    expected = {name: (folder / name).read_bytes() for name in EMBEDDING_FILES}
    for name in EMBEDDING_FILES:
        (folder / name).unlink()
    publish(folder, NAME)
    assert {name: hub.files(NAME)[name] for name in EMBEDDING_FILES} == expected
