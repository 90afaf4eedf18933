"""Mandarin syllables that a probe has never heard, and what it makes of features of the others.

A ridge regression names the initial (22 classes) or the final (39) of a syllable: five folds by base syllable, over
1,200 syllables of one man's voice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speech_sets import normalized_syllables, syllables

INITIALS = "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ"
TASKS = ("initial", "final")
# How a clip's positions become one vector, and of which layers. Frames of waveform models have no bands.
ALL = "0+1+2+3+4"
FEATURES: dict[str, dict[str, tuple[str, Any]]] = {
    "spectrogram": {
        "mean": ("mean", -1),
        "bands": ("bands", -1),
        "bands, all layers": ("bands", ALL),
        "bands+bands_std+bands_max, all layers": ("bands+bands_std+bands_max", ALL),
        "bands+bands_std+bands_max+time3, all layers": ("bands+bands_std+bands_max+time3", ALL),
        "mean+std+time6, all layers": ("mean+std+time6", ALL),
    },
    "audio": {
        "mean, all layers": ("mean", ALL),
        "mean+std+max, all layers": ("mean+std+max", ALL),
        "mean+std+time6, all layers": ("mean+std+time6", ALL),
    },
}
FEW = 5  # labels of a class, in the columns for few labels
DRAWS = 5  # of which labels these are
RANDOM_SEEDS = (0, 1)  # of an untrained model, whose figures are averaged


def syllable_parts(name: str) -> tuple[str, str, str]:
    """(base syllable, initial, final) of a folder's name: bopomofo with a digit for the tone.

    Example:
        >>> syllable_parts("ㄅㄚ3")
        ('ㄅㄚ', 'ㄅ', 'ㄚ')
    """
    base = name.rstrip("12345")
    initial = base[0] if base[0] in INITIALS else ""
    return base, initial, base.removeprefix(initial)


def unheard_folds(names: list[str]) -> Iterator[tuple[str, Any, Any, list[tuple[Any, Any]]]]:
    """(task, labels, base syllables, [(training, test) indices of five folds]) of each task; no fold shares a syllable.

    Args:
        names: folder names of the syllables.
    """
    import numpy as np
    from sklearn.model_selection import GroupKFold

    parts = [syllable_parts(name) for name in names]
    groups = np.array([part[0] for part in parts])
    folds = list(GroupKFold(5, shuffle=True, random_state=0).split(groups, groups=groups))
    for index, task in enumerate(TASKS, start=1):
        yield task, np.array([part[index] for part in parts]), groups, folds


def probe(features, names: list[str], labels_a_class: int | None = None) -> dict[str, float]:
    """Accuracy for initials and finals, five folds by base syllable.

    Args:
        features: [N, D].
        names: folder names of the syllables.
        labels_a_class: how many training labels of each class are used; None for all. Of few, the mean of some draws.
    """
    import numpy as np

    from modeling_data2vec.trainers.evaluation.probes import ridge_probe

    features = np.asarray(features)
    scores = {}
    for task, labels, _, folds in unheard_folds(names):
        accuracies = []
        for train, test in folds:
            for draw in range(DRAWS if labels_a_class else 1):
                order = np.random.default_rng(draw).permutation(train)
                chosen = np.concatenate([order[labels[order] == one][:labels_a_class] for one in np.unique(labels)])
                accuracies.append(ridge_probe(features[chosen], labels[chosen], features[test], labels[test]))
        scores[task] = float(np.mean(accuracies))
    return scores


def probes(name: str, features: dict, names: list[str]) -> dict[str, dict]:
    """The figures of one encoder: for each pooling, with all labels and with few."""
    found: dict[str, dict] = {}
    for pooling, values in features.items():
        few = {f"{task}, {FEW} labels": score for task, score in probe(values, names, FEW).items()}
        found[f"{name} | {pooling}"] = probe(values, names) | few
    return found


def encoded(model, inputs) -> dict:
    """Features of all clips from an encoder, by the poolings and layers of its kind."""
    from modeling_data2vec.trainers.evaluation.features import encode

    features = FEATURES[model.base_model.modality]
    return {name: encode(model, inputs, pooling=pooling, layer=layer) for name, (pooling, layer) in features.items()}


def baselines(folder: Path) -> dict[str, dict]:
    """The figures of what costs nothing: raw log-mel energies, MFCC, and the untrained speech model on log-mel."""
    import numpy as np
    import torch
    from transformers import AutoFeatureExtractor

    from modeling_data2vec.trainers.media.mfcc import mfcc_statistics
    from modeling_data2vec.trainers.modalities.spectrogram import SpectrogramReader, statistics
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    extractor = AutoFeatureExtractor.from_pretrained(load_recipe("data2vec2-spectrogram-tiny").config)
    spectrograms, names = syllables(folder, SpectrogramReader(extractor))
    waveforms, _ = normalized_syllables(folder)
    found: dict[str, dict] = {}
    for name, values in (("raw log-mel", statistics(spectrograms)), ("MFCC", mfcc_statistics(waveforms))):
        width = values.shape[1] // 8  # mean, deviation and six stretches of time
        cut = {"mean": values[:, :width], "mean+std": values[:, : 2 * width], "mean+std+time6": values}
        if name == "raw log-mel":
            largest = np.stack([spectrogram.amax(0).numpy() for spectrogram in spectrograms])
            cut["mean+std+max"] = np.concatenate([cut["mean+std"], largest], axis=1)
        found |= probes(name, cut, names)
    recipe = load_recipe("data2vec2-audio-tiny")
    rows = []
    for seed in RANDOM_SEEDS:
        torch.manual_seed(seed)
        model = recipe.model_class(recipe.model_config({"front_end": "log_mel"}))
        rows.append(probes("audio model, log_mel, random weights", encoded(model, waveforms), names))
    means = {
        row: {figure: float(np.mean([one[row][figure] for one in rows])) for figure in rows[0][row]} for row in rows[0]
    }
    return found | means
