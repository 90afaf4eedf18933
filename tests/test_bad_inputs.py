"""Bad inputs over all commands: each ends with its exit code and one line that names the culprit, and leaves nothing.

All run in this process; most fail before a model is built. `pytest tests/test_bad_inputs.py` runs them all.
"""

import re

import pytest
from bad_commands import CASES
from bad_material import write_material
from transformers.utils import logging

import data2vec_cli

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture(scope="module")
def material(tmp_path_factory, tokenizer):
    return write_material(tmp_path_factory.mktemp("material"), tokenizer)


OWN_CODE = {"push": (1, 2)}  # what the Hub, or the way to it, refuses
EACH = [(argv, said) for cases in CASES.values() for argv, said in cases]
NAMES = [f"{kind} {number} {argv[0]}" for kind, cases in CASES.items() for number, (argv, _) in enumerate(cases)]


@pytest.fixture(autouse=True)
def progress_bars():
    yield
    logging.enable_progress_bar()


@pytest.mark.parametrize(("argv", "said"), EACH, ids=NAMES)
def test_bad_input(argv, said, material, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in material.rglob("*")}
    try:
        code = data2vec_cli.main([re.sub(r"(^|=)@", rf"\1{material}/", word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("data2vec")]
    assert code in OWN_CODE.get(argv[0], (2,)), err
    assert "Traceback" not in err and "please report" not in err, err
    assert len(lines) == 1 and lines[0] == err.splitlines()[-1], err
    assert said in lines[0], lines[0]
    assert not list(tmp_path.iterdir()), "something is left behind"
    assert before == {path: path.stat().st_mtime_ns for path in material.rglob("*")}


def test_there_are_150():
    assert len(EACH) >= 150 and len({" ".join(argv) for argv, _ in EACH}) == len(EACH)
