"""A kind of data in a file outside of the package: all that is done with others works, and nothing here names it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from safetensors.torch import load_file, save_file

from modeling_data2vec.trainers.files.model_folders import check_model_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ["num_samples=200", "hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=64"]
TINY += ["average_top_k_layers=2", "decoder_dim=32", "decoder_layers=1", "num_masks=2", "mask_length=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the file, and windows of a real recording: 12 leads, 10 seconds, which come with pydicom (MIT)."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(EXAMPLES / "ecg.py", folder)
    leads = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm")).waveform_array(0).T[:, ::4]  # [12, 2500] at 250 Hz
    for number, start in enumerate(range(0, 2200, 50)):
        half = folder / "records" / ("test" if number % 4 == 3 else "train") / ("first" if start < 1100 else "second")
        half.mkdir(parents=True, exist_ok=True)
        np.save(half / f"{start:04d}.npy", leads[:, start : start + 300].astype(np.float32))
    np.save(folder / "records" / "train" / "first" / "short.npy", leads[:, :100])
    return folder


# Runs commands in a process of their own, where no other test has imported the file.
COMMANDS = """
import contextlib, io, json, sys
import data2vec_cli
results = []
for words in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = data2vec_cli.main(words)
    results.append([code, out.getvalue()])
json.dump(results, open("results.json", "w"))
"""
SHORT = ["--max_steps", "2", "--per_device_train_batch_size", "8", "--use_cpu", "--disable_tqdm", "true"]
TRAIN = ["--recipe", "ecg", "--dataset", "records", "--output_dir", "run", "--logging_steps", "1", "--config", *TINY]
TUNE = ["--task", "classification", "--dataset", "records", "--output_dir", "classifier", "--eval_fraction", "0.3"]
WORDS = {
    "pretrain": ["pretrain", *TRAIN, *SHORT, "--probe_split", "test"],
    "probe": ["probe", "--model", "run", "--dataset", "records", "--labels", "all"],
    "evaluate": ["evaluate", "--model", "run", "--dataset", "records", "--output_dir", "report", "--seeds", "0"],
    "inspect a model": ["inspect", "run", "--batch_size", "4"],
    "inspect a recipe": ["inspect", "ecg", "--batch_size", "4"],
    "embed": ["embed", "run", "records", "--output", "features.npy"],
    "finetune": ["finetune", "--model", "run", *TUNE, *SHORT],
}


@pytest.fixture(scope="module")
def said(place):
    """What each command prints."""
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    words = json.dumps([[*words, "--plugin", "ecg.py"] for words in WORDS.values()])
    subprocess.run([sys.executable, "-c", COMMANDS], cwd=place, input=words, text=True, env=environment, check=True)
    results = dict(zip(WORDS, json.loads((place / "results.json").read_text()), strict=True))
    assert [code for code, _ in results.values()] == [0] * len(WORDS), results
    return {name: text for name, (_, text) in results.items()}


def test_a_run_with_pictures_probe_and_card(said, place):
    assert "Training on 34 recordings in 2 folders" in said["pretrain"]
    assert {"masks.png", "pca.png", "curves.png", "probe.json"} <= {path.name for path in (place / "run").iterdir()}
    assert "| spectrum |" in said["pretrain"]
    card = (place / "run" / "README.md").read_text()
    assert "A data2vec 2.0 model for electrocardiograms (`EcgForPreTraining`)" in card
    assert "from ecg import EcgFeatureExtractor" in card


def test_it_is_probed_evaluated_embedded_and_inspected(said, place):
    assert "| spectrum |" in said["probe"] and "spectrum" in (place / "report" / "report.md").read_text()
    assert "patches" in said["inspect a model"] and "4 recordings x 2 masks" in said["inspect a model"]
    assert "4 recordings x 8 masks" in said["inspect a recipe"]
    assert np.load(place / "features.npy").shape == (33, 32)  # the short recording is left out


def test_classes_are_fine_tuned(said, place):
    assert "EcgForClassification of run" in said["finetune"] and "validation: " in said["finetune"]
    assert json.loads((place / "classifier" / "config.json").read_text())["id2label"] == {"0": "first", "1": "second"}


def test_without_the_file_one_line_says_what_to_do(said, place):
    with pytest.raises(ValueError, match=r"'data2vec2-ecg', which stands in a file of its own: name that file by"):
        check_model_folder(place / "run")


LOADED = """
import sys
sys.modules["modeling_data2vec"] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel
model = AutoModel.from_pretrained("published", trust_remote_code=True).eval()
extractor = AutoFeatureExtractor.from_pretrained("published", trust_remote_code=True)
leads = extractor(load_file("leads.safetensors")["leads"])["leads"][None]
with torch.no_grad():
    save_file({"states": model(leads).last_hidden_state}, "states.safetensors")
"""


def test_its_code_goes_along_and_needs_no_package(said, place):
    """Of the file only what the model needs is sent; plain transformers gives the same features with it."""
    import torch
    from transformers import AutoModel

    sys.path.insert(0, str(place))
    import ecg

    from modeling_data2vec.trainers.hub.publishing import prepare

    prepare(place / "run", place / "published", with_code=True)
    assert "Modality" not in (place / "published" / "ecg.py").read_text()
    leads = torch.from_numpy(np.load(place / "records" / "train" / "first" / "0000.npy"))[:, :200].contiguous()
    save_file({"leads": leads}, place / "leads.safetensors")
    environment = os.environ | {"HF_HOME": str(place / "home")}
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        inputs = ecg.EcgFeatureExtractor.from_pretrained(place / "run")(leads)
        expected = AutoModel.from_pretrained(place / "run").eval()(inputs["leads"][None]).last_hidden_state
    assert torch.equal(load_file(place / "states.safetensors")["states"], expected)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_are_short(name):
    """At most 80 lines of code: without imports, docstrings, comments and empty lines."""
    source = (EXAMPLES / name).read_text()
    tree = ast.parse(source)
    left_out = {number for number, line in enumerate(source.splitlines(), 1) if not line.split("#")[0].strip()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            left_out |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    assert len(source.splitlines()) - len(left_out) <= 80
