"""`--plugin`: a file is imported by its name, and what is wrong with it is one line."""

import sys

import pytest

import data2vec_cli
from modeling_data2vec.trainers.plugins import import_plugin, split_plugins


def test_a_file_is_imported_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    file = tmp_path / "kind_of_data.py"
    file.write_text("IMPORTED = []\n")
    import_plugin(str(file))
    module = sys.modules.pop("kind_of_data")
    sys.modules["kind_of_data"] = module
    import_plugin(str(file))
    assert sys.modules.pop("kind_of_data") is module and str(tmp_path) in sys.path


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "does not exist"),
        ("my-data.py", "", "is no Python file whose name can be imported"),
        ("data.txt", "", "is no Python file whose name can be imported"),
        ("json.py", "", "the name 'json' is taken by"),
        ("broken_data.py", "x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name, text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path[:])
    if text is not None:
        (tmp_path / name).write_text(text)
    assert data2vec_cli.main(["inspect", "--plugin", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_files_are_told_from_the_other_words():
    words = ["run", "--plugin", "a.py", "--plugin=b.py", "--labels", "all"]
    assert split_plugins(words) == (["a.py", "b.py"], ["run", "--labels", "all"])
    with pytest.raises(ValueError, match="--plugin has no value"):
        split_plugins(["run", "--plugin"])
