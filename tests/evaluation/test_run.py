"""`data2vec evaluate` from saved models to report and figures: images, speech and text, our encoders and others'."""

import json
import shutil

import numpy as np
import pytest
import torch
from encoders import SIZES, THEIR_WAVE, encoder
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Dinov2Config,
    Dinov2Model,
    RobertaConfig,
    RobertaModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

import data2vec_cli
from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2AudioModel, Data2Vec2TextConfig, Data2Vec2TextModel
from modeling_data2vec.hub_configs import recipe_folder

FIGURES = ("accuracies", "few_labels", "layers", "cka")


def save(folder, model, processor):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def image_models(tmp_path_factory):
    """Ours and one like DINOv2, untrained, in folders."""
    folder = tmp_path_factory.mktemp("models")
    processor = AutoImageProcessor.from_pretrained(recipe_folder("data2vec2-vision-tiny"))
    processor.size = {"height": 8, "width": 8}
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    dino = Dinov2Model(Dinov2Config(**sizes, image_size=8, patch_size=2, num_channels=1))
    return [save(folder / "ours", encoder("our images"), processor), save(folder / "dino", dino, processor)]


def evaluate(capsys, models, dataset, folder, *more):
    argv = ["evaluate", "--model", *models, "--dataset", str(dataset), "--output_dir", str(folder), *more]
    code = data2vec_cli.main([str(part) for part in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_one_command_one_report(image_models, tmp_path, capsys):
    more = ["--labels", "20", "all", "--seeds", "0", "1", "--limit", "150"]
    code, out, err = evaluate(capsys, image_models, "digits", tmp_path / "report", *more)
    assert code == 0, err
    assert out == f"Wrote {tmp_path}/report/report.md, its figures and report.json.\n"
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# Evaluation of ours, dino on digits\n")
    for name in FIGURES:
        assert f"({name}.png)" in text
        image = Image.open(tmp_path / "report" / f"{name}.png").convert("RGB")
        assert min(image.size) > 300 and len(image.getcolors(1 << 20)) > 20
    for line in ("ours", "dino", "ours, untrained", "dino, untrained", "raw pixels"):
        assert f"| {line} |" in text
    for line in ("ours minus ours, untrained", "ours minus raw pixels", "ours minus dino"):
        assert f"| {line} |" in text
    assert "150 labels of 10 classes, 150 test samples" in text and "| 20 labels | 150 labels |" in text
    assert f"`{image_models[1]}`, Dinov2Model, 0.0" in text

    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    shown = next(line for line in text.splitlines() if line.startswith("| raw pixels |"))
    (accuracy,) = [
        one["accuracy"]
        for one in stored["scores"]
        if (one["features"], one["probe"], one["labels"]) == ("raw pixels", "linear", 150)
    ]
    assert "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * accuracy[key] for key in ("value", "low", "high"))) in shown
    assert accuracy["low"] > 0.5  # of digits, raw pixels tell a lot


def test_a_single_model_and_one_label_count(image_models, tmp_path, capsys):
    more = ["--labels", "all", "--limit", "100", "--names", "my encoder", "--pooling", "cls"]
    code, _, err = evaluate(capsys, image_models[1:], "digits", tmp_path, *more)
    assert code == 0, err
    text = (tmp_path / "report.md").read_text()
    assert "few_labels.png" not in text and not (tmp_path / "few_labels.png").exists()
    assert "| my encoder, untrained |" in text and 'pooling "cls"' in text


def test_speech(recordings, tmp_path, capsys):
    extractor = Wav2Vec2FeatureExtractor()
    torch.manual_seed(0)
    wave = {"conv_dim": [16, 16], "conv_kernel": [20, 16], "conv_stride": [10, 16]}
    ours = Data2Vec2AudioModel(
        Data2Vec2AudioConfig(**SIZES, **wave, num_prenet_layers=1, average_top_k_layers=2, decoder_dim=32)
    )
    models = [
        save(tmp_path / "ours", ours, extractor),
        save(tmp_path / "wav2vec2", Wav2Vec2Model(Wav2Vec2Config(**THEIR_WAVE)), extractor),
    ]
    for split in ("train", "test"):
        shutil.copytree(recordings, tmp_path / "data" / split)
    code, _, err = evaluate(capsys, models, tmp_path / "data", tmp_path / "report")
    assert code == 0, err
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| MFCC |" in text and "| wav2vec2, untrained |" in text and "12 test samples" in text


def test_text(tokenizer, tmp_path, capsys):
    words = AutoTokenizer.from_pretrained(tokenizer)
    rng = np.random.default_rng(0)
    rows = [
        f'"{" ".join(rng.choice(["if", "while", "x"] if i % 2 else ["int", "str", "x"], 6))}",{i % 2}'
        for i in range(40)
    ]
    (tmp_path / "data").mkdir()
    for split, part in (("train", rows[:20]), ("test", rows[20:])):
        (tmp_path / "data" / f"{split}.csv").write_text("text,label\n" + "\n".join(part) + "\n")
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": len(words), "pad_token_id": words.pad_token_id, "max_position_embeddings": 66}
    ours = Data2Vec2TextModel(Data2Vec2TextConfig(**sizes, num_prenet_layers=1, average_top_k_layers=2, decoder_dim=32))
    models = [
        save(tmp_path / "ours", ours, words),
        save(tmp_path / "roberta", RobertaModel(RobertaConfig(**sizes)), words),
    ]
    code, _, err = evaluate(capsys, models, tmp_path / "data", tmp_path / "report")
    assert code == 0, err
    assert "| TF-IDF |" in (tmp_path / "report" / "report.md").read_text()


def test_lists_of_classes(image_models, tmp_path, capsys):
    """Rows with any number of classes: from a data set of files to the report, and to the table of `probe`."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        rows = []
        for number in range(40):
            has = [name for name, share in (("left", 0.5), ("right", 0.3)) if rng.random() < share]
            pixels = rng.integers(0, 60, (8, 8)).astype(np.uint8)
            pixels[:, :4] += np.uint8(150 * ("left" in has))
            pixels[:, 4:] += np.uint8(150 * ("right" in has))
            Image.fromarray(pixels).save(tmp_path / "data" / split / f"{number}.png")
            rows.append(json.dumps({"file_name": f"{number}.png", "label": has}))
        (tmp_path / "data" / split / "metadata.jsonl").write_text("\n".join(rows))
    more = ["--labels", "20", "all", "--seeds", "0", "1"]
    code, _, err = evaluate(capsys, image_models[:1], tmp_path / "data", tmp_path / "report", *more)
    assert code == 0, err
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## Mean average precision" in text and "(equal scores for all samples: " in text
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    assert stored["metric"] == "mean average precision" and stored["classes"] == 2
    for one in stored["scores"]:
        assert one["accuracy"]["low"] <= one["accuracy"]["value"] <= one["accuracy"]["high"]
        assert one["accuracy"]["value"] == pytest.approx(np.mean(one["scores"]))
    difference = next(one for one in stored["differences"] if one["than"] == "raw pixels" and one["probe"] == "ridge")
    values = {(one["features"], one["probe"], one["labels"]): one["accuracy"]["value"] for one in stored["scores"]}
    ours, theirs = (values[name, "ridge", difference["labels"]] for name in ("ours", "raw pixels"))
    assert difference["difference"]["value"] == pytest.approx(ours - theirs)
    argv = ["probe", "--model", image_models[0], "--dataset", str(tmp_path / "data"), "--labels", "all"]
    assert data2vec_cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "Mean average precision in % on 40 test samples" in out
    pixels = next(line for line in out.splitlines() if "| raw pixels |" in line)
    assert all(float(cell) > 95 for cell in pixels.split("|")[3:-1])


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--names", "one"], "--names gives 1 name(s), but --model 2: give as many"),
        (["--names", "one", "one"], "names are ['one', 'one'], but each encoder needs one of its own"),
        (["--labels", "some"], "--labels takes whole numbers from 1 or 'all', not 'some'"),
        (["--labels", "5000"], "5000 labels are asked for, but there are 100"),
        (["--layers", "9"], "layer is 9, but the encoder has layers 0 (input of the first one) to"),
        (["--pooling", "flatten"], "pooling is 'flatten'"),
        (["--test_split", "dev"], "'train' and 'test', not 'dev'"),
        (["--limit", "0"], "--limit is 0, but must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(image_models, tmp_path, capsys, more, part):
    limit = [] if "--limit" in more else ["--limit", "100"]
    code, out, err = evaluate(capsys, image_models, "digits", tmp_path / "report", *limit, *more)
    assert code == 2 and not out
    assert err.splitlines()[-1].startswith("data2vec evaluate: ") and part in err.splitlines()[-1]
    assert not (tmp_path / "report" / "report.md").exists()


def test_an_output_folder_that_is_a_file(image_models, tmp_path, capsys):
    (tmp_path / "report").write_text("")
    code, _, err = evaluate(capsys, image_models, "digits", tmp_path / "report")
    assert code == 2 and "is a file: name a folder" in err


def test_a_model_that_is_not_there_or_of_another_kind(image_models, tokenizer, tmp_path, capsys):
    code, _, err = evaluate(capsys, [image_models[0], tmp_path / "none"], "digits", tmp_path / "report")
    assert code == 2 and "none' can't be loaded" in err
