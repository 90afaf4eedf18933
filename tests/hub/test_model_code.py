"""What of a file of one's own goes along with a model, and what is refused."""

import importlib
import sys

import pytest

from modeling_data2vec.trainers.hub.model_code import copy_code, relative_code

FILE = '''"""A file of one's own."""

import math

import numpy as np

from modeling_data2vec import Modality, PatchFeatureEncoder
from modeling_data2vec.embedding import gather_rows as gather
from neighbor import scale

SCALE = 2
UNUSED = np.zeros(3)


def doubled(x):
    return SCALE * x


class Encoder(PatchFeatureEncoder):
    def embed(self, inputs, attention_mask=None):
        return super().embed(scale(doubled(inputs), math.pi), attention_mask)


class Reader(Modality):
    pass


class Wrong(PatchFeatureEncoder):
    kind = Reader
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_own_file.py").write_text(FILE)
    (tmp_path / "neighbor.py").write_text("import math\n\n\ndef scale(x, by):\n    return x * by\n\n\nOTHER = math.e\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_own_file")
    for name in ("my_own_file", "neighbor"):
        sys.modules.pop(name, None)


def test_what_is_needed_goes_along_with_relative_imports(module):
    text, own, beside = relative_code(module, {"Encoder"})
    assert own == {"modeling_data2vec.modeling_data2vec2_vision"} and beside == {"neighbor": {"scale"}}
    assert (
        "from .modeling_data2vec2_vision import PatchFeatureEncoder" in text and "from .neighbor import scale" in text
    )
    assert "import math" in text and "SCALE = 2" in text and "def doubled" in text
    assert not any(word in text for word in ("UNUSED", "numpy", "gather", "Modality", "Reader"))


def test_files_beside_it_come_along_as_far_as_they_are_needed(module, tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    copy_code([module.Encoder], folder)
    assert {"my_own_file.py", "neighbor.py", "modeling_data2vec2_vision.py", "trunk.py"} <= {
        path.name for path in folder.iterdir()
    }
    assert "OTHER" not in (folder / "neighbor.py").read_text()


def test_training_code_is_refused_by_name(module):
    with pytest.raises(ValueError, match="my_own_file.py needs Modality, which is part of training and not of models"):
        relative_code(module, {"Wrong"})


def test_whole_modules_are_refused(module, tmp_path):
    file = tmp_path / "my_own_file.py"
    file.write_text("import modeling_data2vec\n\n\nclass Own(modeling_data2vec.PatchFeatureEncoder):\n    pass\n")
    with pytest.raises(ValueError, match="has `import modeling_data2vec`, which can't be sent along: write `from"):
        relative_code(module, {"Own"})
