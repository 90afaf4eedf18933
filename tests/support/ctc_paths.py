"""A vocabulary of letters, and logits whose likeliest path is known."""

import itertools
import json

import torch
from transformers import Wav2Vec2CTCTokenizer

VOCABULARY = ["<pad>", "|", "a", "l", "<unk>"]


def tokenizer_of(folder, vocabulary=VOCABULARY, **options):
    path = folder / "vocab.json"
    path.write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    return Wav2Vec2CTCTokenizer(str(path), **options)


def path(*tokens: str, vocabulary=VOCABULARY) -> torch.Tensor:
    """Logits [T, V] whose best path is this."""
    return torch.nn.functional.one_hot(
        torch.tensor([vocabulary.index(token) for token in tokens]), len(vocabulary)
    ).float()


def collapse(tokens) -> str:
    """CTC's rule, spelled out: join repetitions, then leave out blanks."""
    joined = "".join(token for token, _ in itertools.groupby(tokens) if token != "<pad>")
    return joined.replace("|", " ").strip()
