"""Vectors of one modality in another's space."""

import numpy as np
import pytest
import torch
from recordings import voice
from tiny_runs import tiny_joint_model
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec.trainers import embed_across
from modeling_data2vec.trainers.evaluation.retrieval import Latents, head_predictions, pooled_features

CLIPS = [voice(0.12 + 0.02 * (seed % 2), seed=seed).astype(np.float32) for seed in range(5)]


@pytest.fixture(scope="module")
def model():
    return tiny_joint_model(cross_modal_layers=1).eval()


def across(model, data=CLIPS, space="vision", **options):
    own = {"modality": "audio", "processor": Wav2Vec2FeatureExtractor(), "batch_size": 2}
    return embed_across(model, data, space=space, **(own | options))


def test_vectors_are_those_of_the_retrieval(model):
    clips = [torch.from_numpy((clip - clip.mean()) / np.sqrt(clip.var() + 1e-7))[None] for clip in CLIPS]
    features = pooled_features(model, "audio", [{"inputs": clip} for clip in clips])
    expected = {
        "vision": head_predictions(model, "audio", "vision", features.states),
        "audio": Latents(features)(features),
    }
    for space, vectors in expected.items():
        found = across(model, space=space)
        assert found.ids == list("01234") and found.rows.tolist() == [0, 1, 2, 3, 4]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(found.vectors, vectors / lengths, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_read_is_named(model, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    with pytest.raises(ValueError, match="none of the .* can be read"):
        across(model, [str(broken)])


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, {}, "has no heads across modalities"),
        ({"cross_modal_layers": 1}, {"space": "smell"}, "no modality 'smell'"),
        ({"cross_modal_layers": 1}, {"modality": "spectrogram"}, "no modality 'spectrogram'"),
    ],
)
def test_models_and_names_that_do_not_fit(fields, options, message):
    with pytest.raises(ValueError, match=message):
        across(tiny_joint_model(**fields), **options)
