import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from joint_models import CONFIGS, SPECIALISATIONS, inputs_of, joint_config, joint_model
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2Config,
    Data2Vec2ForPreTraining,
    Data2Vec2Model,
    Data2Vec2TextConfig,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
)
from modeling_data2vec.auto import TASKS, pretraining_class
from modeling_data2vec.merging import merge_models
from modeling_data2vec.modeling_data2vec2_pretraining import modality_models


def raw(modality):
    return {name: value for name, value in inputs_of(modality).items() if name not in ("mask", "noise_keys")}


@pytest.fixture(scope="module", params=SPECIALISATIONS)
def saved(request, tmp_path_factory):
    """(model, folder) of a joint model with each kind of specialisation."""
    folder = tmp_path_factory.mktemp("joint")
    model = joint_model(**SPECIALISATIONS[request.param]).eval()
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("modality", CONFIGS)
def test_with_one_modality_it_is_the_single_model(modality):
    """Loss, targets, gradients and the moved teacher are equal bit for bit."""
    single_class = modality_models()[modality]
    torch.manual_seed(0)
    single = single_class(CONFIGS[modality])
    joint = merge_models({modality: single})
    inputs = inputs_of(modality)
    outputs = [model(**inputs) for model in (single, joint)]
    assert torch.equal(outputs[0].loss, outputs[1].loss)
    assert torch.equal(outputs[0].targets, outputs[1].targets)
    for model, output in zip((single, joint), outputs, strict=True):
        output.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        model.update_teacher(1)
    part = single.state_dict()
    renamed = {
        name.replace("data2vec2.", f"data2vec2_{modality}.", 1)
        .replace(f"feature_encoders.{modality}.", "feature_encoder.")
        .replace(f"head.{modality}.", "head."): value
        for name, value in joint.state_dict().items()
    }
    assert renamed.keys() == part.keys()
    assert all(torch.equal(renamed[name], part[name]) for name in part)


@pytest.mark.parametrize("modality", CONFIGS)
def test_a_slice_computes_what_the_joint_model_does(saved, modality):
    model, folder = saved
    with torch.no_grad():
        expected = model.data2vec2(**raw(modality))
        part = Data2Vec2Model.from_pretrained(folder, modality=modality).eval()
        found = part(**raw(modality))
    assert type(part).__name__ == f"Data2Vec2{modality.title()}Model"
    assert torch.equal(expected.last_hidden_state, found.last_hidden_state)
    assert torch.equal(expected.pooler_output, found.pooler_output)


@pytest.mark.parametrize("modality", CONFIGS)
def test_a_slice_of_the_pretraining_model_goes_on_where_it_was(saved, modality):
    model, folder = saved
    single = modality_models()[modality].from_pretrained(folder).eval()
    with torch.no_grad():
        expected, found = model(**inputs_of(modality)), single(**inputs_of(modality))
    assert torch.equal(expected.loss, found.loss)
    assert torch.equal(expected.targets, found.targets)


def test_a_slice_reads_only_its_part_and_can_be_saved_on(saved, tmp_path):
    _, folder = saved
    part = Data2Vec2Model.from_pretrained(folder, modality="text")
    part.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is type(part)
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), again.parameters(), strict=True))


def test_saved_files_hold_one_trunk(saved):
    model, folder = saved
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
    layer = [name for name in names if name.endswith("layers.0.attention.qkv.weight")]
    # The prenet of images has a layer 0 of its own, but not in a trunk.
    assert sorted(name for name in layer if "trunk" in name) == [
        "data2vec2.trunk.layers.0.attention.qkv.weight",
        "teacher.trunk.layers.0.attention.qkv.weight",
    ]
    again = Data2Vec2ForPreTraining.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_auto_classes_lead_here(saved):
    _, folder = saved
    assert type(AutoConfig.from_pretrained(folder)) is Data2Vec2Config
    assert type(AutoModel.from_pretrained(folder)) is Data2Vec2Model
    assert type(AutoModelForPreTraining.from_pretrained(folder)) is Data2Vec2ForPreTraining
    assert pretraining_class("data2vec2") is Data2Vec2ForPreTraining


@pytest.mark.parametrize("name", [name for name in SPECIALISATIONS if name != "shared"])
def test_new_differences_change_nothing(name):
    """A joint checkpoint can be continued with specialisation."""
    torch.manual_seed(0)
    plain = Data2Vec2ForPreTraining(joint_config()).eval()
    special = Data2Vec2ForPreTraining(joint_config(**SPECIALISATIONS[name])).eval()
    lacking = special.load_state_dict(plain.state_dict(), strict=False)
    assert lacking.missing_keys and all(".differences." in key for key in lacking.missing_keys)
    with torch.no_grad():
        for modality in CONFIGS:
            assert torch.equal(plain(**inputs_of(modality)).loss, special(**inputs_of(modality)).loss)


@pytest.mark.parametrize("name", SPECIALISATIONS)
def test_every_weight_learns_from_some_modality_and_the_trunk_from_all(name):
    model = joint_model(**SPECIALISATIONS[name])
    for modality in CONFIGS:
        model.zero_grad()
        model(**inputs_of(modality)).loss.backward()
        trunk = dict(model.data2vec2.trunk.named_parameters())
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trunk.values())
        others = [other for other in CONFIGS if other != modality]
        for parameter_name, parameter in model.named_parameters():
            if any(f".{other}." in parameter_name for other in others):
                assert parameter.grad is None
            elif parameter.requires_grad and f".{modality}." in parameter_name and "position" not in parameter_name:
                assert parameter.grad is not None, parameter_name


def test_checkpointing_recomputes_with_the_modality_s_own_weights():
    inputs = inputs_of("vision")
    gradients = []
    for checkpointing in (False, True):
        model = joint_model(**SPECIALISATIONS["all"]).train()
        if checkpointing:
            getattr(
                model, "activation_checkpointing_enable", model.gradient_checkpointing_enable
            )()  # the name since 5.23
        model(**inputs).loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-5, atol=1e-7), name


def test_one_set_of_weights_is_small():
    """At base size three modalities cost less than 1.3 times the largest single model's trunk-and-parts."""
    trunk = {"num_hidden_layers": 12, "layer_norm_eps": 1e-5, "ema_decay": 0.999, "ema_end_decay": 0.9999}
    shared = dict.fromkeys(("hidden_dropout", "attention_dropout", "post_mlp_dropout", "layerdrop"), 0.0)
    common = {**trunk, **shared, "ema_anneal_end_step": 100_000}
    configs = {
        "audio_config": Data2Vec2AudioConfig(**common),
        "text_config": Data2Vec2TextConfig(**common),
        "vision_config": Data2Vec2VisionConfig(**common, num_prenet_layers=0),
    }

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"):
        joint = Data2Vec2Model(Data2Vec2Config(**configs))
        singles = {name: Data2Vec2Model(Data2Vec2Config(**{name: config})) for name, config in configs.items()}
        vision = Data2Vec2VisionModel(configs["vision_config"])
    assert count(vision) == count(singles["vision_config"])
    largest = max(map(count, singles.values()))
    table = count(joint.feature_encoders["text"].embed_tokens)  # 50,265 words, which no other modality has
    assert count(joint) < 1.3 * largest
    assert count(joint) - table < 1.3 * (count(singles["vision_config"]))


def test_wrong_input_is_named():
    model = joint_model(("text", "vision"))
    text, vision = inputs_of("text"), inputs_of("vision")
    with pytest.raises(ValueError, match="input_ids and pixel_values is given, but one call takes one"):
        model(input_ids=text["input_ids"], pixel_values=vision["pixel_values"], mask=text["mask"])
    with pytest.raises(ValueError, match="nothing is given"):
        model(mask=text["mask"])
    with pytest.raises(ValueError, match="no modality 'audio', only text, vision"):
        model(**inputs_of("audio"))


def test_wrong_configs_are_named():
    with pytest.raises(StrictDataclassError, match="there is no modality"):
        Data2Vec2Config()
    other = CONFIGS["text"].to_dict() | {"hidden_dropout": 0.1}
    with pytest.raises(StrictDataclassError, match=r"hidden_dropout is 0.1 in text_config, but 0.0 in vision_config"):
        Data2Vec2Config(text_config=other, vision_config=CONFIGS["vision"])
    with pytest.raises(StrictDataclassError, match="modality_ffn_layers is 3, but the trunk has 2 layers"):
        joint_config(modality_ffn_layers=3)
    with pytest.raises(StrictDataclassError, match="loss_weights gives 'video'"):
        joint_config(loss_weights={"video": 1.0})


def test_a_slice_that_is_not_there_is_an_error(tmp_path):
    joint_model(("text",)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no modality 'audio', only text"):
        Data2Vec2Model.from_pretrained(tmp_path, modality="audio")
    with pytest.raises(ValueError, match="modality is 'video'"):
        Data2Vec2Model.from_pretrained(tmp_path, modality="video")


@pytest.mark.parametrize("task_class", [task_class for _, task_class in TASKS], ids=lambda one: one.__name__)
def test_every_head_takes_a_slice(task_class, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    model = joint_model(**SPECIALISATIONS["all"])
    model.save_pretrained(folder)
    task_model, info = task_class.from_pretrained(folder, output_loading_info=True)
    base = task_model.base_model_prefix
    assert info["missing_keys"] and not any(key.startswith(f"{base}.") for key in info["missing_keys"])
    part = Data2Vec2Model.from_pretrained(folder, modality=task_class.modality)
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), task_model.base_model.parameters(), strict=True))
