"""Options of `data2vec transcribe`."""

from dataclasses import dataclass, field

from ..option_checks import require_range


@dataclass
class TranscribeOptions:
    """Options of `data2vec transcribe`."""

    timestamps: bool = field(default=False, metadata={"help": "Also print the time of each word."})
    json: bool = field(
        default=False,
        metadata={"help": "Print a JSON object a line for each file; with --timestamps, words and letters."},
    )
    lm: str | None = field(
        default=None, metadata={"help": "Beam search with this n-gram model of words: an ARPA file or KenLM's binary."}
    )
    lm_weight: float = field(default=0.5, metadata={"help": "With --lm: weight of the language model."})
    word_bonus: float = field(default=1.5, metadata={"help": "With --lm: added to the score for every word."})
    beam_width: int = field(default=100, metadata={"help": "With --lm: beginnings of texts that are pursued."})
    chunk_seconds: float = field(default=30.0, metadata={"help": "Longer recordings are computed in such windows."})
    overlap_seconds: float = field(default=5.0, metadata={"help": "Context on each side of what counts of a window."})
    batch_size: int = field(default=8, metadata={"help": "Windows that are computed together."})

    def __post_init__(self) -> None:
        require_range(self, "lm_weight", "overlap_seconds", low=0)
        require_range(self, "word_bonus")
        require_range(self, "beam_width", "batch_size", low=1)
        require_range(self, "chunk_seconds", above=0)
        if 2 * self.overlap_seconds >= self.chunk_seconds:
            raise ValueError(
                f"--overlap_seconds is {self.overlap_seconds}, but must be less than half of --chunk_seconds, "
                f"{self.chunk_seconds}: nothing of a window would be left"
            )
