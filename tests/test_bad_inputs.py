"""Raw inputs and masks that a model can't take: one clear error each, the same for all models."""

import pytest
import torch
from tiny_runs import KINDS, tiny_model, tiny_samples

from modeling_data2vec.trainers.collators import mask_collator

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
