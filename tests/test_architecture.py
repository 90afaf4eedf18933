"""What the files may know of each other, and that every public name exists, is described and shows what it does."""

import ast
import doctest
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import modeling_data2vec
from modeling_data2vec import trainers

ROOT = Path(__file__).parent.parent
# Pure functions of tensors, which a reader can take one by one.
LEAVES = {"masking", "targets", "losses", "ema", "counter_rng", "positions", "convolutions"}
MODEL_FILES = sorted((ROOT / "modeling_data2vec").glob("*.py"))
TRAINER_FILES = sorted((ROOT / "trainers").glob("*.py"))
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
MODULES = [
    importlib.import_module(f"{package.__name__}.{info.name}")
    for package in (modeling_data2vec, trainers)
    for info in pkgutil.iter_modules(package.__path__)
    if not info.ispkg
]


def imports(path: Path) -> list[tuple[int, str, list[str]]]:
    """(dots, module, names) of each import anywhere in a file; `import a.b` is (0, "a.b", [])."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def outside(path: Path) -> set[str]:
    """Third-party top-level packages that a file imports."""
    return {module.split(".")[0] for dots, module, _ in imports(path) if not dots} - sys.stdlib_module_names


def siblings(path: Path) -> set[str]:
    return {module for dots, module, _ in imports(path) if dots}


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaves_need_torch_alone(name):
    path = ROOT / "modeling_data2vec" / f"{name}.py"
    assert outside(path) <= {"torch"}
    assert siblings(path) <= LEAVES


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_models_need_no_training_libraries(path):
    assert outside(path) <= {"torch", "transformers", "huggingface_hub", "safetensors"}


@pytest.mark.parametrize("path", TRAINER_FILES, ids=lambda path: path.name)
def test_trainers_reach_the_models_by_their_full_name(path):
    """The folder is installed below the package (docs/decisions.md), so a relative import would lead elsewhere."""
    for dots, module, _ in imports(path):
        assert dots < 2, module
        assert not module.startswith("modeling_data2vec.trainers"), "siblings are imported relatively"
        if dots:
            assert (ROOT / "trainers" / f"{module.split('.')[0]}.py").is_file(), module


@pytest.mark.parametrize("path", MODEL_FILES + TRAINER_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_siblings_are_imported_by_the_names_that_are_used(path):
    for dots, module, names in imports(path):
        if dots:
            assert module, f"from . import {', '.join(names)}"
            assert "*" not in names
        elif path.parent.name == "modeling_data2vec":
            assert module.split(".")[0] != "modeling_data2vec", module


# What all modalities share knows of none: neither their names nor those of their inputs.
SHARED = [
    *(ROOT / "modeling_data2vec" / f"{name}.py" for name in ("trunk", "core", "targets", "losses", "ema")),
    ROOT / "trainers" / "trainer.py",
]
MODALITY_WORDS = ("image", "vision", "audio", "speech", "text", "pixel", "patch", "wave", "input_ids", "input_values")


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.name)
def test_shared_code_names_no_modality(path):
    """Docstrings may, to explain; names and messages may not."""
    tree = ast.parse(path.read_text())
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
    words = []
    for node in ast.walk(tree):
        words += [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module", "value")]
    names = [word.lower() for word in words if isinstance(word, str) and word not in docstrings]
    allowed = ("context", "revision")
    for word in MODALITY_WORDS:
        found = [name for name in names if word in name and not any(one in name for one in allowed)]
        assert not found, f"{word}: {found}"


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in (modeling_data2vec, trainers) for name in package.__all__],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_public_names_exist_and_are_described(package, name):
    value = getattr(package, name)
    if callable(value):
        # A dataclass without a docstring of its own gets its signature for one.
        assert value.__doc__ and not value.__doc__.startswith(f"{name}(")
        assert value.__module__.startswith("modeling_data2vec")


def test_public_names_are_sorted_and_listed_once():
    for package in (modeling_data2vec, trainers):
        assert package.__all__ == sorted(set(package.__all__))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_modules_are_described_and_their_examples_run(module):
    assert module.__doc__
    assert doctest.testmod(module).failed == 0
