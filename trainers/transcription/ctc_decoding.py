"""From a recogniser's logits to text: the likeliest letter of every frame, with the time of letters and words."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timed:
    """A letter or word, and its seconds from the recording's start."""

    text: str
    start: float
    end: float

    @classmethod
    def of(cls, text: str, first: int, last: int, frame_seconds: float) -> "Timed":
        """Seconds from the first frame and the one after the last.

        Example:
            >>> Timed.of("hi", 1, 5, 0.02)
            Timed(text='hi', start=0.02, end=0.1)
        """
        return cls(text, round(float(first) * frame_seconds, 4), round(float(last) * frame_seconds, 4))


@dataclass(frozen=True)
class Transcript:
    """A transcript: text, and words with their times."""

    text: str
    words: list[Timed] = field(default_factory=list)
    letters: list[Timed] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Letters:
    """Meaning of a model's outputs: letters, the end of a word, and CTC's blank.

    What the tokenizer has beside them, such as <s> and <unk>, is no sound and is never heard.

    Args:
        tokenizer: a `Wav2Vec2CTCTokenizer`.
        vocab_size: outputs of the model.

    Raises:
        ValueError: a tokenizer of another kind, or of another model.

    Attributes:
        blank: index of the blank, the tokenizer's padding.
        spoken: {index: text}, with " " for the end of a word and without the blank.
    """

    def __init__(self, tokenizer: Any, vocab_size: int):
        if not hasattr(tokenizer, "word_delimiter_token"):
            raise ValueError(
                f"the tokenizer is a {type(tokenizer).__name__}, but decoding needs a Wav2Vec2CTCTokenizer: a "
                "vocabulary of letters with a word delimiter and a padding token, which is CTC's blank"
            )
        delimiter = tokenizer.word_delimiter_token
        silent = set(tokenizer.all_special_tokens) - {delimiter}
        self.tokenizer = tokenizer
        self.blank = tokenizer.pad_token_id
        self.spoken = {
            index: " " if token == delimiter else token
            for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
            if token not in silent
        }
        beyond = [token for index, token in self.spoken.items() if index >= vocab_size]
        if beyond or not 0 <= self.blank < vocab_size:
            raise ValueError(
                f"the model has {vocab_size} outputs, but its tokenizer {len(tokenizer)} tokens, with "
                f"{beyond[0] if beyond else tokenizer.pad_token!r} beyond them: use the tokenizer of its "
                "training"
            )
        self.unheard = sorted(set(range(vocab_size)) - {self.blank, *self.spoken})

    def heard(self, text: str) -> str:
        """Text as the tokenizer writes it."""
        return text.lower() if self.tokenizer.do_lower_case else text


def greedy_transcript(logits: Tensor, letters: Letters, frame_seconds: float) -> Transcript:
    """The text of the single likeliest path: the best letter of each frame, repetitions joined, blanks left out.

    Args:
        logits: [T, V] of one recording, without padding.
        letters: of the model.
        frame_seconds: from frame to frame, e.g. 0.02: the product of the convolutions' strides over the sampling rate.

    Returns:
        Text as the tokenizer gives it, words, and letters without spaces. A letter starts with its first frame and ends
        where its last one does; what it does not show is how long it sounded, as CTC is free to place it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from transformers import Wav2Vec2CTCTokenizer
        >>> vocabulary = Path(mkdtemp(), "vocab.json")
        >>> _ = vocabulary.write_text('{"<pad>": 0, "|": 1, "h": 2, "i": 3}')
        >>> letters = Letters(Wav2Vec2CTCTokenizer(str(vocabulary)), 4)
        >>> logits = torch.nn.functional.one_hot(torch.tensor([0, 2, 2, 0, 3])).float()
        >>> greedy_transcript(logits, letters, 0.02).words
        [Timed(text='hi', start=0.02, end=0.1)]
    """
    best = logits.index_fill(1, torch.tensor(letters.unheard, dtype=torch.long, device=logits.device), -torch.inf)
    # Not skip_special_tokens: it would drop the blanks before repetitions are joined, and "ll" would be "l".
    output = letters.tokenizer.decode(
        best.argmax(-1).tolist(), output_char_offsets=True, output_word_offsets=True, skip_special_tokens=False
    )

    def timed(kind: str, offsets: list[dict[str, Any]]) -> list[Timed]:
        return [
            Timed.of(letters.heard(one[kind]), one["start_offset"], one["end_offset"], frame_seconds) for one in offsets
        ]

    space = letters.tokenizer.replace_word_delimiter_char
    sounding = [one for one in output.char_offsets if one["char"] != space]
    return Transcript(output.text, timed("word", output.word_offsets), timed("char", sounding))
