"""The code that goes along with a model: flat modules, which plain transformers loads with `trust_remote_code=True`."""

import ast
import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

import modeling_data2vec

PACKAGE = "modeling_data2vec"
FOLDER = Path(str(modeling_data2vec.__file__)).parent


def copy_code(classes: Iterable[type], folder: Path) -> None:
    """Copy the modules that classes stand in, and all that these import of the package and of files beside them.

    A file outside of the package is copied as far as the classes need it, and imports its neighbors relatively there.

    Args:
        classes: of a model: configs, models, processors.
        folder: where to.

    Raises:
        ValueError: says which name a class needs that can't go along.
    """
    entries: dict[str, set[str]] = {}
    for one in classes:
        entries.setdefault(one.__module__, set()).add(one.__name__)
    own: set[str] = set()  # the package's modules
    foreign: dict[str, set[str]] = {}  # other modules, and the names that are needed of each
    for name, names in entries.items():
        if name.startswith(f"{PACKAGE}."):
            own.add(name)
        else:
            foreign[name] = names
    texts: dict[str, str] = {}
    waiting = list(foreign)
    for name in waiting:
        if (FOLDER / f"{name}.py").exists():
            raise ValueError(f"the file {name}.py has the name of one of this package's: rename it")
        text, of_package, beside = relative_code(import_module(name), foreign[name])
        texts[name] = text
        own |= of_package
        for other, names in beside.items():
            if other not in foreign or not names <= foreign[other]:
                foreign[other] = foreign.get(other, set()) | names
                waiting.append(other)
    files = {FOLDER / f"{name.partition('.')[2]}.py" for name in own}
    files |= {Path(needed) for file in files for needed in get_relative_import_files(file)}
    for file in files:
        shutil.copy(file, folder / file.name)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def auto_name(one: type) -> str:
    """A class as an `auto_map` names it, e.g. "ecg.EcgModel"."""
    return f"{one.__module__.rpartition('.')[2]}.{one.__name__}"


def relative_code(module: ModuleType, names: set[str]) -> tuple[str, set[str], dict[str, set[str]]]:
    """The part of a module that some of its names need, with relative imports.

    Args:
        module: a file outside of the package.
        names: of it.

    Returns:
        (its text, modules of the package that it imports, names of modules beside it that it imports).

    Raises:
        ValueError: something that it needs can't go along.
    """
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported: dict[str, tuple[ast.Import | ast.ImportFrom, ast.alias]] = {}
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {(alias.asname or alias.name).split(".")[0]: (node, alias) for alias in node.names}
        else:
            defined |= dict.fromkeys(_names_bound(node), node)
    needed = _needed(names, defined)
    own: set[str] = set()
    beside: dict[str, set[str]] = {}
    lines = []
    for name, (node, alias) in imported.items():
        if name in needed:
            lines.append(_relative_import(node, alias, path, own, beside))
    kept = {id(defined[name]): defined[name] for name in needed if name in defined}
    text = [ast.get_docstring(tree, clean=False)] if ast.get_docstring(tree) else []
    parts = [f'"""{part}"""' for part in text] + ["\n".join(sorted(set(lines)))]
    parts += [_source(source, node) for node in sorted(kept.values(), key=lambda node: node.lineno)]
    return "\n\n\n".join(parts) + "\n", own, beside


def _needed(names: set[str], defined: dict[str, ast.stmt]) -> set[str]:
    """Names that some names need, themselves and all that their definitions read."""
    needed, waiting = set(names), list(names)
    for name in waiting:
        if name in defined:
            read = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
            waiting += sorted(read - needed)
            needed |= read
    return needed


def _names_bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]


def _source(source: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def _relative_import(
    node: ast.Import | ast.ImportFrom, alias: ast.alias, path: Path, own: set[str], beside: dict[str, set[str]]
) -> str:
    """One imported name as a line of code; notes what it is imported from."""
    as_name = f" as {alias.asname}" if alias.asname else ""
    module = alias.name if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
    top = module.lstrip(".").split(".")[0]
    is_own, is_beside = top == PACKAGE, module.startswith(".") or (path.parent / f"{top}.py").is_file()
    if isinstance(node, ast.Import):
        if is_own or is_beside:
            raise ValueError(
                f"{path.name} has `import {module}`, which can't be sent along: write `from {module} import ...` with "
                "the names that the model needs"
            )
        return f"import {module}{as_name}"
    if is_own:
        value: Any = getattr(import_module(module), alias.name)
        home = module if module != PACKAGE else getattr(value, "__module__", PACKAGE)
        if home.count(".") != 1 or not (FOLDER / f"{home.partition('.')[2]}.py").is_file():
            raise ValueError(
                f"the model in {path.name} needs {alias.name}, which is part of training and not of models: keep it "
                "out of the code of config, models and processor, or publish with --with_code false"
            )
        own.add(home)
        return f"from .{home.partition('.')[2]} import {alias.name}{as_name}"
    if is_beside:
        beside.setdefault(top, set()).add(alias.name)
        return f"from .{top} import {alias.name}{as_name}"
    return f"from {module} import {alias.name}{as_name}"
