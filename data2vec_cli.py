"""The `data2vec` command. It stands outside the package so that `--help` answers without importing torch."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec

USAGE = """usage: data2vec COMMAND [options]

Self-supervised learning with data2vec 1.0 and 2.0 in Hugging Face form.

commands:
{commands}

`data2vec COMMAND --help` lists a command's options. `data2vec --version` prints the version.
exit codes: 0 done, 1 failed, 2 wrong use or wrong data, 3 the run collapsed and was stopped;
stopped by a signal, a run with a checkpoint to go on from: 143 SIGTERM, 138 SIGUSR1, 130 Ctrl-C"""


@contextmanager
def without_models() -> Iterator[None]:
    """Let the package's light modules be imported without its `__init__`, which imports torch and all models.

    What is imported meanwhile is forgotten afterwards, so that the package can be imported as a whole.
    """
    package = "modeling_data2vec"
    spec = find_spec(package) if package not in sys.modules else None
    if spec is None:  # there as a whole, or not at all
        yield
        return
    sys.modules[package] = module_from_spec(spec)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    with without_models():
        answer = _answer(arguments)
    if answer is not None:
        code, text = answer
        print(text, file=sys.stderr if code else sys.stdout)
        return code
    from modeling_data2vec.trainers.cli import run

    code = run(arguments[0], arguments[1:])
    if argv is None and code and _is_held_up(code):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _is_held_up(code: int) -> bool:
    """Whether something would hold up the process at its end: a push that is under way, where a signal is to end it,
    or a group of processes of which one is gone.
    """
    distributed = sys.modules.get("torch.distributed")
    in_group = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return in_group or (code > 128 and any(not thread.daemon for thread in threading.enumerate()[1:]))


def _answer(arguments: list[str]) -> tuple[int, str] | None:
    """Exit code and text of what needs no model: help, the version, an unknown command; None for all else."""
    from modeling_data2vec.trainers.commands import COMMANDS

    if not arguments or arguments[0] in ("-h", "--help"):
        return 0, USAGE.format(commands="\n".join(f"  {name:<12} {one.about}" for name, one in COMMANDS.items()))
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        return 0, version("data2vec")
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}? Choose" if close else "choose"
        return 2, f"data2vec: unknown command {name!r}: {hint} one of {', '.join(COMMANDS)}"
    if {"-h", "--help"} & set(rest):
        from modeling_data2vec.trainers.option_help import option_help

        return 0, option_help(name, rest)
    if name == "completion":  # runs whenever a shell starts
        from modeling_data2vec.trainers.completion import completion

        try:
            return 0, completion(" ".join(rest))
        except ValueError as error:
            return 2, f"data2vec completion: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
