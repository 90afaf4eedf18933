"""Batches of mixed lengths: groups of similar length, and the same numbers as in one padded batch."""

from functools import partial
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_padding import VARIANTS, build, samples

from modeling_data2vec import (
    Data2Vec2AudioForCTC,
    Data2Vec2Config,
    Data2Vec2Model,
    Data2Vec2TextForSequenceClassification,
)
from modeling_data2vec.length_groups import encode_by_length, group_cost
from modeling_data2vec.length_groups import length_groups as cut
from modeling_data2vec.trainers.data.collators import pad_inputs

LENGTHS = [60, 9, 58, 31, 9, 5]  # frames or tokens


def batch_of(model, lengths: list[int]) -> dict[str, torch.Tensor]:
    name = model.main_input_name
    values, mask = pad_inputs([sample[name] for sample in samples(model, lengths)], 0)
    return {name: values} if mask is None else {name: values, "attention_mask": mask}


@pytest.fixture
def passes():
    """The shapes of what has gone through a trunk since its model was given to `count`."""
    shapes: list[tuple[int, int]] = []
    handles = []

    def count(model) -> list[tuple[int, int]]:
        def note(module, args, output):
            shapes.append(tuple(output[0].shape[:2]))  # of the states

        handles.append(model.base_model.trunk.register_forward_hook(note))
        return shapes

    yield count
    for handle in handles:
        handle.remove()


def narrow_groups(monkeypatch) -> None:
    """As if one more pass were cheap: the tiny models here would not be cut, for good reason."""
    monkeypatch.setattr("modeling_data2vec.length_groups.group_cost", lambda hidden_size: 4.0)


def cost(groups: list[list[int]], lengths: list[int], group: float) -> float:
    return sum(group + len(rows) * max(lengths[row] for row in rows) for rows in groups)


@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=7), group=st.floats(0, 300))
def test_no_other_cut_is_cheaper(lengths, group):
    groups = cut(lengths, group)
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__)
    cuts = [borders for n in range(len(lengths)) for borders in combinations(range(1, len(lengths)), n)]
    best = min(
        cost([ordered[a:b] for a, b in zip((0, *c), (*c, len(lengths)), strict=True)], lengths, group) for c in cuts
    )
    assert cost(groups, lengths, group) == pytest.approx(best)


def test_equal_lengths_are_one_group_and_free_groups_have_no_padding():
    assert cut([7] * 5, 0.0) == [[0, 1, 2, 3, 4]]
    assert cut([3, 9, 3, 4], 0.0) == [[0, 2], [3], [1]]
    assert cut([3, 9, 3, 4], 1e9) == [[0, 1, 2, 3]]


def test_a_group_costs_a_narrow_model_more_positions():
    assert group_cost(64) > 100 > group_cost(192) > 20 > group_cost(1024)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_give_the_padded_batchs_numbers(variant, attention, passes, monkeypatch):
    narrow_groups(monkeypatch)
    model = build(variant).base_model.eval()
    model.set_attn_implementation(attention)
    shapes = passes(model)
    batch = batch_of(model, LENGTHS)
    padded = model(**batch)  # with gradients
    assert [rows for rows, _ in shapes] == [6]
    shapes.clear()
    with torch.no_grad():
        grouped = model(**batch)
    assert sorted(rows for rows, _ in shapes) == [1, 2, 3] and len({length for _, length in shapes}) == 3
    torch.testing.assert_close(grouped.last_hidden_state, padded.last_hidden_state.detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(grouped.pooler_output, padded.pooler_output.detach(), atol=1e-4, rtol=0)
    assert not grouped.last_hidden_state[1, model.config.num_extra_tokens + 10 :].any()


@pytest.mark.parametrize("head", [Data2Vec2AudioForCTC, Data2Vec2TextForSequenceClassification])
def test_heads_give_the_padded_batchs_numbers(head, passes, monkeypatch):
    narrow_groups(monkeypatch)
    encoder = build("audio" if head is Data2Vec2AudioForCTC else "text").base_model
    torch.manual_seed(0)
    model = head(encoder.config).eval()
    model.base_model.load_state_dict(encoder.state_dict())
    batch = batch_of(model, LENGTHS)
    labels = torch.ones(len(LENGTHS), dtype=torch.long)
    if head is Data2Vec2AudioForCTC:
        labels = labels[:, None].expand(-1, 2)
    shapes = passes(model)
    padded = model(**batch, labels=labels)
    with torch.no_grad():
        grouped = model(**batch, labels=labels)
    assert len(shapes) == 4
    torch.testing.assert_close(grouped.logits, padded.logits.detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(grouped.loss, padded.loss.detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["audio", "text"])
def test_odd_batches(variant, passes, monkeypatch):
    narrow_groups(monkeypatch)
    model = build(variant).base_model.eval()
    shapes = passes(model)
    name = model.main_input_name

    def both(batch):
        padded = model(**batch).last_hidden_state.detach()
        shapes.clear()
        with torch.no_grad():
            output = model(**batch)
        torch.testing.assert_close(output.last_hidden_state, padded, atol=1e-4, rtol=0)
        return output

    batch = batch_of(model, [20, 5])
    one = {key: value[1:] for key, value in batch.items()}  # one row, padded on
    both(one)
    assert shapes[0][0] == 1 and shapes[0][1] < 10
    same = batch_of(model, [20, 20])
    both(same | {"attention_mask": torch.ones(same[name].shape)})
    assert len(shapes) == 1
    empty = dict(batch, attention_mask=batch["attention_mask"].clone())
    empty["attention_mask"][1] = 0  # a row without anything real
    output = both(empty)
    assert not output.last_hidden_state[1].any() and not output.pooler_output[1].any()
    empty["attention_mask"][0] = 0
    assert not both(empty).last_hidden_state.any()


def test_left_padding_keeps_its_place(monkeypatch):
    narrow_groups(monkeypatch)
    model = build("text").base_model.eval()
    tokens = torch.randint(4, 50, (2, 20))
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, :12] = 0
    with torch.no_grad():
        states = model(tokens, attention_mask=mask).last_hidden_state
        alone = model(tokens[1:, 12:]).last_hidden_state
    torch.testing.assert_close(states[1, 12:], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["audio", "text"])
def test_what_needs_the_whole_batch_gets_it(variant, passes, monkeypatch):
    narrow_groups(monkeypatch)
    model = build(variant, attn_implementation="eager").base_model
    shapes = passes(model)
    batch = batch_of(model, LENGTHS)
    length = model.feature_encoder.num_positions(batch[model.main_input_name].shape[1])

    def whole() -> bool:
        return set(shapes) == {(6, length)}

    model.train()
    with torch.no_grad():
        model(**batch)
    model.eval()
    model(**batch)
    with torch.no_grad():
        assert len(model(**batch, output_hidden_states=True).hidden_states) == 3
        assert model(**batch, output_attentions=True).attentions[0].shape[0] == 6
        model.config.output_hidden_states = True
        assert len(model(**batch).hidden_states) == 3
        model.config.output_hidden_states = False
        model.config.padding = "reference"
        model(**batch)
        model.config.padding = "exact"
        assert whole() and len(shapes) == 6
        model(**batch)
        assert not whole()


def test_a_compiled_encoder_is_one_program(passes, monkeypatch):
    narrow_groups(monkeypatch)
    model = build("audio").base_model.eval()
    batch = batch_of(model, LENGTHS)
    with torch.no_grad():
        whole = partial(encode_by_length, model.feature_encoder, model.trunk)
        compiled = torch.compile(whole, backend="eager", fullgraph=True)(*batch.values())
        torch.testing.assert_close(compiled.last_hidden_state, model(**batch).last_hidden_state, atol=1e-4, rtol=0)


def test_a_joint_model_does_the_same(passes, monkeypatch):
    narrow_groups(monkeypatch)
    text = build("text").base_model
    model = Data2Vec2Model(Data2Vec2Config(text_config=text.config, attn_implementation="eager")).eval()
    shapes = passes(model)
    batch = batch_of(text, LENGTHS)
    padded = model(**batch).last_hidden_state.detach()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).last_hidden_state, padded, atol=1e-4, rtol=0)
        assert len(shapes) == 4
        model.config.output_hidden_states = True
        assert model(**batch).hidden_states[0].shape[0] == len(LENGTHS)
