"""From a recogniser's logits to text by beam search, with an n-gram model of what people say."""

import gzip
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .ctc_decoding import Letters, Timed, Transcript

KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
GZIP_MAGIC = b"\x1f\x8b"
# The end of a sentence, as a word of its own. The library, like pyctcdecode before it, scores a text that ends with a
# space as if an unknown word came before the end; so every text gets a space and this word for its end, which
# costs what the language model says, and beyond that the same for all.
END = "</s>"


class BeamDecoder:
    """Prefix beam search over letters with an n-gram model of words, by the library ctc-beam-decoder (KenLM inside).

    A text's score is log p(text | sound) + lm_weight * ln p_LM(text, end) + word_bonus * number of words: the first is
    the sum over all ways to place its letters in the frames (Graves et al., 2006), the rest shallow fusion.

    Args:
        letters: of the model.
        lm: a file in ARPA form, also gzipped, or in KenLM's binary form; None for none. A binary file does not tell its
            words, so beginnings of words that it does not know can't be told from others.
        lm_weight: weight of the language model's logarithm (elsewhere called alpha).
        word_bonus: added for every word, since each one costs probability (beta).
        beam_width: beginnings of texts that are pursued.
        beam_prune, letter_prune: natural logarithms; beginnings that are so much less likely than the best, and letters
            less likely than this in a frame, are dropped. -inf and -30, the least, for none that matter.

    Raises:
        ImportError: the library is missing.
        FileNotFoundError, ValueError: there is no such file; it isn't a language model, or not one of these letters.

    Example:
        >>> BeamDecoder(letters, "3gram.arpa")(logits, 0.02).text  # doctest: +SKIP
        'what was said'
    """

    def __init__(
        self,
        letters: Letters,
        lm: str | Path | None = None,
        *,
        lm_weight: float = 0.5,
        word_bonus: float = 1.5,
        beam_width: int = 100,
        beam_prune: float = -10.0,
        letter_prune: float = -5.0,
    ):
        try:
            from ctc_beam_decoder import build_ctcdecoder
        except ImportError as error:
            raise ImportError("beam search needs a library: pip install ctc-beam-decoder") from error
        if beam_width < 1:
            raise ValueError(f"beam_width is {beam_width}, but must be at least 1")
        self.settings = {
            "beam_width": beam_width,
            "beam_prune_logp": beam_prune,
            "token_min_logp": max(letter_prune, -30.0),
        }
        self.columns = torch.tensor(sorted([letters.blank, *letters.spoken]))
        labels = [letters.heard(letters.spoken.get(int(index), "")) for index in self.columns]  # "" is the blank
        words = None if lm is None else lm_words(lm)
        if words is not None:
            check_spelling(words, labels, lm)
            words.append(END)
        self.space = labels.index(" ")
        self.has_lm = lm is not None
        labels += [END] * self.has_lm
        try:
            self.decoder: Any = build_ctcdecoder(labels, lm and str(lm), words, alpha=lm_weight, beta=word_bonus)
        except ValueError as error:  # what KenLM says comes after a place in its source
            raise ValueError(f"{str(lm)!r} can't be loaded: {str(error).rpartition('Exception. ')[-1]}") from error

    def __call__(self, logits: Tensor, frame_seconds: float) -> Transcript:
        """The best text, with the times of its words.

        Args:
            logits: [T, V] of one recording, without padding.
            frame_seconds: from frame to frame.
        """
        for text, frames, _ in self.beams(logits, prune_history=True):
            return Transcript(text, [Timed.of(word, *span, frame_seconds) for word, span in frames])
        return Transcript("")  # nothing but silence

    def beams(
        self, logits: Tensor, *, prune_history: bool = False
    ) -> list[tuple[str, list[tuple[str, tuple[int, int]]], float]]:
        """The best texts, best first, with the frames of their words, and their scores but for a constant.

        Args:
            logits: [T, V].
            prune_history: of beginnings that the language model can't tell apart, since their last words are the same,
                pursue the best alone: the first text stays, and finds more room in the beam; others are lost.
        """
        scores = logits.cpu().index_select(1, self.columns).float().log_softmax(-1)  # [T, letters]
        if self.has_lm:
            end = scores.new_full((len(scores) + 2, scores.shape[1] + 1), -torch.inf)
            end[:-2, :-1] = scores
            end[-2, self.space] = end[-1, -1] = 0.0
            scores = end  # [T + 2, letters + 1]
        found = self.decoder.decode_beams(scores.numpy(), prune_history=prune_history, **self.settings)
        return [
            (text.removesuffix(END).rstrip(), [one for one in frames if one[0] != END], score)
            for text, _, frames, _, score in found
        ]


def lm_words(path: str | Path) -> list[str] | None:
    """Words of an ARPA file, gzipped or not, but for <s>, </s> and <unk>; None for KenLM's binary form.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no language model {str(path)!r}: name an ARPA file or a binary one of KenLM")
    with open(path, "rb") as file:
        start = file.read(len(KENLM_MAGIC))
    if start == KENLM_MAGIC:
        return None
    words: list[str] = []
    try:
        with (gzip.open if start.startswith(GZIP_MAGIC) else open)(path, "rt", encoding="utf-8") as lines:
            sections = (line.split() for line in lines)
            if next((line for line in sections if line), None) == ["\\data\\"]:
                for line in sections:
                    if line == ["\\1-grams:"]:
                        break
                for line in sections:
                    if line and line[0].startswith("\\"):
                        break
                    words += line[1:2]
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(f"the language model {str(path)!r} can't be read: {error}") from error
    if not words:
        raise ValueError(
            f"{str(path)!r} is no language model: it must be an ARPA file, which begins with \\data\\ and lists words "
            "under \\1-grams:, or a binary one of KenLM"
        )
    return [word for word in words if word.lower() not in ("<s>", "</s>", "<unk>")]


def check_spelling(words: list[str], labels: list[str], path: str | Path | None) -> None:
    """Refuse a language model none of whose words the recogniser can spell: most often, capitals differ.

    Raises:
        ValueError: with a word of each.
    """
    if not any(set(word) <= set("".join(labels)) for word in words):
        alphabet = "".join(sorted(label for label in labels if label.strip()))
        raise ValueError(
            f"no word of the language model {str(path)!r} (e.g. {words[0] if words else ''!r}) is spelled with the "
            f"recogniser's letters, {alphabet!r}: make it from text in these letters, capitals or small as they are"
        )
