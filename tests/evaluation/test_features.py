"""Features of frozen encoders: what they are, for images, speech and text, whatever the batch and its padding."""

import numpy as np
import pytest
import torch
from encoders import IMAGE, IMAGES, KINDS, OURS, SIZES, TEXT, encoder, samples
from transformers import (
    ASTConfig,
    ASTModel,
    IJepaConfig,
    IJepaModel,
    ResNetConfig,
    ResNetModel,
    ViTMAEConfig,
    ViTMAEModel,
)

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.trainers.data.collators import pad_inputs
from modeling_data2vec.trainers.evaluation.features import encode, extract_features, frame_features

kinds = pytest.mark.parametrize("kind", KINDS)


def config(**changes):
    return Data2Vec2VisionConfig(**OURS | IMAGE | {"num_extra_tokens": 2} | changes)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Data2Vec2VisionModel(config())


@pytest.fixture(scope="module")
def images():
    return torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def states(model, one):
    """hidden_states [S, D] of every layer for one unbatched sample and, last, the encoder's output."""
    outputs = model.eval()(one[None], output_hidden_states=True)
    return [state[0] for state in (*outputs.hidden_states, outputs.last_hidden_state)]


def num_extra(kind):
    return {"our images": 2, "our speech with extra tokens": 2, "ViT": 1}.get(kind, 0)


# ---- any encoder ----


@kinds
def test_pooling_is_over_a_samples_own_positions(kind):
    """Padded in batches of 3, every sample has the features that it has alone."""
    model, inputs = encoder(kind), samples(kind)
    alone = [states(model, one)[-1][num_extra(kind) :] for one in inputs]
    for pooling, expected in (("mean", [s.mean(0) for s in alone]), ("max", [s.amax(0) for s in alone])):
        features = encode(model, inputs, pooling=pooling, batch_size=3)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, torch.stack(expected), atol=1e-5)


@kinds
def test_frames_are_the_real_positions_in_order(kind):
    model, inputs = encoder(kind), samples(kind)
    hidden = [states(model, one) for one in inputs]
    features, places = frame_features(model, inputs, layer=[1, -1], batch_size=3)
    own = [torch.cat([h[1], h[-1]], dim=1)[num_extra(kind) :] for h in hidden]
    np.testing.assert_array_equal(places, np.repeat(np.arange(7), [len(one) for one in own]))
    np.testing.assert_allclose(features, torch.cat(own), atol=1e-5)


@kinds
def test_cls_token(kind):
    """Ours is the last extra token, other image models' and texts' the first token; speech has none."""
    model, inputs = encoder(kind), samples(kind)
    if not num_extra(kind) and kind not in TEXT:
        with pytest.raises(ValueError, match="no extra tokens"):
            encode(model, inputs, pooling="cls")
        return
    place = 1 if num_extra(kind) == 2 else 0
    expected = torch.stack([states(model, one)[-1][place] for one in inputs])
    np.testing.assert_allclose(encode(model, inputs, pooling="cls", batch_size=3), expected, atol=1e-5)


@kinds
def test_layers_index_hidden_states(kind):
    model, inputs = encoder(kind), samples(kind)
    hidden = [torch.stack([state[num_extra(kind) :].mean(0) for state in states(model, one)]) for one in inputs]
    hidden = torch.stack(hidden, dim=1)[:-1]  # [layers, N, D], the input of the first layer at 0
    for layer in range(-2, -len(hidden) - 1, -1):
        np.testing.assert_allclose(encode(model, inputs, layer=layer), hidden[layer], atol=1e-5)
        np.testing.assert_array_equal(
            encode(model, inputs, layer=layer), encode(model, inputs, layer=layer + len(hidden))
        )
    both = encode(model, inputs, layer=[0, -1])
    np.testing.assert_array_equal(both, np.hstack([encode(model, inputs, layer=0), encode(model, inputs)]))
    for layer in (len(hidden), -len(hidden) - 1):
        with pytest.raises(ValueError, match=rf"layer is {layer}, but .* 0 .* to {len(hidden) - 1}"):
            encode(model, inputs, layer=[0, layer])


@kinds
def test_features_side_by_side_need_equal_lengths(kind):
    model, inputs = encoder(kind), samples(kind)
    expected = states(model, inputs[1])[-1][num_extra(kind) :].flatten()[None]
    np.testing.assert_allclose(encode(model, inputs[1:2], pooling="flatten"), expected, atol=1e-5)
    if kind not in IMAGES:
        with pytest.raises(ValueError, match="flatten"):
            encode(model, inputs, pooling="flatten", batch_size=3)
        with pytest.raises(ValueError, match="flatten"):
            encode(model, inputs, pooling="flatten", batch_size=1)


@kinds
def test_batches_of_ones_own(kind):
    """Tensors of the main input, or dicts with an attention mask, in the order in which they come."""
    model, inputs = encoder(kind), samples(kind)
    whole = encode(model, inputs)
    single = extract_features(model, [one[None] for one in inputs])
    np.testing.assert_allclose(single, whole, atol=1e-5)
    if kind in IMAGES or "group norm" in kind:
        return
    batches = []
    for pair in (inputs[:3], inputs[3:]):
        padded, mask = pad_inputs(pair, 1 if kind in TEXT else 0.0)
        batches.append({model.main_input_name: padded, "attention_mask": mask.long()})
    np.testing.assert_allclose(extract_features(model, batches), whole, atol=1e-5)


def test_model_outputs_agree_with_mean_pooling():
    for kind in ("our images", "our speech", "our text"):
        model, inputs = encoder(kind).eval(), samples(kind)
        with torch.no_grad():
            pooled = torch.cat([model(one[None]).pooler_output for one in inputs])
        np.testing.assert_allclose(encode(model, inputs), pooled, atol=1e-5)


# ---- the model is left as it was ----


def test_minus_one_is_the_encoders_output_and_not_the_last_layers(images):
    model = Data2Vec2VisionModel(config(norm_position="pre"))  # with a norm after the last layer
    last_layer, output = (np.stack([states(model, one)[i][2:].mean(0) for one in images]) for i in (-2, -1))
    assert not np.allclose(last_layer, output)
    np.testing.assert_allclose(extract_features(model, [images]), output, atol=1e-6)
    np.testing.assert_allclose(extract_features(model, [images], layer=3), last_layer, atol=1e-6)


def test_pretraining_model_is_judged_by_its_student_and_keeps_its_modes(images):
    pretraining = Data2Vec2VisionForPreTraining(config(hidden_dropout=0.5)).train()
    pretraining.data2vec2_vision.trunk.layers[0].eval()  # someone froze a layer
    before = [module.training for module in pretraining.modules()]
    features = extract_features(pretraining, [images])
    assert [module.training for module in pretraining.modules()] == before
    np.testing.assert_array_equal(features, extract_features(pretraining.data2vec2_vision.eval(), [images]))


def test_training_mode_returns_after_an_error(model, images):
    model.train()
    with pytest.raises(ValueError, match="layer"):
        extract_features(model, [images], layer=9)
    assert model.training and model.trunk.layers[0].training


def test_training_works_after_extraction(model, images):
    extract_features(model, [images])
    model.train()(images).last_hidden_state.sum().backward()
    assert model.feature_encoder.patch_embed.weight.grad is not None


@kinds
def test_half_precision_gives_fp32_features(kind):
    features = encode(encoder(kind).to(torch.bfloat16), samples(kind))
    assert features.dtype == np.float32 and features.shape == (7, 32)


# ---- images ----


def test_stacked_and_listed_images_are_the_same(model, images):
    np.testing.assert_array_equal(encode(model, images), encode(model, list(images)))
    np.testing.assert_allclose(encode(model, images), extract_features(model, images.split(3)), atol=1e-5)


def test_any_image_size():
    features = extract_features(Data2Vec2VisionModel(config()), [torch.randn(2, 1, 6, 12)], pooling="flatten")
    assert features.shape == (2, 3 * 6 * 32)


def test_image_encoders_without_a_token_for_each_patch(images):
    ijepa = IJepaModel(IJepaConfig(**SIZES, **IMAGE), add_pooling_layer=False)  # has patches only
    assert extract_features(ijepa, [images]).shape == (10, 32)
    with pytest.raises(ValueError, match="no extra tokens"):
        extract_features(ijepa, [images], pooling="cls")

    fields = {"decoder_hidden_size": 32, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
    with pytest.raises(ValueError, match="mask_ratio"):
        extract_features(ViTMAEModel(ViTMAEConfig(**SIZES, **IMAGE, **fields)), [images])
    resnet = ResNetModel(ResNetConfig(num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1]))
    with pytest.raises(ValueError, match="ResNetConfig has no patch_size"):
        extract_features(resnet, [images])


# ---- errors ----


def test_errors_of_features(model, images):
    with pytest.raises(
        ValueError, match="pooling is 'avg', but must be mean, max, std, cls, bands, bands_max, bands_std, flatten"
    ):
        extract_features(model, [images], pooling="avg")
    with pytest.raises(ValueError, match="layer is empty"):
        extract_features(model, [images], layer=[])
    with pytest.raises(ValueError, match="split"):
        extract_features(model, images)
    for nothing in (extract_features, encode, frame_features):
        with pytest.raises(ValueError, match="no batches"):
            nothing(model, [])
    with pytest.raises(ValueError, match="no extra tokens"):
        extract_features(Data2Vec2VisionModel(config(num_extra_tokens=0, cls_loss_weight=0.0)), [images], pooling="cls")
    with pytest.raises(ValueError, match="diverged"):
        extract_features(model, [images * float("nan")])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IMAGES])
def test_errors_of_sequences(kind):
    model, inputs = encoder(kind), samples(kind)
    with pytest.raises(ValueError, match=r"\[B, length\].*split"):
        extract_features(model, inputs)
    too_short = inputs[0][:0] if kind in TEXT else inputs[0][:50]
    with pytest.raises(ValueError, match="no position"):
        encode(model, [*inputs, too_short])


def test_speech_encoders_of_spectrograms_are_refused():
    spectrograms = ASTModel(ASTConfig(**SIZES, num_mel_bins=32, max_length=64))
    with pytest.raises(ValueError, match=r"\[B, length\]"):
        extract_features(spectrograms, [torch.randn(2, 64, 32)])
    with pytest.raises(ValueError, match="ASTModel does not say how many frames"):
        extract_features(spectrograms, [torch.randn(2, 640)])
