"""What all pretraining models have in common: clear errors, half precision, a teacher that only follows."""

import copy
from contextlib import nullcontext

import pytest
import torch
from tiny_runs import JOINT, KINDS, OF_MODALITIES, tiny_joint_model, tiny_model, tiny_samples

from modeling_data2vec.trainers.modalities.names import mask_collator

BAD_INPUTS = {
    "images": [
        (torch.zeros(2, 1, 8, 7), r"8 x 7 pixels can't be cut into patches of 2 x 2.*multiples of 2"),
        (torch.zeros(2, 1, 1, 8), r"1 x 8 pixels are smaller than one patch of 2 x 2.*resize"),
        (torch.zeros(2, 3, 8, 8), r"\(2, 3, 8, 8\).*\[batch, 1, height, width\].*convert.*num_channels"),
    ],
    "speech": [
        (torch.zeros(2, 100), r"\(2, 100\).*\[batch, samples\].*at least 170 samples.*leave out shorter"),
        (torch.zeros(2, 2, 800), r"\(2, 2, 800\).*\[batch, samples\] of mono sound.*mix channels"),
    ],
    "spectrograms": [
        (torch.zeros(2, 16, 9), r"\(2, 16, 9\).*\[batch, frames, 16 mel bins\].*feature extractor"),
        (torch.zeros(2, 1, 16, 16), r"\(2, 1, 16, 16\).*\[batch, frames, 16 mel bins\]"),
        (torch.zeros(2, 3, 16), r"3 frames are shorter than one patch of 4 frames: leave out"),
    ],
    "text": [
        (torch.full((2, 8), 60), r"ids from 60 to 60.*vocabulary has ids 0 to 59.*tokenizer that belongs"),
        (torch.full((2, 8), -1), r"ids from -1 to -1"),
        (torch.full((2, 50), 5), r"50 tokens.*room for (40|38).*truncate"),
        (torch.zeros(2, 8), r"dtype torch.float32.*token ids"),
        (torch.full((8,), 5), r"shape \(8,\)"),
    ],
}
CASES = [(kind, inputs, message) for kind in KINDS for inputs, message in BAD_INPUTS[kind.split()[0]]]


@pytest.mark.parametrize(("kind", "inputs", "message"), CASES)
def test_raw_input_that_does_not_fit(kind, inputs, message):
    model = tiny_model(kind)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model(inputs, mask=torch.ones(2, model.config.num_masks, 4, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_that_do_not_fit(kind):
    model = tiny_model(kind)
    samples = tiny_samples(model, 3)
    batch = mask_collator(model.config)([samples[i] for i in range(3)])
    inputs, mask = batch[model.main_input_name], batch["mask"]
    for wrong in (mask[:, :, 1:], mask[1:], mask[:, 0]):
        with pytest.raises(ValueError, match=r"mask has shape.*3 samples of \d+ positions.*\[3, masks, \d+\]"):
            model(inputs, wrong)
    with pytest.raises(ValueError, match=r"hides nothing.*raise mask_prob"):
        model(inputs, torch.zeros_like(mask))


@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_without_masks_they_are_drawn_as_the_config_says(kind):
    """In evaluation always the same ones, those that a collator draws for keys from 0 on; in training by the seed."""
    model = (tiny_joint_model() if kind == JOINT else tiny_model(kind)).eval()
    single = tiny_model("speech 2.0") if kind == JOINT else model
    batch, name = batch_of(single), single.main_input_name
    given = {key: value for key, value in batch.items() if key in (name, "attention_mask")}
    first, second = model(**given), model(**given)
    assert torch.equal(first.loss, second.loss) and torch.equal(first.mask, second.mask)
    assert first.mask.shape[1] == single.config.num_masks
    hidden = first.mask.sum(2)
    assert bool((hidden > 0).all()) and bool((hidden < first.mask.shape[2]).all())
    model.train()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model(**given))
    assert torch.equal(losses[0].mask, losses[1].mask) and torch.equal(losses[0].loss, losses[1].loss)
    assert not torch.equal(losses[0].mask, losses[2].mask)
    losses[0].loss.backward()


@pytest.mark.parametrize("kind", ["images 2.0", "text 2.0", "speech 1.0"])
def test_drawn_masks_are_those_of_the_collator(kind):
    model = tiny_model(kind).eval()
    samples = [tiny_samples(model, 3)[index] | {"key": index} for index in range(3)]
    batch = mask_collator(model.config)(samples)
    drawn = model(**{model.main_input_name: batch[model.main_input_name]})
    given = model(**batch)
    assert torch.equal(drawn.mask, given.mask) and torch.equal(drawn.loss, given.loss)


@pytest.mark.parametrize("kind", [*KINDS, JOINT])
def test_what_is_missing_or_no_tensor_is_named(kind):
    model = tiny_joint_model() if kind == JOINT else tiny_model(kind)
    single = tiny_model("speech 2.0") if kind == JOINT else model
    batch, name = batch_of(single), single.main_input_name
    with pytest.raises(ValueError, match="mask is a list, but must be a bool tensor .*or None for masks"):
        model(**{name: batch[name]}, mask=batch["mask"].tolist())
    message = "nothing is given" if kind == JOINT else f"{name} is a NoneType, but must be a tensor"
    with pytest.raises(ValueError, match=message):
        model(mask=batch["mask"])
    with pytest.raises(ValueError, match=f"{name} is a list, but must be a tensor"):
        model(**{name: batch[name].tolist()}, mask=batch["mask"])
    if kind.endswith("2.0"):
        with pytest.raises(ValueError, match=f"{name} is a NoneType, but must be a tensor"):
            model.base_model(None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("1.0")])
def test_the_student_never_sees_what_is_hidden(kind):
    """Changing hidden input changes the targets, and no prediction; of speech, frames that share no sample with it."""
    model = tiny_model(kind).eval()
    samples = tiny_samples(model, 2)
    name = model.main_input_name
    inputs = torch.stack([samples[i][name] for i in range(2)])
    length = int(mask_collator(model.config)([samples[0]])["mask"].shape[2])
    mask = torch.zeros(2, 1, length, dtype=torch.bool)
    mask[..., 3:-1] = True
    if name == "pixel_values":
        mask = mask.unflatten(2, (4, 4))
        mask[:] = False
        mask[..., 1:3, :] = True
        mask = mask.flatten(2)
        changed = inputs.clone()
        changed[..., 2:6, :] += 1.0
    elif name == "input_ids":
        changed = inputs.clone()
        changed[:, 3:-1] = 7
    else:
        changed = inputs.clone()
        changed[:, 3 * 160 + 170 : -400] += 1.0
    before, after = model(inputs, mask), model(changed, mask)
    assert torch.equal(before.predictions, after.predictions)
    assert not torch.equal(before.targets, after.targets)


def batch_of(model, num: int = 3) -> dict[str, torch.Tensor]:
    samples = tiny_samples(model, num)
    return mask_collator(model.config)([samples[i] for i in range(num)])


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_gets_no_gradient_and_stays_in_eval_mode(kind):
    model = tiny_model(kind).train()
    model(**batch_of(model)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith("teacher.") and "token_type" not in name), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert not any(module.training for module in model.teacher.modules())
    assert model.base_model.training and model.head.training


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_the_teacher_in_fp32(kind, tmp_path, monkeypatch):
    # oneDNN's bf16 kernels for processors with AMX change the loss of 1.0's speech by 16%.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    whole = tiny_model(kind).eval()
    whole.save_pretrained(tmp_path)
    half = type(whole).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert {parameter.dtype for parameter in half.base_model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in half.teacher.parameters()} == {torch.float32}
    batch = batch_of(whole)
    with torch.no_grad():
        expected, output = whole(**batch), half(**batch)
    assert output.targets.dtype == torch.float32
    assert float(output.loss) == pytest.approx(float(expected.loss), rel=0.1)
    half.update_teacher(1)
    assert {parameter.dtype for parameter in half.teacher.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.*quanti:DeprecationWarning", "ignore:.*quanti:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_quantised_to_int8_runs(kind):
    encoder = tiny_model(kind).base_model.eval()
    inputs = batch_of(tiny_model(kind))[encoder.main_input_name]
    small = torch.ao.quantization.quantize_dynamic(encoder, {torch.nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        expected, output = encoder(inputs).last_hidden_state, small(inputs).last_hidden_state
    assert 0 < float((output - expected).norm()) < 0.05 * float(expected.norm())


@pytest.mark.filterwarnings("ignore:.*quanti:DeprecationWarning", "ignore:.*quanti:UserWarning")
@pytest.mark.parametrize("modality", OF_MODALITIES)
def test_a_joint_encoder_quantised_to_int8_runs_unless_modalities_own_weights(modality):
    single = tiny_model(OF_MODALITIES[modality])
    inputs = {single.main_input_name: batch_of(single)[single.main_input_name]}
    for fields, message in (({}, None), ({"modality_lora_rank": 2}, "was it quantised.*slice")):
        encoder = tiny_joint_model(**fields).base_model.eval()
        small = torch.ao.quantization.quantize_dynamic(encoder, {torch.nn.Linear}, dtype=torch.qint8)
        with torch.no_grad(), nullcontext() if message is None else pytest.raises(ValueError, match=message):
            output, expected = small(**inputs).last_hidden_state, encoder(**inputs).last_hidden_state
            assert 0 < float((output - expected).norm()) < 0.05 * float(expected.norm())


def assert_checkpointing_changes_no_gradient(plain, batch, reentrant: bool) -> None:
    saving = copy.deepcopy(plain)
    enable = getattr(saving, "activation_checkpointing_enable", saving.gradient_checkpointing_enable)  # since 5.23
    enable({"use_reentrant": reentrant})
    for model in (plain, saving):
        model(**batch).loss.backward()
    gradients = dict(saving.named_parameters())
    for name, parameter in plain.named_parameters():
        assert (gradients[name].grad is None) == (parameter.grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name].grad, parameter.grad, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(kind, reentrant):
    plain = tiny_model(kind).train()
    assert_checkpointing_changes_no_gradient(plain, batch_of(plain), reentrant)


@pytest.mark.parametrize("modality", OF_MODALITIES)
def test_reentrant_checkpointing_trains_what_a_modality_owns_in_a_frozen_trunk(modality):
    joint = tiny_joint_model(modality_norms=True, modality_lora_rank=2).train()
    for name, parameter in joint.named_parameters():
        parameter.requires_grad_("differences" in name and not name.startswith("teacher."))
        if "differences" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    single = tiny_model(OF_MODALITIES[modality])
    assert_checkpointing_changes_no_gradient(joint, batch_of(single), reentrant=True)
    trained = [weight for name, weight in joint.named_parameters() if f"data2vec2.differences.{modality}." in name]
    assert trained and all(weight.grad.abs().max() > 0 for weight in trained)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("1.0")])
def test_several_masks_of_1_are_the_mean_of_each(kind):
    """M = 1 is published; more share a teacher pass, as in 2.0."""
    model = tiny_model(kind, num_masks=3).eval()
    batch = batch_of(model)
    whole = model(**batch)
    total = 0.0
    for number in range(3):
        one = model(**batch | {"mask": batch["mask"][:, [number]]})
        torch.testing.assert_close(one.predictions[:, 0], whole.predictions[:, number], atol=1e-5, rtol=0)
        total += float(one.loss.detach()) * int(batch["mask"][:, number].sum())
    assert total / int(batch["mask"].sum()) == pytest.approx(float(whole.loss.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("1.0")])
def test_a_new_teacher_is_the_student_whatever_it_owns(kind):
    """Scopes differ in what is averaged; before the first step all give the same targets."""
    targets, sizes = [], []
    for scope in ("layers", "encoder", "model"):
        model = tiny_model(kind, teacher_scope=scope).train()
        with torch.no_grad():
            for name, parameter in model.base_model.named_parameters():
                if "token_type" not in name:
                    parameter.add_(0.1)
        model.sync_teacher()
        targets.append(model(**batch_of(model)).targets)
        sizes.append(sum(parameter.numel() for parameter in model.teacher.parameters()))
        model.update_teacher(1)
    torch.testing.assert_close(targets[0], targets[1], rtol=0, atol=0)
    torch.testing.assert_close(targets[0], targets[2], rtol=0, atol=1e-6)
    assert sizes[0] == sizes[1] < sizes[2]


def displaced(model):
    """A student that has moved on, embeddings and all."""
    with torch.no_grad():
        for name, parameter in model.base_model.named_parameters():
            if "token_type" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("teacher_input", ["whole", "masked"])
def test_a_teacher_of_text_1_that_stands_still_keeps_its_embeddings(teacher_input):
    """Averaged layers read the student's embeddings, of which the authors' teacher has copies, as long as it moves."""
    fields = {"ema_anneal_end_step": 3, "teacher_scope": "layers", "teacher_input": teacher_input}
    moving, ending = tiny_model("text 1.0", **fields), tiny_model("text 1.0", ema_end_decay=1.0, **fields)
    batch = batch_of(moving)
    for step in (1, 2, 3, 4):
        for model in (moving, ending):
            torch.manual_seed(step)
            displaced(model).update_teacher(step)
        students, teachers = (part.embeddings.state_dict() for part in (ending.base_model, ending.teacher))
        assert all(torch.equal(value, students[name]) for name, value in teachers.items()) == (step < 3)
        if step < 3:  # a copy that follows is the student's own: both ways to one teacher
            with torch.no_grad():
                moving.teacher.encoder.load_state_dict(ending.teacher.encoder.state_dict())
            assert torch.equal(moving(**batch).targets, ending(**batch).targets)
    before = ending(**batch).targets
    assert torch.equal(displaced(ending)(**batch).targets, before)
    assert not torch.equal(displaced(moving)(**batch).targets, before)


def test_a_teacher_without_its_copies_gets_them_and_keeps_the_rest(tmp_path, caplog):
    """As of a folder that was saved before a teacher kept its embeddings: its averages are not lost."""
    model = tiny_model("text 1.0", ema_end_decay=1.0)
    displaced(model).update_teacher(1)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("teacher.embeddings.")}
    model.save_pretrained(tmp_path, state_dict=state)
    loaded = type(model).from_pretrained(tmp_path)
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(loaded.teacher.state_dict()[name], value), name
    assert "has no teacher" not in caplog.text
    assert not any(weight.requires_grad for weight in loaded.teacher.parameters())
