"""docs/sharing.md: a stranger's path, run as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy
from huggingface_hub import ModelCard

from modeling_data2vec.trainers.cli import run

PAGE = Path(__file__).parents[2] / "docs" / "sharing.md"


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the first section's blocks."""
    section = PAGE.read_text().split("## From nothing to a published model\n")[1].split("\n## ")[0]
    return re.findall(r"```(bash|python)\n(.*?)```", section, flags=re.DOTALL)


def test_a_strangers_path(hub, tmp_path):
    environment = os.environ | {
        "HF_TOKEN": "hf_anna",
        "NAMESPACE": "anna",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    shown = ""
    for number, (language, text) in enumerate(blocks()):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            (tmp_path / name[1]).write_text(text)
            continue
        # Every command begins without a cache, as a stranger's does.
        home = {"HF_HOME": str(tmp_path / f"home{number}")}
        done = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment | home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        shown += done.stdout
    assert "Published: " in shown and "features (2, " in shown
    accuracy = float(re.search(r"accuracy on 397 other digits: (\S+)", shown)[1])
    assert accuracy > 0.8
    for name in ("anna/digits", "anna/digits-classifier"):
        files = hub.files(name)
        assert {"model.safetensors", "modules.json", "modeling_data2vec2_vision.py"} <= files.keys()
        assert not [one for one in files if one.endswith((".bin", ".pt", ".pth"))]
        card = ModelCard(files["README.md"].decode())
        assert card.data.license == "apache-2.0"
    card = ModelCard(hub.files("anna/digits")["README.md"].decode())
    assert "curves.png" in hub.files("anna/digits")
    assert card.data.eval_results and "random weights" in card.text


def test_a_dataset_on_the_hub_feeds_a_run(hub, datasets_cache, tmp_path):
    """Images in a parquet file, which `load_dataset` fetches."""
    images = datasets.Dataset.from_dict(
        {"image": [numpy.full((8, 8), 8 * number, numpy.uint8) for number in range(24)]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    images.to_parquet(tmp_path / "train.parquet")
    hub.put("anna/squares", {"data/train.parquet": (tmp_path / "train.parquet").read_bytes()}, kind="dataset")
    arguments = [
        "--max_steps",
        "3",
        "--warmup_steps",
        "1",
        "--save_strategy",
        "no",
        "--use_cpu",
        "true",
        "--disable_tqdm",
        "true",
    ]
    for streaming in ("false", "true"):
        output = ["--output_dir", str(tmp_path / f"streaming_{streaming}")]
        command = ["--recipe", "data2vec2-vision-tiny", "--dataset", "anna/squares", "--streaming", streaming]
        assert run("pretrain", [*command, *arguments, *output]) == 0
        assert ModelCard.load(tmp_path / f"streaming_{streaming}" / "README.md").data.datasets == ["anna/squares"]
