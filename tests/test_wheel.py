"""The wheel holds every file that the package needs: rooms, recipes, the list of public names, the card's template.

    make test-wheel PYTHONS="python3.10 python3.13"

installs wheel and sdist into a fresh environment of each Python, far from this repository, and uses them there. pip
takes the newest of everything that the package allows: gigabytes, where the default torch is that for NVIDIA GPUs.
"""

import email
import email.message
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

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


def copy_of_the_source(source: Path) -> Path:
    """A folder with what a build reads, so that nothing of it stays in the repository."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "data2vec_cli.py"):
        shutil.copy(ROOT / name, source)
    return source


def test_a_wheel_holds_all_files(tmp_path):
    source = copy_of_the_source(tmp_path / "source")
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name) for name in archive.namelist()}
        (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
        (points,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")]
    expected = {Path("data2vec_cli.py")}
    for name, (place, suffixes) in FOLDERS.items():
        expected |= {place / path for path in files(ROOT / name, suffixes)}
    assert not expected - held
    assert not {path for path in held - expected if not path.parts[0].endswith(".dist-info")}
    assert "\ndata2vec = data2vec_cli:main\n" in points and "\nhf-data2vec = data2vec_cli:main\n" in points + "\n"
    check_metadata(email.message_from_string(metadata))


def check_metadata(metadata: email.message.Message) -> None:
    """A package index can show it: README in Markdown, all of whose links lead somewhere without the repository."""
    assert metadata["Description-Content-Type"] == "text/markdown" and metadata["Author"] and metadata["Summary"]
    assert metadata["License-Expression"] == "Apache-2.0" and "data2vec" in metadata["Keywords"].split(",")
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.10"} <= set(metadata.get_all("Classifier"))
    text = metadata.get_payload()
    titles = re.findall(r"^# .*|^## .*", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert re.findall(r"^# .*|^## .*", text, flags=re.MULTILINE) == [one for one in titles if one != "## Read on"]
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 5 and all(link.startswith("https://") for link in links)
    assert not re.search(r"\s[,)]|\([,)]", "".join(text.split("```")[::2]).replace("()", "")), "words lost with a link"


PYTHONS = os.environ.get("PYTHONS", "").split() or [sys.executable]

# From importing to a model that is loaded again, in a folder with nothing in it.
COMMANDS = """
data2vec --version
hf-data2vec --help
data2vec pretrain --recipe data2vec2-vision-tiny --dataset digits --output_dir run --max_steps 2 --warmup_steps 1
data2vec embed run digits --output features.parquet
data2vec probe --model run --dataset digits --labels 20 --limit 60
data2vec inspect data2vec2-text-base
data2vec completion bash
"""
CODE = """
import sys
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModel

import modeling_data2vec
from modeling_data2vec import embed, trainers

assert Path(modeling_data2vec.__file__).is_relative_to(sys.prefix), modeling_data2vec.__file__
for module in (modeling_data2vec, trainers):
    for name in module.__all__:
        getattr(module, name)
model = AutoModel.from_pretrained("run").eval()
model.save_pretrained("again")
AutoImageProcessor.from_pretrained("run").save_pretrained("again")
again = AutoModel.from_pretrained("again").eval()
pixels = torch.randn(2, model.config.num_channels, *model.config.image_shape)
with torch.no_grad():
    assert torch.equal(model(pixels)[0], again(pixels)[0])
assert (embed("run", "digits").vectors == embed("again", "digits").vectors).all()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist, and that both hold the same."""
    folder = tmp_path_factory.mktemp("built")
    source = copy_of_the_source(folder / "source")
    for kind in ("wheel", "sdist"):
        build = f"from setuptools import build_meta; build_meta.build_{kind}('..')"
        subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=unpacked, check=True, capture_output=True)
    (again,) = (folder / "unpacked").glob("*.whl")
    assert content(again) == content(wheel)
    return wheel, sdist


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


@pytest.fixture(scope="module", params=PYTHONS)
def environment(request, tmp_path_factory):
    """A fresh environment's folder of programs."""
    folder = tmp_path_factory.mktemp("environment") / "fresh"
    subprocess.run([request.param, "-m", "venv", folder], check=True)
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["wheel", "sdist"])
def test_it_installs_and_works(environment, built, number, tmp_path):
    """The sdist takes the wheel's place in the same environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ |= {"PATH": f"{environment}:{environ['PATH']}", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}

    def run(*words):
        done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    run("pip", "uninstall", "--yes", "data2vec")
    run("pip", "install", "--no-compile", built[number])  # compiling all of torch takes minutes
    run("pip", "check")
    said = "".join(run(*line.split()) for line in COMMANDS.split("\n") if line)
    assert "DeprecationWarning" not in said
    (tmp_path / "code.py").write_text(CODE)
    run("python", "-W", "error::SyntaxWarning", "code.py")
    assert (tmp_path / "run" / "masks.png").is_file() and (tmp_path / "features.parquet").is_file()
