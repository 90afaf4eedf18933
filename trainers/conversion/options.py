"""Options of `data2vec convert` and `data2vec merge`."""

from dataclasses import dataclass, field

from ..option_checks import require_choice, require_license


@dataclass
class ConvertOptions:
    """Options of `data2vec convert`, beside source and destination."""

    to: str = field(default="hub", metadata={"help": "'hub': a .pt file to a model folder; 'fairseq': the reverse."})
    license: str | None = field(
        default=None, metadata={"help": "Licence of the weights, as the Hub spells it: mit, apache-2.0, cc-by-nc-4.0."}
    )
    published: str | None = field(
        default=None,
        metadata={"help": "Which published model this is (`data2vec recipes`): gives the licence."},
    )
    dictionary: str | None = field(
        default=None, metadata={"help": "fairseq's dict.txt: letters of a recogniser, or tokens of a text model."}
    )
    bpe: list[str] = field(
        default_factory=list, metadata={"help": "GPT-2's encoder.json and vocab.bpe, for a text model's tokenizer."}
    )
    labels: str | None = field(default=None, metadata={"help": "Names of classes: a text file, one a line, or JSON."})
    check: str | None = field(
        default=None, metadata={"help": "Stored activations (safetensors) that the converted model must give again."}
    )

    def __post_init__(self) -> None:
        require_choice(self, "to", ["hub", "fairseq"])
        require_license(self)


@dataclass
class MergeOptions:
    """Options of `data2vec merge`."""

    output_dir: str = field(metadata={"help": "A folder that does not exist yet, for the joint model."})
    trunk: str = field(
        default="average",
        metadata={"help": "Whose trunk to take: audio, text or vision; 'average' for the mean."},
    )
    config: list[str] = field(
        default_factory=list, metadata={"help": "Fields of the joint config, e.g. modality_norms=true: NAME=VALUE ..."}
    )
