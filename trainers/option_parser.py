"""The parser of all commands: an error is one line, and names the option that was probably meant."""

import re
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from .commands import COMMANDS
from .option_checks import did_you_mean, wrong_choice
from .plugins import PLUGIN_HELP, split_plugins

# argparse takes "-1" for a value, but "-1e-3" and "-inf" for options.
NEGATIVE_NUMBER = re.compile(r"-((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|inf|nan)$")
WRONG_CHOICE = re.compile(r"argument (?P<option>--\w+): invalid choice: (?P<value>.*?) \(choose from (?P<words>.*)\)")


def _bool_or_auto(text: str) -> str | bool:
    return text if text == "auto" else string_to_bool(text)


class OptionParser(HfArgumentParser):
    """transformers' parser of dataclasses, whose errors are ValueErrors instead of a page of usage.

    Args:
        name: of a command, e.g. "pretrain"; its options and arguments are those of the table.
        kinds: more dataclasses with options.
    """

    def __init__(self, name: str, *kinds: Any) -> None:
        command = COMMANDS[name]
        super().__init__(
            (*command.kinds(), *kinds), prog=f"data2vec {name}", allow_abbrev=False, description=command.about
        )
        for argument in command.arguments:
            self.add_argument(argument.name, **argument.keywords())
        self._negative_number_matcher = NEGATIVE_NUMBER
        self.add_argument("--plugin", action="append", metavar="FILE.py", default=SUPPRESS, help=PLUGIN_HELP)
        for action in self._actions:
            if action.dest == "bf16":  # transformers' parser makes plain booleans of what may be a word, too
                action.type = _bool_or_auto
            elif action.dest == "report_to":  # it takes one name only, where TrainingArguments take several
                action.nargs = "+"

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

    @staticmethod
    def given(argv: Sequence[str]) -> set[str]:
        """Names of the options that a command line has.

        Example:
            >>> sorted(OptionParser.given(["--learning-rate", "1e-3", "--max_steps=5"]))
            ['learning_rate', 'max_steps']
        """
        return {word.partition("=")[0][2:].replace("-", "_") for word in argv if word.startswith("--")}

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
