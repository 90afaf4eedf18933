"""Features are of the whole sample, however short the crops and blocks are that a model is trained on."""

import json

import pytest
import torch
from recordings import voice, write
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2SpectrogramConfig,
    Data2Vec2SpectrogramFeatureExtractor,
    Data2Vec2SpectrogramModel,
    Data2Vec2TextConfig,
)
from modeling_data2vec.trainers import embed
from modeling_data2vec.trainers.embedding.data import open_data
from modeling_data2vec.trainers.evaluation.features import encode
from modeling_data2vec.trainers.modalities.clips import PROBE_SECONDS
from modeling_data2vec.trainers.modalities.spectrogram import SpectrogramModality
from modeling_data2vec.trainers.modalities.speech import AudioModality
from modeling_data2vec.trainers.modalities.text import TextModality

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SPECTROGRAM = Data2Vec2SpectrogramConfig(
    **SIZES, average_top_k_layers=2, num_mel_bins=16, patch_size=[4, 8], spectrogram_length=32
)
WHOLE = {"audio": 32_000, "spectrogram": 198}  # length of the long sample


@pytest.fixture
def kinds(tokenizer):
    """Of each kind of data: its modality with a short limit in training, and a sample that is longer."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    text = Data2Vec2TextConfig(vocab_size=len(words), pad_token_id=words.pad_token_id)
    extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=16)
    return {
        "audio": (AudioModality(Data2Vec2AudioConfig(), Wav2Vec2FeatureExtractor(), {"max_seconds": 0.5}), voice(2.0)),
        "spectrogram": (SpectrogramModality(SPECTROGRAM, extractor), voice(2.0)),
        "text": (TextModality(text, words, {"block_length": 8}), "a text of more than eight tokens, by far"),
    }


@pytest.mark.parametrize("name", ["audio", "spectrogram", "text"])
def test_training_crops_and_features_do_not(name, kinds):
    kind, sample = kinds[name]
    column = kind.medium.columns[0]
    (part,) = kind.reader(column)({column: kind.cell(sample)}, None).values()
    whole = WHOLE.get(name) or len(kind.processor(sample).input_ids)
    assert len(part) == {"audio": 8_000, "spectrogram": 32, "text": 8}[name] < whole
    for cut in (False, True):
        (read,) = open_data(kind, [sample], cut=cut).read()
        assert len(read.inputs) == whole


@pytest.mark.parametrize("name", ["audio", "spectrogram", "text"])
def test_labelled_samples_are_whole(name, kinds, tmp_path):
    kind, sample = kinds[name]
    rows = [{"label": "a"}, {"label": "b"}]
    for number, row in enumerate(rows):
        if name == "text":
            row["text"] = sample
        else:
            row["audio"] = str(write(tmp_path / f"{number}.wav", sample))
    table = tmp_path / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    inputs, _ = kind.labelled(str(table), split="train", column=None)
    assert {len(one) for one in inputs} == {WHOLE.get(name) or len(kind.processor(sample).input_ids)}


@pytest.mark.parametrize("name", ["audio", "spectrogram"])
def test_what_is_held_in_memory_is_cut_after_twenty_seconds(name, kinds):
    kind, _ = kinds[name]
    clip, longest = voice(PROBE_SECONDS + 1), kind.input_length(int(PROBE_SECONDS * 16_000))
    (cut,), (whole,) = (open_data(kind, [clip], cut=held).read() for held in (True, False))
    assert len(cut.inputs) == longest and len(whole.inputs) == kind.input_length(len(clip)) > longest
    torch.testing.assert_close(cut.inputs, whole.inputs[:longest])


def test_a_vector_of_a_clip_is_of_all_its_frames():
    """Of more frames than the model was trained on, and none lost in a batch with others."""
    torch.manual_seed(0)
    model, extractor = Data2Vec2SpectrogramModel(SPECTROGRAM), Data2Vec2SpectrogramFeatureExtractor(feature_size=16)
    clips = [voice(0.3), voice(1.0, seed=1)]
    frames = [torch.as_tensor(extractor.log_mel(clip)) for clip in clips]
    vectors = embed(model, clips, processor=extractor, pooling="mean+max", progress=False).vectors
    torch.testing.assert_close(vectors, encode(model, frames, pooling="mean+max"), atol=1e-5, rtol=0)
    assert abs(vectors[1] - encode(model, [frames[1][:32]], pooling="mean+max")[0]).max() > 0.01
