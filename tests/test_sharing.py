"""docs/sharing.md: a stranger's path, run as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from huggingface_hub import ModelCard

PAGE = Path(__file__).parent.parent / "docs" / "sharing.md"


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
        assert "model.safetensors" in files and not [one for one in files if one.endswith((".bin", ".pt", ".pth"))]
        card = ModelCard(files["README.md"].decode())
        assert card.data.license == "apache-2.0"
    assert (
        "curves.png" in hub.files("anna/digits") and "random weights" in hub.files("anna/digits")["README.md"].decode()
    )
    assert ModelCard(hub.files("anna/digits")["README.md"].decode()).data.eval_results
    print(shown)
