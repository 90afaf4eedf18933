"""model_card.py: what a card says, and what it leaves alone."""

import configparser
import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tiny_runs import KINDS, tiny_model

from modeling_data2vec.trainers.hub.card_text import TEMPLATE
from modeling_data2vec.trainers.hub.model_card import BEGIN, END, write_card
from modeling_data2vec.trainers.hub.provenance import Provenance

FULL = Provenance(
    license="mit",
    base_model="anna/start",
    dataset="anna/sounds",
    recipe={"name": "mine", "source": "nowhere"},
    hyperparameters={"learning_rate": 0.001},
    steps=1_000,
    health={"loss": 1.25, "ema_decay": 0.999},
    hardware="1 x CPU",
    seconds=10_800.0,
    versions={"torch": "2"},
    converted_from={"file": "x.pt", "sha256": "0123456789abcdef0123"},
)
ROW = {"labels": 100, "probe": "linear", "mean": 0.5, "std": 0.1, "scores": [0.4, 0.6]}
PROBE = {
    "rows": [ROW | {"features": name} for name in ("random weights", "model", "raw pixels")],
    "pooling": "mean",
    "layer": -1,
    "seeds": [0, 1],
    "num_train": 100,
    "num_test": 50,
    "chance": 0.1,
}


@pytest.fixture
def folder(tmp_path):
    tiny_model().config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Data2Vec2VisionForPreTraining"]}))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_a_valid_card(kind, tmp_path):
    tiny_model(kind).save_pretrained(tmp_path)
    card = ModelCard.load(write_card(tmp_path, "anna/model"))
    version = kind.split()[1]
    assert card.data.library_name == "transformers" and f"data2vec-{version}" in card.data.tags
    assert card.data.pipeline_tag in ("feature-extraction", "image-feature-extraction")
    assert ("import modeling_data2vec" in card.text) == (version == "2.0")
    said = f"does not recognize `{json.loads((tmp_path / 'config.json').read_text())['model_type']}`"
    assert (said in card.text) == (version == "2.0")
    for arxiv in ("2202.03555", "2212.07525"):
        assert (arxiv in card.text) == (arxiv == {"1.0": "2202.03555", "2.0": "2212.07525"}[version])
    assert card.text.count("@inproceedings") == 2
    assert "Not stated" in card.text and "Not evaluated" in card.text


def test_everything_that_is_known_is_said(folder):
    FULL.save(folder)
    (folder / "probe.json").write_text(json.dumps(PROBE))
    (folder / "curves.png").write_bytes(b"")
    card = ModelCard.load(write_card(folder, "anna/model"))
    for fact in ("mine (nowhere)", "| learning_rate | 0.001 |", "1,000", "3.0 hours", "1 x CPU", "torch 2", "x.pt"):
        assert fact in card.text, fact
    assert "| loss | 1.25 |" in card.text and "(curves.png)" in card.text and "| random weights | 50.0" in card.text
    data = card.data
    assert (data.license, data.base_model, data.datasets) == ("mit", "anna/start", ["anna/sounds"])
    (result,) = data.eval_results
    assert (result.metric_name, result.metric_value) == ("linear probe, 100 labels", 0.5)


def test_folders_are_no_names_on_the_hub(folder):
    Provenance(base_model="runs/../x", dataset="/data/images").save(folder)
    card = ModelCard.load(write_card(folder))
    assert card.data.base_model is None and card.data.datasets is None


def test_writing_again_renews_what_is_generated_alone(folder):
    path = write_card(folder, "anna/model")
    text = path.read_text()
    for old, new in (
        ("# anna/model", "# My model\n\nBefore."),
        ("What is written here, outside of the marks, stays.", "After."),
        ("- images\n", "- images\n- mine\n"),
        ("A data2vec 2.0 model", "Changed inside"),
        ("library_name: transformers", "library_name: mine\nlanguage: en"),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    FULL.save(folder)
    card = ModelCard.load(write_card(folder, "anna/model"))
    assert "# My model\n\nBefore." in card.text and "After." in card.text
    assert "Changed inside" not in card.text and "1,000" in card.text
    assert card.data.library_name == "mine" and card.data.language == "en" and "mine" in card.data.tags
    assert card.data.license == "mit"


def test_results_are_renewed_and_those_of_others_stay(folder):
    FULL.save(folder)
    (folder / "probe.json").write_text(json.dumps(PROBE))
    path = write_card(folder, "anna/model")
    text = path.read_text().replace("name: linear probe, 100 labels", "name: my own measure")
    path.write_text(text)
    results = ModelCard.load(write_card(folder, "anna/model")).data.eval_results
    assert {result.metric_name for result in results} == {"my own measure", "linear probe, 100 labels"}
    assert len(ModelCard.load(write_card(folder, "anna/model")).data.eval_results) == 2


def test_a_card_without_marks_gets_the_part_at_its_end(folder):
    (folder / "README.md").write_text("# Mine\n\nText.\n")
    text = write_card(folder).read_text()
    assert text.index("Text.") < text.index(BEGIN) < text.index(END)


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_a_lost_mark_is_an_error(folder, mark):
    path = write_card(folder)
    path.write_text(path.read_text().replace(mark, ""))
    before = path.read_text()
    with pytest.raises(ValueError, match="has lost one of the marks"):
        write_card(folder)
    assert path.read_text() == before


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no config.json"):
        write_card(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert', not one of data2vec"):
        write_card(tmp_path)


def test_the_template_is_installed_with_the_package():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    assert fnmatch(TEMPLATE.name, config["options.package_data"]["modeling_data2vec.trainers.hub"])
