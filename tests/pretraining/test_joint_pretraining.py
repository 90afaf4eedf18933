"""`data2vec pretrain` of a joint model: options by modality, and what a run leaves."""

import json
from collections.abc import Sequence

import example_images
import pytest
import torch
from recordings import voice, write
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

import data2vec_cli
from modeling_data2vec import Data2Vec2ForPreTraining, Data2Vec2Model
from modeling_data2vec.trainers.modalities.names import by_modality_name

TINY = ["hidden_size=16", "num_hidden_layers=2", "average_top_k_layers=2", "num_attention_heads=2"]
TINY += ["intermediate_size=32", "decoder_dim=16", "decoder_layers=2", "num_masks=2", "audio.decoder_groups=2"]
TINY += ["audio.conv_dim=[8,8,8]", "audio.num_conv_pos_embedding_groups=2"]
SHORT = ["--warmup_steps", "1", "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "2", "--max_steps", "4"]
NAMES = ("audio", "text", "vision")


STREAMED = ["--streaming", "--dataloader_num_workers", "0", "--gradient_cosine_steps", "0"]
STREAMED += ["--max_steps", "1", "--warmup_steps", "0", "--logging_steps", "1"]


def pretrain(
    *argv: object, changes: Sequence[str] = (), recipe: str = "data2vec2-tiny", sizes: Sequence[str] = TINY
) -> int:
    words = ["pretrain", "--recipe", recipe, *SHORT, *map(str, argv), "--config", *sizes, *changes]
    return data2vec_cli.main(words)


@pytest.fixture(scope="module")
def joint_run(recordings, tokenizer, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "joint"
    data = [f"audio={recordings}", "vision=digits", "text=python-docs"]
    options = ["--dataset", *data, "--tokenizer", tokenizer, "--probe_split", "vision=test", "--probe_limit", 60]
    assert pretrain(*options, "--output_dir", output, "--gradient_cosine_steps", 2, "--probe_steps", 4) == 0
    return output


def test_a_run_leaves_one_model_and_a_processor_of_each_modality(joint_run):
    names = {path.name for path in joint_run.iterdir()}
    pictures = {f"{kind}_{name}.png" for kind in ("masks", "pca") for name in NAMES}
    assert {"model.safetensors", "config.json", "curves.png", "probe_vision.json", "README.md", *pictures} <= names
    model = Data2Vec2ForPreTraining.from_pretrained(joint_run)
    tokenizer = AutoTokenizer.from_pretrained(joint_run, subfolder="text")
    assert len(tokenizer) == model.config.of("text").vocab_size == 300
    assert AutoImageProcessor.from_pretrained(joint_run, subfolder="vision").size["height"] == 16
    assert AutoFeatureExtractor.from_pretrained(joint_run, subfolder="audio").sampling_rate == 16_000


def test_every_modality_is_logged_and_its_probe(joint_run):
    state = json.loads((joint_run / "checkpoint-4" / "trainer_state.json").read_text())
    logged = {key for entry in state["log_history"] for key in entry}
    assert {f"{name}/{figure}" for name in NAMES for figure in ("loss", "target_std", "student_rank")} <= logged
    assert {"gradient_cosine/audio_text", "vision/probe_linear", "vision/probe_linear_random"} <= logged
    card = (joint_run / "README.md").read_text()
    assert "speech and text and images" in card and "vision: loss |" in card and "### Images" in card


def test_a_slice_in_memory_is_that_of_the_file(joint_run):
    model = Data2Vec2Model.from_pretrained(joint_run).eval()
    inputs = torch.randint(4, 290, (2, 12))
    with torch.no_grad():
        expected = Data2Vec2Model.from_pretrained(joint_run, modality="text").eval()(inputs).last_hidden_state
        assert torch.equal(model.slice("text")(inputs).last_hidden_state, expected)


def test_a_part_is_probed_as_a_model_of_its_own(joint_run, capsys):
    argv = ["probe", "--model", str(joint_run), "--dataset", "digits", "--labels", "all", "--limit", "60"]
    assert data2vec_cli.main(argv) == 2
    assert "several modalities: name one" in capsys.readouterr().err
    assert data2vec_cli.main([*argv, "--modality", "vision"]) == 0
    assert "raw pixels" in capsys.readouterr().out


def test_going_on_with_two_modalities_by_temperature(joint_run, tmp_path, capsys):
    options = ["--model", joint_run, "--dataset", "vision=digits", "text=python-docs", "--micro_batch", "vision=4"]
    options += ["--mixing_temperature", "3", "--gradient_accumulation_steps", "4", "--gradient_cosine_steps", "0"]
    assert pretrain(*options, "--output_dir", tmp_path / "more") == 0
    assert (tmp_path / "more" / "masks_text.png").exists() and not (tmp_path / "more" / "masks_audio.png").exists()


def test_paired_samples_beside_two_modalities(tokenizer, tmp_path, capsys):
    images = sorted(example_images.save(tmp_path / "pictures").rglob("*.png"))
    rows = [{"image": str(image), "text": f"the digit {number}"} for number, image in enumerate(images)]
    rows.append({"image": str(tmp_path / "lost.png"), "text": "no digit"})
    table = tmp_path / "pairs.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    options = ["--dataset", "vision=digits", "text=python-docs", "--tokenizer", tokenizer, "--pairs", table]
    options += ["--pairs_batch_size", "4", "--gradient_accumulation_steps", "3", "--output_dir", tmp_path / "run"]
    assert pretrain(*options, changes=["cross_modal_layers=1"]) == 0
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    assert all("pairs/loss" in entry for entry in state["log_history"] if "loss" in entry)
    assert "lost.png" in capsys.readouterr().out


def test_the_recipe_for_big_streams_at_tiny_size(tokenizer, tmp_path):
    pictures, texts = example_images.save(tmp_path / "pictures"), tmp_path / "texts.jsonl"
    for seed in range(4):
        write(tmp_path / "clips" / f"{seed}.wav", voice(2.1, seed=seed))
    texts.write_text("\n".join(json.dumps({"text": f"the {number}th of them, and more " * 30}) for number in range(30)))
    options = ["--dataset", f"audio={tmp_path / 'clips'}", f"vision={pictures}", f"text={texts}"]
    options += ["--tokenizer", tokenizer, *STREAMED, "--gradient_accumulation_steps", "3"]
    options += ["--micro_batch", "audio=2", "vision=2", "text=2"]
    changes = ["vision.image_size=32", "audio.conv_kernel=[20,16,8]", "audio.conv_stride=[10,8,4]"]
    changes += ["audio.num_conv_pos_embeddings=1", "text.max_position_embeddings=512", "mask_length=1"]
    assert pretrain(*options, "--output_dir", tmp_path / "run", recipe="data2vec2-joint-base", changes=changes) == 0
    model = Data2Vec2ForPreTraining.from_pretrained(tmp_path / "run")
    assert model.config.modalities == NAMES and model.config.hidden_size == 16


def test_the_recipe_for_videos_at_tiny_size(recordings, tmp_path):
    """Sound and a frame of each: one streamed table is the data of both, and their pairs."""
    images = sorted(example_images.save(tmp_path / "pictures").rglob("*.png"))
    clips = sorted(recordings.rglob("?.wav"))
    rows = [{"image": str(image), "audio": str(clip)} for image, clip in zip(images, clips, strict=True)]
    table = tmp_path / "videos.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    options = ["--dataset", f"spectrogram={table}", f"vision={table}", "--pairs", table, "--pairs_batch_size", "3"]
    options += [*STREAMED, "--micro_batch", "spectrogram=2", "vision=2", "--gradient_accumulation_steps", "3"]
    sizes = [*TINY[:7], "decoder_groups=2", "vision.image_size=32", "mask_length=1"]
    sizes += ["spectrogram.spectrogram_length=64"]
    output = tmp_path / "run"
    assert pretrain(*options, "--output_dir", output, recipe="data2vec2-audiovisual-base", sizes=sizes) == 0
    (log, *_) = json.loads((output / "checkpoint-1" / "trainer_state.json").read_text())["log_history"]
    assert {"pairs/cross_modal_loss", "pairs/cross_position_loss", "vision/clipped"} <= log.keys()
    assert (output / "spectrogram" / "preprocessor_config.json").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset", "vision=digits", "--pairs", "pairs.jsonl"], "the run has only vision"),
        (["--dataset", "digits"], "say what each modality has"),
        (["--dataset", "vision=digits", "python-docs"], "among several values"),
        (
            ["--dataset", "vision=digits", "--gradient_cosine_steps", "0", "--mixing_ratio", "vision=0"],
            "must have numbers above 0",
        ),
        (["--dataset", "vision=digits", "--micro_batch", "text=3"], "but the model has only vision"),
    ],
)
def test_wrong_use_is_explained(tmp_path, capsys, argv, message):
    assert pretrain(*argv, "--gradient_accumulation_steps", "1", "--output_dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err


def test_options_by_modality():
    assert by_modality_name(["a=b"], ["vision"], "--dataset") == {"vision": "a=b"}
    assert by_modality_name([], NAMES, "--column") == {}
    with pytest.raises(ValueError, match="twice"):
        by_modality_name(["audio=a", "audio=b"], NAMES, "--dataset")
    with pytest.raises(ValueError, match="only text"):
        by_modality_name(["audio=a"], ["text"], "--dataset")
