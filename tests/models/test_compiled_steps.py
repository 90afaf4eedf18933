"""A training step is one program for a compiler, and never asks the device for a value."""

import pytest
import torch
from tiny_runs import KINDS, tiny_model, tiny_samples
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from modeling_data2vec.trainers.modalities.names import mask_collator

# Encoders in which layers are dropped, or values. Not both: a compiled step draws numbers for dropped layers, too.
DROPPING = {
    "layers 1.0": ("speech 1.0", {"layerdrop": 0.5}),
    "layers 2.0": ("speech 2.0", {"layerdrop": 0.5, "prenet_layerdrop": 0.5}),
    "values 2.0": ("speech 2.0", {"hidden_dropout": 0.1, "attention_dropout": 0.1, "prenet_dropout": 0.1}),
}


def batch_of(model, length: int | None = None, padded: bool = False) -> dict[str, torch.Tensor]:
    """Two samples, cut to a length; with padding the second is shorter still."""
    name = model.main_input_name
    samples = [tiny_samples(model, 2)[i] for i in range(2)]
    if length:
        samples = [{**sample, name: sample[name].repeat(3)[:length]} for sample in samples]
    if padded:
        samples[1] = {**samples[1], name: samples[1][name][: length * 2 // 3]}
    return mask_collator(model.config)(samples)


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounter()
    torch._dynamo.reset()


# Of the others, a quick test below or of losses compiles a step of one length.
SLOW = ("speech 1.0", "speech 2.0", "text 2.0")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS])
def test_a_step_compiles_whole_and_once_for_all_lengths(kind, compiler):
    model = tiny_model(kind).train()
    sequences = {"input_values": [800, 990, 1011, 1234], "input_ids": [20, 23, 27, 30]}
    lengths = sequences.get(model.main_input_name, [None])
    compiled = torch.compile(model, backend=compiler)
    for length in lengths:
        batch = batch_of(model, length, padded=len(lengths) > 1)
        torch.manual_seed(0)
        expected = model(**batch).loss
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(**batch).loss, expected, rtol=1e-5, atol=0)
    assert not counters["graph_break"]
    # The first length is taken for the only one; the second makes a program for all.
    assert compiler.frame_count <= 2


@pytest.mark.parametrize("kind", DROPPING)
def test_what_is_dropped_is_part_of_the_program(kind, compiler):
    kind, rates = DROPPING[kind]
    model = tiny_model(kind, **rates).train()
    batch = batch_of(model)
    compiled = torch.compile(model, backend=compiler)
    for seed in range(4):
        torch.manual_seed(seed)
        expected = model(**batch).loss
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(**batch).loss, expected, rtol=1e-5, atol=0)
    assert compiler.frame_count == 1 and not counters["graph_break"]


@pytest.mark.parametrize("padded", [False, True], ids=["equal", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_never_asks_the_device(kind, padded):
    """Tensors on the meta device have no values: whatever waits for one raises."""
    model = tiny_model(kind).train()
    length = {"input_values": 990, "input_ids": 30}.get(model.main_input_name)
    if padded and length is None:
        pytest.skip("images have one size")
    batch = batch_of(model, length, padded)
    model = model.to("meta")
    model(**{name: value.to("meta") for name, value in batch.items()}).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    model.update_teacher(1)
