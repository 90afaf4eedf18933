"""Options of `data2vec explore`."""

from dataclasses import dataclass, field

from ..evaluation.options import pooling_parts
from ..option_checks import require_range


@dataclass(kw_only=True)
class ExploreOptions:
    """Options of `data2vec explore`."""

    split: str = field(default="train", metadata={"help": "Split to show samples of."})
    column: str | None = field(default=None, metadata={"help": "Column with images, audio or text, if it isn't found."})
    limit: int = field(
        default=500, metadata={"help": "Samples that are shown and searched, evenly spread over the data."}
    )
    pooling: str | None = field(
        default=None,
        metadata={
            "help": "How positions become the vector that neighbors are found by: mean, grid2, bands, ...; "
            "default: as in probes."
        },
    )
    modality: str | None = field(
        default=None, metadata={"help": "Of a model with several modalities, if the data doesn't name it: audio, ..."}
    )
    processor: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the processor or tokenizer; default: the model's."}
    )
    device: str | None = field(default=None, metadata={"help": "cpu, cuda:1, ...; default: a GPU if there is one."})
    host: str = field(
        default="127.0.0.1", metadata={"help": "Address to serve at; 0.0.0.0 lets other computers see the page."}
    )
    port: int | None = field(default=None, metadata={"help": "Default: the first free one from 7860."})
    no_browser: bool = field(default=False, metadata={"help": "Open no browser window."})
    export: str | None = field(
        default=None, metadata={"help": "Write the page as a Hugging Face Space into this folder, and serve nothing."}
    )

    def __post_init__(self) -> None:
        if self.pooling is not None:
            pooling_parts(self.pooling, flatten=False, name="--pooling")
        require_range(self, "limit", low=4)
        require_range(self, "port", low=1, high=65_535)
