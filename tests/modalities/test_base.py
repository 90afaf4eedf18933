"""Speech and text as images: the same commands and trainer, on real files."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

import data2vec_cli
from modeling_data2vec import Data2Vec2AudioForPreTraining, Data2Vec2TextForPreTraining
from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.modalities.speech import AudioModality
from modeling_data2vec.trainers.pretraining.options import PretrainingOptions
from modeling_data2vec.trainers.pretraining.run import pretrain
from modeling_data2vec.trainers.recipes.recipe import load_recipe

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "average_top_k_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "decoder_dim": 16,
    "decoder_layers": 2,
    "num_masks": 2,
}
SPEECH = {"conv_dim": [8, 8, 8], "num_conv_pos_embedding_groups": 2, "decoder_groups": 2}
SHORT = ["--warmup_steps", "1", "--use_cpu", "--logging_steps", "1", "--disable_tqdm", "true"]


def options(changes: dict) -> list[str]:
    return ["--config", *(f"{name}={json.dumps(value)}" for name, value in changes.items()), *SHORT]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    code = data2vec_cli.main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def speech_run(recordings, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "speech"
    argv = ["pretrain", "--recipe", "data2vec2-audio-tiny", "--dataset", recordings, "--output_dir", output]
    assert data2vec_cli.main([str(word) for word in [*argv, *options(TINY | SPEECH), "--max_steps", "3"]]) == 0
    return output


@pytest.fixture(scope="module")
def text_run(tokenizer, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "text"
    argv = ["pretrain", "--recipe", "data2vec2-text-tiny", "--dataset", "python-docs", "--tokenizer", tokenizer]
    argv += ["--output_dir", output, *options(TINY), "--max_steps", "3"]
    assert data2vec_cli.main([str(word) for word in argv]) == 0
    return output


def test_a_speech_run_leaves_a_model_its_feature_extractor_and_pictures(speech_run):
    names = {path.name for path in speech_run.iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "masks.png", "curves.png"} <= names
    extractor, model = AutoFeatureExtractor.from_pretrained(speech_run), AutoModel.from_pretrained(speech_run)
    inputs = extractor(np.random.default_rng(0).standard_normal(9_000), sampling_rate=16_000, return_tensors="pt")
    states = model(**inputs).last_hidden_state
    assert states.shape == (1, model.config.num_frames(9_000), 16)


def test_a_text_run_leaves_a_model_that_fits_its_tokenizer(text_run):
    loaded, model = AutoTokenizer.from_pretrained(text_run), AutoModel.from_pretrained(text_run)
    assert model.config.vocab_size == len(loaded) == 300
    assert (model.config.pad_token_id, model.config.bos_token_id) == (loaded.pad_token_id, loaded.bos_token_id)
    inputs = loaded(["def f(x): return x", "pass"], padding=True, return_tensors="pt")
    assert model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).pooler_output.shape == (2, 16)


@pytest.mark.parametrize("kind", ["speech", "text"])
def test_a_pretraining_model_comes_back_with_its_teacher(kind, speech_run, text_run):
    folder, model_class = {
        "speech": (speech_run, Data2Vec2AudioForPreTraining),
        "text": (text_run, Data2Vec2TextForPreTraining),
    }[kind]
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    student = dict(model.base_model.trunk.named_parameters())
    teacher = dict(model.teacher.trunk.named_parameters())
    assert not torch.equal(teacher["layers.0.mlp.fc1.weight"], student["layers.0.mlp.fc1.weight"])
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())


def test_clips_are_probed_by_folder(tmp_path, recordings, speech_run, capsys):
    for split in ("train", "test"):
        shutil.copytree(recordings, tmp_path / split)
    argv = ("probe", "--model", speech_run, "--dataset", tmp_path, "--labels", "all")
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert "MFCC" in out and "random weights" in out


def test_texts_are_probed_from_a_table(tmp_path, text_run, capsys):
    rows = [{"text": f"{word} number {i}", "label": word} for i in range(8) for word in ("one", "two")]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ("probe", "--model", text_run, "--dataset", tmp_path, "--labels", "all")
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert "TF-IDF" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--recipe", "data2vec2-text-tiny", "--dataset", "python-docs"], "name one with tokenizer (--tokenizer"),
        (["--recipe", "data2vec2-audio-tiny", "--dataset", "{empty}"], "holds no"),
        (["--recipe", "data2vec2-audio-tiny", "--dataset", "{recordings}", "--column", "sound"], "'sound'"),
    ],
    ids=["no tokenizer", "no audio", "no such column"],
)
def test_wrong_data_ends_with_one_clear_line(argv, message, recordings, tmp_path, capsys):
    argv = [word.format(empty=tmp_path, recordings=recordings) for word in argv]
    code, _, err = run(capsys, "pretrain", *argv, "--output_dir", tmp_path / "run", *SHORT, "--max_steps", "2")
    assert code == 2
    assert message in err.splitlines()[-1]


def test_a_tokenizer_that_a_checkpoint_can_not_take_is_refused(text_run, tmp_path, capsys):
    bigger = tmp_path / "bigger"
    run(capsys, "tokenizer", "--dataset", "python-docs", "--vocab_size", "400", "--output_dir", bigger)
    argv = ("pretrain", "--recipe", "data2vec2-text-tiny", "--dataset", "python-docs", "--model", text_run)
    code, _, err = run(capsys, *argv, "--tokenizer", bigger, "--output_dir", tmp_path / "run", *SHORT)
    assert code == 2
    assert "400 tokens, but the model's vocab_size is 300" in err


# ---- the trainer ----


def resume_and_compare(recipe_name: str, dataset: str, tmp_path, changes: dict, **data_options) -> None:
    """A run that is stopped and resumed ends in the same weights as one that is not."""
    recipe = load_recipe(recipe_name)

    def train(folder, resume: bool) -> dict[str, torch.Tensor]:
        settings = recipe.training_arguments(
            {"max_steps": 6, "warmup_steps": 1, "save_steps": 3, "logging_steps": 1, "save_total_limit": 3}
        )
        args = Data2VecTrainingArguments(str(folder), **settings, use_cpu=True, disable_tqdm=True)
        pretrain(
            PretrainingOptions(recipe=recipe_name, dataset=[dataset], resume=resume, **data_options),
            args,
            recipe,
            changes,
        )
        return load_file(folder / "model.safetensors")

    whole = train(tmp_path / "whole", resume=False)
    # The second run starts from the first one's middle, as if it had been killed there.
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "checkpoint-3").rename(tmp_path / "again" / "checkpoint-3")
    resumed = train(tmp_path / "again", resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_speech_run_resumes_bit_for_bit(recordings, tmp_path):
    resume_and_compare("data2vec2-audio-tiny", str(recordings), tmp_path, TINY | SPEECH)


def test_a_text_run_resumes_bit_for_bit(tokenizer, tmp_path):
    resume_and_compare("data2vec2-text-tiny", "python-docs", tmp_path, TINY, tokenizer=str(tokenizer))


def test_a_speech_model_that_ignores_its_input_is_stopped(recordings, tmp_path):
    """The disaster of small speech runs: every clip gets the same features, while loss and variance look fine."""
    recipe = load_recipe("data2vec2-audio-tiny")
    torch.manual_seed(0)
    model = Data2Vec2AudioForPreTraining(recipe.model_config(TINY | SPEECH))
    with torch.no_grad():
        model.base_model.feature_encoder.feature_projection.weight.zero_()  # what is left is position
    model.base_model.feature_encoder.feature_projection.weight.requires_grad_(False)
    data = AudioModality(model.config, AutoFeatureExtractor.from_pretrained(recipe.config), recipe.data)
    clips = data.samples(str(recordings), split="train", column=None, streaming=False, seed=0)
    settings = recipe.training_arguments({"max_steps": 12, "warmup_steps": 1, "logging_steps": 1})
    args = Data2VecTrainingArguments(
        str(tmp_path), **settings, use_cpu=True, disable_tqdm=True, health_start_step=1, health_patience=3
    )
    trainer = Data2VecTrainer(model, args, data.collator(), train_dataset=clips)
    with pytest.raises(CollapseError, match="position alone explains"):
        trainer.train()
