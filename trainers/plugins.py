"""Files with kinds of data of one's own: imported before anything else, so that all that looks for them finds them."""

import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

PLUGIN_HELP = "File with a kind of data of one's own (docs/own_data.md), imported first; also to use its models."


def split_plugins(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files that `--plugin` names, and the other words of a command line.

    Example:
        >>> split_plugins(["--plugin", "ecg.py", "--model", "runs/ecg"])
        (['ecg.py'], ['--model', 'runs/ecg'])
    """
    chooser = ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--plugin", action="append", default=[])
    if "--plugin" in argv[-1:]:
        raise ValueError("--plugin has no value: name a Python file")
    known, others = chooser.parse_known_args(list(argv))
    return known.plugin, others


def import_plugin(file: str) -> None:
    """Import a file by its name, so that worker processes and other files beside it can import it, too.

    Raises:
        ValueError: there is no such file, its name is no name of a module or is taken, or it fails.
    """
    path = Path(file).expanduser().absolute()
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"--plugin {file!r} is no Python file whose name can be imported, such as my_data.py")
    if not path.is_file():
        raise ValueError(f"--plugin {file!r} does not exist")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        module = import_module(path.stem)
    except Exception as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"line {own[-1].lineno}: " if own else ""
        raise ValueError(f"--plugin {file} can't be imported: {where}{type(error).__name__}: {error}") from error
    if not module.__file__ or not path.samefile(module.__file__):
        raise ValueError(f"--plugin {file}: the name {path.stem!r} is taken by {module.__file__}: rename the file")
