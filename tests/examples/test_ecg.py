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
import torch
from pydicom.data import get_testdata_file
from safetensors.torch import load_file, save_file

from modeling_data2vec.trainers.files.model_folders import check_model_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ["num_samples=200", "hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=64"]
TINY += ["average_top_k_layers=2", "decoder_dim=32", "decoder_layers=1", "num_masks=2", "mask_length=1"]
# What a joint model's parts must agree in.
TRUNK = {"layer_norm_eps": 1e-5, "ema_decay": 0.9, "ema_end_decay": 0.99, "ema_anneal_end_step": 10}
IMAGE = {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_prenet_layers": 0}


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
    trunk = {name: value for name, value in map(assignment, TINY) if name != "num_samples"} | TRUNK
    parts = {"ecg_config": trunk | {"num_samples": 200}, "vision_config": trunk | IMAGE}
    modalities = {key: {"data": {}, "global_batch": 4, "per_device_train_batch_size": 4} for key in ("ecg", "vision")}
    recipe = {"name": "joint", "source": "a test", "config": {"model_type": "data2vec2"} | parts, "num_gpus": 1}
    recipe |= {"modalities": modalities, "training": {"max_steps": 2, "gradient_accumulation_steps": 2}}
    (folder / "joint.yaml").write_text(json.dumps(recipe))  # which is yaml, too
    return folder


def assignment(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)


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
JOINT = ["--recipe", "joint.yaml", "--dataset", "ecg=records", "vision=digits", "--output_dir", "joint"]
WORDS = {
    "pretrain": ["pretrain", *TRAIN, *SHORT, "--probe_split", "test"],
    "probe": ["probe", "--model", "run", "--dataset", "records", "--labels", "all"],
    "evaluate": ["evaluate", "--model", "run", "--dataset", "records", "--output_dir", "report", "--seeds", "0"],
    "inspect a model": ["inspect", "run", "--batch_size", "4"],
    "inspect a recipe": ["inspect", "ecg", "--batch_size", "4"],
    "embed": ["embed", "run", "records", "--output", "features.npy"],
    "push": ["push", "run", "ecg"],
    "pretrain a joint model": ["pretrain", *JOINT, *SHORT[4:], "--push_to_hub", "--hub_model_id", "joint"],
    "probe a part": ["probe", "--model", "joint", "--modality", "ecg", "--dataset", "records", "--labels", "all"],
    "finetune": ["finetune", "--model", "run", *TUNE, *SHORT],
}


@pytest.fixture(scope="module")
def said(place, _local_hub):
    """What each command prints."""
    _local_hub.reset()
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1", "HF_TOKEN": "hf_anna"}
    words = json.dumps([[*words, "--plugin", "ecg.py"] for words in WORDS.values()])
    subprocess.run([sys.executable, "-c", COMMANDS], cwd=place, input=words, text=True, env=environment, check=True)
    results = dict(zip(WORDS, json.loads((place / "results.json").read_text()), strict=True))
    assert not {name: text for name, (code, text) in results.items() if code}
    return {name: text for name, (_, text) in results.items()}


def test_a_run_with_pictures_probe_and_card(said, place):
    assert "Training on 34 recordings in 2 folders" in said["pretrain"]
    assert {"masks.png", "pca.png", "curves.png", "probe.json"} <= {path.name for path in (place / "run").iterdir()}
    assert "| spectrum |" in said["pretrain"]
    card = (place / "run" / "README.md").read_text()
    assert "A data2vec 2.0 model for electrocardiograms (`EcgForPreTraining`)" in card
    assert 'AutoFeatureExtractor.from_pretrained("anna/ecg", trust_remote_code=True)' in card  # since it was pushed


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


def test_it_shares_a_trunk_with_images(said, place):
    config = json.loads((place / "joint" / "config.json").read_text())
    assert config["ecg_config"]["model_type"] == "data2vec2-ecg" and config["vision_config"]["image_size"] == 8
    assert (place / "joint" / "ecg" / "preprocessor_config.json").is_file()
    assert {"masks_ecg.png", "masks_vision.png"} <= {path.name for path in (place / "joint").iterdir()}
    assert "| spectrum |" in said["probe a part"]


def test_of_several_kinds_the_code_stays_here(said, place, _local_hub):
    """A run that pushes goes on without it. Nor are there files of sentence-transformers, which has no such kind."""
    published = _local_hub.files("anna/joint")
    assert "model.safetensors" in published and not [name for name in published if name.endswith(".py")]
    assert "from ecg import EcgFeatureExtractor" in published["README.md"].decode()
    assert "modules.json" not in _local_hub.files("anna/ecg")


# Loads what was pushed without this package and without the file.
LOADED = """
import sys
sys.modules["modeling_data2vec"] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel
model = AutoModel.from_pretrained("anna/ecg", trust_remote_code=True).eval()
extractor = AutoFeatureExtractor.from_pretrained("anna/ecg", trust_remote_code=True)
leads = extractor(load_file("leads.safetensors")["leads"])["leads"][None, :, :200]
with torch.no_grad():
    save_file({"features": model(leads).pooler_output}, "features.safetensors")
"""


def test_its_code_goes_along_and_needs_no_package(said, place, _local_hub):
    """Of the file only what the model needs is sent; plain transformers gives the same features with it."""
    code = _local_hub.files("anna/ecg")["ecg.py"].decode()
    assert "class EcgModel" in code and "Modality" not in code and "from modeling_data2vec" not in code
    recordings = sorted((place / "records" / "train").rglob("0*.npy"))
    leads = torch.from_numpy(np.ascontiguousarray(np.load(recordings[0])))
    save_file({"leads": leads}, place / "leads.safetensors")
    environment = os.environ | {"HF_HOME": str(place / "home")}
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = np.load(place / "features.npy")[0]
    np.testing.assert_allclose(load_file(place / "features.safetensors")["features"][0], expected, atol=1e-5)


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
