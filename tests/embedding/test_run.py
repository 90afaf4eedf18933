"""`data2vec embed`: files that are complete or not there, and gone on with after a kill."""

import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from encoders import encoder
from PIL import Image
from transformers import AutoImageProcessor

import data2vec_cli
from modeling_data2vec import embed
from modeling_data2vec.hub_configs import recipe_folder

# Ends itself in the middle of the third part.
KILLED = """
import os, signal, sys
import data2vec_cli
from modeling_data2vec.trainers.embedding import embed
calls = []
def encode(*args, inner=embed.encode, **kwargs):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*args, **kwargs)
embed.encode = encode
data2vec_cli.main(sys.argv[1:])
"""
SMALL = ["--batch_size", "5", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "ours"
    processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
    processor.size = {"height": 8, "width": 8}
    torch.manual_seed(0)
    encoder("our images").save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (150, 8, 8), dtype=np.uint8)):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    (folder / "007.png").write_bytes(b"no image")
    return folder


def run(capsys, *argv):
    code = data2vec_cli.main(["embed", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def test_parquet_holds_vectors_names_and_facts(model, photos, tmp_path, capsys):
    output = tmp_path / "new" / "features.parquet"
    code, out, err = run(capsys, model, photos, "--output", output, *SMALL, "--normalize")
    assert code == 0, err
    assert out.startswith(f"Wrote {output}: 149 vectors of 32 numbers. Left out:\n  007.png: ")
    table = pq.read_table(output)
    expected = embed(model, photos, batch_size=5, normalize=True, device="cpu", progress=False)
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), expected.vectors)
    assert table["id"].to_pylist() == expected.ids and table["row"].to_pylist() == expected.rows.tolist()
    facts = json.loads(table.schema.metadata[b"data2vec"])
    assert facts["model"] == str(model) and facts["normalize"] and list(facts["left_out"]) == ["007.png"]
    assert [path.name for path in output.parent.iterdir()] == ["features.parquet"]

    code, out, err = run(capsys, model, photos, "--output", output, *SMALL)
    assert code == 2 and not out
    assert err == f"data2vec embed: {output} is there already: choose another --output, or remove it\n"


def test_npy_has_its_names_beside_it(model, photos, tmp_path, capsys):
    code, _, err = run(capsys, model, photos, "--output", tmp_path / "x.npy", *SMALL)
    assert code == 0, err
    vectors, said = np.load(tmp_path / "x.npy"), json.loads((tmp_path / "x.json").read_text())
    assert vectors.dtype == np.float32 and vectors.shape == (149, 32)
    assert said["ids"][5:8] == ["005.png", "006.png", "008.png"] and list(said["left_out"]) == ["007.png"]
    (tmp_path / "x.npy").unlink()
    code, _, err = run(capsys, model, photos, "--output", tmp_path / "x.npy", *SMALL)
    assert code == 2 and "x.json is there already" in err


def test_killed_and_gone_on_is_as_if_it_had_not_been(model, photos, tmp_path, capsys, caplog):
    whole, output = tmp_path / "whole.parquet", tmp_path / "features.parquet"
    argv = [model, photos, *SMALL, "--output"]
    assert run(capsys, *argv, whole)[0] == 0
    killed = subprocess.run([sys.executable, "-c", KILLED, "embed", *map(str, [*argv, output])], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    parts = tmp_path / "features.parquet.parts"
    assert [path.name for path in sorted(parts.glob("0*"))] == ["00000000.parquet", "00000001.parquet"]

    code, _, err = run(capsys, *argv, output, "--pooling", "max")
    assert code == 2 and "with pooling 'mean' instead of 'max': repeat its options" in err
    code, out, err = run(capsys, *argv, output)
    assert code == 0 and "Going on behind the 2 part(s)" in caplog.text and "007.png" in out
    assert output.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_other_weights_are_not_gone_on_with(model, photos, tmp_path, capsys):
    parts = tmp_path / "f.parquet.parts"
    parts.mkdir()
    (parts / "settings.json").write_text(json.dumps({"model": str(model), "data": str(photos)}))
    code, _, err = run(capsys, model, photos, "--output", tmp_path / "f.parquet", *SMALL)
    assert code == 2 and "holds parts of an extraction that was not finished" in err
    (parts / "settings.json").unlink()
    (parts / "00000000.parquet").write_bytes(b"what a kill while parts were removed left")
    assert run(capsys, model, photos, "--output", tmp_path / "f.parquet", *SMALL)[0] == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--output", "features.txt"], "--output is 'features.txt', but must end with .parquet or .npy"),
        (["--output", "f.npy", "--pooling", "flatten"], "--pooling is 'flatten'"),
        (["--output", "f.npy", "--layers", "99"], "layer is 99, but the encoder has"),
        (["--output", "f.npy", "--device", "banana"], "--device is 'banana', which can't be used here"),
        (["--output", "f.npy", "--modality", "audio"], "--modality is 'audio', but "),
        (["--output", "f.npy", "--processor", "./none"], "no processor for vision can be loaded from './none': there"),
        ([], "--output"),
    ],
)
def test_wrong_use(model, tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, model, "digits", *argv)
    assert code == 2 and said in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_nothing_readable_leaves_nothing(model, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(b"no image")
    code, _, err = run(capsys, model, tmp_path / "photos", "--output", tmp_path / "f.npy")
    assert code == 2 and "none of the 1 images can be read; the first is" in err and "0.png" in err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
