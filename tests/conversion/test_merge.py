import pytest
import torch
from joint_models import CONFIGS, inputs_of
from transformers import AutoModelForPreTraining, ViTImageProcessorPil

from modeling_data2vec import Data2Vec2AudioModel, Data2Vec2TextConfig
from modeling_data2vec.merging import merge_models
from modeling_data2vec.modeling_data2vec2_pretraining import modality_models
from modeling_data2vec.trainers.cli import run


def singles():
    torch.manual_seed(0)
    return {name: modality_models()[name](config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("trunk", CONFIGS)
def test_the_modality_that_gives_the_trunk_computes_as_before(trunk):
    models = singles()
    joint = merge_models(models, trunk).eval()
    with torch.no_grad():
        assert torch.equal(joint(**inputs_of(trunk)).loss, models[trunk].eval()(**inputs_of(trunk)).loss)


def test_the_average_is_the_mean_of_the_trunks_and_parts_stay():
    models = singles()
    joint = merge_models(models)
    for owner, of in (
        ("data2vec2", lambda name: models[name].base_model),
        ("teacher", lambda name: models[name].teacher),
    ):
        merged = dict(getattr(joint, owner).trunk.named_parameters())
        parts = [dict(of(name).trunk.named_parameters()) for name in models]
        for name, weight in merged.items():
            torch.testing.assert_close(weight, torch.stack([part[name] for part in parts]).mean(0))
    assert torch.equal(joint.head["text"].convs[0].weight, models["text"].head.convs[0].weight)
    own = joint.data2vec2.feature_encoders["audio"].feature_projection.weight
    assert torch.equal(own, models["audio"].base_model.feature_encoder.feature_projection.weight)
    assert not any(parameter.requires_grad for parameter in joint.teacher.parameters())


def test_settings_of_training_may_differ_and_shapes_may_not():
    models = singles()
    text = CONFIGS["text"].to_dict() | {"hidden_dropout": 0.1, "ema_decay": 0.5}
    models["text"] = modality_models()["text"](Data2Vec2TextConfig(**text))
    assert merge_models(models, "text").config.hidden_dropout == 0.1
    assert merge_models(models, "audio").config.ema_decay == 0.9
    narrow = CONFIGS["text"].to_dict() | {"hidden_size": 16, "decoder_groups": 4}
    models["text"] = modality_models()["text"](Data2Vec2TextConfig(**narrow))
    with pytest.raises(
        ValueError, match="hidden_size differs \\(32 of audio, 32 of spectrogram, 16 of text, 32 of vision\\)"
    ):
        merge_models(models)


def test_wrong_models_are_named():
    models = singles()
    with pytest.raises(
        ValueError, match="trunk is 'video', but must be one of audio, spectrogram, text, vision or 'average'"
    ):
        merge_models(models, "video")
    with pytest.raises(ValueError, match="models has video"):
        merge_models({"video": models["text"]})
    with pytest.raises(ValueError, match="the model for audio is a Data2Vec2AudioModel"):
        merge_models({"audio": Data2Vec2AudioModel(CONFIGS["audio"])})
    with pytest.raises(ValueError, match="the model for audio is a Data2Vec2TextForPreTraining"):
        merge_models({"audio": models["text"]})


def test_the_command_merges_folders(tmp_path, capsys):
    for name, model in singles().items():
        model.save_pretrained(tmp_path / name)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vision")
    sources = [f"{name}={tmp_path / name}" for name in CONFIGS]
    output = tmp_path / "joint"
    arguments = [*sources, "--output_dir", str(output), "--trunk", "text", "--config", "modality_norms=true"]
    assert run("merge", arguments) == 0
    assert "audio, spectrogram, text, vision around one trunk (text)" in capsys.readouterr().out
    joint = AutoModelForPreTraining.from_pretrained(output)
    assert joint.config.modality_norms
    assert (output / "vision" / "preprocessor_config.json").exists()
    assert run("merge", arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert run("merge", ["audio=nowhere", "--output_dir", str(tmp_path / "other")]) == 2
    assert "audio=nowhere can't be loaded" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
