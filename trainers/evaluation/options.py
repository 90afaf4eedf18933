"""Options of `data2vec probe` and `data2vec evaluate`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..option_checks import LARGEST_SEED, did_you_mean, require_range

AUTO = "auto"  # layer or pooling that training labels choose
POOLINGS = ("mean", "max", "std", "cls", "bands", "bands_max", "bands_std")
Layers = int | str | Sequence[int | str]  # 4, "2+4" or [2, 4]
BINNED = re.compile(r"(grid|time)([1-9]\d?)")
POOLING_HELP = (
    "mean, max, std, cls, grid2 (N x N fields), time6 (N stretches), bands, bands_max, bands_std; several as mean+max."
)
LAYERS_HELP = (
    "Layer -1 is the encoder's output, 0 the first layer's input; several stand side by side, as in 2+4 or 2 4."
)


def pooling_parts(pooling: str, *, flatten: bool = True, name: str = "pooling") -> list[tuple[str, int]]:
    """The poolings that a text names, each with its number of bins, 0 where it has none.

    Args:
        pooling: one name, or several joined by "+".
        flatten: whether "flatten" is allowed.
        name: of the option, for the error.

    Raises:
        ValueError: there is no such pooling.

    Example:
        >>> pooling_parts("mean+std+time6")
        [('mean', 0), ('std', 0), ('time', 6)]
    """
    allowed = (*POOLINGS, "flatten") if flatten else POOLINGS
    found = []
    for part in pooling.split("+"):
        binned = BINNED.fullmatch(part)
        if not binned and part not in allowed:
            hint = did_you_mean(part, (*allowed, "grid2", "grid4", "time6"))
            raise ValueError(
                f"{name} is {pooling!r}{f' ({hint})' if hint else ''}, but must be {', '.join(allowed)}, grid2 and so "
                "on (fields along each axis), time6 and so on (stretches), or several joined by '+', as in mean+max"
            )
        found.append((binned[1], int(binned[2])) if binned else (part, 0))
    return found


def layer_numbers(layers: Layers, *, option: str | None = None) -> list[int]:
    """The layers that numbers or texts name.

    Args:
        layers: one layer or several; texts may join several by "+".
        option: of a command, for the error; it counts no layers from the end but the last.

    Raises:
        ValueError: there are none, or one is no whole number.

    Example:
        >>> layer_numbers("2+4"), layer_numbers([0, "-1"]), layer_numbers(-1)
        ([2, 4], [0, -1], [-1])
    """
    given = [layers] if isinstance(layers, int | str) else list(layers)
    texts = [text for one in given for text in str(one).split("+")]
    wrong = [text for text in texts if not re.fullmatch(r"-1|\d{1,6}" if option else r"-?\d{1,6}", text)]
    if wrong or not texts:
        raise ValueError(
            f"{option or 'layer'} is {wrong[0] if wrong and wrong[0] else 'empty'}, but must be whole numbers"
            f"{' of at least -1' if option else ''}, several joined by '+', as in 2+4"
        )
    return [int(text) for text in texts]


@dataclass(kw_only=True)
class LabelledDataOptions:
    """Where labelled samples come from, and which features of them are probed."""

    dataset: str = field(
        metadata={"help": "Labelled data: 'digits', a folder with a folder for each class, a table, or a Hub id."}
    )
    train_split: str = field(default="train", metadata={"help": "Split with the probe's training labels."})
    test_split: str = field(default="test", metadata={"help": "Split that accuracies are measured on."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    label_column: str | None = field(default=None, metadata={"help": "Column with labels, if it isn't found."})
    modality: str | None = field(
        default=None, metadata={"help": "Of a model with several modalities: audio, text or vision."}
    )
    layers: list[str] = field(default_factory=lambda: ["-1"], metadata={"help": LAYERS_HELP})

    def __post_init__(self) -> None:
        from ..sources.splits import require_other_data  # imports transformers, which help does without

        self.layer()
        require_other_data("--test_split", (self.dataset, self.test_split), (self.dataset, self.train_split))

    def layer(self) -> int | list[int]:
        """The layers as numbers."""
        numbers = layer_numbers(self.layers, option="--layers")
        return numbers[0] if len(numbers) == 1 else numbers


def label_counts(texts: list[str]) -> list[int | None]:
    """`["100", "all"]` to numbers, None for all."""
    wrong = [text for text in texts if text != "all" and not (text.isdigit() and int(text))]
    if wrong:
        raise ValueError(f"--labels takes whole numbers from 1 or 'all', not {wrong[0]!r}")
    return [None if text == "all" else int(text) for text in texts]


@dataclass(kw_only=True)
class ProbeOptions(LabelledDataOptions):
    """Options of `data2vec probe`."""

    model: str = field(metadata={"help": "Model folder or Hub id: any Hugging Face encoder of images, speech or text."})
    labels: list[str] = field(
        default_factory=list,
        metadata={"help": "Numbers of training labels; 'all' for all. Default: 100, where there are more, and all."},
    )
    tokenizer: str | None = field(default=None, metadata={"help": "Tokenizer, for text; default: the model's."})
    layers: list[str] = field(
        default_factory=lambda: ["-1"],
        metadata={"help": f"{LAYERS_HELP} 'auto': chosen by the training labels."},
    )
    pooling: str = field(
        default="mean", metadata={"help": f"{POOLING_HELP} Or flatten. 'auto': chosen by the training labels."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Random label subsets."})
    limit: int | None = field(default=None, metadata={"help": "Use at most so many samples of each split."})
    output: str | None = field(default=None, metadata={"help": "Write the table as JSON to this file, too."})

    def __post_init__(self) -> None:
        super().__post_init__()
        label_counts(self.labels)
        if self.pooling != AUTO:
            pooling_parts(self.pooling, name="--pooling")
        require_range(self, "seeds", low=0, high=LARGEST_SEED)
        require_range(self, "limit", low=1)

    def layer(self) -> Any:
        """The layers as numbers, or "auto"."""
        return AUTO if self.layers == [AUTO] else super().layer()


@dataclass(kw_only=True)
class EvaluateOptions(LabelledDataOptions):
    """Options of `data2vec evaluate`."""

    model: list[str] = field(
        metadata={"help": "Model folders or Hub ids, side by side: any Hugging Face encoders of one kind of data."}
    )
    output_dir: str = field(metadata={"help": "Folder for report.md, report.json and the figures."})
    names: list[str] = field(
        default_factory=list, metadata={"help": "What the report calls the models; default: their folders' names."}
    )
    labels: list[str] = field(
        default_factory=list,
        metadata={"help": "Numbers of training labels; 'all' for all. Default: 1, 3, 10, ... of each class, and all."},
    )
    pooling: str = field(default="mean", metadata={"help": POOLING_HELP})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "Random label subsets."})
    limit: int = field(default=2_000, metadata={"help": "Use at most so many samples of each split."})
    batch_size: int = field(default=32, metadata={"help": "Samples in a forward pass."})

    def __post_init__(self) -> None:
        super().__post_init__()
        label_counts(self.labels)
        pooling_parts(self.pooling, flatten=False, name="--pooling")
        require_range(self, "seeds", low=0, high=LARGEST_SEED)
        require_range(self, "limit", "batch_size", low=1)
