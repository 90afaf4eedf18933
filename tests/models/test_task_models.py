"""Heads of 2.0: from pretraining to a task and back from disk, padding, frozen parts, losses, and the stock Trainer."""

import copy

import pytest
import torch
from task_models import PAD, TASKS, assert_same, tensors
from tiny_runs import tiny_model
from transformers import Trainer, TrainingArguments
from transformers.utils import output_capturing

from modeling_data2vec import Data2Vec2AudioConfig
from modeling_data2vec.modeling_data2vec2_audio_tasks import TimeDelayLayer
from modeling_data2vec.trainers.finetuning.adapters import with_adapter
from modeling_data2vec.trainers.finetuning.freezing import freeze

SPEECH = [name for name, task in TASKS.items() if task.modality == "speech"]
SEQUENCES = [name for name, task in TASKS.items() if task.modality != "images"]
LETTERS = ("CTC", "CTC of spectrograms")
HEADS = {  # names that begin the head's weights
    "CTC": {"lm_head"},
    "classes of clips": {"projector", "classifier"},
    "classes of frames": {"classifier"},
    "voices": {"projector", "tdnn", "feature_extractor", "classifier", "objective"},
    "CTC of spectrograms": {"lm_head"},
    "classes of sounds": {"fc_norm", "classifier"},
    "classes of moments": {"classifier"},
    "classes of images": {"fc_norm", "classifier"},
    "classes of pixels": {"fpn1", "fpn2", "decode_head", "auxiliary_head"},
    "classes of texts": {"classifier"},
    "tags": {"classifier"},
    "answers": {"qa_outputs"},
    "words under masks": {"lm_head"},
}
SHAPES = {  # of the logits for 4 samples of 19 frames, 8 x 8 pixels or 12 tokens
    "CTC": (4, 19, 28),
    "classes of clips": (4, 3),
    "classes of frames": (4, 19, 3),
    "voices": (4, 16),
    "CTC of spectrograms": (4, 19, 28),
    "classes of sounds": (4, 3),
    "classes of moments": (4, 19, 3),
    "classes of images": (4, 3),
    "classes of pixels": (4, 3, 16, 16),
    "classes of texts": (4, 3),
    "tags": (4, 12, 3),
    "words under masks": (4, 12, 60),
}


# ---- from pretraining, and from disk ----


@pytest.mark.parametrize("name", TASKS)
def test_a_pretraining_folder_lacks_the_head_alone(name, tmp_path):
    model, report = TASKS[name].model(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in report["missing_keys"]} == HEADS[name]
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    expected = tiny_model(f"{TASKS[name].modality} 2.0").base_model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.base_model.state_dict().items())
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("name", TASKS)
def test_saved_and_loaded_it_is_bit_equal(name, tmp_path):
    task = TASKS[name]
    model = task.model(tmp_path / "pretrained").eval()
    model.save_pretrained(tmp_path / "task")
    again, report = task.auto_class.from_pretrained(tmp_path / "task", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same(again.state_dict(), model.state_dict())
    batch = task.batch(model)
    with torch.no_grad():
        # Kernels round otherwise where weights lie otherwise in memory, as those of a mapped file do.
        assert_same(tensors(again.eval()(**batch)), tensors(model(**batch)), 1e-6)


# ---- what comes out ----


@pytest.mark.parametrize("name", TASKS)
def test_shapes_hidden_states_and_tuples(name, tmp_path):
    model = TASKS[name].model(tmp_path, attn_implementation="eager").eval()
    batch = TASKS[name].batch(model)
    plain, whole = model(**batch), model(**batch, output_hidden_states=True, output_attentions=True)
    if name in SHAPES:
        assert tuple(plain.logits.shape) == SHAPES[name]
    else:
        assert plain.start_logits.shape == plain.end_logits.shape == (4, 12)
    layers = model.config.depth
    assert plain.loss.ndim == 0 and plain.hidden_states is None and plain.attentions is None
    assert len(whole.hidden_states) == layers + 1 and len(whole.attentions) == layers
    expected = [value for value in plain.values() if value is not None]
    assert all(map(torch.equal, model(**batch, return_dict=False), expected))
    assert "loss" not in model(**TASKS[name].inputs(model))


@pytest.mark.skipif(not hasattr(output_capturing, "selected_hidden_states"), reason="came with transformers 5.23")
@pytest.mark.parametrize("name", TASKS)
def test_hidden_states_by_number(name, tmp_path):
    model = TASKS[name].model(tmp_path, attn_implementation="eager").eval()
    batch = TASKS[name].batch(model)
    whole = model(**batch, output_hidden_states=True, output_attentions=True)
    some = model(**batch, output_hidden_states=[0, 1]).hidden_states
    assert torch.equal(some[1], whole.hidden_states[1]) and some[2] is None


def gradients(model, batch, reentrant: bool) -> dict[str, torch.Tensor]:
    """Of one step with checkpointing."""
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)  # since 5.23
    enable({"use_reentrant": reentrant})
    model.train().zero_grad()
    model(**batch).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_checkpointing_loses_nothing(model, batch) -> dict[str, torch.Tensor]:
    """Reentrant checkpointing gives the gradients of the other kind."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected, found = gradients(model, batch, False), gradients(model, batch, True)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert expected.keys() == found.keys() == trained & expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    return found


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad", "ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize(
    ("name", "frozen"),
    [(name, "lora") for name in TASKS if name != "words under masks"]  # whose head an adapter does not save
    + [(name, what) for name in ("CTC", "classes of images", "tags") for what in ("feature_encoder", "1", "encoder")],
)
def test_reentrant_checkpointing_trains_what_is_not_frozen(name, frozen, tmp_path):
    """The first trained layer's input requires no gradient, if all before it is frozen."""
    model = TASKS[name].model(tmp_path, changes={"num_prenet_layers": 1})
    batch = TASKS[name].batch(model)
    if frozen != "lora":
        freeze(model, model.base_model_prefix, frozen)
    else:
        model = with_adapter(model, "lora", {"r": 2, "init_lora_weights": False})
    found = assert_checkpointing_loses_nothing(model, batch)
    layers = [gradient for key, gradient in found.items() if "layers." in key]
    assert all(gradient.abs().max() > 0 for key, gradient in found.items() if "lora_" in key)
    assert bool(layers) == (frozen != "encoder")


@pytest.mark.parametrize("name", ["CTC", "classes of images", "tags"])
def test_asked_to_the_first_layers_input_requires_gradients(name, tmp_path):
    model = TASKS[name].model(tmp_path).requires_grad_(False).train()
    seen = []
    model.base_model.trunk.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].requires_grad))
    for turn in (lambda: None, model.enable_input_require_grads, model.disable_input_require_grads):
        turn()
        model(**TASKS[name].inputs(model))
    assert seen == [False, True, False]


@pytest.mark.filterwarnings("ignore:.*quanti:DeprecationWarning", "ignore:.*quanti:UserWarning")
@pytest.mark.parametrize("name", TASKS)
def test_quantised_to_int8_as_it_runs(name, tmp_path):
    """Linear layers of int8 give their weight by a method, and no dtype: nothing else may ask for either."""
    torch.manual_seed(0)
    model = TASKS[name].model(tmp_path).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh head's differences would be too small to see
            parameter.add_(0.1 * torch.randn_like(parameter))
        inputs = TASKS[name].inputs(model)
        expected = model(**inputs)
        small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        assert not any(isinstance(module, torch.nn.Linear) for module in small.modules())
        output = small(**inputs)
    for one, other in zip(output.values(), expected.values(), strict=True):
        assert float((one - other).norm()) < 0.25 * float(other.norm())


def test_a_time_delay_layer_computes_the_same_without_its_weight():
    class Quantised(torch.nn.Module):
        def weight(self):
            raise AssertionError("packed")

        def forward(self, x):
            return kernel(x)

    layer = TimeDelayLayer(Data2Vec2AudioConfig(tdnn_dim=[6, 4], tdnn_kernel=[5, 3], tdnn_dilation=[1, 2]), 1)
    states = torch.randn(2, 11, 6)
    expected = layer(states)
    kernel = layer.kernel
    layer.kernel = Quantised()
    torch.testing.assert_close(layer(states), expected)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_changes_nothing(name, grad, tmp_path):
    """Each sample by itself gives what it gives in a padded batch, and the batch's loss is their mean."""
    task = TASKS[name]
    model = task.model(tmp_path).eval()
    batch = task.batch(model, 2)
    main = model.main_input_name
    length = batch[main].shape[1]
    if task.modality == "text":
        cut = 8  # positions that count
    else:
        length, cut = 19, 12
    short = {"speech": 12 * 160 + 10, "spectrograms": 12 * 4 + 2}.get(task.modality, cut)  # 12 frames, a little more
    batch["attention_mask"] = torch.ones(batch[main].shape[:2], dtype=torch.long)
    batch["attention_mask"][0, short:] = 0
    batch[main][0, short:] = PAD if task.modality == "text" else 0
    if "labels" in batch and batch["labels"].ndim == 2 and not name.startswith("CTC"):
        batch["labels"][0, cut:] = -100
    singles = []
    for i, end in enumerate((short, None)):
        one = {key: value[i : i + 1] for key, value in batch.items() if key != "attention_mask"}
        one[main] = one[main][:, :end]
        if "labels" in one and one["labels"].shape[1:] == (length,):
            one["labels"] = one["labels"][:, : cut if i == 0 else None]
        with torch.set_grad_enabled(grad):
            singles.append({key: value.detach() for key, value in tensors(model(**one)).items()})
    with torch.set_grad_enabled(grad):
        together = {key: value.detach() for key, value in tensors(model(**batch)).items()}
    for i, single in enumerate(singles):
        for key, value in single.items():
            if key != "loss":
                actual = together[key][i]
                if value.ndim > 1 and value.shape[1] == cut:
                    actual = actual[:cut]
                torch.testing.assert_close(actual, value[0], rtol=0, atol=1e-4, msg=key)
    counts = torch.ones(2)
    if name in ("classes of frames", "classes of moments", "tags", "words under masks"):
        counts = (batch["labels"] >= 0).sum(1)
    expected = sum(float(single["loss"]) * float(count) for single, count in zip(singles, counts, strict=True))
    assert float(together["loss"]) == pytest.approx(expected / float(counts.sum()), abs=1e-4)


@pytest.mark.parametrize("name", [name for name in TASKS if name not in (*LETTERS, "classes of pixels", "answers")])
def test_samples_without_a_label_do_not_count(name, tmp_path):
    model = TASKS[name].model(tmp_path).eval()
    batch = TASKS[name].batch(model)
    fewer = {key: value[:2] for key, value in batch.items()}
    batch["labels"][2:] = -100
    torch.testing.assert_close(model(**batch).loss, model(**fewer).loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["classes of clips", "classes of sounds", "classes of images", "classes of texts"])
@pytest.mark.parametrize("problem", ["regression", "single_label_classification", "multi_label_classification"])
def test_problem_types(name, problem, tmp_path):
    num_labels = 1 if problem == "regression" else 3
    model = TASKS[name].model(tmp_path, problem_type=problem, num_labels=num_labels)
    labels = {
        "regression": torch.tensor([0.5, 1.0, -1.0, 0.0]),
        "single_label_classification": torch.tensor([0, 1, 2, 1]),
        "multi_label_classification": torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]),
    }[problem]
    outputs = model.eval()(**TASKS[name].inputs(model), labels=labels)
    outputs.loss.backward()
    expected = {
        "regression": lambda: torch.nn.functional.mse_loss(outputs.logits[:, 0], labels),
        "single_label_classification": lambda: torch.nn.functional.cross_entropy(outputs.logits, labels),
        "multi_label_classification": lambda: torch.nn.functional.binary_cross_entropy_with_logits(
            outputs.logits, labels.float()
        ),
    }[problem]()
    torch.testing.assert_close(outputs.loss, expected)


def test_frames_with_several_labels(tmp_path):
    task = TASKS["classes of frames"]
    model = task.model(tmp_path).eval()
    labels = torch.zeros(4, 19, 3, dtype=torch.long)
    labels[:, 3:9, 1] = labels[:, 5:12, 2] = 1
    outputs = model(**task.inputs(model), labels=labels)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels.float())
    torch.testing.assert_close(outputs.loss, expected)


# ---- training ----


@pytest.mark.parametrize("name", TASKS)
def test_frozen_parts_get_no_gradient(name, tmp_path):
    model = TASKS[name].model(tmp_path)
    batch = TASKS[name].batch(model)
    model.freeze_feature_encoder()
    model(**batch).loss.backward()
    frozen = {key for key, value in model.named_parameters() if value.grad is None}
    encoder = f"{model.base_model_prefix}.feature_encoder."
    assert frozen and all(key.startswith(encoder) for key in frozen)
    assert any(value.grad is not None for value in model.base_model.trunk.parameters())
    model.zero_grad()
    model.freeze_base_model()
    model(**batch).loss.backward()
    trained = {key.split(".")[0] for key, value in model.named_parameters() if value.grad is not None}
    assert trained == HEADS[name]


@pytest.mark.parametrize("name", TASKS)
def test_gradient_checkpointing_changes_no_gradient(name, tmp_path):
    plain = TASKS[name].model(tmp_path).train()
    saving = copy.deepcopy(plain)
    getattr(saving, "activation_checkpointing_enable", saving.gradient_checkpointing_enable)()  # the name since 5.23
    batch = TASKS[name].batch(plain)
    for model in (plain, saving):
        model(**batch).loss.backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


def losses(model, inputs, folder, **options) -> list[float]:
    """What the stock Trainer logs, a loss for each step."""
    data = [{name: value[i] for name, value in inputs.items()} for i in range(len(inputs[model.main_input_name]))]
    fixed = {"report_to": "none", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
    trainer = Trainer(model, TrainingArguments(str(folder), **(fixed | options)), train_dataset=data)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", ["CTC", "classes of images", "classes of texts"])
def test_the_stock_trainer_lowers_the_loss(name, tmp_path):
    model = TASKS[name].model(tmp_path)
    found = losses(model, TASKS[name].batch(model), tmp_path, max_steps=30, learning_rate=5e-3)
    assert found[-1] < 0.7 * found[0]


def test_accumulation_does_not_raise_the_loss(tmp_path):
    task = TASKS["classes of texts"]
    found = {}
    for accumulate, size in ((1, 4), (2, 2)):
        model = task.model(tmp_path)
        options = {"gradient_accumulation_steps": accumulate, "per_device_train_batch_size": size}
        found[accumulate] = losses(model, task.batch(model), tmp_path, max_steps=2, **options)
    assert found[2] == pytest.approx(found[1], rel=1e-3)
