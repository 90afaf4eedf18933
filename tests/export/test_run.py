"""export/run.py: files of every encoder and head give what PyTorch gives, whatever the batch and the length."""

import json
import logging
import subprocess
import sys

import onnx
import pytest
import torch
import transformers
from tiny_runs import DECODER, MELS, SIZES, TINY, VOCABULARY, WAVE, tiny_model
from transformers import AutoConfig, AutoImageProcessor

import data2vec_cli
from modeling_data2vec import Data2Vec2Config, Data2Vec2Model, Data2Vec2TextModel
from modeling_data2vec.auto import MODELS, TASKS
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.export import run as exporting
from modeling_data2vec.trainers.export.exportable import exportable
from modeling_data2vec.trainers.export.run import ExportOptions, export, largest_difference, onnx_run, quantize, write

SHAPES = ((1, 16), (1, 31), (2, 20), (2, 37), (3, 25), (4, 22), (5, 33), (6, 20), (7, 23), (8, 35))
TINY_FIELDS = {
    "audio": SIZES | DECODER | WAVE,
    "spectrogram": SIZES | DECODER | MELS | {"num_labels": 3},
    "vision": TINY | {"num_labels": 3},
    "text": SIZES | DECODER | VOCABULARY | {"num_labels": 3},
}
OWN = [model for config, model, _ in MODELS if config is not Data2Vec2Config] + [model for _, model in TASKS]
QUICK = {"Data2Vec2AudioForCTC", "Data2Vec2VisionForImageClassification", "Data2Vec2TextForSequenceClassification"}

NATIVE_SIZES = {name: SIZES[name] for name in ("hidden_size", "num_attention_heads", "intermediate_size")}
NATIVE_FIELDS = {
    "audio": NATIVE_SIZES
    | {"num_hidden_layers": 2}
    | {name: value for name, value in WAVE.items() if name != "mask_length"},
    "vision": NATIVE_SIZES
    | {"num_hidden_layers": 4, "out_indices": [0, 1, 2, 3], "image_size": 16, "patch_size": 4, "num_channels": 1},
    "text": NATIVE_SIZES | {"num_hidden_layers": 2} | VOCABULARY,
}
NATIVE = [
    *("AudioModel", "AudioForCTC", "AudioForSequenceClassification", "AudioForAudioFrameClassification"),
    *("VisionModel", "VisionForImageClassification", "VisionForSemanticSegmentation", "TextModel", "TextForMaskedLM"),
    *("TextForSequenceClassification", "TextForTokenClassification", "TextForQuestionAnswering"),
]


def tiny(model_class, fields: dict[str, dict]):
    torch.manual_seed(0)
    config_class = model_class.config_class
    kind = next(name for name in fields if config_class.model_type.endswith(name))
    return exportable(model_class(config_class(**fields[kind])))


def marked(model_class):
    return pytest.param(model_class, marks=() if model_class.__name__ in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("model_class", [marked(one) for one in OWN])
def test_files_give_what_the_model_gives(model_class, format, tmp_path):
    one = tiny(model_class, TINY_FIELDS)
    run = write(one, tmp_path / exporting.FILES[format])
    assert largest_difference(one, run, SHAPES) < 1e-4
    with pytest.raises(AssertionError):  # and not whatever they are compared with
        for parameter in one.parameters():
            parameter.data.mul_(1.1)
        assert largest_difference(one, run, SHAPES[:1]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("name", NATIVE)
def test_files_of_data2vec_1(name, format, tmp_path):
    one = tiny(getattr(transformers, f"Data2Vec{name}"), NATIVE_FIELDS)
    assert largest_difference(one, write(one, tmp_path / exporting.FILES[format]), SHAPES) < 1e-4


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    """A text encoder and its ONNX file."""
    one = tiny(Data2Vec2TextModel, {"text": TINY_FIELDS["text"] | {"hidden_size": 64, "intermediate_size": 256}})
    path = tmp_path_factory.mktemp("text") / "model.onnx"
    write(one, path)
    return one, path


def test_names_in_the_file(text_file):
    one, path = text_file
    graph = onnx.load(path).graph
    axes = {entry.name: [axis.dim_param for axis in entry.type.tensor_type.shape.dim] for entry in graph.input}
    assert axes == {"input_ids": ["batch", "tokens"], "attention_mask": ["batch", "tokens"]}
    assert [entry.name for entry in graph.output] == ["last_hidden_state", "pooler_output"]
    assert largest_difference(one, onnx_run(path), SHAPES) < 1e-4


def test_int8_is_smaller_and_near(text_file, tmp_path):
    one, path = text_file
    quantize(path, tmp_path / "small.onnx")
    weights = 2 * (4 * 64 * 64 + 2 * 64 * 256)  # of the linear layers, each a byte instead of four
    saved = path.stat().st_size - (tmp_path / "small.onnx").stat().st_size
    assert 2.8 * weights < saved < 3.2 * weights
    inputs = one.examples(4, 30)
    with torch.no_grad():
        expected = one(**inputs)["pooler_output"]
    error = (onnx_run(tmp_path / "small.onnx")(inputs)["pooler_output"] - expected).norm() / expected.norm()
    assert 0 < error < 0.05


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A pretraining folder of tiny images, with its processor."""
    folder = tmp_path_factory.mktemp("images")
    tiny_model().save_pretrained(folder)
    AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny")).save_pretrained(folder)
    return folder


def test_the_command_writes_all_that_serving_needs(images, tmp_path, capsys, caplog):
    folder = tmp_path / "exported"
    assert data2vec_cli.main(["export", str(images), str(folder), "--quantize", "int8"]) == 0
    assert {"model.onnx", "model.int8.onnx", "config.json", "preprocessor_config.json"} == {
        path.name for path in folder.iterdir()
    }
    assert AutoConfig.from_pretrained(folder).model_type == "data2vec2-vision"
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == [
        f"Wrote {folder}/{name}" for name in ("model.onnx", "model.int8.onnx")
    ]
    assert not list(tmp_path.glob(".incomplete*"))
    assert not [one.getMessage() for one in caplog.records if one.name == "root"]  # of those who export, to themselves
    logging.warning("heard")
    logging.getLogger("modeling_data2vec.core").warning("heard, too")
    assert [one.getMessage() for one in caplog.records][-2:] == ["heard", "heard, too"]


def test_torch_alone_runs_a_program(images, tmp_path):
    folder = tmp_path / "exported"
    export(images, folder, ExportOptions(format="torch"))
    one = exportable(exporting.load(str(images)))
    inputs = one.examples(3, 5)
    with torch.no_grad():
        torch.save([inputs, one(**inputs)], tmp_path / "example.pt")
    script = f"""
import sys, torch
inputs, expected = torch.load({str(tmp_path / "example.pt")!r})
outputs = torch.export.load({str(folder / "model.pt2")!r}).module()(**inputs)
torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-4)
assert "transformers" not in sys.modules and "modeling_data2vec" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_one_modality_of_several(tmp_path):
    torch.manual_seed(0)
    text = tiny_model("text 2.0").config
    Data2Vec2Model(Data2Vec2Config(text_config=text)).save_pretrained(tmp_path / "joint")
    with pytest.raises(ValueError, match="several modalities: give --modality"):
        export(tmp_path / "joint", tmp_path / "exported", ExportOptions())
    export(tmp_path / "joint", tmp_path / "exported", ExportOptions(format="torch", modality="text"))
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["model_type"] == "data2vec2-text"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "--format is 'tflite', but must be one of onnx, torch"),
        ({"quantize": "int4"}, "--quantize is 'int4' .*, but must be int8"),
        ({"quantize": "int8", "format": "torch"}, "use it with --format onnx"),
        ({"modality": "vision"}, "one modality: leave --modality out"),
    ],
)
def test_options_that_do_not_fit(images, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(images, tmp_path / "exported", ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_exported(images, tmp_path, monkeypatch):
    def refused(source, destination=tmp_path / "exported"):
        with pytest.raises(ValueError) as error:
            export(source, destination, ExportOptions())
        return str(error.value)

    assert "exists already" in refused(images, tmp_path)
    assert "holds no model" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "of type 'bert', but only data2vec2-audio" in refused(tmp_path)
    native = {"model_type": "data2vec-audio", "architectures": ["Data2VecAudioForXVector"]}
    (tmp_path / "config.json").write_text(json.dumps(native))
    assert "Data2VecAudioForXVector, which can't be exported: its code loops" in refused(tmp_path)
    monkeypatch.setattr(exporting, "NEEDED", ("onnx", "no_such_package"))
    assert refused(images).endswith("needs no_such_package: pip install no_such_package")


def test_a_file_that_differs_is_refused(images, tmp_path, monkeypatch):
    original = exporting.write

    def write_another(one, path):
        run = original(one, path)
        one.model.trunk.layers[-1].norm2.bias.data.add_(1.0)
        return run

    monkeypatch.setattr(exporting, "write", write_another)
    with pytest.raises(ValueError, match="model.pt2 differs from Data2Vec2VisionModel by"):
        export(images, tmp_path / "exported", ExportOptions(format="torch"))
    assert not list(tmp_path.iterdir())
