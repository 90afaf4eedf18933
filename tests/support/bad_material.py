"""Tiny models and data, good and bad, and commands that are given them, to say what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import soundfile
import spoken_digits
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_runs import tiny_joint_model
from tiny_tasks import body

from modeling_data2vec.hub_configs import ROOT

CLASSES = "text,label\n" + "the cat sat,0\nhello world,1\nthe mat,2\n" * 4
TEXT_FILES = {
    "classes.csv": CLASSES,
    "one_missing.csv": CLASSES + "no class here,\n",
    "all_missing.csv": "text,label\n" + "the cat sat,\n" * 4,
    "one_class.csv": "text,label\n" + "the cat sat,0\n" * 4,
    "ids.csv": "text,label\n" + "".join(f"some words,id{row}\n" for row in range(25)),
    "pointed.csv": "text,label\n" + "some words,1.0\nother words,2.0\n" * 3,
    "scores.csv": "text,label\n" + "some words,1.5\nother words,2.0\n" * 3,
    "score_text.csv": "text,label\n" + "some words,1.5\nother words,2.5\n" * 3 + "third words,high\n",
    "semicolons.csv": "text;label\n" + "some words;1,5\nother words;2,5\n" * 3,
    "objects.jsonl": '{"text": "a b", "label": {"id": 1}}\n{"text": "c", "label": {"id": 2}}\n',
    "utf16.txt": "a text\x00without a mark",
    "times.jsonl": '{"path": "0.wav", "text": "ab", "begin": 0.0}\n{"path": "0.wav", "text": "ba", "begin": 0.1}\n',
    "same_sound.jsonl": '{"path": "0.wav", "text": "ab"}\n{"path": "0.wav", "text": "ba"}\n',
    "words_as_scores.csv": "text,label\na b,high\nc d,high\n",
    "score_inf.csv": "text,label\n" + "some words,1.5\nother words,inf\n" * 3,
    "several.csv": "text,label\n" + "\"some words\",\"['a', 'b']\"\n" * 4,
    "no_labels.csv": "text,other\n" + "the cat sat,0\n" * 4,
    "no_text.csv": "words,label\n" + "the cat sat,0\n" * 4,
    "rows_of_unequal_length.csv": "text,label\na,1\nb,2,3\n",
    "header_alone.csv": "text,label\n",
    "empty.csv": "",
    "empty.jsonl": "",
    "broken.jsonl": '{"text": "a", "label": "x"}\n{"text": \n',
    "list.json": "[1, 2, 3]",
    "lists.csv": "tokens,tags\n" + "\"['the', 'cat']\",\"['O', 'B']\"\n" * 3,
    "unequal.jsonl": '{"tokens": ["a", "b"], "tags": ["O", "B"]}\n{"tokens": ["a"], "tags": ["O", "B"]}\n',
    "tag_missing.jsonl": '{"tokens": ["a", "b"], "tags": ["O", null]}\n{"tokens": ["a"], "tags": ["B"]}\n',
    "word_missing.jsonl": '{"tokens": ["a", null], "tags": ["O", "B"]}\n{"tokens": ["a"], "tags": ["B"]}\n',
    "ratings.csv": "file_name,label\n" + "one_class/cat/0.png,0.5\none_class/cat/0.png,1\n" * 2,
    "one_tag.jsonl": '{"tokens": ["a", "b"], "tags": ["O", "O"]}\n',
    "number_words.jsonl": '{"tokens": [1, 2], "tags": ["O", "B"]}\n',
    "lists_as_text.csv": 'text,label\n"a b","[""x"", ""y""]"\nc,x\n',
    "multi.jsonl": '{"text": "a b", "label": ["x", "y"]}\n{"text": "c", "label": ["x"]}\n',
    "each_once.jsonl": "".join(f'{{"text": "a b", "label": "{name}"}}\n' for name in "abcd"),
    "missing_clips.jsonl": '{"path": "no.wav", "text": "ab"}\n',
    "empty_transcripts.jsonl": '{"path": "0.wav", "text": ""}\n{"path": "1.wav", "text": " "}\n',
    "long_transcripts.jsonl": json.dumps({"path": "0.wav", "text": "ab" * 999}) + "\n",
    "clips.jsonl": '{"path": "0.wav", "text": "ab"}\n{"path": "1.wav", "text": "ba"}\n',
    "half_clips.jsonl": '{"path": "0.wav", "text": 0.5}\n',
    "start.jsonl": '{"path": "0.wav", "text": "ab", "start": "soon"}\n',
    "notes.md": "no data",
    "texts/empty.txt": "",
    "letters/vocab.json": json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "x": 3}),
    "broken.arpa": "hello",
    "no_yaml.yaml": "a: [",
    "no_recipe.yaml": "- 1\n- 2\n",
    "broken_config/config.json": "{",
    "list_config/config.json": "[]",
    "other_type/config.json": '{"model_type": "bert"}',
    "no_type/config.json": "{}",
    "no.pt": "not a checkpoint",
    "occupied/notes.txt": "mine",
}


def write_material(folder: Path, tokenizer: Path) -> Path:
    """A folder with tiny models and with data, good and bad."""
    for name, text in TEXT_FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for kind in ("images", "speech", "text"):
        body(f"{kind} 2.0", folder / kind, tokenizer)
    tiny_joint_model().save_pretrained(folder / "joint")
    spoken_digits.recogniser("2.0").save_pretrained(folder / "recogniser")
    spoken_digits.processor(folder / "recogniser").save_pretrained(folder / "recogniser")
    shutil.copytree(
        folder / "text", folder / "no_tokenizer", ignore=shutil.ignore_patterns("tok*", "vocab*", "merges*")
    )
    shutil.copytree(folder / "text", folder / "cut_weights")
    weights = (folder / "cut_weights" / "model.safetensors").read_bytes()
    (folder / "cut_weights" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    for name in ("images", "speech", "text", "recogniser"):
        shutil.copytree(folder / name, folder / f"{name}_of_nan")
        weights = load_file(folder / name / "model.safetensors")
        first = next(name for name in sorted(weights) if weights[name].is_floating_point() and "teacher" not in name)
        weights[first].fill_(float("nan"))
        save_file(weights, folder / f"{name}_of_nan" / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(folder / "text", folder / "no_padding")
    settings = json.loads((folder / "no_padding" / "tokenizer_config.json").read_text())
    (folder / "no_padding" / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": None}))
    for number in range(2):
        noise = 0.1 * np.random.default_rng(number).standard_normal(6_000)
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    (folder / "latin1.csv").write_bytes("text,label\ncafé,1\nthé,2\n".encode("latin-1"))
    (folder / "broken.parquet").write_bytes(b"PAR1 nothing")
    (folder / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "folder_of_nothing").mkdir()
    for name in ("one_class", "broken_images"):
        (folder / name / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "one_class" / "cat" / "0.png")
    for number in range(2):
        (folder / "broken_images" / "cat" / f"{number}.png").write_bytes(b"no image")
    recipe = yaml.safe_load((ROOT / "data2vec2-vision-tiny" / "recipe.yaml").read_text())
    for name, change in {"named": {"name": "../x"}, "extra": {"colour": 1}, "epochs": {"epochs": 1}}.items():
        changed = recipe | {"config": "data2vec2-vision-tiny"} | change
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(changed))
    return folder


# ---- commands; @ stands for the folder ----


def pretrain(*more, recipe="data2vec2-vision-tiny", dataset="digits"):
    fast = ("--use_cpu", "--max_steps", "2", "--warmup_steps", "0", "--per_device_train_batch_size", "2")
    return ["pretrain", "--recipe", recipe, "--dataset", dataset, *fast, "--output_dir", "out", *more]


def finetune(dataset, *more, task="text-classification", model="text"):
    fast = ("--use_cpu", "--max_steps", "1", "--per_device_train_batch_size", "2")
    return [
        "finetune",
        "--task",
        task,
        "--model",
        f"@{model}",
        "--dataset",
        dataset,
        *fast,
        "--output_dir",
        "out",
        *more,
    ]


def ctc(dataset, *more):
    return finetune(dataset, *more, task="ctc", model="speech")


def tags(dataset):
    return finetune(dataset, task="token-classification")


def images(dataset, *more):
    return finetune(dataset, *more, task="image-classification", model="images")


def probe(*more, model="@images"):
    return ["probe", "--model", model, "--dataset", "digits", "--limit", "60", *more]


def evaluate(*more, model="@images"):
    return ["evaluate", "--model", model, "--dataset", "digits", "--limit", "60", "--output_dir", "out", *more]


def tokenizer_of(dataset, *more):
    return ["tokenizer", "--dataset", dataset, "--output_dir", "out", *more]


def transcribe(*more, model="@recogniser"):
    return ["transcribe", model, *more]
