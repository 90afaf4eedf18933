"""A newcomer's first two minutes, timed: clone, install, vectors of a folder of pictures, the pictures most alike.

    python benchmarks/newcomer.py

Everything happens in a temporary folder with an environment of its own; what pip downloads is fetched before and not
timed. The pictures are crops of scikit-learn's two photographs. The model has the size of facebook/data2vec-vision-base
and random weights, since its 340 MB are not fetched either: which pictures are alike means nothing here, how long it
takes does. The Python lines are README's.
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

ROOT = Path(__file__).parents[1]
MODEL = "facebook/data2vec-vision-base"
PICTURES = 48


def prepare(place: Path) -> None:
    """Pictures, a model, and everything that pip would download."""
    from transformers import AutoImageProcessor, Data2VecVisionModel

    from modeling_data2vec import load_recipe

    photos = load_sample_images().images
    rng = np.random.default_rng(0)
    (place / "photos").mkdir()
    for number in range(PICTURES):
        top, left = rng.integers(0, 427 - 250), rng.integers(0, 640 - 300)
        crop = photos[number % 2][top : top + 250, left : left + 300]
        Image.fromarray(crop).save(place / "photos" / f"{number:02}.jpg")
    recipe = load_recipe("data2vec-vision-base")
    Data2VecVisionModel(recipe.model_config()).save_pretrained(place / MODEL)
    AutoImageProcessor.from_pretrained(recipe.config).save_pretrained(place / MODEL)
    fetch: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet"]
    fetch += ["--constraint", ROOT / "constraints.txt", "--dest", place / "wheels"]
    subprocess.run([*fetch, ROOT, "setuptools>=77", "wheel"], check=True)


def steps() -> dict[str, str]:
    """What is typed, by what it is for."""
    (python,) = [
        code
        for code in re.findall(
            r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE
        )
        if "import embed" in code
    ]
    return {
        "clone": f"git clone --quiet {ROOT} data2vec",
        "environment": f"{sys.executable} -m venv env",
        "install": "env/bin/pip install --quiet --no-index --find-links wheels ./data2vec",
        "vectors of a folder": f"env/bin/data2vec embed {MODEL} photos --output features.parquet",
        "the five most alike, in Python": f"env/bin/python - <<'END'\n{python}END",
    }


def main() -> None:
    print("| step | lines | seconds | CPU seconds |\n|---|---:|---:|---:|")
    total = np.zeros(3)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name, command in steps().items():
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            row = np.array([max(1, command.count("\n") - 1), time.perf_counter() - start, cpu])
            total += row
            print(f"| {name} | {row[0]:.0f} | {row[1]:.1f} | {row[2]:.1f} |", flush=True)
    print(f"| all | {total[0]:.0f} | {total[1]:.1f} | {total[2]:.1f} |")


if __name__ == "__main__":
    main()
