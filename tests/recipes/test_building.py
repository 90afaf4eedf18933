"""`recipe.build` and `recipe.arguments`: the same model and samples as the command's, whatever the data come as."""

from itertools import islice

import datasets
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import SIZES

import data2vec_cli
from modeling_data2vec import Data2VecTrainer, load_recipe
from modeling_data2vec.model_files import read_json
from modeling_data2vec.trainers.data.streams import Share
from modeling_data2vec.trainers.modalities.image import digits
from modeling_data2vec.trainers.modalities.text import python_docs

SHORT = {"max_steps": 3, "warmup_steps": 1, "logging_steps": 1, "save_steps": 2, "use_cpu": True}
SMALL = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "average_top_k_layers")}
SMALL |= {"intermediate_size": 32, "decoder_dim": 16, "decoder_groups": 2, "num_masks": 2}
RUNS = {
    "data2vec2-vision-tiny": ("digits", {}),
    "data2vec2-text-tiny": ("python-docs", {}),
    "data2vec2-audio-tiny": ("recordings", {}),
}


def options(values: dict) -> list[str]:
    words = [[f"--{name}", str(value)] for name, value in values.items()]
    return [word for pair in words for word in pair]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_the_snippet_equals_that_of_the_command(name, recordings, tokenizer, tmp_path, capsys):
    data = str(recordings) if RUNS[name][0] == "recordings" else RUNS[name][0]
    more = {"tokenizer": str(tokenizer)} if "text" in name else {}
    argv = ["pretrain", "--recipe", name, "--dataset", data, "--output_dir", str(tmp_path / "command")]
    changes = [f"{field}={value}" for field, value in SMALL.items()]
    assert data2vec_cli.main([*argv, *options(SHORT | more), "--config", *changes]) == 0, capsys.readouterr().err

    recipe = load_recipe(name)
    torch.manual_seed(123)  # whatever happened before does not matter
    model, samples = recipe.build(data, **more, **SMALL)
    trainer = Data2VecTrainer(model, recipe.arguments(tmp_path / "snippet", **SHORT), train_dataset=samples)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    trainer.create_model_card()
    of_command, of_snippet = (load_file(tmp_path / run / "model.safetensors") for run in ("command", "snippet"))
    assert of_command.keys() == of_snippet.keys()
    assert all(torch.equal(value, of_snippet[key]) for key, value in of_command.items())
    cards = [read_json(tmp_path / run / "provenance.json") for run in ("command", "snippet")]
    assert [cards[1][name] for name in ("dataset", "recipe")] == [cards[0][name] for name in ("dataset", "recipe")]
    kept = {path.name for path in (tmp_path / "snippet").iterdir()}
    assert any("processor" in file or "tokenizer" in file for file in kept)


def test_data_may_come_in_any_form(tmp_path):
    recipe = load_recipe("data2vec2-vision-tiny")
    digits().save_to_disk(tmp_path / "saved")
    expected = recipe.build("digits", **SMALL)[1][5]["pixel_values"]
    for data in (digits(), datasets.DatasetDict({"train": digits()}), tmp_path / "saved", str(tmp_path / "saved")):
        samples = recipe.build(data, **SMALL)[1]
        assert torch.equal(samples[5]["pixel_values"], expected)
    for stream in (recipe.build(digits().to_iterable_dataset()), recipe.build("digits", streaming=True)):
        assert next(iter(stream[1]))["pixel_values"].shape == expected.shape
    assert len(recipe.build("digits", split="test")[1]) == 500
    two = datasets.concatenate_datasets(
        [digits(), digits().rename_columns({"image": "other", "label": "class"})], axis=1
    )
    assert len(recipe.build(two, column="image")[1]) == 1297
    with pytest.raises(ValueError, match="the dataset has 2 image columns among .*name one with"):
        recipe.build(two)


def test_a_seed_decides_weights_and_crops_and_leaves_the_generators_alone():
    recipe = load_recipe("data2vec2-vision-tiny")
    state = torch.get_rng_state()
    (first, one), (second, two), (other, three) = (recipe.build("digits", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(iter(model.parameters())) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert one[3]["key"] == two[3]["key"] != three[3]["key"]


def test_a_model_goes_on(tmp_path):
    recipe = load_recipe("data2vec2-vision-tiny")
    model, _ = recipe.build("digits", **SMALL)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no processor or tokenizer could be loaded from"):
        recipe.build("digits", model=str(tmp_path))
    _, samples = recipe.build("digits")
    samples.modality.processor.save_pretrained(tmp_path)
    again, _ = recipe.build("digits", model=str(tmp_path), num_masks=3)
    assert again.config.hidden_size == 16 and again.config.num_masks == 3


def test_several_modalities(recordings, tokenizer, tmp_path):
    recipe = load_recipe("data2vec2-tiny")
    data = {"audio": str(recordings), "vision": digits(), "text": python_docs()}
    model, mixture = recipe.build(data, tokenizer=str(tokenizer))
    assert mixture.shares == {"audio": 1.0, "text": 1.0, "vision": 1.0}
    args = recipe.arguments(tmp_path, max_steps=1, warmup_steps=0, use_cpu=True, save_strategy="no")
    trainer = Data2VecTrainer(model, args, train_dataset=mixture)
    trainer.train()
    trainer.save_model()
    assert (tmp_path / "text" / "tokenizer.json").is_file()
    with pytest.raises(ValueError, match="say what each has"):
        recipe.build("digits")
    with pytest.raises(ValueError, match="data has sound, but the model takes audio, text, vision"):
        recipe.build({"sound": "x"})


def test_wrong_names_are_named():
    recipe = load_recipe("data2vec2-vision-tiny")
    with pytest.raises(ValueError, match="unknown key 'num_mask'; did you mean num_masks"):
        recipe.build("digits", num_mask=4)
    with pytest.raises(ValueError, match="unknown key 'max_step'"):
        recipe.arguments("x", max_step=4)
    with pytest.raises(ValueError, match="7 is no source of data"):
        recipe.build(7)


def test_streamed_clips_are_trained_on_by_number(recordings, tmp_path, caplog):
    recipe = load_recipe("data2vec2-audio-tiny")
    model, samples = recipe.build(str(recordings), streaming=True)
    assert len(list(islice(samples.endless(Share()), 14))) == 14
    args = recipe.arguments(tmp_path, max_steps=1, warmup_steps=0, use_cpu=True, per_device_train_batch_size=2)
    Data2VecTrainer(model, args, train_dataset=samples).train()
    assert "batches hold per_device_train_batch_size 2 samples" in caplog.text
