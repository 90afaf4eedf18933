"""Vectors of one modality in another's space."""

import csv
import json

import numpy as np
import pytest
import torch
from joint_models import joint_model, save_paired_model
from PIL import Image
from processors import PAGES
from recordings import voice, write
from tiny_runs import tiny_joint_model
from transformers import Wav2Vec2FeatureExtractor

import data2vec_cli
from modeling_data2vec import Data2Vec2ForPreTraining
from modeling_data2vec.trainers import embed_across
from modeling_data2vec.trainers.evaluation.retrieval import Latents, head_predictions, pooled_features
from modeling_data2vec.trainers.modalities.tokenizer_training import train_tokenizer

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


def test_a_text_may_be_as_short_as_no_mask_allows():
    tokenizer = train_tokenizer(PAGES, 300)
    config = joint_model(("text", "vision"), cross_modal_layers=1).config
    config.text_config.vocab_size = len(tokenizer)
    model = Data2Vec2ForPreTraining(config).eval()
    options = {"modality": "text", "processor": tokenizer}
    found, alone = (across(model, texts, **options) for texts in (["a", "a longer text"], ["a"]))
    np.testing.assert_allclose(found.vectors[:1], alone.vectors, rtol=1e-4, atol=1e-5)


# ---- data2vec search ----


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """A joint model in a folder, clips and pictures; one clip is broken."""
    folder = tmp_path_factory.mktemp("paired")
    save_paired_model(folder / "model")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(folder / "pictures" / f"{number}.png")
        write(folder / "clips" / f"{number}.wav", CLIPS[number])
    (folder / "clips" / "broken.wav").write_bytes(b"no sound")
    return folder


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_of_the_nearest(form, paired, tmp_path, capsys):
    output, clips, pictures = tmp_path / f"found.{form}", paired / "clips", paired / "pictures"
    argv = ["search", str(paired / "model"), f"audio={clips}", f"vision={pictures}", "--output", str(output)]
    assert data2vec_cli.main([*argv, "--neighbors", "3", "--batch_size", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Wrote {output}: the 3 nearest of 4 samples to each of 4. Left out:\n  audio broken.wav: ")
    rows = json.loads(output.read_text()) if form == "json" else list(csv.DictReader(output.open(newline="")))
    assert [(row["query"], int(row["rank"])) for row in rows] == [(f"{n}.wav", r) for n in range(4) for r in (1, 2, 3)]
    heard, seen = (
        embed_across(str(paired / "model"), str(data), modality=name, space="vision")
        for name, data in (("audio", clips), ("vision", pictures))
    )
    cosines = heard.vectors @ seen.vectors.T
    expected = np.sort(cosines, axis=1)[:, :0:-1]
    np.testing.assert_allclose([float(row["cosine"]) for row in rows], expected.flatten(), atol=1e-5)
    assert rows[0]["id"] == seen.ids[int(cosines[0].argmax())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": "clips"}, "must be named by two modalities of the model, as in audio=clips vision=photos"),
        ({"queries": "vision=clips"}, "must be named by two modalities of the model"),
        ({"queries": "smell=clips"}, "smell"),
        ({"output": "found.parquet"}, "--output is 'found.parquet', but must end with .csv or .json"),
        ({"model": "none"}, "none"),
    ],
)
def test_searches_that_can_not_be(change, message, paired, tmp_path, capsys):
    given = {"model": "model", "queries": f"audio={paired}/clips", "output": str(tmp_path / "found.csv")} | change
    argv = ["search", str(paired / given["model"]), given["queries"], f"vision={paired}/pictures"]
    assert data2vec_cli.main([*argv, "--output", given["output"]]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
