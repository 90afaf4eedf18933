"""`data2vec convert`: files of the authors' code become folders that load anywhere, with what a model needs beside."""

import json
import subprocess
import sys

import fairseq_examples
import pytest
import reference_cases
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

from modeling_data2vec.auto import pretraining_class_of
from modeling_data2vec.fairseq.files import read_checkpoint, write_checkpoint
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.conversion.run import ConvertOptions, check, convert

FILES = sorted(reference_cases.FOLDER.glob("*checkpoints/*.pt"))
CASES = [*reference_cases.training("1.0"), *reference_cases.training("2.0")]
MIT = ConvertOptions(license="mit")
# Run where this package can't be imported.
ELSEWHERE = """
import sys
sys.modules["modeling_data2vec"] = None
import transformers
model, info = getattr(transformers, sys.argv[2]).from_pretrained(sys.argv[1], output_loading_info=True)
missing = [key for key in info["missing_keys"] if "pooler" not in key]
assert not missing, missing
print(type(model).__name__)
"""


def one_of(pattern: str, kind=fairseq_examples.pretrained) -> dict:
    return kind(fairseq_examples.first(pattern))


@pytest.fixture(params=CASES)
def case(request):
    case = reference_cases.load(request.param)
    if used := case.left_out():
        pytest.skip(f"docs/differences.md leaves out {used}")
    return case


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_converts_every_stored_file_and_back(path, tmp_path, capsys):
    folder, again = tmp_path / "model", tmp_path / "again.pt"
    assert run("convert", [str(path), str(folder), "--license", "mit"]) == 0
    assert f"Wrote {folder}" in capsys.readouterr().out
    assert not [name.name for name in folder.iterdir() if name.suffix in (".pt", ".bin", ".pkl")]
    fine_tuned = AutoModelForAudioClassification if path.stem == "eat_finetuned" else None
    model = (fine_tuned or pretraining_class_of(str(folder))).from_pretrained(folder)
    assert model.dtype == torch.float32
    assert ModelCard.load(folder / "README.md").data.license == "mit"

    assert run("convert", [str(folder), str(again), "--to", "fairseq"]) == 0
    one, other = read_checkpoint(path)["model"], read_checkpoint(again)["model"]
    assert list(one) == list(other)
    for name, value in one.items():
        ours, theirs = ({"": one} if isinstance(one, torch.Tensor) else one for one in (other[name], value))
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_converted_models_give_the_stored_activations(case, tmp_path):
    path = fairseq_examples.write(tmp_path, "case", fairseq_examples.pretrained(case))
    convert(path, tmp_path / "model", MIT)
    activations = reference_cases.FOLDER / case.name / "tensors.safetensors"
    assert check(tmp_path / "model", activations) < 1e-4


def test_fine_tuned_models_give_what_their_parts_give(case, tmp_path):
    """Logits from the stored activations and the head alone."""
    content = fairseq_examples.fine_tuned(case)
    model = convert(fairseq_examples.write(tmp_path, "case", content), tmp_path / "model", MIT)
    weights, stored = content["model"], case.tensors
    states = stored["eval.x"]
    if "w2v_encoder.proj.weight" in weights:
        logits = torch.nn.functional.linear(
            states, weights["w2v_encoder.proj.weight"], weights["w2v_encoder.proj.bias"]
        )
    elif "head.weight" in weights:
        eps = 1e-6
        if case.name.startswith("v1"):  # fine-tuning takes away the last norm
            states, eps = stored[f"eval.layer.{case.info['config']['depth'] - 1}.end"], 1e-5
        pooled = stored["eval.x_with_extra_tokens"][:, 0] if case.modality == "spectrogram" else states.mean(1)
        normed = F.layer_norm(pooled, pooled.shape[-1:], weights["fc_norm.weight"], weights["fc_norm.bias"], eps)
        logits = F.linear(normed, weights["head.weight"], weights["head.bias"])
    else:
        head = {
            name.split("_head.")[1]: value for name, value in weights.items() if "_head." in name and "class" in name
        }
        inner = torch.nn.functional.linear(states[:, 0], head["dense.weight"], head["dense.bias"]).tanh()
        logits = torch.nn.functional.linear(inner, head["out_proj.weight"], head["out_proj.bias"])
    file = {name: value for name, value in stored.items() if name.startswith(("input.", "eval.padding"))}
    save_file(file | {"eval.logits": logits.contiguous()}, tmp_path / "activations.safetensors")
    assert check(tmp_path / "model", tmp_path / "activations.safetensors") < 1e-4
    assert type(model).__name__.endswith(("ForCTC", "Classification"))


@pytest.mark.parametrize(
    ("pattern", "auto_class"),
    [
        ("v1_audio_*", "AutoModelForCTC"),
        ("v1_vision_*", "AutoModelForImageClassification"),
        ("v1_text_*", "AutoModelForSequenceClassification"),
    ],
)
def test_plain_transformers_loads_converted_models_of_1_0(pattern, auto_class, tmp_path):
    for kind, name in ((fairseq_examples.pretrained, "AutoModel"), (fairseq_examples.fine_tuned, auto_class)):
        folder = tmp_path / name
        convert(fairseq_examples.write(tmp_path, name, one_of(pattern, kind)), folder, MIT)
        command = [sys.executable, "-c", ELSEWHERE, str(folder), name]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Data2Vec")


@pytest.mark.parametrize("pattern", ["v2_audio_*_M*", "v2_image_*_M*", "v2_text_*_M*", "eat_*_M*"])
def test_auto_classes_load_converted_models_of_2_0(pattern, tmp_path):
    example = one_of(pattern, fairseq_examples.fine_tuned)
    model = convert(fairseq_examples.write(tmp_path, "case", example), tmp_path / "model", MIT)
    loaded = type(model).from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert type(AutoModel.from_pretrained(tmp_path / "model")).__name__ == type(loaded.base_model).__name__


# ---- what is written beside the weights ----


@pytest.mark.parametrize("pattern", ["v1_audio_*", "v2_audio_*_M*"])
def test_a_recogniser_gets_its_letters(pattern, tmp_path):
    example = one_of(pattern, fairseq_examples.fine_tuned)
    convert(fairseq_examples.write(tmp_path, "ctc", example), tmp_path / "model", MIT)
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert processor.tokenizer.pad_token_id == 0  # fairseq's blank
    assert processor.tokenizer.decode([5, 5, 0, 5, 4, 6, 0, 7]) == "EE TA"
    recognise = pipeline("automatic-speech-recognition", model=str(tmp_path / "model"))
    assert isinstance(recognise(torch.randn(8000).numpy())["text"], str)


@pytest.mark.parametrize(
    ("option", "mean", "std"),
    [(None, -4.268, 4.569), ("esc50_eval", -6.627, 5.359), ("spcv2_eval", -6.846, 5.565)],
)
def test_eat_gets_the_extractor_of_its_data(option, mean, std, tmp_path):
    example = one_of("eat_*_M*", fairseq_examples.fine_tuned)
    example["cfg"]["model"] |= {name: name == option for name in ("esc50_eval", "spcv2_eval")}
    convert(fairseq_examples.write(tmp_path, "eat", example), tmp_path / "model", MIT)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    assert (extractor.mean, extractor.std) == (mean, std)
    classify = pipeline("audio-classification", model=str(tmp_path / "model"))
    found = classify(torch.randn(8000).numpy(), top_k=None)
    assert len(found) == fairseq_examples.NUM_LABELS


def test_a_dictionary_file_instead_of_the_files_own(tmp_path):
    example = one_of("v1_audio_*", fairseq_examples.fine_tuned)
    example["task_state"] = {}
    path = fairseq_examples.write(tmp_path, "ctc", example)
    convert(path, tmp_path / "without", MIT)
    assert not (tmp_path / "without" / "vocab.json").exists()
    letters = tmp_path / "dict.ltr.txt"
    letters.write_text("".join(f"{letter} 1\n" for letter in fairseq_examples.LETTERS[4:]))
    convert(path, tmp_path / "with", ConvertOptions(license="mit", dictionary=str(letters)))
    assert AutoTokenizer.from_pretrained(tmp_path / "with").convert_tokens_to_ids("T") == 6
    letters.write_text("E 1\n")
    with pytest.raises(ValueError, match="5 symbols, but the model names 11"):
        convert(path, tmp_path / "wrong", ConvertOptions(license="mit", dictionary=str(letters)))
    letters.write_text("E\n")
    with pytest.raises(ValueError, match="line 1: 'E' is not a symbol and its count"):
        convert(path, tmp_path / "wrong", ConvertOptions(license="mit", dictionary=str(letters)))
    assert not list(tmp_path.glob("wrong*"))


def test_a_text_model_gets_a_tokenizer(tmp_path):
    """GPT-2's pieces by fairseq's numbers: dict.txt names them by GPT-2's."""
    pieces = {"h": 0, "o": 1, "t": 2, "ho": 3, "hot": 4, "Ġhot": 5, "Ġ": 6}
    (tmp_path / "encoder.json").write_text(json.dumps(pieces))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nh o\nho t\nĠ hot\n", encoding="utf-8")
    (tmp_path / "dict.txt").write_text("".join(f"{number} 1\n" for number in (5, 4, 3, 2, 1, 0, 6)))
    path = fairseq_examples.write(tmp_path, "text", one_of("v2_text_*_M*"))
    bpe = [str(tmp_path / "encoder.json"), str(tmp_path / "vocab.bpe")]
    convert(path, tmp_path / "model", ConvertOptions(license="mit", dictionary=str(tmp_path / "dict.txt"), bpe=bpe))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("hot hot").input_ids == [0, 5, 4, 2]
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<unk>", "<mask>"]) == [1, 3, 11]
    with pytest.raises(ValueError, match="--dictionary dict.txt and --bpe"):
        convert(path, tmp_path / "wrong", ConvertOptions(license="mit", bpe=bpe[:1]))


def test_image_size_and_labels_are_written(tmp_path):
    example = one_of("v2_image_*_M*", fairseq_examples.fine_tuned)
    path = fairseq_examples.write(tmp_path, "image", example)
    names = ["ant", "bee", "cat", "dog", "eel"]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    model = convert(path, tmp_path / "model", ConvertOptions(license="mit", labels=str(tmp_path / "labels.txt")))
    assert AutoConfig.from_pretrained(tmp_path / "model").id2label == dict(enumerate(names))
    size = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())["size"]
    assert size == {"height": model.config.image_shape[0], "width": model.config.image_shape[1]}
    (tmp_path / "labels.json").write_text(json.dumps({"0": "ant"}))
    with pytest.raises(ValueError, match="1 classes, but the model has 5"):
        convert(path, tmp_path / "wrong", ConvertOptions(license="mit", labels=str(tmp_path / "labels.json")))


# ---- licences, checks and mistakes ----


def test_the_licence_is_asked_for_or_looked_up(tmp_path):
    path = fairseq_examples.write(tmp_path, "image", one_of("v2_image_*_M*"))
    with pytest.raises(ValueError, match="whose weights are these"):
        convert(path, tmp_path / "model", ConvertOptions())
    convert(path, tmp_path / "model", ConvertOptions(published="data2vec2-vision-base"))
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.license == "cc-by-nc-4.0" and "cc-by-nc-4.0" in card.text
    with pytest.raises(ValueError, match="no published weights are called 'data2vec2-vision-tiny'"):
        convert(path, tmp_path / "other", ConvertOptions(published="data2vec2-vision-tiny"))


def test_activations_that_differ_stop_the_conversion(tmp_path):
    path = fairseq_examples.write(tmp_path, "image", one_of("v2_image_*_M*"))
    stored = fairseq_examples.first("v2_image_*_M*").tensors
    save_file({"input.source": stored["input.source"], "eval.x": stored["eval.x"] + 0.1}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="differs from .* by 0.1"):
        convert(path, tmp_path / "model", ConvertOptions(license="mit", check=str(tmp_path / "a.safetensors")))
    save_file({"x": stored["eval.x"]}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"must hold .* it holds x"):
        convert(path, tmp_path / "model", ConvertOptions(license="mit", check=str(tmp_path / "b.safetensors")))
    assert not list(tmp_path.glob("model*"))


def test_mistakes_are_named_and_leave_nothing(tmp_path, capsys):
    path = fairseq_examples.write(tmp_path, "image", one_of("v2_image_*_M*"))
    (tmp_path / "there").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    for arguments, message in (
        ([path, tmp_path / "there"], "exists already"),
        ([tmp_path / "missing.pt", tmp_path / "new"], "no file"),
        ([path, tmp_path / "new", "--to", "onnx"], "must be one of hub, fairseq"),
        ([tmp_path / "there", tmp_path / "new.pt", "--to", "fairseq"], "holds no model: there is no config.json"),
        ([tmp_path / "bert", tmp_path / "new.pt", "--to", "fairseq"], "holds a model of the class BertModel"),
    ):
        assert run("convert", [*map(str, arguments), "--license", "mit"]) == 2
        assert message in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bert", "image.pt", "there"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from modeling_data2vec.trainers.cli import run
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(run("convert", sys.argv[1:]))
"""


@pytest.mark.parametrize("direction", ["hub", "fairseq"])
def test_a_disk_that_fills_up(tmp_path, direction):
    """No file may grow beyond 20 kB: the weights don't fit."""
    path = fairseq_examples.write(tmp_path, "image", one_of("v2_image_*_M*"))
    convert(path, tmp_path / "model", MIT)
    before = sorted(file.name for file in tmp_path.iterdir())
    source = {"hub": path, "fairseq": tmp_path / "model"}[direction]
    arguments = [str(source), str(tmp_path / "new"), "--to", direction, "--license", "mit"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "could not be written" in done.stderr and "Traceback" not in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_a_model_without_safetensors_or_of_another_class_does_not_go_back(tmp_path):
    path = fairseq_examples.write(tmp_path, "image", one_of("v2_image_*_M*"))
    convert(path, tmp_path / "model", MIT)
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "weights")
    to_fairseq = ConvertOptions(to="fairseq")
    with pytest.raises(ValueError, match="has no model.safetensors"):
        convert(tmp_path / "model", tmp_path / "again.pt", to_fairseq)
    AutoModel.from_config(AutoConfig.from_pretrained(tmp_path / "model")).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="Data2Vec2VisionModel, but for fairseq there are"):
        convert(tmp_path / "encoder", tmp_path / "again.pt", to_fairseq)


def test_files_that_could_run_code_are_refused_by_the_command(tmp_path, capsys):
    import os

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'attacked'}",)

    write_checkpoint(tmp_path / "evil.pt", one_of("v2_image_*_M*") | {"extra": Evil()})
    assert run("convert", [str(tmp_path / "evil.pt"), str(tmp_path / "model"), "--license", "mit"]) == 2
    assert "posix.system" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["evil.pt"]
