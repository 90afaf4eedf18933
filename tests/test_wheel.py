"""The wheel holds every file that the package needs: rooms, recipes, the list of public names, the card's template."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Folders beside their installed place, and what of them belongs there.
FOLDERS = {
    "modeling_data2vec": ("modeling_data2vec", {".py", ".typed"}),
    "trainers": ("modeling_data2vec/trainers", {".py", ".pyi", ".md"}),
    "hub_configs": ("modeling_data2vec/hub_configs", {".py", ".yaml", ".json"}),
}


def files(folder: Path, suffixes: set[str]) -> set[Path]:
    found = (
        path.relative_to(folder) for path in folder.rglob("*") if path.suffix in suffixes or path.name == "py.typed"
    )
    return {path for path in found if "__pycache__" not in path.parts}


def test_a_wheel_holds_all_files(tmp_path):
    source = tmp_path / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "data2vec_cli.py"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name) for name in archive.namelist()}
        (points,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")]
    expected = {Path("data2vec_cli.py")}
    for name, (place, suffixes) in FOLDERS.items():
        expected |= {place / path for path in files(ROOT / name, suffixes)}
    assert not expected - held
    assert not {path for path in held - expected if not path.parts[0].endswith(".dist-info")}
    assert "\ndata2vec = data2vec_cli:main\n" in points and "\nhf-data2vec = data2vec_cli:main\n" in points + "\n"
