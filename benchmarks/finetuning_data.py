"""Labelled data of the fine-tuning benchmarks as saved datasets, and what to pretrain on.

Each task has a folder with the splits "train" and "test". The data come with Debian and PyPI:

    apt-get install -y dataset-fashion-mnist tuxpaint-stamps-default wordnet-base
    apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722
    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
"""

import re
from pathlib import Path

import learning_text
import learning_vision

STAMPS = Path("/usr/share/tuxpaint/stamps")
PROMPTS = Path("/usr/share/asterisk/sounds")
NUM_TEST = {"fashion": 2_000, "glosses": 2_000, "reviews": 2_000}
NUM_TEST_PHRASES = 150
LANGUAGES = {  # of the phrases of a task
    "phrases": "es",
    "Spanish phrases, spectrograms": "es",
    "Russian phrases, spectrograms": "ru",
}


def fashion(folder: Path) -> None:
    """Photos of clothes in 10 classes: 60,000 to train and pretrain on, 2,000 of the test images."""
    import datasets
    import numpy as np
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    splits = {}
    for split in ("train", "test"):
        arrays = learning_vision.dataset(split)
        rows = arrays if split == "train" else arrays.select(range(NUM_TEST["fashion"]))
        images = [Image.fromarray(np.asarray(image, dtype=np.uint8)) for image in rows["image"][:]]
        columns = {"image": images, "label": rows["label"][:].tolist()}
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(folder)


def spoken_phrases(language: str) -> list[tuple[str, str]]:
    """(file, transcript) of the names of Tux Paint's stamps that are spoken and written without digits or brackets."""
    phrases = []
    for sound in sorted(STAMPS.rglob(f"*_desc_{language}.ogg")):
        text = sound.with_name(sound.name.removesuffix(f"_desc_{language}.ogg") + ".txt")
        if not text.exists():
            continue
        names = re.findall(rf"^{language}\.utf8=(.*)$", text.read_text(errors="replace"), re.MULTILINE)
        if names and not re.search(r"[\d()$%«»\"/]", names[0]):
            letters = re.sub(r"[^\w\s]", " ", names[0].lower())
            phrases.append((str(sound), " ".join(letters.split())))
    return phrases


def phrases(folder: Path, language: str) -> None:
    """Spoken phrases with transcripts, split by text, so that no test phrase was read in training."""
    import datasets
    import numpy as np

    pairs = spoken_phrases(language)
    texts = sorted({text for _, text in pairs})
    held = set(np.random.default_rng(0).permutation(texts)[:NUM_TEST_PHRASES].tolist())
    rows = {
        "train": [pair for pair in pairs if pair[1] not in held],
        "test": [pair for pair in pairs if pair[1] in held],
    }
    splits = {
        split: datasets.Dataset.from_dict({"audio": [file for file, _ in part], "text": [text for _, text in part]})
        for split, part in rows.items()
    }
    datasets.DatasetDict(splits).save_to_disk(folder)


def labelled_texts(folder: Path, labelled: learning_text.Labelled, num_test: int) -> None:
    """Texts and classes; the test texts are drawn once."""
    import datasets
    import numpy as np

    texts, classes = labelled
    order = np.random.default_rng(0).permutation(len(texts))
    names = [str(one) for one in sorted(set(classes))]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    splits = {}
    for split, ids in (("train", order[num_test:]), ("test", order[:num_test])):
        columns = {"text": [texts[i] for i in ids], "label": [str(classes[i]) for i in ids]}
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(folder)


def prepare(task: str, folder: Path, reviews: str | None) -> None:
    """Write a task's data, if they are not there yet."""
    if folder.exists():
        return
    if task == "fashion":
        fashion(folder)
    elif task in LANGUAGES:
        phrases(folder, LANGUAGES[task])
    elif task == "glosses":
        labelled_texts(folder, learning_text.glosses()[1], NUM_TEST[task])
    else:
        assert reviews is not None, "needed for the reviews"
        labelled_texts(folder, learning_text.reviews(reviews), NUM_TEST[task])
