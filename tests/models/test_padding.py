"""Padding changes nothing: what a sample gives alone, it gives in any padded batch (`padding="exact"`)."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_runs import DECODER, NO_DROPOUT_1, NO_DROPOUT_2, NO_DROPOUT_SPEECH_1, SIZES

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2TextConfig,
    Data2VecAudioPreTrainingConfig,
    Data2VecTextPreTrainingConfig,
)
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.embedding import visible_ids
from modeling_data2vec.masking import block_mask_1d, random_mask
from modeling_data2vec.objective import regression_loss
from modeling_data2vec.trainers.modalities.names import mask_collator

AUDIO = {"conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2, "mask_length": 3}
TEXT = {"vocab_size": 50, "max_position_embeddings": 64}
MELS = {"num_mel_bins": 16, "patch_size": 4, "mask_length": 3, "cls_loss_weight": 0.5}  # 4 bands
VARIANTS = {
    "audio": (Data2Vec2AudioConfig, AUDIO),
    "audio, extra token and prenet": (
        Data2Vec2AudioConfig,
        AUDIO | {"num_extra_tokens": 1, "num_prenet_layers": 1, "cls_loss_weight": 0.5, "alibi_scale_per_layer": True},
    ),
    "audio, even kernels": (Data2Vec2AudioConfig, AUDIO | {"conv_pos_kernel_size": 4, "decoder_kernel": 4}),
    "audio, log-mel front-end": (
        Data2Vec2AudioConfig,
        {"front_end": "log_mel", "num_mel_bins": 20, "num_conv_pos_embedding_groups": 2, "mask_length": 3},
    ),
    "spectrogram": (Data2Vec2SpectrogramConfig, MELS),
    "spectrogram, whole bands and even kernels": (
        Data2Vec2SpectrogramConfig,
        MELS | {"patch_size": [2, 16], "decoder_kernel": 4, "use_alibi": True, "inverse_mask": False},
    ),
    "spectrogram, no extra token and prenet": (
        Data2Vec2SpectrogramConfig,
        MELS | {"num_extra_tokens": 0, "cls_loss_weight": 0.0, "num_prenet_layers": 1, "teacher_scope": "encoder"},
    ),
    "text": (Data2Vec2TextConfig, TEXT),
    "text, ALiBi": (Data2Vec2TextConfig, TEXT | {"use_alibi": True, "position_embeddings": False}),
    "text, instance norm of targets": (
        Data2Vec2TextConfig,
        TEXT | {"layer_norm_target_layer": True, "instance_norm_targets": True, "teacher_scope": "model"},
    ),
}
VARIANTS_1 = {
    "audio 1.0": (Data2VecAudioPreTrainingConfig, AUDIO),
    "audio 1.0, even kernels": (Data2VecAudioPreTrainingConfig, AUDIO | {"conv_pos_kernel_size": 4}),
    "audio 1.0, whole teacher": (
        Data2VecAudioPreTrainingConfig,
        AUDIO | {"teacher_scope": "model", "group_norm_target_layer": True, "layer_norm_targets": True},
    ),
    "text 1.0": (Data2VecTextPreTrainingConfig, TEXT | {"max_position_embeddings": 66}),
    "text 1.0, teacher of masked tokens": (
        Data2VecTextPreTrainingConfig,
        TEXT | {"max_position_embeddings": 66, "teacher_input": "masked", "batch_norm_target_layer": False},
    ),
}
# What a config has beside a variant's own fields.
COMMON = {
    Data2Vec2AudioConfig: SIZES | DECODER | NO_DROPOUT_2,
    Data2Vec2SpectrogramConfig: SIZES | DECODER,
    Data2Vec2TextConfig: SIZES | DECODER | NO_DROPOUT_2 | {"embedding_dropout": 0.0},
    Data2VecAudioPreTrainingConfig: SIZES | NO_DROPOUT_SPEECH_1 | {"num_masks": 2},
    Data2VecTextPreTrainingConfig: SIZES | NO_DROPOUT_1 | {"num_masks": 2},
}


def build(variant: str, **changes):
    torch.manual_seed(0)
    config_class, fields = (VARIANTS | VARIANTS_1)[variant]
    config = config_class(**(COMMON[config_class] | fields | changes))
    model = pretraining_class(config.model_type)(config)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh model's residual branches are too small to show an error
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.train()


def samples(model, lengths: list[int]) -> list[dict]:
    generator = torch.Generator().manual_seed(sum(lengths))
    if model.main_input_name == "input_values":  # a length in frames, about
        return [{"input_values": torch.randn(320 * n + 100, generator=generator), "key": n} for n in lengths]
    if model.main_input_name == "input_features":  # a length in patches of all bands, about
        config = model.config
        frames = [n // config.num_bands * config.patch_shape[0] + 1 for n in lengths]
        shapes = [(count, config.num_mel_bins) for count in frames]
        return [
            {"input_features": torch.randn(shape, generator=generator), "key": n}
            for shape, n in zip(shapes, lengths, strict=True)
        ]
    return [{"input_ids": torch.randint(4, 50, (n,), generator=generator), "key": n} for n in lengths]


def figures(model, batch: dict) -> list[dict[str, torch.Tensor]]:
    """Of each sample: features, targets, predictions and the loss of its hidden positions, without padding."""
    output = model(**batch)
    rows = []
    for i, target in enumerate(output.targets):
        real = slice(None) if output.valid is None else output.valid[i]
        losses = regression_loss(output.predictions[i], target)  # [M, T]
        rows.append(
            {
                "features": output.local_features[i][real],
                "targets": target[real],
                "predictions": output.predictions[i][:, real],
                "loss": (losses * output.mask[i]).sum(1),
                "mask": output.mask[i][:, real],
            }
        )
    return rows


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("variant", [*VARIANTS, *VARIANTS_1])
@settings(max_examples=3, deadline=None)
@given(lengths=st.lists(st.integers(4, 60), min_size=2, max_size=4))
def test_a_sample_gives_the_same_alone_and_in_any_padded_batch(variant, attention, lengths):
    model = build(variant)
    model.set_attn_implementation(attention)
    collator = mask_collator(model.config)
    examples = samples(model, lengths)
    together = figures(model, collator(examples))
    for one, row in zip(examples, together, strict=True):
        (alone,) = figures(model, collator([one]))
        for name, value in alone.items():
            torch.testing.assert_close(row[name], value, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_encoder_gives_the_same_alone_and_padded(variant):
    model = build(variant).base_model.eval()
    batch = mask_collator(model.config)(samples(model, [40, 9, 23]))
    name = model.main_input_name
    with torch.no_grad():
        padded = model(batch[name], attention_mask=batch["attention_mask"])
        for i, example in enumerate(samples(model, [40, 9, 23])):
            alone = model(example[name][None])
            length = alone.last_hidden_state.shape[1]
            assert length < padded.last_hidden_state.shape[1] or i == 0
            torch.testing.assert_close(
                padded.last_hidden_state[i, :length], alone.last_hidden_state[0], atol=1e-4, rtol=0
            )
            torch.testing.assert_close(padded.pooler_output[i], alone.pooler_output[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ["audio", "text", "audio 1.0"])
def test_the_references_padding_does_change_results(variant):
    """What "exact" is for: the same comparison fails with padding="reference"."""
    model = build(variant, padding="reference")
    collator = mask_collator(model.config)
    examples = samples(model, [40, 9])
    targets = model(**collator(examples)).targets[1, :9]
    assert not torch.allclose(targets, model(**collator(examples[1:])).targets[0, :9], atol=1e-2)


def test_hidden_frames_are_real_ones():
    model = build("audio")
    batch = mask_collator(model.config)(samples(model, [40, 9]))
    frames = model.config.num_frames(batch["attention_mask"].sum(1))
    assert not (batch["mask"][1] & (torch.arange(batch["mask"].shape[2]) >= frames[1])).any()
    assert batch["mask"].sum(2).tolist() == [[int(n * 0.5)] * 2 for n in frames]


@pytest.mark.parametrize("variant", [name for name in [*VARIANTS, *VARIANTS_1] if "spectrogram" not in name])
def test_the_references_masks_hide_padding_in_text_of_2_alone(variant):
    """What the authors mask before they pad, or by a row's own length, can hide no padding."""
    model = build(variant, padding="reference")
    batch = mask_collator(model.config)(samples(model, [40, 9, 23, 31]))
    output = model(**batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    hidden = int((output.mask & ~output.valid[:, None]).sum())
    if variant in VARIANTS_1 or variant.startswith("audio"):
        assert hidden == 0
        # Each row hides what the same clip or text hides alone, unless the shortest decides for all.
        exact = mask_collator(build(variant).config)(samples(model, [40, 9, 23, 31]))
        assert torch.equal(batch["mask"], exact["mask"])
    else:
        assert hidden > 0


@pytest.mark.parametrize("padding", ["exact", "reference"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_masks_leave_need_not_be_said(variant, padding):
    model = build(variant, padding=padding).eval()
    batch = mask_collator(model.config)(samples(model, [40, 9, 23]))
    said = model(**batch)
    del batch["ids_keep"]
    assert torch.equal(model(**batch).predictions, said.predictions)


def test_padding_of_spectrograms_is_silence_in_the_reference():
    """EAT pads clips to one length and takes that for sound: it is attended, hidden, predicted, and in every norm."""
    model = build("spectrogram", padding="reference")
    collator = mask_collator(model.config)
    batch = collator(samples(model, [40, 9]))
    assert batch["attention_mask"].sum(1).tolist() == [41, 9]
    output = model(**batch)
    del batch["attention_mask"]
    silent = model(**batch)
    assert output.valid is None and int(output.mask[1, :, 2 * 4 :].sum()) > 0
    assert torch.equal(output.loss, silent.loss) and torch.equal(output.targets, silent.targets)
    padded = collator(
        [{"input_features": one, "key": key} for one, key in zip(batch["input_features"], (40, 9), strict=True)]
    )
    assert torch.equal(padded["mask"], batch["mask"])
    exact = build("spectrogram")
    alone = exact(**collator(samples(exact, [40, 9])[1:]))
    assert not torch.allclose(alone.targets[0], output.targets[1, : 2 * 4], atol=1e-2)


def test_speech_whose_rows_must_hide_equally_many_hides_no_padding():
    """As in the published 1.0 recipe: the shortest row decides."""
    model = build("audio 1.0", padding="reference", equal_mask_counts=True)
    output = model(**mask_collator(model.config)(samples(model, [60, 20, 33])))
    assert not (output.mask & ~output.valid[:, None]).any()
    assert len(set(output.mask.sum(2).flatten().tolist())) == 1


def test_a_user_mask_never_counts_padding():
    model = build("text")
    (long, short) = samples(model, [20, 10])
    batch = mask_collator(model.config)([long, short])
    mask = torch.zeros(2, 1, 20, dtype=torch.bool)
    mask[0, :, :10] = mask[1, :, 5:15] = True
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], mask=mask)
    assert output.mask.sum((1, 2)).tolist() == [10, 5]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(2, 80), min_size=1, max_size=6), prob=st.floats(0.1, 0.9), inverse=st.booleans())
@example(lengths=[11, 10], prob=0.75, inverse=True)  # 10 * (1 - .75 + .05) / 3 is 1 in fp32, less in fp64
def test_masks_depend_on_key_and_length_alone(lengths, prob, inverse):
    sizes = torch.tensor(lengths)
    keys = torch.arange(len(lengths), dtype=torch.int32) * 7919
    longest = max(lengths)
    blocks = block_mask_1d(
        len(lengths), longest, prob, 3, generator=keys, mask_prob_adjust=0.05, inverse=inverse, lengths=sizes
    )
    singles = random_mask(len(lengths), longest, prob, generator=keys, lengths=sizes)
    for i, n in enumerate(lengths):
        block = block_mask_1d(1, n, prob, 3, generator=keys[i : i + 1], mask_prob_adjust=0.05, inverse=inverse)
        assert torch.equal(blocks[i, :n], block[0]) and not blocks[i, n:].any()
        assert torch.equal(singles[i, :n], random_mask(1, n, prob, generator=keys[i : i + 1])[0])
        assert not singles[i, n:].any()


def test_rows_that_see_less_are_filled_up_with_padding():
    mask = torch.tensor([[[False, True, False, True]], [[True, False, False, False]]])
    valid = torch.tensor([[True, True, True, True], [True, True, False, False]])[:, None]
    assert visible_ids(mask, valid).tolist() == [[[0, 2]], [[1, 2]]]


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="from 1 to 5"):
        random_mask(2, 5, 0.5, generator=torch.zeros(2, dtype=torch.int32), lengths=torch.tensor([5, 1]))
