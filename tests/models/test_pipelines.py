"""transformers' pipelines on a folder with a model and its processor, 2.0's and 1.0's: what a user writes, and gets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_images import photo
from recordings import voice
from task_models import TASKS
from tiny_runs import tiny_model
from transformers import (
    AutoTokenizer,
    BeitImageProcessorPil,
    ViTImageProcessorPil,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    pipeline,
)

VERSIONS = ["2.0", "1.0"]
SIZE = {"height": 8, "width": 8}
COLOURS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture
def processors(tokenizer, tmp_path) -> dict[str, Any]:
    letters = ["<pad>", "|", *"abcdefghijklmnopqrstuvwxyz", "<unk>"]
    path = tmp_path / "letters.json"
    path.write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return {
        "text": AutoTokenizer.from_pretrained(tokenizer),
        "images": ViTImageProcessorPil(size=SIZE, **COLOURS),
        "pixels": BeitImageProcessorPil(size=SIZE, do_center_crop=False, **COLOURS),
        "speech": extractor,
        "letters": Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(path), unk_token="<unk>")),
    }


def made(task: str, name: str, version: str, folder: Path, processor: Any) -> Any:
    """The pipeline for a task, from a folder with the head (or no head: `name` is a modality) and a processor."""
    modality = TASKS[name].modality if name in TASKS else name
    changes: dict[str, Any] = {"text": {"vocab_size": 300}, "images": {"num_channels": 3}, "speech": {}}[modality]
    if name == "classes of pixels" and version == "1.0":
        changes |= {"num_hidden_layers": 3, "out_indices": [1, 2, 3, 4]}
    if name in TASKS:
        options = {"vocab_size": 29} if name == "CTC" else {}
        model = TASKS[name].model(folder / "pretrained", version, changes, **options)
    else:
        model = tiny_model(f"{modality} {version}", **changes).base_model
    model.save_pretrained(folder / "task")
    processor.save_pretrained(folder / "task")
    return pipeline(task, model=str(folder / "task"))


@pytest.mark.parametrize("version", VERSIONS)
def test_speech(version, processors, tmp_path):
    clip = voice(1.0)
    recognise = made("automatic-speech-recognition", "CTC", version, tmp_path / "ctc", processors["letters"])
    assert isinstance(recognise(clip)["text"], str)
    assert isinstance(recognise(voice(3.0), chunk_length_s=1.0)["text"], str)
    classify = made("audio-classification", "classes of clips", version, tmp_path / "classes", processors["speech"])
    found = classify(clip)
    assert {one["label"] for one in found} == {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert sum(one["score"] for one in found) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_images(version, processors, tmp_path):
    classify = made("image-classification", "classes of images", version, tmp_path / "classes", processors["images"])
    assert {one["label"] for one in classify(photo())} == {"LABEL_0", "LABEL_1", "LABEL_2"}
    cut = made("image-segmentation", "classes of pixels", version, tmp_path / "pixels", processors["pixels"])
    masks = [np.asarray(one["mask"]) > 0 for one in cut(photo())]
    assert all(mask.shape == (30, 40) for mask in masks) and np.array(masks).sum(0).max() == 1
    extract = made("image-feature-extraction", "images", version, tmp_path / "features", processors["images"])
    assert np.array(extract(photo())).shape == (1, 17, 16)
    if version == "2.0":  # transformers' own has a pooler only below a classifier
        assert np.array(extract(photo(), pool=True)).shape == (1, 16)


@pytest.mark.parametrize("version", VERSIONS)
def test_text(version, processors, tmp_path):
    tokenizer = processors["text"]
    classify = made("text-classification", "classes of texts", version, tmp_path / "classes", tokenizer)
    assert classify("The quick brown fox.")[0]["label"].startswith("LABEL_")
    tag = made("token-classification", "tags", version, tmp_path / "tags", tokenizer)
    tokens = tokenizer.tokenize("The quick brown fox.")
    assert len(tag("The quick brown fox.", ignore_labels=[])) == len(tokens)
    fill = made("fill-mask", "words under masks", version, tmp_path / "words", tokenizer)
    assert len(fill("The quick <mask> fox.")) == 5
    extract = made("feature-extraction", "text", version, tmp_path / "features", tokenizer)
    assert np.array(extract("The quick brown fox.")).shape == (1, len(tokens) + 2, 16)


def test_answers(tokenizer, tmp_path):
    """By the model itself: transformers 5 has no pipeline for them."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    model = TASKS["answers"].model(tmp_path, "2.0", {"vocab_size": 300, "max_position_embeddings": 64}).eval()
    inputs = tokenizer("Who?", "It is Bob.", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        outputs = model(**inputs)
    start, end = int(outputs.start_logits.argmax()), int(outputs.end_logits.argmax())
    assert isinstance(tokenizer.decode(inputs["input_ids"][0, start : end + 1]), str)
