"""A recogniser of English digits, trained in seconds on one woman's telephone prompts, and long recordings of them."""

import json
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2AudioForCTC
from modeling_data2vec.trainers.media.audio_decoding import decode_audio

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOCABULARY = ("<pad>", "|", *sorted(set("".join(WORDS))))
FOLDER = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")
PACKAGE = "apt-get install -y asterisk-core-sounds-en-g722"
# A frame of 75 ms every 20 ms.
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [64, 64],
    "conv_kernel": [80, 16],
    "conv_stride": [20, 16],
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "layerdrop": 0.0,
}
OURS = {"num_prenet_layers": 1, "average_top_k_layers": 2, "decoder_dim": 64, "post_mlp_dropout": 0.0}
OURS |= {"prenet_dropout": 0.0, "prenet_layerdrop": 0.0}
THEIRS = {"mask_time_prob": 0.0, "num_conv_pos_embeddings": 2, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}


def recogniser(family: str):
    """A small model of "2.0" or "1.0", with random weights."""
    torch.manual_seed(0)
    if family == "2.0":
        return Data2Vec2AudioForCTC(Data2Vec2AudioConfig(**SIZES, **OURS)).eval()
    return Data2VecAudioForCTC(Data2VecAudioConfig(**SIZES, **THEIRS, final_dropout=0.0)).eval()


def processor(folder: Path) -> Wav2Vec2Processor:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(VOCABULARY)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)


def digit_files() -> dict[str, Path]:
    files = {word: FOLDER / f"{digit}.g722" for digit, word in enumerate(WORDS)}
    if not all(file.is_file() for file in files.values()):
        pytest.skip(f"real recordings of digits: {PACKAGE}")
    return files


@cache
def sound_of(word: str) -> np.ndarray:
    return decode_audio(digit_files()[word])


def said(words: list[str]) -> tuple[np.ndarray, str]:
    """Digits after each other: fp32 [samples] at 16 kHz, and what they say."""
    return np.concatenate([sound_of(word) for word in words]), " ".join(words)


def digits(rng: random.Random, count: int) -> tuple[np.ndarray, str]:
    """So many digits."""
    return said(rng.choices(WORDS, k=count))


def train(model, steps: int, longest: int = 1, seed: int = 0) -> None:
    """Fit the model to all digits by themselves, and if `longest` is more than 1, then to so many after each other."""
    rng = random.Random(seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        single = longest == 1 or step < steps // 3
        pairs = [said([word]) for word in WORDS] if single else [digits(rng, rng.randint(1, longest)) for _ in range(8)]
        waveforms = [torch.from_numpy((sound - sound.mean()) / sound.std()) for sound, _ in pairs]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        inputs = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        indices = [torch.tensor([VOCABULARY.index(letter) for letter in text.replace(" ", "|")]) for _, text in pairs]
        labels = torch.nn.utils.rnn.pad_sequence(indices, batch_first=True, padding_value=-100)
        mask = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
        model(inputs, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
