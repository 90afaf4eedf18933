"""Runs transformers' own common tests of models on ours: `make test-common`.

They come with the source distribution of the installed version, which is fetched once. What it leaves out of those that
they import is put in place empty: tests of generation and of exporting, which our models don't take part in.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "build" / f"transformers-{transformers.__version__}-tests"
PACKAGE = FOLDER / "transformers_tests"
FILES = ("test_modeling_common.py", "test_configuration_common.py")
STUBS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def fetch() -> None:
    """Put the tests into `FOLDER` as a package."""
    name = f"transformers-{transformers.__version__}"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, name.replace("-", "==")]
        subprocess.run(command, check=True)
        with tarfile.open(Path(folder) / f"{name}.tar.gz") as archive:
            texts = {file: archive.extractfile(f"{name}/tests/{file}").read().decode() for file in FILES}
    for file, text in (texts | STUBS).items():
        path = PACKAGE / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (PACKAGE / "__init__.py").touch()


def main() -> int:
    if not (PACKAGE / "__init__.py").exists():
        fetch()
    tests = str(Path(__file__).parent / "common_models.py")
    options = ["-o", "addopts=", "-o", f"pythonpath={FOLDER} tests/support", "-W", "ignore"]
    return subprocess.run([sys.executable, "-m", "pytest", tests, *options, *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
