"""eval_results.py: figures as the Hub's own files, beside those in the card."""

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from modeling_data2vec.trainers.hub.provenance import Provenance
from modeling_data2vec.trainers.hub.publishing import publish

NAME = "anna/tiny"


def test_results_on_data_of_the_hub_are_files_of_their_own(hub, tiny_folder, tmp_path):
    figures = {"validation": {"accuracy": 0.912345, "loss": 0.4}}
    Provenance(dataset="anna/sounds", task="classification", metrics=figures).save(tiny_folder)
    publish(tiny_folder, NAME)
    files = {name: data for name, data in hub.files(NAME).items() if name.startswith(".eval_results/")}
    entries = [parse_eval_result_entries(yaml.safe_load(data)) for data in files.values()]
    expected = [("accuracy, validation", 0.9123), ("loss, validation", 0.4)]
    assert [(one.notes, one.value) for (one,) in entries] == expected
    assert {one.dataset_id for (one,) in entries} == {"anna/sounds"}
    card = ModelCard(hub.files(NAME)["README.md"].decode())
    assert [(one.metric_type, one.metric_value) for one in card.data.eval_results] == [
        ("accuracy", 0.9123),
        ("loss", 0.4),
    ]
    Provenance(dataset=str(tmp_path), task="classification", metrics=figures).save(tiny_folder)
    publish(tiny_folder, NAME)  # of no data set of the Hub: none, and the old ones go
    assert not any(name.startswith(".eval_results/") for name in hub.files(NAME))
