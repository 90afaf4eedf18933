"""Vectors by sentence-transformers are those of `embed`, of every folder that is saved, padded or not."""

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from processors import TOKENS, save_processor, some_samples
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from tiny_runs import tiny_joint_model, tiny_model
from transformers import AutoModel, AutoModelForImageClassification

from modeling_data2vec import embed
from modeling_data2vec.model_files import EMBEDDING_FILES

# Short limits, so that a clip and two texts are longer.
FIELDS = {"text": {"vocab_size": TOKENS}, "spectrograms": {"spectrogram_length": 64}}
PAGE = Path(__file__).parents[2] / "docs" / "bridges.md"
NEAR = {"rtol": 0, "atol": 1e-5}


def saved(data, folder):
    tiny_model(f"{data} 2.0", **FIELDS.get(data, {})).save_pretrained(folder)
    save_processor(data, folder)
    return folder


@pytest.mark.parametrize("data", ["images", "speech", "spectrograms", "text"])
def test_vectors_are_ours(data, tmp_path):
    folder, samples = saved(data, tmp_path), some_samples(data)
    encoder = SentenceTransformer(str(folder))
    assert encoder.get_embedding_dimension() == 16
    expected = embed(folder, samples, progress=False).vectors
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(encoder.encode(samples), expected, **NEAR)
    alone = [encoder.encode(sample) for sample in samples]
    np.testing.assert_allclose(alone, expected, **NEAR)


@pytest.mark.parametrize("name", ["audio", "vision"])
def test_of_several_modalities_one_is_named(name, tmp_path):
    data = {"audio": "speech", "vision": "images"}[name]
    tiny_joint_model().save_pretrained(tmp_path)
    save_processor(data, tmp_path / name)
    samples = some_samples(data)
    vectors = SentenceTransformer(str(tmp_path), processor_kwargs={"subfolder": name}).encode(samples)
    np.testing.assert_allclose(vectors, embed(tmp_path, samples, modality=name, progress=False).vectors, **NEAR)


def test_fine_tuned_and_bare_models_have_them_too(tmp_path):
    folder, samples = saved("images", tmp_path / "pretrained"), some_samples("images")
    for name, auto_class in (("classifier", AutoModelForImageClassification), ("bare", AutoModel)):
        auto_class.from_pretrained(folder).save_pretrained(tmp_path / name)
        save_processor("images", tmp_path / name)
        vectors = SentenceTransformer(str(tmp_path / name)).encode(samples)
        np.testing.assert_allclose(vectors, embed(folder, samples, progress=False).vectors, **NEAR)


def test_what_sentence_transformers_saves_is_its_own(tmp_path):
    """A pipeline that goes on after the model keeps its other modules."""
    encoder = SentenceTransformer(str(saved("images", tmp_path / "first")))
    SentenceTransformer(modules=[encoder[0], Normalize()]).save_pretrained(str(tmp_path / "second"))
    assert len(json.loads((tmp_path / "second" / "modules.json").read_text())) == 2
    vectors = SentenceTransformer(str(tmp_path / "second")).encode(some_samples("images"))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_page_on_other_tools_runs(tmp_path, monkeypatch):
    """The blocks of docs/bridges.md in order; mteb's reads a task of the Hub (see test_mteb_own_data.py instead)."""
    monkeypatch.chdir(tmp_path)
    for data, name in (("images", "photos"), ("speech", "speech"), ("text", "text")):
        saved(data, Path("runs", name))
    tiny_joint_model().save_pretrained("runs/several")
    save_processor("images", Path("runs/several/vision"))
    Path("photos").mkdir()
    for number, image in enumerate(some_samples("images")):
        image.save(f"photos/{number}.png")
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    names: dict = {}
    for block in blocks:
        if "mteb" not in block:
            exec(textwrap.dedent(block), names)
    shapes = {name: names[name].shape[0] for name in ("vectors", "sounds", "texts", "parts", "pooled")}
    assert shapes == {"vectors": 2, "sounds": 2, "texts": 2, "parts": 1, "pooled": 2}


def test_models_of_1_0_are_left_to_transformers(tmp_path):
    tiny_model("images 1.0").save_pretrained(tmp_path)
    assert not any((tmp_path / name).exists() for name in EMBEDDING_FILES)
