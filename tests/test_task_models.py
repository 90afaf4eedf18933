"""Heads of data2vec 2.0: from pretraining to a task, trained by the stock Trainer, and padding changes nothing."""

import pytest
import torch
from tiny_runs import tiny_model
from transformers import (
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

NUM_LABELS = 3
AUTO_CLASSES = {
    "images 2.0": AutoModelForImageClassification,
    "speech 2.0": AutoModelForCTC,
    "text 2.0": AutoModelForSequenceClassification,
}


def task_model(kind: str, folder, **changes):
    """A model with a fresh head on the encoder of a pretraining folder."""
    tiny_model(kind).save_pretrained(folder)
    outputs = {"vocab_size": 6} if kind.startswith("speech") else {"num_labels": NUM_LABELS}
    return AUTO_CLASSES[kind].from_pretrained(folder, **(outputs | changes))


def batch(kind: str, model, size: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    if kind.startswith("images"):
        inputs = torch.randn(size, model.config.num_channels, *model.config.image_shape)
    elif kind.startswith("speech"):
        return {"input_values": torch.randn(size, 1600), "labels": torch.tensor([[1, 2, -100]] * size)}
    else:
        inputs = torch.randint(4, 58, (size, 12))
    return {model.main_input_name: inputs, "labels": torch.arange(size) % NUM_LABELS}


@pytest.mark.parametrize("kind", AUTO_CLASSES)
def test_the_encoder_is_that_of_the_pretraining_folder(kind, tmp_path):
    model = task_model(kind, tmp_path)
    expected = tiny_model(kind).base_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.base_model.state_dict().items())


@pytest.mark.parametrize("kind", AUTO_CLASSES)
def test_the_stock_trainer_lowers_the_loss(kind, tmp_path):
    model = task_model(kind, tmp_path)
    inputs = batch(kind, model)
    data = [{name: value[i] for name, value in inputs.items()} for i in range(4)]
    options = {"report_to": "none", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True}
    args = TrainingArguments(str(tmp_path), max_steps=30, learning_rate=5e-3, logging_steps=1, **options)
    trainer = Trainer(model, args, train_dataset=data)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    trainer.save_model()
    again = AUTO_CLASSES[kind].from_pretrained(tmp_path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("kind", ["speech 2.0", "text 2.0"])
def test_padding_changes_nothing(kind, tmp_path):
    model = task_model(kind, tmp_path).eval()
    inputs = batch(kind, model, 2)
    name = model.main_input_name
    short = inputs[name][:1, : inputs[name].shape[1] // 2]
    padded = inputs[name].clone()
    padded[0, short.shape[1] :] = 0 if kind.startswith("speech") else model.config.pad_token_id
    mask = torch.ones_like(padded, dtype=torch.long)
    mask[0, short.shape[1] :] = 0
    with torch.no_grad():
        alone = model(short, labels=inputs["labels"][:1])
        together = model(padded, attention_mask=mask, labels=inputs["labels"])
    expected = alone.logits[0]
    actual = together.logits[0, : len(expected)] if expected.ndim == 2 else together.logits[0]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    if kind.startswith("speech"):  # the loss knows how long each clip is
        with torch.no_grad():
            second = model(inputs[name][1:], labels=inputs["labels"][1:])
        assert float(together.loss) == pytest.approx(float(alone.loss + second.loss) / 2, abs=1e-4)


def test_letters_outside_the_vocabulary(tmp_path):
    model = task_model("speech 2.0", tmp_path)
    with pytest.raises(ValueError, match="labels go up to 9, but vocab_size is 6"):
        model(torch.randn(1, 1600), labels=torch.tensor([[9]]))


def test_a_frozen_extractor_gets_no_gradient(tmp_path):
    model = task_model("speech 2.0", tmp_path)
    model.freeze_feature_encoder()
    model(**batch("speech 2.0", model)).loss.backward()
    convs = model.data2vec2_audio.feature_encoder.convs
    assert all(parameter.grad is None for parameter in convs.parameters())
    assert model.lm_head.weight.grad is not None


@pytest.mark.parametrize("kind", AUTO_CLASSES)
def test_hidden_states_and_attentions_on_request(kind, tmp_path):
    model = task_model(kind, tmp_path)
    inputs = {name: value for name, value in batch(kind, model).items() if name != "labels"}
    outputs = model(**inputs, output_hidden_states=True)
    layers = model.config.num_prenet_layers + model.config.num_hidden_layers
    assert outputs.loss is None and len(outputs.hidden_states) == layers + 1
