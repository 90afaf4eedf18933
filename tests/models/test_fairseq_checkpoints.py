"""fairseq/model_from_checkpoint.py and back by checkpoint_from_model.py: every stored checkpoint keeps its weights.

It becomes a model with the same weights, and the same file again.
"""

import copy
import json
import sys

import fairseq_examples
import pytest
import reference_cases
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig

from modeling_data2vec import (
    Data2Vec2SpectrogramConfig,
    Data2Vec2SpectrogramForAudioClassification,
    Data2Vec2TextConfig,
    Data2Vec2TextForPreTraining,
    Data2Vec2VisionConfig,
    Data2Vec2VisionForImageClassification,
)
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.fairseq.checkpoint_from_model import to_fairseq
from modeling_data2vec.fairseq.data2vec2_weights import POSITIONS
from modeling_data2vec.fairseq.files import read_checkpoint, write_checkpoint
from modeling_data2vec.fairseq.model_from_checkpoint import from_fairseq
from modeling_data2vec.fairseq.source import Source

FILES = sorted(reference_cases.FOLDER.glob("*checkpoints/*.pt"))
CASES = [*reference_cases.training("1.0"), *reference_cases.training("2.0")]
KINDS = {"pretrained": fairseq_examples.pretrained, "fine_tuned": fairseq_examples.fine_tuned}


def flat(weights) -> dict[str, torch.Tensor]:
    """A checkpoint's weights by their full names."""
    found = {}
    for name, value in weights.items():
        found |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype and torch.equal(value, other[name]), name


@pytest.fixture(params=[(case, kind) for case in CASES for kind in KINDS], ids=lambda pair: "-".join(pair))
def example(request) -> dict:
    case = reference_cases.load(request.param[0])
    if used := case.left_out():
        pytest.skip(f"docs/differences.md leaves out {used}")
    return KINDS[request.param[1]](case)


def test_stored_checkpoints_are_there():
    assert FILES and CASES, f"no checkpoints or no cases in {reference_cases.FOLDER}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stored_checkpoint_has_the_stored_weights_and_goes_back_bit_by_bit(path, tmp_path):
    content = read_checkpoint(path)
    model, source = from_fairseq(content)
    assert type(model).__name__.endswith("Classification" if path.stem == "eat_finetuned" else "ForPreTraining")

    stored = load_file(path.with_name(path.name.split(".")[0] + ".tensors.safetensors"))
    stored = {name: value for name, value in stored.items() if name.startswith(("model.", "_ema.", "encoder."))}
    written = to_fairseq(model, source)
    write_checkpoint(tmp_path / "again.pt", written)
    again = read_checkpoint(tmp_path / "again.pt")
    assert_equal(flat(content["model"]), flat(again["model"]))
    assert again["cfg"] == source.config == (content["cfg"] or source.config)
    assert again["task_state"] == content["task_state"]
    if "dictionary" in str(content["task_state"]):
        assert "fairseq.data.dictionary" in (tmp_path / "again.pt").read_bytes().decode("latin1")
        assert "fairseq" not in sys.modules
    weights = flat(again["model"])
    for name, value in stored.items():
        key = name.removeprefix("model.")
        assert torch.equal(weights[key if key in weights else f"encoder.{key}"], value), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_what_a_model_has_no_place_for_is_kept_beside_it(path):
    """The encoder, the teacher's layers and the head are never among it."""
    _, source = from_fairseq(read_checkpoint(path))
    dead = ("final_proj.", "_ema.norm.", "encoder._ema.embed_", "encoder._ema.layernorm_embedding.")
    # EAT computes positions in single precision, and for as many patches as its config says.
    computed = POSITIONS if path.stem.startswith("eat_") else "nothing"
    assert all(name.startswith(dead) or name.endswith(computed) for name in source.rest)


def test_every_kind_goes_back_bit_by_bit(example):
    model, source = from_fairseq(example)
    assert_equal(flat(example["model"]), flat(to_fairseq(model, source)["model"]))


def test_a_model_of_unknown_origin_is_written_so_that_it_can_be_read(example, tmp_path):
    """As one that was trained here: the config is written anew."""
    model, _ = from_fairseq(example)
    write_checkpoint(tmp_path / "own.pt", to_fairseq(model))
    again, _ = from_fairseq(read_checkpoint(tmp_path / "own.pt"))
    assert type(again) is type(model)
    assert_equal(model.state_dict(), again.state_dict())


def test_a_model_of_default_options_is_written_so_that_it_can_be_read(tmp_path):
    config = Data2Vec2TextConfig(hidden_size=32, num_hidden_layers=2, vocab_size=50)
    write_checkpoint(tmp_path / "own.pt", to_fairseq(Data2Vec2TextForPreTraining(config)))
    again, _ = from_fairseq(read_checkpoint(tmp_path / "own.pt"))
    assert again.config.ema_anneal_end_step == config.ema_anneal_end_step


def test_a_classifier_of_images_of_1_is_said_to_differ(caplog):
    """Decided by the released checkpoints' own code (docs/differences.md)."""
    model, _ = from_fairseq(fairseq_examples.fine_tuned(fairseq_examples.first("v1_vision_*")))
    assert "left the first patch out of the mean" in caplog.text
    images = torch.randn(2, model.config.num_channels, model.config.image_size, model.config.image_size)
    built = type(model)(model.config).eval()  # what is read is not for use
    built.load_state_dict(model.state_dict())
    with torch.no_grad():
        states = built.data2vec_vision(images).last_hidden_state[:, 1:]
        pooled = built.data2vec_vision.pooler.layernorm(states.mean(1))
        torch.testing.assert_close(built(images).logits, built.classifier(pooled))
        caplog.clear()
    from_fairseq(fairseq_examples.fine_tuned(fairseq_examples.first("v2_image_*_M*")))
    assert "first patch" not in caplog.text


def test_half_precision_stays(tmp_path):
    case = fairseq_examples.first("v2_image_*_M*")
    example = fairseq_examples.pretrained(case)
    example["model"] = {k: v if isinstance(v, dict) else v.half() for k, v in example["model"].items()}
    model, source = from_fairseq(example)
    assert {value.dtype for name, value in model.state_dict().items() if "teacher" not in name} == {torch.float16}
    assert_equal(flat(example["model"]), flat(to_fairseq(model, source)["model"]))


# ---- models that others trained with this code ----


def test_emotion2vec_is_speech_whose_file_has_no_teacher(tmp_path, caplog):
    """Names and settings as its code has them; its released files were not at hand."""
    case = fairseq_examples.first("v2_audio_*_M*")
    example = fairseq_examples.pretrained(case)
    del example["model"]["_ema"]
    example["cfg"]["model"] |= {"cls_type": "chunk", "adversarial_training": False}
    model, source = from_fairseq(example)
    assert "no teacher" in caplog.text
    assert_equal(flat(example["model"]), flat(to_fairseq(model, source)["model"]))
    expected, _ = from_fairseq(fairseq_examples.pretrained(case))
    state, prefix = model.state_dict(), f"{model.base_model_prefix}."
    for name, value in expected.state_dict().items():
        teacher = name.startswith("teacher.")
        assert torch.equal(state[name], state[prefix + name.removeprefix("teacher.")] if teacher else value), name
    model.save_pretrained(tmp_path)
    loaded = load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == state.keys()


def test_sslam_has_eats_names_and_settings_of_its_own():
    """Names as its code has them; its released files were not at hand."""
    example = fairseq_examples.pretrained(fairseq_examples.first("eat_*_M*"))
    example["cfg"]["model"] |= {"mixed_loss": 2.0, "clone_batch": 8}
    model, source = from_fairseq(example)
    assert type(model).__name__ == "Data2Vec2SpectrogramForPreTraining" and model.config.num_masks == 8
    assert_equal(flat(example["model"]), flat(to_fairseq(model, source)["model"]))


def with_trial(content: dict) -> None:
    """What EAT's `utterance_level` adds to student and teacher."""
    width = content["cfg"]["model"]["embed_dim"]
    content["cfg"]["model"]["utterance_level"] = True
    for weights in (content["model"], content["model"]["_ema"]):
        weights |= {"center": torch.zeros(1, 8), "cls_proj.last_layer.weight": torch.ones(8, width)}
    content["model"]["_ema"] = content["model"].pop("_ema")  # which comes last


def of_an_old_run(content: dict) -> None:
    """Before April 2024 there was no `max_length`, and positions for `target_length` alone."""
    modality = content["cfg"]["model"]["modalities"]["image"]
    modality.pop("max_length", None)
    count = modality["target_length"] // 16 * 8
    for weights in (content["model"], content["model"]["_ema"]):
        name = next(name for name in weights if name.endswith(POSITIONS))
        weights[name] = weights[name][:, :count].clone()


def without_teacher(content: dict) -> None:
    del content["model"]["_ema"]


def in_half_precision(content: dict) -> None:
    content["model"] = {k: v if isinstance(v, dict) else v.half() for k, v in content["model"].items()}


def of_several_gpus(content: dict) -> None:
    content["model"] = {f"module.{name}": value for name, value in content["model"].items()}


FORMS = [with_trial, of_an_old_run, without_teacher, in_half_precision, of_several_gpus]


@pytest.mark.parametrize("forms", [*((form,) for form in FORMS), (with_trial, of_an_old_run, of_several_gpus)])
def test_every_form_of_eats_files_is_read_and_goes_back_bit_by_bit(forms, tmp_path):
    case = fairseq_examples.first("eat_*_M*")
    expected, _ = from_fairseq(fairseq_examples.pretrained(case))
    example = fairseq_examples.pretrained(case)
    for form in forms:
        form(example)
    write_checkpoint(tmp_path / "eat.pt", example)
    content = read_checkpoint(tmp_path / "eat.pt")
    model, source = from_fairseq(content)
    student = {name: value for name, value in model.state_dict().items() if not name.startswith("teacher.")}
    stored = expected.state_dict()
    for name, value in student.items():
        torch.testing.assert_close(value.float(), stored[name], rtol=1e-3, atol=1e-4 * (in_half_precision in forms))
    source = Source(**json.loads(json.dumps(vars(source) | {"rest": {}})) | {"rest": source.rest})  # as it is kept
    assert_equal(flat(content["model"]), flat(to_fairseq(model, source)["model"]))


@pytest.mark.parametrize("kind", ["pretrained", "fine_tuned"])
@pytest.mark.parametrize("spectrograms", [False, True])
def test_patches_of_another_width_than_the_models(spectrograms, kind):
    """[embed_dim] of the modality: a linear layer follows the patches."""
    own = {"num_mel_bins": 128, "spectrogram_length": 32} if spectrograms else {"image_size": 32}
    config_class = Data2Vec2SpectrogramConfig if spectrograms else Data2Vec2VisionConfig
    config = config_class(hidden_size=16, num_hidden_layers=2, patch_embed_dim=24, num_labels=3, **own)
    torch.manual_seed(0)
    if kind == "pretrained":
        model = pretraining_class(config.model_type)(config)
    elif spectrograms:
        model = Data2Vec2SpectrogramForAudioClassification(config)
    else:
        model = Data2Vec2VisionForImageClassification(config)
    content = to_fairseq(model)
    names = [name for name in flat(content["model"]) if "local_encoder" in name]
    assert any(name.endswith("IMAGE.local_encoder.0.proj.weight") for name in names)
    assert any(name.endswith("IMAGE.local_encoder.1.bias") for name in names)
    again, source = from_fairseq(content)
    assert again.config.patch_embed_dim == 24 and not source.rest
    assert_equal(model.state_dict(), again.state_dict())
    # As one convolution: what follows it is linear.
    encoder = model.base_model.feature_encoder.eval()
    inputs = torch.randn(2, 32, 128) if spectrograms else torch.randn(2, 3, 32, 32)
    pixels = inputs[:, None] if spectrograms else inputs
    projection, patches = encoder.patch_projection, encoder.patch_embed
    weight = torch.einsum("dc,cihw->dihw", projection.weight, patches.weight)
    bias = projection.weight @ patches.bias + projection.bias
    expected = torch.nn.functional.conv2d(pixels, weight, bias, stride=16).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder.embed(inputs).local_features, expected, rtol=1e-4, atol=1e-5)


def test_emotion2vecs_classes_of_utterances():
    """FunASR adds `proj`, a linear layer over the mean of the frames; names as its code has them."""
    example = fairseq_examples.pretrained(fairseq_examples.first("v2_audio_*_M*"))
    del example["model"]["_ema"]
    width = example["cfg"]["model"]["embed_dim"]
    example["model"] |= fairseq_examples.named("proj", fairseq_examples.linear(9, width, 1))
    model, source = from_fairseq(example)
    assert type(model).__name__ == "Data2Vec2AudioForSequenceClassification" and model.config.num_labels == 9
    assert_equal(flat(example["model"]), flat(to_fairseq(model, source)["model"]))
    built = type(model)(model.config).eval()  # what is read is not for use
    built.load_state_dict(model.state_dict())
    with torch.no_grad():
        frames = built.base_model(waves := torch.randn(2, 4_000)).last_hidden_state[:, model.config.num_extra_tokens :]
        proj = example["model"]["proj.weight"], example["model"]["proj.bias"]
        torch.testing.assert_close(built(waves).logits, torch.nn.functional.linear(frames.mean(1), *proj))
        # One that was trained here has a projection, which is folded into the only layer that is there.
        torch.nn.init.normal_(built.projector.weight)
        torch.nn.init.normal_(built.projector.bias)
        again, _ = from_fairseq(to_fairseq(built))
        copied = type(again)(again.config).eval()
        copied.load_state_dict(again.state_dict())
        torch.testing.assert_close(copied(waves).logits, built(waves).logits, rtol=1e-4, atol=1e-4)


def test_names_of_classes_and_the_loss_come_from_eats_file():
    example = fairseq_examples.fine_tuned(fairseq_examples.first("eat_*_M*"))
    model, _ = from_fairseq(example)
    assert model.config.problem_type == "multi_label_classification" and model.config.classifier_pooling == "cls"
    example["task_state"] = {"labels": {name: str(number) for number, name in enumerate("abcde")}}
    example["cfg"]["model"] |= {"prediction_mode": 1, "esc50_eval": True}
    model, _ = from_fairseq(example)
    assert model.config.id2label == dict(enumerate("abcde")) and model.config.label2id["e"] == 4
    assert model.config.problem_type == "single_label_classification" and model.config.classifier_pooling == "mean"
    example["cfg"]["model"]["prediction_mode"] = "LIN_SOFTMAX"
    with pytest.raises(ValueError, match="LIN_SOFTMAX, but only MEAN_POOLING and CLS_TOKEN"):
        from_fairseq(example)


@pytest.mark.parametrize("kind", ["pretrained", "fine_tuned"])
@pytest.mark.parametrize("cases", ["eat_*_M*", "v2_image*_M*"], ids=["spectrograms", "images"])
def test_whether_masks_are_flexible_comes_from_the_options_of_the_data(cases, kind):
    example = getattr(fairseq_examples, kind)(fairseq_examples.first(cases))
    config = example["cfg"] if kind == "pretrained" else example["cfg"]["model"]["pretrained_model_args"]
    for flexible in (True, False, None):
        config["task"].pop("flexible_mask", None)
        config["task"] |= {} if flexible is None else {"flexible_mask": flexible}
        model, _ = from_fairseq(example)
        assert model.config.flexible_mask is bool(flexible)
        again, _ = from_fairseq(to_fairseq(model))
        assert again.config.flexible_mask is bool(flexible)


# ---- what is refused ----


def spoilt(example: dict, change) -> dict:
    example = copy.deepcopy(example)
    change(example)
    return example


def test_missing_unknown_and_misshapen_weights_are_all_listed(example):
    def drop(content):
        for name in gone:
            del content["model"][name]

    names = [name for name, value in example["model"].items() if "layers.0." in name or "blocks.0." in name]
    gone = [name for name in names if name.endswith(("fc1.bias", "mlp.0.bias", "fc2.bias", "mlp.2.bias"))]
    with pytest.raises(ValueError, match="missing: .*, .*bias"):
        from_fairseq(spoilt(example, drop))
    with pytest.raises(ValueError, match="not weights of a .*one.surprise, two.surprise"):
        surprises = {"one.surprise": torch.zeros(1), "two.surprise": torch.zeros(1)}
        from_fairseq(spoilt(example, lambda content: content["model"].update(surprises)))
    with pytest.raises(ValueError, match=r"of another shape: .*\[3\] instead of"):
        from_fairseq(spoilt(example, lambda content: content["model"].update({gone[0]: torch.zeros(3)})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(cfg=None), "no config of a model"),
        (lambda c: c.update(model=None), "holds no model"),
        (lambda c: c["cfg"]["model"].update(_name="wav2vec2"), "'wav2vec2', but can be one of data2vec_audio"),
        (lambda c: c["model"].update(weight="text"), "no tensors: weight"),
        (lambda c: c["cfg"]["model"].pop("depth"), "no option 'depth'"),
        (lambda c: c["cfg"]["model"].update(recon_loss=1.0), "'recon_loss': 1.0"),
        (lambda c: c["cfg"]["model"].update(supported_modality="VIDEO"), "'VIDEO'"),
    ],
)
def test_a_file_that_is_something_else_is_refused(change, message):
    case = fairseq_examples.first("v2_image_*_M*")
    with pytest.raises(ValueError, match=message):
        from_fairseq(spoilt(fairseq_examples.pretrained(case), change))


def test_other_models_of_ours_can_not_be_written():
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with pytest.raises(ValueError, match="BertModel can't be written"):
        to_fairseq(AutoModel.from_config(BertConfig(**tiny)))
    encoder = AutoModel.from_config(Data2Vec2TextConfig(**tiny, average_top_k_layers=1, decoder_dim=8))
    with pytest.raises(ValueError, match="Data2Vec2TextModel can't be written"):
        to_fairseq(encoder)


def test_an_enumeration_by_number_and_older_files_without_options():
    case = fairseq_examples.first("v2_image_*_M*")
    example = fairseq_examples.pretrained(case)
    config = example["cfg"]["model"]
    expected, _ = from_fairseq(example)
    config["supported_modality"] = 2
    for name in ("loss_beta", "layerdrop", "end_of_block_targets"):
        del config[name]
    model, _ = from_fairseq(example)
    assert model.config == expected.config
