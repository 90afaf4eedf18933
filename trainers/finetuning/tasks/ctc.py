"""Transcripts of speech by CTC: letters, their vocabulary, and recognition."""

import json
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import datasets
import numpy as np
from torch import Tensor
from transformers import (
    AutoModelForCTC,
    AutoTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)
from transformers.utils import logging

from ...data.samples import SampleDataset, SampleReader, UnreadableError
from ...modalities.clips import require_one_transcript
from ...modalities.speech import TRANSCRIBED, AudioReader, clip_lengths
from ...modalities.text import vocabulary_size
from ...sources.label_checks import in_rows
from ...sources.loading import STRINGS, column_types, find_column, load_source, shown_type
from ...sources.opening import UNDECODED
from ...wording import with_more
from ..metrics import IGNORED, transcript_metrics
from .task import SoundTask, padded

logger = logging.get_logger(__name__)

TRANSCRIPT_COLUMNS = ("text", "transcript", "transcription", "sentence", "normalized_text")
BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"


def vocabulary(transcripts: list[str]) -> dict[str, int]:
    """Letters and their numbers: CTC's blank, which is the padding, is 0, then unknown letters, the space and letters.

    Example:
        >>> vocabulary(["ab ba", "c"])
        {'<pad>': 0, '<unk>': 1, '|': 2, 'a': 3, 'b': 4, 'c': 5}
    """
    letters = sorted({letter for text in transcripts for letter in text} - {" ", DELIMITER})
    return {symbol: index for index, symbol in enumerate([BLANK, UNKNOWN, DELIMITER, *letters])}


def letter_tokenizer(letters: dict[str, int]) -> Wav2Vec2CTCTokenizer:
    """The tokenizer of a vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        path.write_text(json.dumps(letters, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(path),
            pad_token=BLANK,
            unk_token=UNKNOWN,
            bos_token=None,
            eos_token=None,
            word_delimiter_token=DELIMITER,
        )


def load_letters(name: str) -> Wav2Vec2CTCTokenizer:
    """The tokenizer of a folder or Hub id, whose padding is CTC's blank.

    Raises:
        ValueError: there is none, it is of another kind, or it has no padding.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError):  # a vocabulary alone does not say of which kind it is
        try:
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(name)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"--tokenizer {name!r} can't be loaded: name a folder with tokenizer_config.json and vocab.json, or a "
                "Hub id"
            ) from error
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        raise ValueError(
            f"--tokenizer {name} is a {type(tokenizer).__name__}, but ctc needs a Wav2Vec2CTCTokenizer, a vocabulary "
            "of letters or other symbols: leave --tokenizer out to make one"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token not in tokenizer.get_vocab():
        raise ValueError(f"--tokenizer {name} has no padding token, which is CTC's blank: give it one")
    return tokenizer


def unknown_symbols(said: list[str], tokenizer: Any) -> Counter[str]:
    """Count symbols that the tokenizer has no number for, by its own output, which may change the case
    and take several letters as one symbol.
    """
    unknown, letters = tokenizer.unk_token_id, tokenizer.get_vocab()
    found: Counter[str] = Counter()
    for text in said:
        for symbol in tokenizer.tokenize(text):
            number = letters.get(symbol)
            if number is None or (number == unknown and symbol != tokenizer.unk_token):
                found[" " if symbol == tokenizer.word_delimiter_token else symbol] += 1
    return found


def frames_needed(letters: list[int]) -> int:
    """The fewest frames that CTC can read a transcript in: one for each letter, and a blank between equal ones.

    Example:
        >>> frames_needed([3, 4, 4])
        4
    """
    return len(letters) + sum(one == other for one, other in pairwise(letters))


def _counted(symbols: Counter[str]) -> str:
    return ", ".join(f"{symbol!r} ({count}x)" for symbol, count in symbols.most_common(10))


class CTC(SoundTask):
    """Speech recognition by CTC: the letters of each clip."""

    name, auto_class = "ctc", AutoModelForCTC
    metric, label_smoothing = "wer", None
    column: str
    text_column: str

    def open(self, source: str, split: str) -> datasets.Dataset:
        options = self.options
        dataset, self.column = load_source(source, TRANSCRIBED, split=split, column=options.column)
        self.text_column = find_column(
            dataset,
            source,
            "transcript",
            column=options.label_column,
            names=TRANSCRIPT_COLUMNS,
            advice="name the column with what is said with --label_column",
        )
        return dataset

    def transcript(self, example: dict[str, Any]) -> str:
        """A transcript in the vocabulary's spelling: words with single spaces between them."""
        said = example[self.text_column]
        text = "" if said is None else " ".join(str(said).split())
        text = "".join(letter for letter in text if letter not in self.options.drop_letters)
        text = " ".join(text.split())
        if self.options.lowercase:
            return text.lower()
        return text.upper() if self.options.uppercase else text

    def transcripts(self, dataset: datasets.Dataset) -> list[str]:
        return [self.transcript({self.text_column: text}) for text in dataset[self.text_column][:]]

    def survey(self, table: datasets.Dataset) -> None:
        kind = column_types(table)[self.text_column]
        if kind not in STRINGS and not str(getattr(kind, "dtype", "list")).startswith(("int", "uint")):
            raise ValueError(
                f"column {self.text_column!r} holds {shown_type(kind)}, not transcripts: name another "
                "--label_column, or write them as text"
            )
        transcripts = self.transcripts(table)
        if column_types(table)[self.column] == UNDECODED:  # paths alone
            require_one_transcript(table, self.column, transcripts)
        empty = [row for row, text in enumerate(transcripts) if not text]
        if len(empty) == len(table):
            raise ValueError(f"all {len(empty)} transcripts in column {self.text_column!r} are empty")
        if empty:
            logger.warning(
                f"{len(empty):,} of {len(table):,} transcripts are empty, in {in_rows(empty)}: these clips are passed "
                "over."
            )

    def fit(self, train: datasets.Dataset) -> None:
        said = self.transcripts(train)
        if self.options.tokenizer is not None:
            tokenizer = load_letters(self.options.tokenizer)
            self._require_letters(said, tokenizer)
        else:
            tokenizer = letter_tokenizer(vocabulary(said))
        self.tokenizer = tokenizer
        self._refuse_blanks(said)
        self.processor = Wav2Vec2Processor(self.processor, tokenizer)  # of a letter tokenizer and any feature extractor
        self.config.vocab_size, self.config.pad_token_id = vocabulary_size(tokenizer), tokenizer.pad_token_id
        self.config.bos_token_id = self.config.eos_token_id = None
        # A transcript that doesn't fit would otherwise end the run (docs/finetuning.md).
        self.config.ctc_zero_infinity = True
        self.config.ctc_loss_reduction = "mean"  # so that the loss doesn't grow with the batch

    def _refuse_blanks(self, said: list[str]) -> None:
        blank = self.tokenizer.pad_token
        if rows := [row for row, text in enumerate(said) if blank in text]:
            raise ValueError(
                f"column {self.text_column!r} holds {blank!r} ({in_rows(rows)}), which is read as CTC's blank and "
                "can't be learned: remove it from the transcripts"
            )

    def _require_letters(self, said: list[str], tokenizer: Any) -> None:
        unknown = unknown_symbols(said, tokenizer)
        if unknown:
            raise ValueError(
                f"the vocabulary of --tokenizer {self.options.tokenizer} lacks letters of the transcripts: "
                f"{_counted(unknown)}. Leave --tokenizer out to make a new one, or use --lowercase, --uppercase or "
                "--drop_letters"
            )

    def check(self, dataset: datasets.Dataset, split: str) -> None:
        if split == "train":  # has the letters that the vocabulary was made of, or was compared with
            return
        said = self.transcripts(dataset)
        self._refuse_blanks(said)
        unknown = unknown_symbols(said, self.tokenizer)
        if not unknown:
            return
        lacking = f"split {split!r} has letters that the vocabulary lacks: {_counted(unknown)}"
        if self.tokenizer.unk_token_id is None:
            raise ValueError(
                f"{lacking}, and --tokenizer {self.options.tokenizer} has no symbol for unknown ones: use --lowercase, "
                "--uppercase or --drop_letters, or leave --tokenizer out"
            )
        logger.warning(
            f"{lacking[0].upper()}{lacking[1:]}. They can't be recognised, and count as errors; --lowercase, "
            "--uppercase and --drop_letters change what is compared."
        )

    def reader(self, dataset: datasets.Dataset, *, training: bool) -> SampleReader:
        clips = self.sound.clip_reader(self.column, min_seconds=self.options.min_seconds)
        return TranscriptReader(clips, self)

    def training_samples(self, dataset: datasets.Dataset) -> SampleDataset:
        """Training samples without clips that are too long, and with lengths for batches of similar ones."""
        reader = self.reader(dataset, training=True)
        clips = AudioReader(self.processor.feature_extractor, self.column)
        lengths = clip_lengths(dataset, clips)
        self._name_too_short(dataset, lengths, clips)
        if self.options.max_seconds is None and not self.args.max_batch_length:
            return SampleDataset(dataset, reader, seed=self.args.seed)
        longest = clips.num_samples(self.options.max_seconds or max(lengths, default=0) + 1)
        kept = [index for index, length in enumerate(lengths) if 0 < length <= longest]
        if not kept:
            raise ValueError(f"none of {len(lengths)} clips is shorter than max_seconds, {self.options.max_seconds}")
        if len(kept) < len(lengths):
            logger.warning(f"Leaving out {len(lengths) - len(kept)} of {len(lengths)} clips: too long, or unreadable.")
        return SampleDataset(
            dataset.select(kept), reader, seed=self.args.seed, lengths=[lengths[index] for index in kept]
        )

    def _name_too_short(self, dataset: datasets.Dataset, lengths: list[int], clips: AudioReader) -> None:
        """Say before training which clips have fewer frames than their transcript needs, by their headers.

        Raises:
            ValueError: all have.
        """
        found = []
        for row, (text, length) in enumerate(zip(self.transcripts(dataset), lengths, strict=True)):
            frames = int(self.sound.num_frames(self.sound.input_length(length)))
            # Twice the letters are always enough; only others have to be cut into symbols.
            if text and length and frames < 2 * len(text):
                needed = frames_needed(self.tokenizer(text).input_ids)
                found += [(row, frames, needed)] * (frames < needed)
        if not found:
            return
        named = [f"{clips.name(dataset[row]) or f'clip {row}'} ({has} of {needs})" for row, has, needs in found[:5]]
        shown = with_more(named, len(found))
        message = f"{len(found):,} of {len(dataset):,} clips have fewer frames than their transcript needs: {shown}"
        if len(found) == len(dataset):
            raise ValueError(f"{message}. Do the transcripts in column {self.text_column!r} belong to these clips?")
        logger.warning(f"{message}. They are passed over.")

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return padded(samples, self.processor.feature_extractor.pad)

    def predictions(self, logits: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The likeliest letter of each frame [B, T]; the blank in frames that are padding."""
        ids = logits.argmax(-1)
        mask = inputs.get("attention_mask")
        if mask is not None:
            frames = self.sound.num_frames(mask.long().sum(1))  # [B]
            padding = np.arange(ids.shape[1])[None] >= frames.cpu().numpy()[:, None]
            ids[ids.new_tensor(padding).bool()] = self.config.pad_token_id
        return ids

    def figures(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        blank = self.config.pad_token_id
        said, heard = (np.where(ids == IGNORED, blank, ids) for ids in (labels, predictions))
        transcripts = self.tokenizer.batch_decode(said, group_tokens=False)
        return transcript_metrics(self.tokenizer.batch_decode(heard), transcripts)

    def figure_names(self) -> tuple[str, ...]:
        return ("wer", "cer")


class TranscriptReader:
    """Makes the model's input of a clip and `labels`, the numbers of its letters.

    Args:
        reader: of the clips.
        task: knows what is said, and its letters.
    """

    noun = "clip"

    def __init__(self, reader: SampleReader, task: CTC) -> None:
        self.reader, self.task = reader, task

    def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
        text = self.task.transcript(example)
        if not text:
            raise UnreadableError("its transcript is empty")
        sample: dict[str, Any] = self.reader(example, rng)
        letters = self.task.tokenizer(text).input_ids
        frames = int(self.task.sound.num_frames(len(sample[self.task.main_input])))
        needed = frames_needed(letters)
        if frames < needed:
            raise UnreadableError(
                f"its transcript needs {needed} frames, but it has {frames}: does it belong to the clip?"
            )
        return sample | {"labels": letters}

    def name(self, example: dict[str, Any]) -> str | None:
        return self.reader.name(example)
