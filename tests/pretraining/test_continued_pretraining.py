"""`data2vec pretrain --recipe data2vec-... --model FOLDER`: transformers' own checkpoints go on with their method."""

import json
import shutil

import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BeitImageProcessorPil,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Data2VecTextConfig,
    Data2VecTextModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    Wav2Vec2FeatureExtractor,
)

import data2vec_cli
from modeling_data2vec.auto import pretraining_class_of

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SHORT = ["--max_steps", "2", "--warmup_steps", "1", "--use_cpu", "--logging_steps", "1", "--disable_tqdm", "true"]
SHORT += ["--dataloader_num_workers", "0"]
RECIPES = {"images": "data2vec-vision-base", "speech": "data2vec-audio-base", "text": "data2vec-text-base"}


def native_folder(kind: str, folder, tokenizer):
    """A checkpoint as the published ones are: an encoder of transformers, and what makes its inputs."""
    torch.manual_seed(0)
    if kind == "images":
        config = Data2VecVisionConfig(
            **SIZES, image_size=32, patch_size=8, use_mean_pooling=False, use_shared_relative_position_bias=True
        )
        model = Data2VecVisionModel(config)
        processor = BeitImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    elif kind == "speech":
        wave = {"conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2}
        model, processor = Data2VecAudioModel(Data2VecAudioConfig(**SIZES, **wave)), Wav2Vec2FeatureExtractor()
    else:
        config = Data2VecTextConfig(**SIZES, vocab_size=300, max_position_embeddings=66, type_vocab_size=1)
        model, processor = Data2VecTextModel(config), AutoTokenizer.from_pretrained(tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def command(kind: str, model, data, output, *more: str) -> list[str]:
    argv = ["pretrain", "--recipe", RECIPES[kind], "--model", model, "--dataset", data, "--output_dir", output]
    argv += ["--config", "average_top_k_layers=2", *(["min_mask_block=2"] if kind == "images" else [])]
    batch = [] if kind == "speech" else ["--per_device_train_batch_size", "4"]
    return [str(word) for word in [*argv, *batch, *SHORT, *more]]


def data_of(kind: str, recordings, tmp_path) -> str:
    if kind == "images":
        return "digits"
    return str(recordings) if kind == "speech" else "python-docs"


@pytest.mark.parametrize("kind", RECIPES)
def test_a_native_checkpoint_goes_on(kind, recordings, tokenizer, tmp_path, capsys, caplog):
    start = native_folder(kind, tmp_path / "start", tokenizer)
    more = {"speech": ["min_seconds"], "text": ["block_length"]}
    recipe = tmp_path / "recipe"  # the published one, for data as small as this
    shutil.copytree(data2vec_recipe(kind), recipe)
    text = (recipe / "recipe.yaml").read_text().replace(f"config: {RECIPES[kind]}", "config: .")
    text = text.replace("min_seconds: 2.0", "min_seconds: 0.5").replace("block_length: 512", "block_length: 64")
    (recipe / "recipe.yaml").write_text(text)
    assert kind == "images" or more[kind][0] in text
    argv = command(kind, start, data_of(kind, recordings, tmp_path), tmp_path / "run")
    argv[2] = str(recipe)
    assert data2vec_cli.main(argv) == 0, capsys.readouterr().err
    assert "no teacher" in caplog.text and ("mask_token" if kind == "images" else "head.0.weight") in caplog.text
    caplog.clear()

    config = json.loads((tmp_path / "run" / "config.json").read_text())
    published = json.loads((recipe / "config.json").read_text())
    for name in ("mask_prob", "loss_beta", "ema_end_decay", "teacher_scope", "layer_norm_targets"):
        assert config[name] == published[name], name  # the method is the recipe's
    for name, value in SIZES.items():
        assert config[name] == value, name  # the encoder is the checkpoint's
    if kind == "text":
        assert config["mask_token_id"] == AutoTokenizer.from_pretrained(start).mask_token_id
    trained, first = AutoModel.from_pretrained(tmp_path / "run"), AutoModel.from_pretrained(start)
    assert type(trained) is type(first) and type(trained).__module__.startswith("transformers.")
    changed = [name for name, value in first.state_dict().items() if not torch.equal(value, trained.state_dict()[name])]
    assert any("encoder" in name for name in changed)

    # And on from there, by the method that it carries.
    argv = command(kind, tmp_path / "run", data_of(kind, recordings, tmp_path), tmp_path / "again")
    argv[2] = str(recipe)
    assert data2vec_cli.main(argv) == 0
    assert "no teacher" not in caplog.text
    assert pretraining_class_of(str(tmp_path / "again")).__name__ == config["architectures"][0]


def data2vec_recipe(kind: str):
    from modeling_data2vec.hub_configs import recipe_folder

    return recipe_folder(RECIPES[kind])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("data2vec2-audio-base", "is a data2vec-audio model, but data2vec2-audio-base is a recipe for data2vec2-audio"),
        ("data2vec-text-base", "is a data2vec-audio model, but data2vec-text-base is a recipe for data2vec-text"),
    ],
)
def test_a_recipe_for_another_model_is_refused(recipe, message, recordings, tokenizer, tmp_path, capsys):
    start = native_folder("speech", tmp_path / "start", tokenizer)
    argv = command("speech", start, recordings, tmp_path / "run")
    argv[2] = recipe
    assert data2vec_cli.main(argv) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_model_that_is_not_there_is_named(recordings, tmp_path, capsys):
    argv = command("speech", tmp_path / "nothing", recordings, tmp_path / "run")
    assert data2vec_cli.main(argv) == 2
    assert "there is no folder" in capsys.readouterr().err.splitlines()[-1]
