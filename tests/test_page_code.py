"""The Python of docs/ runs as it is printed, but for sizes: a page's blocks in their order, sharing their names.

What a page takes for granted, files and things in memory, is made here. Blocks of the guides stand alone in
tests/test_snippets.py; tests/test_docs.py compares those of docs/method.md with the code.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from processors import TOKENS, save_processor
from recordings import voice
from spoken_digits import processor, recogniser
from tiny_runs import arguments, digit_images, tiny_joint_model, tiny_model, tiny_samples
from tiny_tasks import body
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoProcessor

from modeling_data2vec import (
    Data2Vec2ForPreTraining,
    Data2VecTrainer,
    ImageReader,
    ImageTransform,
    MixtureSource,
    SampleDataset,
    load_images,
)
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.modalities.image import digits

DOCS = Path(__file__).parents[1] / "docs"
# Blocks that other tests run, or the like of them, by words in them.
ELSEWHERE = {
    "bridges": {"import mteb": "examples/test_mteb_own_data.py"},
    "finetuning": {"load_adapter": "finetuning/test_run.py"},
    "one_network": {"PairsCollator": "evaluation/test_retrieval.py"},
    "scale": {"fsdp=True": "runs/test_sharding.py"},
    "sharing": {"# features.py": "hub/test_sharing.py", "# finetune.py": "hub/test_sharing.py"},
}
ALONE = {"images", "speech", "text"}  # tests/test_snippets.py
# Words of blocks that take seconds and run in slow tests alone; the empty one is in all blocks of its page.
SLOW = {"serving": "", "evaluation": "save_figures"}


def blocks(page: str) -> list[str]:
    found = re.findall(
        r"^( *)```python\n(.*?)^ *```", (DOCS / f"{page}.md").read_text(), flags=re.DOTALL | re.MULTILINE
    )
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The files that pages speak of: pictures, recordings, texts, and tiny models of each kind in runs/."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for folder in ("photos", "recordings", "runs"):
            Path(folder).mkdir()
        for number, image in enumerate(digits().select(range(12))["image"]):
            image.resize((16, 16)).convert("RGB").save(f"photos/{number}.png")
        for number in range(6):
            soundfile.write(f"recordings/{number}.wav", voice(2.5, seed=number), 16_000)
        Path("clips.csv").write_text("\n".join(["audio", *(f"recordings/{number}.wav" for number in range(6))]))
        Path("books.txt").write_text("It was a dark and stormy night.\n" * 200)
        save_processor("images", Path("demo"))
        for name in ("tokenizer", "books-tokenizer"):
            save_processor("text", Path(name))
        body("images 1.0", Path("facebook/data2vec-vision-base"))
        body("speech 1.0", Path("facebook/data2vec-audio-base"))
        body("images 2.0", Path("runs/photos"))
        body("speech 2.0", Path("runs/speech"))
        body("speech 2.0", Path("speech-run"))
        body("text 2.0", Path("runs/text"), Path("tokenizer"))
        for name in ("several", "joint", "paired"):
            config = tiny_joint_model(**({"cross_modal_layers": 1} if name == "paired" else {})).config
            config.text_config.vocab_size, config.vision_config.num_channels = TOKENS, 3
            Data2Vec2ForPreTraining(config).save_pretrained(f"runs/{name}")
            for kind, part in (("photos", "vision"), ("speech", "audio"), ("text", "text")):
                AutoProcessor.from_pretrained(f"runs/{kind}").save_pretrained(f"runs/{name}/{part}")
        head = AutoModelForSequenceClassification.from_pretrained("runs/text", num_labels=2)
        head.save_pretrained("runs/reviews")
        save_processor("text", Path("runs/reviews"))
    return place


def for_evaluation() -> dict:
    """Another model of clips stands for the ViT."""
    inputs = [torch.from_numpy(voice(0.1, seed=seed)) for seed in range(120)]
    labels = np.arange(120) % 2
    train, test = (inputs[:104], labels[:104]), (inputs[104:], labels[104:])
    names = {"model": tiny_model("speech 2.0"), "vit": tiny_model("speech 1.0"), "inputs": inputs[:4]}
    names |= {"train": train, "test": test, "vit_train": train, "vit_test": test}
    return names | dict(zip(("train_inputs", "train_labels", "test_inputs", "test_labels"), train + test, strict=True))


def for_health() -> dict:
    model = tiny_model().train()
    trainer = Data2VecTrainer(model, arguments("runs/health", max_steps=2), train_dataset=digit_images(model.config))
    trainer.train()
    return {"model": model, "trainer": trainer, "batch": next(iter(trainer.get_train_dataloader()))}


def for_mixtures() -> dict:
    clips, images, texts = (tiny_samples(tiny_model(kind)) for kind in ("speech 2.0", "images 2.0", "text 2.0"))
    clips = SampleDataset(clips.dataset, clips.reader, lengths=[1_600] * len(clips))
    return {"joint_model": tiny_joint_model(), "clips": clips, "images": images, "blocks": texts}


def for_one_network() -> dict:
    masks = torch.zeros(2, 16, 196, dtype=torch.bool)
    masks[..., :100] = True
    rows = [{"image": f"photos/{n}.png", "audio": f"recordings/{n}.wav", "text": "A wren."} for n in range(6)]
    Path("birds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    photos, column = load_images("photos")
    images = SampleDataset(photos, ImageReader(ImageTransform((224, 224)), column))
    args = arguments("runs/birds", max_steps=1, warmup_steps=0, gradient_accumulation_steps=2)
    return {
        "images": torch.randn(2, 3, 224, 224),
        "masks": masks,
        "sources": {"vision": MixtureSource(images, batch_size=2)},
        "args": args,
    }


def for_transcription() -> dict:
    processor(Path("runs/recogniser")).save_pretrained("runs/recogniser")
    recogniser("2.0").save_pretrained("runs/recogniser")
    for name in ("call", "lecture"):
        soundfile.write(f"{name}.mp3", voice(1.5), 16_000)
    words = "".join(f"-1\t{word}\t0\n" for word in ("<unk>", "<s>", "</s>", "one"))
    Path("3gram.arpa").write_text(
        f"\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n{words}\n\\2-grams:\n-1\tone\tone\n\n\\end\\\n"
    )
    return {}


def for_serving() -> dict:
    """Classifiers and a recogniser with random heads, exported."""
    classifier = AutoModelForImageClassification.from_pretrained("runs/photos", num_labels=2)
    classifier.save_pretrained("runs/classifier")
    AutoProcessor.from_pretrained("runs/photos").save_pretrained("runs/classifier")
    for_transcription()
    for model, served in {"classifier": "photos", "recogniser": "recogniser", "reviews": "reviews"}.items():
        assert run("export", [f"runs/{model}", f"served/{served}"]) == 0
    assert run("export", ["runs/photos", "served/photos-torch", "--format", "torch"]) == 0
    Image.open("photos/0.png").save("photo.jpg")
    soundfile.write("short.wav", voice(0.5), 16_000)
    soundfile.write("long.mp3", voice(1.5), 16_000)
    return {}


# What a page's Python finds, what is made small in it, and what must hold afterwards.
SHORT = "max_steps=2, warmup_steps=1, use_cpu=True"
TINY = {"data2vec2-vision-base": "data2vec2-vision-tiny"}
PAGES = {
    "bridges": (dict, {}, "len(vectors) == len(sounds) == len(texts) == 2 and pooled.shape == (2, 16)"),
    "data": (dict, {}, "len(samples[0]['input_ids']) == 512"),
    "evaluation": (
        for_evaluation,
        {},
        "'linear' in table.to_markdown()",
    ),
    "features": (dict, {}, "len(features.vectors) == len(features.ids) == 12 and not features.left_out"),
    "finetuning": (
        dict,
        {"runs/digits": "runs/photos", "limit=100": "limit=20", "num_train_epochs=5": "max_steps=1, use_cpu=True"},
        "0 <= result.metrics['test']['accuracy'] <= 1",
    ),
    "heads": (dict, {}, "model.config.num_labels == 5"),
    "health": (for_health, {}, "finding is None and figures['target_std'] > 0"),
    "objectives": (dict, {}, "OwnModel.build_terms and SeparateLayers(1, ()).chosen([0, 1, 2, 3]) == [1, 3]"),
    "one_network": (
        for_one_network,
        {
            '"hidden_size": 384, "num_hidden_layers": 8': '"hidden_size": 48, "num_hidden_layers": 2',
            '"num_attention_heads": 6, "intermediate_size": 1536': '"num_attention_heads": 2, "intermediate_size": 32',
            "batch_size=16": "batch_size=2",
            '"average_top_k_layers": 8': '"average_top_k_layers": 2',
        },
        "len(pictures.vectors) == 12",
    ),
    "own_data": (dict, {}, "len(list(Path('records').rglob('*.npy'))) == 30"),
    "recipes": (dict, {}, "arguments.gradient_accumulation_steps == 4"),
    "scale": (dict, TINY, "len(data) == 12"),
    "serving": (for_serving, {"224, 224": "8, 8"}, "len(texts) == 2 and logits.shape == (2, 2) and outputs"),
    "spectrograms": (dict, {}, "states.last_hidden_state.shape == (2, 1 + 24 * 4, 192)"),
    "training": (
        for_mixtures,
        TINY
        | {", learning_rate=1e-4, warmup_steps=500": "", "max_steps=10_000": SHORT}
        | {
            '"runs/photos"': '"runs/new-photos"',
            "hidden_size=384, num_hidden_layers=8": "hidden_size=32, num_hidden_layers=2",
        }
        | {"image_size=96": "image_size=16", "96, 96": "16, 16"},
        "trainer.state.global_step == 2 and Spectra(torch.zeros(3, 1, 8, 8))[2]['key'] >= 0",
    ),
    "transcription": (for_transcription, {"lecture.mp4": "lecture.mp3"}, "isinstance(transcript.text, str)"),
    "versions": (dict, {}, "model.config.mask_prob == 0.65"),
}


def test_each_block_is_run_somewhere():
    with_python = {page.stem for page in DOCS.glob("*.md") if blocks(page.stem)}
    assert with_python == {*PAGES, *ALONE, "method", "sharing"}, "a page of Python needs a place among PAGES"
    for page, others in ELSEWHERE.items():
        for words, file in others.items():
            assert sum(words in code for code in blocks(page)) == 1, (page, words)
            assert (DOCS.parent / "tests" / file).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_a_page_runs_as_a_whole(page, place, datasets_cache, monkeypatch, capsys):
    run_page(page, place, monkeypatch, ELSEWHERE.get(page, {}))


@pytest.mark.parametrize("page", [page for page in PAGES if SLOW.get(page) != ""])
def test_a_page_runs_from_top_to_bottom(page, place, datasets_cache, monkeypatch, capsys):
    run_page(page, place, monkeypatch, [*ELSEWHERE.get(page, {}), *([SLOW[page]] if page in SLOW else [])])


def run_page(page: str, place: Path, monkeypatch: pytest.MonkeyPatch, left_out: Iterable[str]) -> None:
    """All blocks but those with one of these words in them."""
    monkeypatch.chdir(place)
    given, changes, holds = PAGES[page]
    names, text = given(), "\0".join(blocks(page))
    for written, small in changes.items():
        assert written in text, f"docs/{page}.md no longer says {written!r}: change this test along with it"
        text = text.replace(written, small)
    for code in text.split("\0"):
        if not any(words in code for words in left_out):
            exec(compile(code, f"docs/{page}.md", "exec"), names)
    assert eval(holds, names)
