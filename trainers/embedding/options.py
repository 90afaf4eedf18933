"""Options of `data2vec embed` and `data2vec search`."""

from dataclasses import dataclass, field

from ..evaluation.options import LAYERS_HELP, POOLING_HELP, layer_numbers, pooling_parts
from ..option_checks import require_range

FORMATS = (".parquet", ".npy")
TABLES = (".csv", ".json")


@dataclass(kw_only=True)
class FeatureOptions:
    """Which features of a frozen encoder are taken, and how."""

    pooling: str = field(default="mean", metadata={"help": POOLING_HELP})
    layers: list[str] = field(default_factory=lambda: ["-1"], metadata={"help": LAYERS_HELP})
    normalize: bool = field(default=False, metadata={"help": "Scale vectors to length 1."})
    batch_size: int = field(default=32, metadata={"help": "Samples in a forward pass."})

    def __post_init__(self) -> None:
        pooling_parts(self.pooling, flatten=False, name="--pooling")
        self.layers = [str(number) for number in layer_numbers(self.layers, option="--layers")]
        require_range(self, "batch_size", low=1)


@dataclass(kw_only=True)
class EmbedOptions(FeatureOptions):
    """Options of `data2vec embed`."""

    output: str = field(
        metadata={"help": "File to write: .parquet, or .npy with the names of its rows in a .json beside it."}
    )
    split: str = field(default="train", metadata={"help": "Split to take features of."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    id_column: str | None = field(
        default=None, metadata={"help": "Column with the samples' names; default: names of files, else row numbers."}
    )
    streaming: bool = field(default=False, metadata={"help": "Read the data as it comes, without downloading it."})
    processor: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the processor or tokenizer; default: the model's."}
    )
    modality: str | None = field(
        default=None, metadata={"help": "Of a model with several modalities: audio, text, vision, ..."}
    )
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:1, ...; default: a GPU if there is one."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output.endswith(FORMATS):
            raise ValueError(f"--output is {self.output!r}, but must end with {' or '.join(FORMATS)}")


@dataclass(kw_only=True)
class SearchOptions:
    """Options of `data2vec search`."""

    output: str = field(metadata={"help": "Table to write, a row for each query and neighbour: .csv or .json."})
    neighbors: int = field(default=5, metadata={"help": "Samples of the collection for each query."})
    split: list[str] = field(
        default_factory=lambda: ["train"], metadata={"help": "Split to read; of each, audio=test vision=train."}
    )
    column: list[str] | None = field(
        default=None, metadata={"help": "Columns with the data, if they aren't found: audio=... vision=..."}
    )
    id_column: list[str] | None = field(
        default=None, metadata={"help": "Columns with the samples' names; default: names of files, else row numbers."}
    )
    batch_size: int = field(default=32, metadata={"help": "Samples in a forward pass."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:1, ...; default: a GPU if there is one."})

    def __post_init__(self) -> None:
        require_range(self, "neighbors", "batch_size", low=1)
        if not self.output.endswith(TABLES):
            raise ValueError(f"--output is {self.output!r}, but must end with {' or '.join(TABLES)}")
