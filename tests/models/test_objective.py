"""Terms of a loss: their names, their sum, and those of one's own in every kind of model."""

import math
import re

import pytest
import torch
from joint_models import inputs_of, joint_model
from tiny_runs import KINDS, tiny_model, tiny_samples

from modeling_data2vec import Data2Vec2ForPreTraining
from modeling_data2vec.cross_modal import PairViews
from modeling_data2vec.objective import Targets, Term, Views, loss_terms, weighted_losses
from modeling_data2vec.trainers import diagnose, mask_collator
from modeling_data2vec.trainers.monitoring.modality_logs import ModalityFigures


def size_loss(views: Views) -> torch.Tensor:
    """Keeps predictions small."""
    return views.predictions.float().square().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_term_of_ones_own_is_added_and_logged(kind):
    base = type(tiny_model(kind))

    class Own(base):
        def build_terms(self, config):
            return [*super().build_terms(config), Term("size_loss", 0.5, size_loss)]

    torch.manual_seed(0)
    model, plain = Own(base.config_class(**KINDS[kind][1])).eval(), tiny_model(kind).eval()
    samples = tiny_samples(model, 3)
    batch = mask_collator(model.config)([samples[i] for i in range(3)])
    own, stock = model(**batch), plain(**batch)
    assert list(own.losses) == [*stock.losses, "size_loss"]
    torch.testing.assert_close(own.loss, stock.loss + 0.5 * stock.predictions.square().mean())
    figures = ModalityFigures(model.config)
    figures.measure(figures.names[0], own)
    logged = figures.take(lambda values: values)
    assert {name: loss.item() for name, loss in own.losses.items()}.items() <= logged.items()
    ratio = logged["regression_loss"] / logged["constant_loss"]
    assert logged["loss_below_constant"] == pytest.approx(1 - ratio, abs=1e-6)


def test_terms_of_a_joint_model_know_their_modality():
    class Own(Data2Vec2ForPreTraining):
        def build_terms(self, config):
            factor = 0.5 if config.model_type == "data2vec2-vision" else 0.0
            return [*super().build_terms(config), Term("size_loss", factor, size_loss)]

        def build_pair_terms(self):
            return [*super().build_pair_terms(), Term("spread_loss", 0.1, spread_loss)]

    def spread_loss(views: PairViews) -> torch.Tensor:
        return torch.stack([found.std(0).mean() for found in views.predictions.values()]).mean()

    config = joint_model(cross_modal_layers=1).config
    model = Own(config).eval()
    assert float(model(**inputs_of("vision")).losses["size_loss"].detach()) > 0
    assert float(model(**inputs_of("text")).losses["size_loss"].detach()) == 0
    pairs = {
        "text": {"inputs": inputs_of("text")["input_ids"]},
        "vision": {"inputs": inputs_of("vision")["pixel_values"]},
    }
    output = model(pairs=pairs)
    torch.testing.assert_close(output.loss, output.losses["cross_modal_loss"] + output.losses["spread_loss"])
    figures = ModalityFigures(config)
    figures.measure("pairs", output)
    assert {"pairs/cross_modal_loss", "pairs/spread_loss", "pairs/pooled_spread"} <= figures.take(lambda x: x).keys()


def test_targets_of_ones_own_reach_the_teacher():
    """Another kind of layers than the config's, which the teacher has to hand out."""

    class Ends(type(tiny_model())):
        def build_targets(self, config):
            return Targets(1, end_of_block_targets=True)

    torch.manual_seed(0)
    fields = KINDS["images 2.0"][1]
    model = Ends(Ends.config_class(**fields)).eval()
    stock = tiny_model(average_top_k_layers=1, end_of_block_targets=True, instance_norm_target_layer=False).eval()
    stock.config.layer_norm_targets = False
    samples = tiny_samples(model, 3)
    batch = mask_collator(model.config)([samples[i] for i in range(3)])
    assert torch.equal(model(**batch).targets, stock(**batch).targets)


@pytest.mark.parametrize("name", ["context", "constant_loss", "regression_loss", "a/b_loss", ""])
def test_a_name_that_the_log_could_not_hold_is_refused(name):
    config = tiny_model().config
    with pytest.raises(ValueError, match=f'is called {name!r}.* ends with "_loss"'):
        weighted_losses([Term("regression_loss", 1.0, lambda views: views), Term(name, 1.0, lambda views: views)], 1.0)
    assert [term.name for term in loss_terms(config)] == ["regression_loss", "cls_loss"]


def history(**changes: float) -> list[dict]:
    healthy = {"loss": 3.0, "cross_modal_loss": 2.0, "size_loss": 1.0, "constant_loss": 4.0, "pooled_spread": 0.5}
    return [healthy | {"step": step} | (changes if step > 5 else {}) for step in range(1, 9)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_loss": math.nan}, "pairs part diverged: size_loss is nan at step 8"),
        ({"cross_modal_loss": 13.0}, "loss has diverged: cross_modal_loss 13 is more than 3 times"),
        ({"pooled_spread": 0.001}, "pooled layers hardly vary.*pooled_spread 0.001, it was 0.5"),
        ({"size_loss": 100.0}, None),
    ],
    ids=["no number", "diverged", "spread", "healthy"],
)
def test_terms_and_pairs_are_judged(changes, message):
    found = diagnose(history(**changes), start_step=0, patience=3, modality="pairs")
    assert re.search(message, found) if message else found is None


def test_targets_and_terms_do_not_break_a_compiled_step():
    model = tiny_model("text 2.0")
    samples = tiny_samples(model, 2)
    batch = mask_collator(model.config)([samples[i] for i in range(2)])
    assert torch._dynamo.explain(model)(**batch).graph_break_count == 0
