"""What the objectives lab trains on and probes: images, spectrograms of speech and text, each prepared once.

Pretraining sees no label. Validation labels are not those that other benchmarks report on: of Fashion-MNIST a part of
the training split, of WordNet glosses outside of the test part, of gcin one half of the base syllables.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch

HERE = Path(__file__).parent
LABELS = 1_000  # of a probe; three disjoint sets of them are averaged
SETS = 3
BANDS = 64
SYNTHETIC_SPREAD = 1e-5  # added to a band's deviation, so that a silent one stays finite

SPECTROGRAM: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "num_mel_bins": BANDS,
    "spectrogram_length": 48,
    "patch_size": [4, 16],
    "num_masks": 4,
    "mask_prob": 0.6,
    "mask_length": 2,
    "average_top_k_layers": 4,
    "cls_loss_weight": 0.0,
    "decoder_dim": 64,
    "decoder_layers": 2,
    "decoder_groups": 1,
    "ema_decay": 0.96,
    "ema_end_decay": 0.9995,
}
SPECTROGRAM_TRAINING = {"per_device_train_batch_size": 8, "learning_rate": 4e-3, "weight_decay": 0.01}


class Setting(NamedTuple):
    """A modality of the lab.

    Attributes:
        model_class: of the default objective.
        config: makes the default's config of changed fields.
        training: arguments of the run.
        samples: what is pretrained on, by the run's seed.
        probe: from an encoder to its validation accuracies, by pooling.
    """

    model_class: Any
    config: Callable[[dict], Any]
    training: dict
    samples: Callable[[int], Any]
    probe: Callable[[Any], dict[str, float]]


def setting(modality: str, folder: Path) -> Setting:
    """One of "images", "speech" and "text"; what takes long to prepare is kept in `folder`.

    Raises:
        SystemExit: the data are not installed; the message says how to install them.
    """
    return {"images": images, "speech": speech, "text": text}[modality](folder)


def encoded(encoder: Any, inputs: Any, poolings: dict[str, str]) -> dict[str, np.ndarray]:
    """Features by two poolings, the first of which is a mean, from one pass."""
    from modeling_data2vec.trainers import encode

    (mean, first), (other, second) = poolings.items()
    features = encode(encoder, inputs, pooling=f"{first}+{second}", batch_size=64)
    width = encoder.config.hidden_size
    return {mean: features[:, :width], other: features[:, width:]}


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of ridge probes on each of the first `SETS` sets of `LABELS` samples, tested on the rest; their mean."""
    from modeling_data2vec.trainers.evaluation.probes import ridge_probe

    test = slice(SETS * LABELS, None)
    sets = [slice(start, start + LABELS) for start in range(0, SETS * LABELS, LABELS)]
    return float(np.mean([ridge_probe(features[one], labels[one], features[test], labels[test]) for one in sets]))


def processed_samples(input_name: str, inputs: Any, seed: int) -> Any:
    from modeling_data2vec.trainers import SampleDataset
    from modeling_data2vec.trainers.data.processed import ProcessedReader

    return SampleDataset([{input_name: one} for one in inputs], ProcessedReader(input_name), seed=seed)


# ---- images ----


def images(folder: Path) -> Setting:
    """Fashion-MNIST with the recipe of `learning_vision.py`: pretrained on 20,000 images, probed on 6,000 others."""
    from learning_vision import DATA, read_idx

    from modeling_data2vec.trainers import load_recipe

    require(DATA, "dataset-fashion-mnist")
    recipe = load_recipe(HERE / "fashion_mnist")
    mean, std = (recipe.augmentation[name][0] for name in ("mean", "std"))
    pixels = torch.from_numpy(read_idx("train-images-idx3-ubyte").astype(np.float32) / 255)[:, None]
    pixels, labels = (pixels - mean) / std, read_idx("train-labels-idx1-ubyte")
    probed = slice(54_000, 60_000)

    def probe(encoder: Any) -> dict[str, float]:
        poolings = {"mean of patches": "mean", "2 x 2 means": "grid2"}
        features = encoded(encoder, pixels[probed], poolings)
        return {name: accuracy(one, labels[probed]) for name, one in features.items()}

    return Setting(
        recipe.model_class,
        recipe.model_config,
        recipe.training_arguments({}),
        lambda seed: processed_samples("pixel_values", pixels[:20_000], seed),
        probe,
    )


# ---- spectrograms of speech ----


def speech(folder: Path) -> Setting:
    """Every third prompt of Asterisk in five languages; probed on Mandarin syllables (gcin), which are never seen."""
    from speech_sets import PROMPTS, SYLLABLES
    from syllable_probes import syllable_parts

    from modeling_data2vec import Data2Vec2SpectrogramConfig, Data2Vec2SpectrogramForPreTraining
    from modeling_data2vec.trainers import SampleDataset
    from modeling_data2vec.trainers.data.processed import ProcessedReader

    require(PROMPTS, "asterisk-core-sounds-{en,es,fr,it,ru}-g722")
    require(SYLLABLES, "gcin-voice")
    if not (folder / "syllables.npz").exists():
        prepare_speech(folder, PROMPTS, SYLLABLES)
    prompts, _ = load_spectrograms(folder / "prompts.npz")
    clips, names = load_spectrograms(folder / "syllables.npz")
    parts = [syllable_parts(name) for name in names]
    bases = sorted({base for base, _, _ in parts})
    half = set(Random(0).sample(bases, len(bases) // 2))
    kept = [index for index, (base, _, _) in enumerate(parts) if base in half]
    clips, kept_parts = [clips[index] for index in kept], np.array([parts[index] for index in kept])

    class CropReader(ProcessedReader):
        def __call__(self, example: dict[str, Any], rng: Random | None = None) -> dict[str, Any]:
            frames, length = super().__call__(example)["input_features"], SPECTROGRAM["spectrogram_length"]
            start = rng.randint(0, len(frames) - length) if rng else 0
            return {"input_features": frames[start : start + length].contiguous()}

    long_enough = [{"input_features": one} for one in prompts if len(one) >= SPECTROGRAM["spectrogram_length"]]

    def probe(encoder: Any) -> dict[str, float]:
        poolings = {"mean of patches": "mean", "bands kept": "bands"}
        return {name: unseen_syllables(one, kept_parts.T) for name, one in encoded(encoder, clips, poolings).items()}

    return Setting(
        Data2Vec2SpectrogramForPreTraining,
        lambda changes: Data2Vec2SpectrogramConfig(**{**SPECTROGRAM, **changes}),
        SPECTROGRAM_TRAINING,
        lambda seed: SampleDataset(long_enough, CropReader("input_features"), seed=seed),
        probe,
    )


def unseen_syllables(features: np.ndarray, parts: np.ndarray) -> float:
    """Accuracy of ridge probes for initials and finals, five folds by base syllable; the mean of both."""
    from sklearn.model_selection import GroupKFold

    from modeling_data2vec.trainers.evaluation.probes import ridge_probe

    bases, *tasks = parts
    folds = list(GroupKFold(5, shuffle=True, random_state=0).split(features, groups=bases))
    scores = [
        ridge_probe(features[train], labels[train], features[test], labels[test])
        for labels in tasks
        for train, test in folds
    ]
    return float(np.mean(scores))


def prepare_speech(folder: Path, prompts: Path, syllables: Path) -> None:
    """Write all clips as log-mel spectrograms, each band standardised by the prompts' mean and deviation."""
    from modeling_data2vec import Data2Vec2SpectrogramFeatureExtractor
    from modeling_data2vec.trainers import UnreadableError, decode_audio

    extractor = Data2Vec2SpectrogramFeatureExtractor(BANDS, do_normalize=False)
    scale = None
    third = sorted(prompts.rglob("*.g722"))[::3]  # more than a short run gets to see
    for name, files in (("prompts", third), ("syllables", sorted(syllables.glob("*/3.ogg")))):
        spectrograms, labels = [], []
        for file in files:
            try:
                clip = decode_audio(str(file.resolve()), extractor.sampling_rate)
            except UnreadableError:  # one Russian prompt is empty
                continue
            spectrograms.append(extractor.log_mel(clip))
            labels.append(file.parent.name)
        frames = np.concatenate(spectrograms)
        scale = scale or (frames.mean(0), frames.std(0) + SYNTHETIC_SPREAD)
        sizes = np.array([len(one) for one in spectrograms])
        frames = ((frames - scale[0]) / scale[1]).astype(np.float16)
        np.savez(folder / f"{name}.npz", frames=frames, sizes=sizes, labels=np.array(labels))


def load_spectrograms(file: Path) -> tuple[list[torch.Tensor], list[str]]:
    data = np.load(file)
    frames = torch.from_numpy(data["frames"].astype(np.float32))
    return list(frames.split(data["sizes"].tolist())), data["labels"].tolist()


# ---- text ----


def text(folder: Path) -> Setting:
    """WordNet's glosses with the recipe of `learning_text.py`; probed on classes of nouns by their glosses."""
    from learning_text import NUM_TEST, PROBE_LENGTH, WORDNET, glosses
    from transformers import AutoTokenizer

    from modeling_data2vec.trainers import load_recipe, pack_documents, train_tokenizer

    require(WORDNET, "wordnet-base")
    recipe = load_recipe(HERE / "text_small")
    texts, (nouns, classes) = glosses()
    if not (folder / "blocks.npy").exists():
        import datasets

        documents = [texts[index] for index in np.random.default_rng(0).permutation(len(texts))]
        tokenizer = train_tokenizer(documents, recipe.model_config().vocab_size)
        tokenizer.save_pretrained(folder / "tokenizer")
        packed = pack_documents(
            datasets.Dataset.from_dict({"text": documents}), tokenizer, recipe.data["block_length"], text_column="text"
        )
        rows = [packed[index]["input_ids"] for index in range(len(packed) - 1)]  # the last one may be shorter
        np.save(folder / "blocks.npy", np.insert(np.array(rows), 0, tokenizer.bos_token_id, axis=1))
    blocks, tokenizer = np.load(folder / "blocks.npy"), AutoTokenizer.from_pretrained(folder / "tokenizer")
    # The benchmark tests on the first of this order, and takes its training labels from the rest.
    probed = np.random.default_rng(0).permutation(len(nouns))[NUM_TEST["glosses"] :][-2 * SETS * LABELS :]
    labels = np.asarray(classes)[probed]
    ids = tokenizer([nouns[index] for index in probed], truncation=True, max_length=PROBE_LENGTH).input_ids
    tokens = [torch.tensor(one) for one in ids]

    def probe(encoder: Any) -> dict[str, float]:
        poolings = {"mean of tokens": "mean", "maximum": "max"}
        return {name: accuracy(one, labels) for name, one in encoded(encoder, tokens, poolings).items()}

    return Setting(
        recipe.model_class,
        recipe.model_config,
        recipe.training_arguments({}),
        lambda seed: processed_samples("input_ids", blocks, seed),
        probe,
    )


def require(path: Path, package: str) -> None:
    if not path.exists():
        raise SystemExit(f"{path} is missing: apt-get install -y {package}")
