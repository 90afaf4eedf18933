"""Does what was learned from speech tell other sounds apart? Frozen features of drums, loops, tablas and synthesizers.

    python benchmarks/learning_speech.py --seeds 0
    python benchmarks/sound_classes.py runs/learning_speech/spectrogram-0

The sounds are Sonic Pi's samples, of which the first word of a file's name says the family. A ridge regression gets 10
labels of each; accuracy is averaged over families and over draws of the labels.

The data come with Debian: apt-get install -y sonic-pi-samples
"""

import argparse
import logging
import statistics
import sys
from pathlib import Path

SOUNDS = Path("/usr/share/sonic-pi/samples")
FAMILIES = ("drum", "elec", "loop", "tabla")  # those with more than 15 sounds
LABELS, DRAWS = 10, 20
SECONDS = (0.1, 4.0)  # shorter sounds are left out, of longer ones the start is taken
POOLINGS = ("mean", "mean+std", "mean+std+time6")
BANDS = ("bands", "bands+bands_std+bands_max")  # of models alone


def accuracy(features, families) -> tuple[float, float]:
    """Mean accuracy over families and draws, and its standard error over draws."""
    import numpy as np

    from modeling_data2vec.trainers.evaluation.probes import ridge_predictions

    draws = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(families))
        train = np.concatenate([order[families[order] == one][:LABELS] for one in FAMILIES])
        test = np.setdiff1d(order, train)
        right = ridge_predictions(features[train], families[train], features[test]).answers == families[test]
        draws.append(float(np.mean([right[families[test] == one].mean() for one in FAMILIES])))
    return statistics.mean(draws), statistics.stdev(draws) / DRAWS**0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a spectrogram model")
    parser.add_argument("--sounds", type=Path, default=SOUNDS, help="folder of Sonic Pi's samples")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    options = parser.parse_args()
    if not options.sounds.exists():
        sys.exit(f"{options.sounds} is missing: apt-get install -y sonic-pi-samples")
    import numpy as np
    import torch
    from transformers import AutoFeatureExtractor, AutoModel
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers.evaluation.features import encode
    from modeling_data2vec.trainers.media.audio_decoding import decode_audio
    from modeling_data2vec.trainers.modalities.spectrogram import statistics as log_mel_statistics

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    model, extractor = (kind.from_pretrained(options.model) for kind in (AutoModel, AutoFeatureExtractor))
    shortest, longest = (int(seconds * extractor.sampling_rate) for seconds in SECONDS)
    clips, words = [], []
    for file in sorted(options.sounds.rglob("*.flac")):
        word = file.name.split("_")[0]
        clip = decode_audio(str(file), extractor.sampling_rate) if word in FAMILIES else ()
        if len(clip) >= shortest:
            clips.append(clip[:longest])
            words.append(word)
    families = np.array(words)
    inputs = [torch.as_tensor(extractor.log_mel(clip)) for clip in clips]
    torch.manual_seed(options.seed)
    untrained = AutoModel.from_config(model.config)
    raw = log_mel_statistics(inputs)
    bins = extractor.feature_size
    rows = {f"raw log-mel | {name}": raw[:, : count * bins] for name, count in zip(POOLINGS, (1, 2, 8), strict=True)}
    for name, encoder in (("random weights", untrained), ("data2vec 2.0", model)):
        rows |= {f"{name} | {pooling}": encode(encoder, inputs, pooling=pooling) for pooling in (*POOLINGS, *BANDS)}
    print(f"{len(clips)} sounds, {', '.join(f'{(families == one).sum()} {one}' for one in FAMILIES)}\n")
    print(f"| features | pooling | {LABELS} labels a class |\n|---|---|---:|")
    for name, features in rows.items():
        print("| {} | {:.3f} ± {:.3f} |".format(name, *accuracy(features, families)))


if __name__ == "__main__":
    main()
