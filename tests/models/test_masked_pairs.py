"""Paired samples that are masked: each modality predicts its own, and by what is visible the others."""

import math
from itertools import permutations

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from joint_models import learn
from tiny_runs import tiny_joint_model

from modeling_data2vec import Data2Vec2ForPreTraining, Data2Vec2Model
from modeling_data2vec.cross_modal import centred_targets
from modeling_data2vec.trainers.modalities.pairs import PairsCollator

NAMES = ("audio", "text", "vision")


def joint(**fields) -> Data2Vec2ForPreTraining:
    return tiny_joint_model(cross_modal_layers=1, cross_attention_layers=1, **fields)


def batch(model, size: int = 5, names=NAMES, padded: bool = True) -> dict:
    generator = torch.Generator().manual_seed(1)
    samples = []
    for key in range(size):
        longer = key if padded else 0
        inputs = {
            "audio": {"input_values": torch.randn(1_600 + 320 * longer, generator=generator)},
            "text": {"input_ids": torch.randint(4, 58, (8 + longer,), generator=generator)},
            "vision": {"pixel_values": torch.randn(1, 8, 8, generator=generator)},
        }
        samples.append({"pairs": {name: inputs[name] for name in names}, "key": key})
    return PairsCollator.of(model.config)(samples)["pairs"]


def single(pairs, name) -> dict:
    """A batch of one modality of the pairs, as the model takes it alone."""
    own = {"audio": "input_values", "text": "input_ids", "vision": "pixel_values"}[name]
    return {own if key == "inputs" else key: value for key, value in pairs[name].items()}


def test_own_losses_are_those_of_the_modalities_alone():
    weights = {"audio": 2.0, "text": 1.0, "vision": 1.0}
    model = joint(loss_weights=weights).eval()
    pairs = batch(model)
    losses = model(pairs=pairs).losses
    for name in NAMES:
        alone = model(**single(pairs, name)).losses
        for term, loss in alone.items():
            torch.testing.assert_close(losses[f"{name}_{term}"], weights[name] / 4 * loss)


def test_predictions_across_by_hand():
    """The first view by cross-attention to the targets at real positions, less their mean over the batch there."""
    model = joint().eval()
    pairs = batch(model)
    alone = {name: model(**single(pairs, name)) for name in NAMES}
    states = {}
    for name, output in alone.items():
        visible = output.student_states[:, model.config.of(name).num_extra_tokens :]
        valid = (
            torch.ones(visible.shape[:2], dtype=torch.bool) if output.visible_valid is None else output.visible_valid
        )
        states[name] = visible, valid
    expected = []
    for source, target in permutations(NAMES, 2):
        visible, valid = states[source]
        ids = pairs[source]["ids_keep"]
        views = ids.shape[:2]
        shown, real = visible.unflatten(0, views)[:, 0], valid.unflatten(0, views)[:, 0]
        grid = {"vision": (4, 4)}.get(source, (pairs[source]["mask"].shape[2],))
        asked = {"vision": (4, 4)}.get(target, (pairs[target]["mask"].shape[2],))
        found = model.cross_attention[f"{source}_to_{target}"](shown, ids[:, 0], grid, asked, real)
        targets, real = alone[target].targets, alone[target].valid
        real = torch.ones(targets.shape[:2], dtype=torch.bool) if real is None else real
        for position in range(targets.shape[1]):
            rows = real[:, position]
            targets[rows, position] -= targets[rows, position].mean(0)
        expected.append(((found - targets).square().sum(-1) / math.sqrt(16))[real].mean())
    torch.testing.assert_close(model(pairs=pairs).losses["cross_position_loss"], torch.stack(expected).mean())


def test_a_place_alone_says_nothing_of_targets_at_positions():
    """What all samples have in common at a position is no part of them, so the best constant is 0."""
    common, own = torch.randn(1, 6, 4), torch.randn(3, 6, 4)
    valid = torch.arange(6) < torch.tensor([[6], [4], [1]])
    for mask in (None, valid):
        targets = centred_targets(own, mask)
        torch.testing.assert_close(centred_targets(common + own, mask), targets)
        torch.testing.assert_close(targets.sum(0), torch.zeros(6, 4))
    assert not targets[~valid].any() and not targets[:, 4:].any()  # one real sample alone differs from nothing
    assert not centred_targets(common.expand(3, -1, -1), valid).any()


def test_padding_changes_nothing_across():
    model = joint().eval()
    pairs = batch(model, padded=False)
    padded = {name: dict(part) for name, part in pairs.items()}
    text = padded["text"]
    text["inputs"] = torch.cat([text["inputs"], torch.ones(5, 3, dtype=torch.long)], dim=1)
    text["attention_mask"] = torch.arange(11).expand(5, -1) < 8
    text["mask"] = torch.nn.functional.pad(text["mask"], (0, 3))
    plain, longer = model(pairs=pairs).losses, model(pairs=padded).losses
    for name in ("cross_modal_loss", "cross_position_loss"):
        torch.testing.assert_close(longer[name], plain[name], rtol=1e-4, atol=1e-5)


def test_balanced_gradients_are_as_long_as_the_own_ones():
    """What reaches the student across modalities; heads learn by the loss as it is."""

    def gradients(**fields):
        model = joint(**fields).train()
        torch.nn.init.normal_(model.cross_modal["audio_to_text"][0].weight)  # so that no factor is cut off
        output = model(pairs=batch(model))
        output.loss.backward()
        trunk = torch.cat([value.grad.flatten() for value in model.base_model.trunk.parameters()])
        return trunk, model.cross_modal["audio_to_text"][0].weight.grad, output.cross_modal_weight

    own = gradients(cross_modal_weight=0.0)[0]
    fixed, head, weight = gradients(cross_modal_balance=False)
    balanced, same_head, factor = gradients()
    assert weight == 1 and 0 < factor < 10 and factor != 1
    torch.testing.assert_close(head, same_head)
    torch.testing.assert_close(balanced - own, factor * (fixed - own), rtol=1e-3, atol=1e-5)
    assert gradients(cross_modal_weight=0.5)[2] == pytest.approx(float(factor) / 2)


def test_every_weight_learns_and_the_teacher_does_not():
    model = joint().train()
    model(pairs=batch(model)).loss.backward()
    assert all((value.grad is None) != value.requires_grad for value in model.parameters())


def test_weight_zero_is_the_control_without_pairs():
    model = joint(cross_modal_weight=0.0).train()
    output = model(pairs=batch(model))
    assert not any(name.startswith("cross") for name in output.losses)
    assert list(model(pairs=batch(model, names=("audio",))).losses) == ["audio_regression_loss"]  # a modality alone
    output.loss.backward()
    assert all(value.grad is None for value in [*model.cross_modal.parameters(), *model.cross_attention.parameters()])


def test_it_learns_which_sample_belongs_to_which():
    torch.manual_seed(0)
    model = joint().train()
    pairs = batch(model, names=("text", "vision"), padded=False)
    outputs = learn(model, pairs, steps=30, rate=1e-2)
    below = [float(output.losses["cross_modal_loss"].detach() / output.constant_loss) for output in outputs]
    assert below[0] > 0.9 and below[-1] < 0.5


def test_checkpoints_keep_the_predictors_and_slices_do_without(tmp_path):
    model = joint()
    model.save_pretrained(tmp_path)
    again = Data2Vec2ForPreTraining.from_pretrained(tmp_path).eval()
    pairs = batch(model)
    assert torch.equal(again(pairs=pairs).loss, model.eval()(pairs=pairs).loss)
    part = Data2Vec2Model.from_pretrained(tmp_path, modality="text")
    assert not any("cross" in key for key in part.state_dict())


def test_without_the_predictors_nothing_is_there():
    assert not any(key.startswith("cross") for key in tiny_joint_model().state_dict())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cross_attention_layers": 1}, "cross_attention_layers is 1, but cross_modal_layers 0"),
        ({"cross_modal_layers": 1, "cross_attention_layers": -1}, "cross_attention_layers is -1"),
        ({"cross_modal_weight": -0.5}, "cross_modal_weight is -0.5"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_joint_model(**fields)


def test_a_modality_alone_is_no_pair():
    with pytest.raises(ValueError, match="two or more modalities"):
        joint()(pairs=batch(joint(), names=("audio",)))
