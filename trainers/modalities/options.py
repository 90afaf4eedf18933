"""Options of `data2vec tokenizer`."""

from dataclasses import dataclass, field

from ..option_checks import require_range

SMALLEST_VOCABULARY = 256 + 5  # bytes and special tokens
SHORTEST_TEXT = 3  # a token between <s> and </s>


@dataclass
class TokenizerOptions:
    """Options of `data2vec tokenizer`."""

    dataset: str = field(
        metadata={"help": "Text, JSONL, CSV or parquet (file or folder), saved dataset, Hub id, or 'python-docs'."}
    )
    output_dir: str = field(metadata={"help": "Folder that the tokenizer is written to."})
    vocab_size: int = field(default=8_000, metadata={"help": "Tokens to learn, with 256 bytes and 5 special tokens."})
    max_length: int = field(default=512, metadata={"help": "Tokens that the model will take; longer text is cut."})
    split: str = field(default="train", metadata={"help": "Split to learn from."})
    column: str | None = field(default=None, metadata={"help": "Column with text, if it isn't found."})
    streaming: bool = field(default=False, metadata={"help": "Read the data as it comes, without downloading it."})
    limit: int | None = field(default=None, metadata={"help": "Learn from so many documents at most; default: all."})

    def __post_init__(self) -> None:
        require_range(self, "vocab_size", low=SMALLEST_VOCABULARY)
        require_range(self, "max_length", low=SHORTEST_TEXT)
        require_range(self, "limit", low=1)
