"""`data2vec pretrain` of a joint model: options by modality, and what a run leaves."""

import json
from collections.abc import Sequence

import example_images
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

import data2vec_cli
from modeling_data2vec import Data2Vec2ForPreTraining, Data2Vec2Model
from modeling_data2vec.trainers.pretraining.modality_run import by_modality_name

TINY = ["hidden_size=16", "num_hidden_layers=2", "average_top_k_layers=2", "num_attention_heads=2"]
TINY += ["intermediate_size=32", "decoder_dim=16", "decoder_layers=2", "num_masks=2", "audio.decoder_groups=2"]
TINY += ["audio.conv_dim=[8,8,8]", "audio.num_conv_pos_embedding_groups=2"]
SHORT = ["--warmup_steps", "1", "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "2", "--max_steps", "4"]
NAMES = ("audio", "text", "vision")


def pretrain(*argv: object, changes: Sequence[str] = ()) -> int:
    words = ["pretrain", "--recipe", "data2vec2-tiny", *SHORT, *map(str, argv), "--config", *TINY, *changes]
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
