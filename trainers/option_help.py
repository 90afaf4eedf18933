"""What `data2vec COMMAND --help` shows: the command's own options in groups, on one screen, without importing torch."""

import argparse
import shutil
import types
import typing
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import yaml

from modeling_data2vec.hub_configs import ROOT

from .commands import COMMANDS, Command
from .plugins import PLUGIN_HELP

WIDEST, NARROWEST = 120, 80


def option_help(name: str, argv: list[str]) -> str:
    """The help of a command.

    Args:
        name: of the command.
        argv: its arguments; with `--recipe`, the recipe's values are shown as defaults.
    """
    command = COMMANDS[name]
    own = {entry.name: entry for kind in command.kinds() for entry in fields(kind)}
    groups = getattr(command.module(), f"{name.upper()}_GROUPS", {}) if own else {}
    training = getattr(command.module(), f"{name.upper()}_TRAINING", {}) if own else {}
    parser = argparse.ArgumentParser(
        usage=_usage(name, command, list(own.values())),
        description=command.about,
        epilog="\n".join(["examples:", *(f"  {example}" for example in command.examples), *_where_more(training)]),
        add_help=False,
        formatter_class=_Formatter,
    )
    for argument in command.arguments:
        parser.add_argument(argument.name, **argument.keywords())
    named = [one for names in groups.values() for one in names]
    rest = [one for one in own if one not in named]
    for one in rest:
        parser.add_argument(f"--{one}", **_keywords(own[one]))
    parser.add_argument("--plugin", metavar="FILE.py", help=PLUGIN_HELP)
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        for one in names:
            group.add_argument(f"--{one}", **_keywords(own[one]))
    defaults = _recipe_values(argv) if training else {}
    group = parser.add_argument_group("training: the Trainer's options that most runs need")
    for one, text in training.items():
        shown = f"{text} (the recipe's: {defaults[one]})" if one in defaults else text
        group.add_argument(f"--{one}", metavar="X", help=_escaped(shown))
    return parser.format_help()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size((WIDEST, 60)).columns))
        super().__init__(prog, max_help_position=32, width=width)


def _usage(name: str, command: Command, entries: list["Field[Any]"]) -> str:
    words = [argument.metavar or argument.name.upper() for argument in command.arguments]
    needed = [entry for entry in entries if _is_required(entry)]
    words += [f"--{entry.name} {entry.name.upper()}" for entry in needed]
    return " ".join(["data2vec", name, *words, *(["[options]"] if len(entries) > len(needed) else [])])


def _where_more(training: dict[str, str]) -> list[str]:
    return ["", "`--help-all` lists all options of transformers' Trainer as well."] if training else []


def _is_required(entry: "Field[Any]") -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _keywords(entry: "Field[Any]") -> dict[str, Any]:
    """For `add_argument`: as the real parser's, and what the default is."""
    text = entry.metadata.get("help", "")
    default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
    if _is_required(entry):
        text = f"{text} (required)"
    elif default not in (None, False, "", []) and "default" not in text.lower():
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        text = f"{text} (default: {shown})"
    if entry.type is bool:
        return {"help": _escaped(text), "action": "store_true"}
    kinds = typing.get_args(entry.type) if isinstance(entry.type, types.UnionType) else (entry.type,)
    is_list = any(typing.get_origin(kind) is list for kind in kinds)
    return {"help": _escaped(text), "metavar": "X ..." if is_list else "X"}


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _recipe_values(argv: list[str]) -> dict[str, Any]:
    """Training arguments of the recipe that is named; none if there is no such recipe, which the command says."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--recipe", nargs="?")
    name = chooser.parse_known_args(argv)[0].recipe
    if name is None:
        return {}
    paths = (ROOT / name / "recipe.yaml", ROOT / "finetuning" / f"{name}.yaml", Path(name), Path(name, "recipe.yaml"))
    path = next((path for path in paths if path.is_file()), None)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
        return dict(values.get("training", {}))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):  # the command itself says what is wrong
        return {}
