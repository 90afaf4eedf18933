"""The parser of all commands: an error is one line, and names the option that was probably meant."""

import re
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser

from .option_checks import did_you_mean, wrong_choice
from .plugins import PLUGIN_HELP, split_plugins

# argparse takes "-1" for a value, but "-1e-3" and "-inf" for options.
NEGATIVE_NUMBER = re.compile(r"-((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|inf|nan)$")
WRONG_CHOICE = re.compile(r"argument (?P<option>--\w+): invalid choice: (?P<value>.*?) \(choose from (?P<words>.*)\)")


class OptionParser(HfArgumentParser):
    """transformers' parser of dataclasses, whose errors are ValueErrors instead of a page of usage.

    Args:
        command: of `data2vec`, e.g. "pretrain".
        kinds: dataclasses with the options.
        description: for `--help`.
    """

    def __init__(self, command: str, *kinds: Any, description: str | None = None) -> None:
        super().__init__(kinds, prog=f"data2vec {command}", allow_abbrev=False, description=description)
        self._negative_number_matcher = NEGATIVE_NUMBER
        self.add_argument("--plugin", action="append", metavar="FILE.py", default=SUPPRESS, help=PLUGIN_HELP)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"(--\w+)/--[\w-]+", r"\1", message)  # of two spellings, the first
        wrong = WRONG_CHOICE.fullmatch(message)
        if wrong:
            words = [word.strip("' ") for word in wrong["words"].split(",")]
            message = wrong_choice(wrong["option"], wrong["value"].strip("'"), words)
        raise ValueError(message)

    def parse(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """The dataclasses, and a namespace with the other arguments, if there are any.

        Raises:
            ValueError: an option is unknown, missing, or has a value that it can't have.
        """
        self._check_names(argv)
        *values, rest = self.parse_args_into_dataclasses(
            split_plugins(argv)[1], return_remaining_strings=True, look_for_args_file=False
        )
        if rest:
            raise ValueError(f"{rest[0]!r} belongs to no option: {self._where_listed}")
        return tuple(values)

    def _check_names(self, argv: Sequence[str]) -> None:
        """Name an unknown option before argparse says that another one is missing."""
        known = [name for action in self._actions for name in action.option_strings]
        for word in argv:
            name = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and " " not in name and name not in known:
                spelled = name[2:].replace("-", "_")
                hint = did_you_mean(spelled, [option[2:] for option in known if option.startswith("--")])
                hint = f"{hint.replace('mean ', 'mean --')} " if hint else ""
                raise ValueError(f"there is no option {name}: {hint}{self._where_listed}")

    @property
    def _where_listed(self) -> str:
        return f"`{self.prog} --help` lists all options"
