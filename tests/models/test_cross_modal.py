"""One modality's pooled latents predicted from another's."""

import math
from itertools import permutations

import pytest
import torch
from joint_models import learn
from tiny_runs import tiny_joint_model

from modeling_data2vec import Data2Vec2ForPreTraining, Data2Vec2Model
from modeling_data2vec.cross_modal import pooled_layers
from modeling_data2vec.objective import Targets


def batch(size: int = 6, names=("audio", "text", "vision")) -> dict:
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "audio": torch.randn(size, 1_600, generator=generator),
        "text": torch.randint(4, 58, (size, 12), generator=generator),
        "vision": torch.randn(size, 1, 8, 8, generator=generator),
    }
    return {name: {"inputs": inputs[name]} for name in names}


def joint(**fields) -> Data2Vec2ForPreTraining:
    return tiny_joint_model(cross_modal_layers=2, **fields)


def test_heads_exist_only_where_they_are_asked_for():
    keys = [key for key in joint().state_dict() if key.startswith("cross_modal.")]
    heads = {key.split(".")[1] for key in keys}
    assert heads == {f"{a}_to_{b}" for a, b in permutations(("audio", "text", "vision"), 2)}
    assert not any(key.startswith("cross_modal") for key in tiny_joint_model().state_dict())


def whitened(means: list[torch.Tensor]) -> torch.Tensor:
    """Layers K x [B, D], standardised over the batch and averaged; all directions count alike, but weak ones."""
    x = sum((mean - mean.mean(0)) / (mean.var(0, correction=0) + 1e-5).sqrt() for mean in means) / len(means)
    covariance = x.T.double() @ x.double() / len(x)
    values, vectors = torch.linalg.eigh(0.9 * covariance + 0.1 * covariance.diagonal().mean() * torch.eye(16))
    return x @ ((vectors * values.rsqrt()) @ vectors.T).float()


def test_the_loss_of_the_first_batch_by_hand():
    """A head on the student's mean state of one; the teacher's mean layers of the other; both normalised."""
    model, pairs = joint().train(), batch(names=("audio", "vision"))
    student = model.base_model
    states = {
        "audio": student(input_values=pairs["audio"]["inputs"]).pooler_output,
        "vision": student(pixel_values=pairs["vision"]["inputs"]).pooler_output,
    }
    expected = []
    for source, target in permutations(states):
        side = model.side(target)
        embedding = side.embed(pairs[target]["inputs"], None)
        layers = side.run_teacher(pairs[target]["inputs"], embedding, None, None, end_of_block=False)
        targets = whitened([layer.mean(1) for layer in layers[-2:]])
        predicted = model.cross_modal[f"{source}_to_{target}"](whitened([states[source]]))
        expected.append((predicted - targets).square().sum(1).mean() / math.sqrt(16))
    output = model(pairs=pairs)
    torch.testing.assert_close(output.loss, sum(expected) / 2, rtol=1e-4, atol=1e-4)
    assert list(output.losses) == ["cross_modal_loss"] and torch.equal(output.loss, output.losses["cross_modal_loss"])
    assert model(pairs=pairs, return_loss=False).loss is None


def test_gradients_reach_all_of_the_student_and_none_of_the_teacher():
    model = joint(modality_norms=True)
    model(pairs=batch()).loss.backward()
    student = model.base_model
    touched = [*student.trunk.parameters(), *student.feature_encoders.parameters(), *model.cross_modal.parameters()]
    assert all(value.grad is not None for value in touched)
    assert all(value.grad is not None for value in student.differences["text"].parameters())
    assert all(value.grad is None for value in [*model.teacher.parameters(), *model.head.parameters()])


def test_padding_changes_nothing():
    model = joint().eval()
    pairs = batch(names=("text", "vision"))
    padded = torch.cat([pairs["text"]["inputs"], torch.full((6, 5), 1)], dim=1)
    mask = torch.arange(17).expand(6, -1) < 12
    longer = {"text": {"inputs": padded, "attention_mask": mask}, "vision": pairs["vision"]}
    torch.testing.assert_close(model(pairs=longer).loss, model(pairs=pairs).loss)


def test_the_mean_of_pretraining_targets_says_nothing():
    """Why pooled targets are normalised over samples: an instance norm leaves no mean over positions."""
    layers = [torch.randn(4, 9, 16) + torch.randn(4, 1, 16) for _ in range(2)]
    assert Targets(2, instance_norm_target_layer=True)(layers).mean(1).abs().max() < 1e-6
    targets = joint().train().cross_norms.targets["audio"](pooled_layers(layers, 2))
    assert targets.mean(0).abs().max() < 1e-5
    assert targets.std(0).min() > 0.1


def test_it_learns_which_sample_belongs_to_which():
    torch.manual_seed(0)
    model, pairs = joint(), batch(names=("text", "vision"))
    outputs = learn(model, pairs, steps=60, rate=3e-3)
    losses = [(output.loss / output.constant_loss).item() for output in outputs]
    assert losses[0] > 0.9 and losses[-1] < 0.3


def test_checkpoints_keep_the_heads_and_slices_do_without(tmp_path):
    model = joint()
    model.save_pretrained(tmp_path)
    again = Data2Vec2ForPreTraining.from_pretrained(tmp_path).eval()
    pairs = batch()
    torch.testing.assert_close(again(pairs=pairs).loss, model.eval()(pairs=pairs).loss, rtol=0, atol=0)
    part = Data2Vec2Model.from_pretrained(tmp_path, modality="text")
    assert not any("cross_modal" in key for key in part.state_dict())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (batch(names=("audio",)), "two or more modalities"),
        (batch(size=1), "at least 2"),
        (batch(names=("audio",)) | batch(size=4, names=("text",)), "'audio': 6, 'text': 4"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        joint()(pairs=pairs)


def test_a_model_without_heads_says_so():
    with pytest.raises(ValueError, match="cross_modal_layers"):
        tiny_joint_model()(pairs=batch())
