"""What stands in the files beside the weights, with code and without."""

import json

from tiny_runs import tiny_model
from transformers import AutoModel

from modeling_data2vec.model_files import EMBEDDING_FILES
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.hub.publishing import publish

NAME = "anna/tiny"


def test_without_code_by_a_flag(hub, tiny_folder):
    """And nothing says that there were any, though the model came from a repository with code."""
    config = json.loads((tiny_folder / "config.json").read_text())
    (tiny_folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "a--b.Config"}}))
    assert run("push", [str(tiny_folder), NAME, "--with_code", "false"]) == 0
    files = hub.files(NAME)
    assert not any(name.endswith(".py") for name in files) and "auto_map" not in files["config.json"].decode()
    card = files["README.md"].decode()
    assert "import modeling_data2vec" in card and "trust_remote_code" not in card


def test_a_loaded_model_is_saved_without_the_names_of_code_elsewhere(hub, tiny_folder, tmp_path):
    publish(tiny_folder, NAME)
    model = AutoModel.from_pretrained(NAME, cache_dir=tmp_path)
    assert "auto_map" in model.config.to_dict()
    model.save_pretrained(tmp_path / "again")
    assert "auto_map" not in (tmp_path / "again" / "config.json").read_text()


def test_a_folder_from_before_gets_the_files_of_sentence_transformers(hub, tiny_folder):
    tiny_model("spectrograms 2.0").save_pretrained(tiny_folder)
    expected = {name: (tiny_folder / name).read_bytes() for name in EMBEDDING_FILES}
    for name in EMBEDDING_FILES:
        (tiny_folder / name).unlink()
    publish(tiny_folder, NAME)
    assert {name: hub.files(NAME)[name] for name in EMBEDDING_FILES} == expected
