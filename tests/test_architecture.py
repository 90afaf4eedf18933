"""What the files may know of each other, and that every public name exists, is described and shows what it does."""

import ast
import configparser
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import modeling_data2vec
from modeling_data2vec import trainers
from modeling_data2vec.trainers.modalities.names import modalities

ROOT = Path(__file__).parent.parent
# Pure functions of tensors, which a reader can take one by one.
LEAVES = {"masking", "beit_masks", "span_masks", "counter_rng"}
LEAVES |= {"objective", "embedding", "ema", "full_precision", "linear"}
MODEL_FILES = sorted((ROOT / "modeling_data2vec").rglob("*.py"))
TRAINER_FILES = sorted((ROOT / "trainers").rglob("*.py"))
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# Sub-packages and their modules, too; those of an installed package are found from above as well.
NAMES = {
    info.name
    for package in (modeling_data2vec, trainers)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
}
MODULES = [importlib.import_module(name) for name in sorted(NAMES)]


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
def test_leaves_need_tensors_alone(name):
    path = ROOT / "modeling_data2vec" / f"{name}.py"
    assert outside(path) <= {"torch", "numpy"}
    assert siblings(path) <= LEAVES


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_models_need_no_training_libraries(path):
    assert outside(path) <= {"torch", "numpy", "transformers", "huggingface_hub", "safetensors"}


@pytest.mark.parametrize("path", TRAINER_FILES, ids=lambda path: path.name)
def test_trainers_reach_the_models_by_their_full_name(path):
    """The folder is installed below the package (docs/decisions.md), so a relative import would lead elsewhere."""
    for _, module, _ in imports(path):
        assert not module.startswith("modeling_data2vec.trainers"), "siblings are imported relatively"


@pytest.mark.parametrize("path", MODEL_FILES + TRAINER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_siblings_are_imported_by_the_names_that_are_used(path):
    """A relative import stays inside `modeling_data2vec/` or `trainers/`, however deep the file lies."""
    top = path.relative_to(ROOT).parts[0]
    for dots, module, names in imports(path):
        if dots:
            assert dots <= len(path.relative_to(ROOT / top).parts), f"{'.' * dots}{module}"
            assert module, f"from {'.' * dots} import {', '.join(names)}"
            target = path.parents[dots - 1].joinpath(*module.split("."))
            assert target.with_suffix(".py").is_file() or (target / "__init__.py").is_file(), module
            assert "*" not in names
        elif top == "modeling_data2vec":
            assert module.split(".")[0] != "modeling_data2vec", module


def test_every_package_is_listed_for_installation():
    """setup.cfg names them by hand, since `trainers/` and `hub_configs/` are installed below the package."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in MODEL_FILES + TRAINER_FILES if path.name == "__init__.py"}
    names = {".".join(folder.parts) for folder in folders}
    expected = {name if name.startswith("modeling_data2vec") else f"modeling_data2vec.{name}" for name in names}
    assert listed - {"modeling_data2vec.hub_configs"} == expected


# A room imports those to its left alone; "" holds the files beside the rooms that all of them use.
ROOMS = ["", "files", "sources", "data", "media", "modalities", "monitoring", "evaluation", "hub", "runs"]
ROOMS += ["embedding", "recipes", "inspection", "pretraining", "finetuning", "transcription", "conversion", "export"]
ROOMS += ["exploring"]
ENTRANCES = {"__init__.py", "cli.py"}  # they reach every room


def rooms_of(path: Path) -> set[str]:
    """The rooms that a file of `trainers/` imports from."""
    found = set()
    for dots, module, _ in imports(path):
        if dots:
            target = path.parents[dots - 1].relative_to(ROOT / "trainers").joinpath(*module.split("."))
            found.add(target.parts[0] if len(target.parts) > 1 else "")
    return found


@pytest.mark.parametrize("path", TRAINER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_know_those_below_alone(path):
    parts = path.relative_to(ROOT / "trainers").parts
    if parts[0] not in ENTRANCES:
        own = ROOMS.index(parts[0] if len(parts) > 1 else "")
        assert not rooms_of(path) - set(ROOMS[: own + 1])


def test_rooms_are_small():
    for folder in {path.parent for path in TRAINER_FILES}:
        assert len(list(folder.glob("*.py"))) <= 16, folder


@pytest.mark.parametrize("path", MODEL_FILES + TRAINER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400


# What all modalities share knows of none: neither their names nor those of their inputs.
SHARED = [
    *(ROOT / "modeling_data2vec" / f"{name}.py" for name in ("trunk", "core", "objective", "ema")),
    ROOT / "trainers" / "pretraining" / "trainer.py",
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


KINDS = modalities()
KIND_NAMES = {*KINDS, *(kind.input_name for kind in KINDS.values())}


def names_of_modalities(node: ast.expr) -> set[str]:
    """Names of modalities, or of their inputs, that an expression holds as constants."""
    found = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found & KIND_NAMES


def tables_of_modalities(tree: ast.Module) -> list[int]:
    """Lines with a dict, set, tuple or list of names of modalities, or a comparison with one."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            held = {key.value for key in node.keys if isinstance(key, ast.Constant)} & KIND_NAMES
            held |= {value.value for value in node.values if isinstance(value, ast.Constant)} & KIND_NAMES
            held = held if len(held) > 1 else set()  # a batch has an input
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            held = {one.value for one in node.elts if isinstance(one, ast.Constant)} & KIND_NAMES
            held = held if len(held) > 1 else set()  # a column may be called "text"
        elif isinstance(node, ast.Compare):
            held = names_of_modalities(node)
        elif isinstance(node, ast.MatchValue):
            held = names_of_modalities(node.value)
        else:
            continue
        if held:
            lines.append(node.lineno if hasattr(node, "lineno") else 0)
    return lines


# What knows some kinds of data alone, and why.
OF_SOME_KINDS = {
    "conversion/processors.py": "the authors published models of these kinds",
    "conversion/run.py": "the authors published models of these kinds",
    "export/exportable.py": "a graph has one forward with named inputs for each kind",
    "transcription/run.py": "transcripts are of speech",
}


@pytest.mark.parametrize("path", TRAINER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_modalities_tell_kinds_of_data_apart(path):
    """A table by modality, or a branch on one, outside of its own class would have to be known to who adds another."""
    inside = path.relative_to(ROOT / "trainers")
    if inside.parts[0] != "modalities" and str(inside) not in OF_SOME_KINDS:
        assert not tables_of_modalities(ast.parse(path.read_text()))


def test_tables_of_modalities_are_found():
    for code in (
        "X = {'audio': 1, 'text': 2}",
        "if name == 'pixel_values': pass",
        "X = ['audio', 'vision']",
        "a in ('text',)",
    ):
        assert tables_of_modalities(ast.parse(code)) == [1]
    assert not tables_of_modalities(ast.parse("column = 'text'; X = ('text', 'sentence')"))


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


def test_importing_the_package_imports_no_training_library():
    code = """import sys, modeling_data2vec
assert not {"datasets", "sklearn", "peft", "matplotlib"} & set(sys.modules)
from modeling_data2vec import Data2VecTrainer, load_recipe
from modeling_data2vec import trainers
from modeling_data2vec.trainers.modalities.names import modalities
assert Data2VecTrainer is trainers.Data2VecTrainer and "load_recipe" in dir(modeling_data2vec)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Data2VecTrainr'"):
        _ = modeling_data2vec.Data2VecTrainr


def test_links_to_lines_name_what_is_there(monkeypatch):
    """The numbers themselves are renewed by the script, now and then."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import line_links

    links = [link for page in (ROOT / "docs").glob("*.md") for link in line_links.LINK.finditer(page.read_text())]
    assert len(links) >= 15
    for link in links:
        assert link["name"] in line_links.lines_of(ROOT / "docs" / link["path"]), link[0]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_import_is_there(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "modeling_data2vec":
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_modules_are_described_and_their_examples_run(module):
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_no_example_is_lost():
    """So that examples of files that moved elsewhere still run; raise the number when there are more."""
    assert sum(bool(test.examples) for module in MODULES for test in doctest.DocTestFinder().find(module)) >= 155


def test_no_file_imports_itself_through_others(capsys, monkeypatch):
    """benchmarks/structure.py, which also counts files, lines and comments."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import structure

    level, circles = structure.levels((ROOT / "modeling_data2vec").rglob("*.py"))
    assert not circles and max(level.values()) > 1
    monkeypatch.setattr(sys, "argv", ["structure.py", str(ROOT)])
    structure.main()
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in ("modeling_data2vec", "trainers", "all of them", "images"))
