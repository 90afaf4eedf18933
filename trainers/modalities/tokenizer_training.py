"""A byte-level BPE tokenizer trained on one's own text: what `data2vec tokenizer` does."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from ..files.output_checks import check_tokenizer_folder
from ..files.writing import new_files
from .options import SMALLEST_VOCABULARY, TokenizerOptions
from .text import load_text

logger = logging.get_logger(__name__)

# RoBERTa's order; <mask> comes after everything learned, with the highest id.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]
MASK_TOKEN = "<mask>"


def build_tokenizer(options: TokenizerOptions) -> PreTrainedTokenizerFast:
    """Train a tokenizer and write it to `output_dir`: all of its files or, if anything goes wrong, none.

    Raises:
        ValueError: the folder already holds a tokenizer or other files, the vocabulary is too small, there is no text.
    """
    output = Path(options.output_dir)
    check_tokenizer_folder(output)
    _check_size(options.vocab_size)
    dataset, column = load_text(
        options.dataset, split=options.split, text_column=options.column, streaming=options.streaming
    )
    texts = (example[column] for example in islice(dataset, options.limit))
    tokenizer = train_tokenizer(texts, options.vocab_size, max_length=options.max_length)

    with new_files(output, last="tokenizer.json") as unfinished:
        tokenizer.save_pretrained(unfinished)
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, max_length: int = 512) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE: any text can be encoded, and decodes to itself. Equal texts give equal tokenizers.

    Special tokens are RoBERTa's, `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3 and `<mask>` last; a text is encoded as
    `<s> ... </s>`.

    Args:
        texts: documents, read once; empty ones don't count.
        vocab_size: tokens, including 256 bytes and 5 special tokens; a small corpus may give fewer, with a warning.
        max_length: the tokenizer's `model_max_length`, in tokens.

    Raises:
        ValueError: `vocab_size` is below 261, or there is no text.

    Example:
        >>> tokenizer = train_tokenizer(["hot and cold", "hot or cold"] * 9, 270)
        >>> tokenizer.convert_ids_to_tokens(tokenizer("hot").input_ids)
        ['<s>', 'hot', '</s>']
    """
    _check_size(vocab_size)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # <mask> is added afterwards
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_not_empty(texts), trainer)
    # As RoBERTa's, it takes the space before it: "a <mask>" hides " word".
    backend.add_special_tokens([AddedToken(MASK_TOKEN, lstrip=True, special=True)])
    start, end = SPECIAL_TOKENS[0], SPECIAL_TOKENS[2]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (start, end)],
    )
    if backend.get_vocab_size() < vocab_size:
        logger.warning(
            f"The text gave only {backend.get_vocab_size()} tokens of the {vocab_size} asked for: set the model's "
            f"vocab_size to {backend.get_vocab_size()}, or learn from more text."
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=start,
        cls_token=start,
        eos_token=end,
        sep_token=end,
        pad_token=SPECIAL_TOKENS[1],
        unk_token=SPECIAL_TOKENS[3],
        mask_token=AddedToken(MASK_TOKEN, lstrip=True, special=True),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def _check_size(vocab_size: int) -> None:
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size is {vocab_size}, but 256 bytes and {SMALLEST_VOCABULARY - 256} special tokens alone need "
            f"{SMALLEST_VOCABULARY}"
        )


def _not_empty(texts: Iterable[str | None]) -> Iterator[str]:
    empty = True
    for text in texts:
        if text and not text.isspace():
            empty = False
            yield text
    if empty:
        raise ValueError("the texts are empty: there is nothing to learn a tokenizer from")
