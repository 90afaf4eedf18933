"""Options of `data2vec inspect`."""

from dataclasses import dataclass, field

from ..option_checks import require_range


@dataclass
class InspectOptions:
    """Options of `data2vec inspect`."""

    batch_size: int | None = field(default=None, metadata={"help": "Samples on a device; default: the recipe's."})
    dtype_bytes: int = field(default=2, metadata={"help": "2 for half precision, 4 for fp32."})
    seconds: float | None = field(default=None, metadata={"help": "Length of a clip; default: 10, or the recipe's."})
    tokens: int | None = field(default=None, metadata={"help": "Length of a sequence; default: the recipe's."})
    modality: str | None = field(
        default=None, metadata={"help": "Part of a joint model: audio, text or vision; default: the whole."}
    )

    scale_to_batch: float | None = field(
        default=None, metadata={"help": "Of a recipe: the schedule for so many samples or seconds an optimizer step."}
    )

    def __post_init__(self) -> None:
        require_range(self, "batch_size", "tokens", low=1)
        require_range(self, "seconds", "scale_to_batch", above=0)
        if self.dtype_bytes not in (2, 4):
            raise ValueError(f"--dtype_bytes is {self.dtype_bytes}, but must be 2 (half precision) or 4 (fp32)")
