"""Where pairs say everything: waveform and spectrogram of one clip, by the method and the trunk of `cross_modal.py`.

    nice python benchmarks/two_views.py --data runs/cross_modal

A control for `cross_modal.py`, whose pairs (a thing's picture, name and speech) share little: as many training pairs,
of the same studio prompts that its speech is trained on, and 128 that were not seen. If retrieval is far above chance
here, it is not the method that keeps it low there. Prints recall at 1 as a multiple of chance, and the median rank.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import speech_sets
import torch
from cross_modal import load_settings
from cross_modal_table import CHANCE
from one_network import retrieval, train
from three_sets import begin, prepare
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2Config, Data2Vec2ForPreTraining, Data2Vec2SpectrogramFeatureExtractor
from modeling_data2vec.configuration_data2vec2_joint import modality_configs
from modeling_data2vec.hub_configs import recipe_folder
from modeling_data2vec.trainers.data.samples import SampleDataset
from modeling_data2vec.trainers.evaluation.retrieval import pooled_features
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.pairs import PairsCollator, PairsReader
from modeling_data2vec.trainers.modalities.spectrogram import SpectrogramReader
from modeling_data2vec.trainers.modalities.speech import AudioReader

NAMES = ("audio", "spectrogram")
SAMPLES, FRAMES = 19_200, 112  # of each clip: 1.2 seconds, and a whole number of patches of them
NUM_TEST = 128


def make_model(settings: dict, steps: int, seed: int) -> Data2Vec2ForPreTraining:
    """The trunk and the speech of `cross_modal.py`, and the spectrograms of data2vec2-spectrogram-tiny."""
    trunk = settings["trunk"] | {"ema_anneal_end_step": max(1, int(0.7 * steps))}
    tiny = json.loads((recipe_folder("data2vec2-spectrogram-tiny") / "config.json").read_text())
    own = {key: value for key, value in tiny.items() if key not in ("architectures", "model_type")}
    parts = {"audio": settings["audio"], "spectrogram": own | {"spectrogram_length": FRAMES}}
    configs = {f"{name}_config": modality_configs()[name](**(parts[name] | trunk)) for name in NAMES}
    torch.manual_seed(seed)
    weights = {"pairs": 2 * settings["pairs"]["loss_weight"]}
    return Data2Vec2ForPreTraining(Data2Vec2Config(**configs, loss_weights=weights, **settings["cross_modal"]))


def features(model: Data2Vec2ForPreTraining, samples: list[dict]) -> dict:
    """What student and teacher make of whole samples."""
    collator = PairsCollator(PairsCollator.of(model.config).collators)  # nothing is masked
    batches = [collator(samples[start : start + 32])["pairs"] for start in range(0, len(samples), 32)]
    return {name: pooled_features(model, name, [batch[name] for batch in batches]) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of prepared data, as cross_modal.py's --folder"
    )
    parser.add_argument("--steps", type=int, default=160, help="updates")
    parser.add_argument("--pairs", type=int, default=587, help="clips that are trained on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin()
    prepare(options.data)
    settings = load_settings()
    settings["training"]["clip_modalities"] = False  # there is one kind of batch
    clips = [clip[:SAMPLES] for clip in speech_sets.load(options.data, "prompts")[0] if len(clip) >= SAMPLES]
    order = np.random.default_rng(0).permutation(len(clips))[: NUM_TEST + options.pairs]
    rows = [speech_sets.example(clips[i]) for i in order]
    extractor = Data2Vec2SpectrogramFeatureExtractor.from_pretrained(recipe_folder("data2vec2-spectrogram-tiny"))
    reader = PairsReader(
        {
            "audio": AudioReader(Wav2Vec2FeatureExtractor()),
            "spectrogram": SpectrogramReader(extractor, max_frames=FRAMES),
        }
    )
    samples = [reader(row) for row in rows]
    model = make_model(settings, options.steps, options.seed)

    def show(what: str, heads: Data2Vec2ForPreTraining | None = None) -> None:
        found = retrieval(
            {"train": features(model, samples[NUM_TEST:]), "test": features(model, samples[:NUM_TEST])}, heads
        )
        cells = [f"{one['recalls'][1] / CHANCE:.1f}; {one['median_rank']:.0f}" for one in found.values()]
        mean = statistics.mean(one["recalls"][1] for one in found.values()) / CHANCE
        print(f"| {what} | {' | '.join(cells)} | {mean:.1f} |", flush=True)

    print(
        f"{len(samples) - NUM_TEST} pairs, {options.steps} updates, seed {options.seed}: recall at 1 x chance; rank\n"
    )
    print("| features | audio to spectrogram | spectrogram to audio | mean |\n|---|---:|---:|---:|")
    show("random weights, ridge")
    show("random weights, heads", model)
    source = MixtureSource(SampleDataset(rows[NUM_TEST:], reader, seed=options.seed), settings["pairs"]["batch_size"])
    train(model, MixtureDataset({"pairs": source}), settings, options.steps, options.seed)
    show("pairs, ridge")
    show("pairs, heads", model)


if __name__ == "__main__":
    main()
