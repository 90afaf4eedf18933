"""examples/notebooks: each runs from top to bottom at tiny size, and its .ipynb is made of its script.

`make notebooks` runs them at their printed size in Jupyter.
"""

import json
import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from data2vec_cli import main

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
TINY = {
    "pretrain_on_photos": {"STEPS = 400": "STEPS = 2", "--labels 100 all": "--labels 20 --limit 60"},
    "speech_to_recognizer": {
        "CLIPS, STEPS, FINETUNING_STEPS = 200, 300, 300": "CLIPS, STEPS, FINETUNING_STEPS = 20, 2, 2"
    },
    "compare_encoders": {"STEPS, SAMPLES = 400, 500": "STEPS, SAMPLES = 2, 60"},
}


def cells(script: str) -> list[tuple[str, str]]:
    """(kind, source) of each cell of a script in the percent format: `# !command` is a line for the shell."""
    found = []
    for head, body in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", script, flags=re.MULTILINE):
        kind = "markdown" if "markdown" in head else "code"
        if kind == "markdown" or body.startswith("# !"):
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        found.append((kind, body.strip()))
    return found


def test_all_are_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == TINY.keys()


@pytest.mark.parametrize("name", TINY)
def test_it_runs(name, datasets_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    plt.switch_backend("agg")
    script = (NOTEBOOKS / f"{name}.py").read_text()
    for written, small in TINY[name].items():
        assert written in script, f"{name}.py no longer says {written!r}: change this test along with it"
        script = script.replace(written, small)
    names: dict = {}
    for kind, source in cells(script):
        if source.startswith("!"):
            line = re.sub(r"\{(\w+)\}", lambda found: str(names[found[1]]), source[1:].replace("\\\n", " "))
            command, *words = shlex.split(line)
            assert command == "data2vec" and main(words) == 0, capsys.readouterr().err
        elif kind == "code":
            exec(compile(source, name, "exec"), names)


@pytest.mark.parametrize("name", TINY)
def test_the_notebook_is_made_of_the_script(name):
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    made = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]
    assert made == cells((NOTEBOOKS / f"{name}.py").read_text()), "make notebooks"
