"""Speech, images and text for one trunk: what is trained on, and the labelled sets that it is probed on.

The sets are those of `learning_{waveforms,vision,text}.py`, without the Brown corpus. All that takes time is done once,
into a folder.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import datasets
import learning_text
import learning_vision
import learning_waveforms
import numpy as np
import speech_sets
import stamps
import torch
from transformers.utils import logging as transformers_logging

from modeling_data2vec.trainers.data.collators import MaskCollator
from modeling_data2vec.trainers.data.packing import pack_documents
from modeling_data2vec.trainers.data.samples import SampleDataset
from modeling_data2vec.trainers.evaluation.features import encode
from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
from modeling_data2vec.trainers.evaluation.probes import linear_probe
from modeling_data2vec.trainers.media.image_transform import ImageTransform
from modeling_data2vec.trainers.modalities.image import ImageReader
from modeling_data2vec.trainers.modalities.mixture import MixtureSource
from modeling_data2vec.trainers.modalities.speech import AudioMaskCollator
from modeling_data2vec.trainers.modalities.text import TextReader, load_text

LABELS = 1_000
NUM_TEST = {"vision": 5_000, "text": 3_000}
MISSING = {
    learning_vision.DATA: "dataset-fashion-mnist",
    speech_sets.PROMPTS: "asterisk-core-sounds-{en,es,fr,it,ru}-g722",
    speech_sets.SYLLABLES: "gcin-voice",
    learning_text.WORDNET: "wordnet-base",
}


def begin() -> None:
    """Check that the data and Tux Paint's stamps are installed; run on one thread, without bars and notices."""
    for path, package in (MISSING | {stamps.STAMPS: "tuxpaint-stamps-default"}).items():
        if not path.exists():
            sys.exit(f"{path} is missing: apt-get install -y {package}")
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)


def prepare(folder: Path) -> None:
    """Decode the speech, train the tokenizer and shuffle the texts, unless that is done."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "syllables.npz").exists():
        speech_sets.decode(folder)
    if not (folder / "documents").exists():
        learning_text.prepare(folder, None, str(Path(__file__).parent / "text_small"))


def tokenizer(folder: Path) -> Any:
    """The tokenizer of the glosses."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / "tokenizer")


def image_transform(data: dict) -> ImageTransform:
    """To 28 x 28 grey pixels; nothing is augmented, since a run sees no image twice."""
    return ImageTransform((28, 28), 1, data["mean"], data["std"], crop_scale=(1.0, 1.0), horizontal_flip=False)


# ---- to train on ----


def sources(folder: Path, data: dict, modalities: tuple[str, ...], seed: int) -> dict[str, MixtureSource]:
    """The training sets of some modalities, for a mix."""
    found = {}
    for name in modalities:
        own = data[name]
        if name == "audio":
            samples = speech_sets.training_clips(folder, own, seed)
            found[name] = MixtureSource(samples, max_batch_length=int(16_000 * own["max_batch_seconds"]))
        elif name == "vision":
            samples = SampleDataset(learning_vision.dataset("train"), ImageReader(image_transform(own)), seed=seed)
            found[name] = MixtureSource(samples, own["batch_size"])
        else:
            documents, column = load_text(str(folder / "documents"))
            words = tokenizer(folder)
            blocks = pack_documents(documents, words, own["block_length"], text_column=column)
            found[name] = MixtureSource(SampleDataset(blocks, TextReader(words), seed=seed), own["batch_size"])
    return found


def collators(config: Any, data: dict) -> dict[str, MaskCollator]:
    """Those that differ from a modality's default."""
    if "audio" not in config.modalities:
        return {}
    return {"audio": AudioMaskCollator(config.of("audio"), data["audio"]["crop"])}


# ---- to probe on ----


class Probes:
    """Labelled samples of all three, read once and in memory.

    Args:
        folder: of `prepare`.
        data: settings of the modalities' data.
        seed: decides which samples have labels.
    """

    def __init__(self, folder: Path, data: dict, seed: int) -> None:
        self.seed = seed
        self.clips, self.syllables = speech_sets.normalized_syllables(folder)
        self.sets: dict[str, list] = {}
        transform = image_transform(data["vision"])
        for split, count in (("train", LABELS), ("test", NUM_TEST["vision"])):
            images = learning_vision.dataset(split)
            labels = np.asarray(images["label"])
            chosen = label_subset(labels, count, seed if split == "train" else 0)
            pixels = torch.from_numpy(np.array(images[chosen]["image"], dtype=np.float32) / 255)[:, None]
            self.sets.setdefault("vision", []).append((torch.stack([transform(one) for one in pixels]), labels[chosen]))
        words = tokenizer(folder)
        glosses = learning_text.glosses()[1]
        train, test = learning_text.split(glosses, learning_text.NUM_TEST["glosses"], seed)
        chosen = label_subset(train[1], LABELS, seed)
        train = [train[0][i] for i in chosen], [train[1][i] for i in chosen]
        test = test[0][: NUM_TEST["text"]], test[1][: NUM_TEST["text"]]
        for texts, classes in (train, test):
            ids = words(texts, truncation=True, max_length=learning_text.PROBE_LENGTH).input_ids
            self.sets.setdefault("text", []).append(([torch.tensor(one) for one in ids], np.asarray(classes)))

    def score(self, encoder: Any, modality: str) -> dict[str, float]:
        """Accuracies of linear probes of a single encoder's last layer and, but for speech, of all its layers."""
        if modality == "audio":
            features = learning_waveforms.encode(encoder, self.clips)["last layer"]
            scores = learning_waveforms.probe(features, self.syllables)
            return {f"{task}, last layer": score for task, score in scores.items()}
        depth = encoder.config.num_hidden_layers
        width = encoder.config.hidden_size
        (train, labels), (test, test_labels) = self.sets[modality]
        x, test_x = (encode(encoder, inputs, layer=range(1, depth + 1), batch_size=64) for inputs in (train, test))
        return {
            name: linear_probe(x[:, -columns:], labels, test_x[:, -columns:], test_labels, self.seed)
            for name, columns in (("last layer", width), ("all layers", depth * width))
        }
