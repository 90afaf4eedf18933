"""Options of `data2vec push`."""

from dataclasses import dataclass, field

from ..option_checks import require_license


@dataclass
class PushOptions:
    """Options of `data2vec push`, beside folder and repository."""

    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    revision: str | None = field(default=None, metadata={"help": "Branch; made if there is none. Default: main."})
    with_teacher: bool = field(
        default=False, metadata={"help": "Also publish the teacher, with which pretraining goes on as it was."}
    )
    with_code: bool = field(
        default=True,
        metadata={"help": "Also publish the modules of a 2.0 model, for trust_remote_code=True without this package."},
    )
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, as the Hub spells it."})
    message: str = field(default="Upload model", metadata={"help": "Commit message."})

    def __post_init__(self) -> None:
        require_license(self)
