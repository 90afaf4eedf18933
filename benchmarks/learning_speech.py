"""Does it learn speech? data2vec 2.0 on studio prompts in five languages, probed on Mandarin syllables.

    python benchmarks/learning_speech.py                 # three seeds against MFCC and random weights
    python benchmarks/learning_speech.py --careless      # a run that collapses, and the health monitor's words

Every run is `Data2VecTrainer` with `benchmarks/speech_small/recipe.yaml`, on one thread. Its length is a budget of CPU
time (user + system). The probe is a logistic regression that names the initial (22 classes) or the final (39) of a
syllable that it has never heard: five folds by base syllable, over one man's voice that was not trained on.

The data come with Debian: apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPTS = Path("/usr/share/asterisk/sounds")
SYLLABLES = Path("/usr/share/gcin-voice/ogg")
RECIPE = Path(__file__).parent / "speech_small" / "recipe.yaml"
INITIALS = "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ"
TASKS = ("initial", "final")
WARM_STEPS = 30  # steps that are timed to compute the number of steps
# What a hasty user might set: the published extractor and positions over short crops, a high learning rate from the
# first step on. Targets become a function of position alone (docs/learning.md).
CARELESS = {
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "conv_dim": [64] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_pos_kernel_size": 19,
    "num_conv_pos_embeddings": 5,
}


def decode(folder: Path) -> None:
    """Decode all clips once, into arrays that every run loads: fp16 at 16 kHz, one after another."""
    import numpy as np

    from modeling_data2vec.trainers.audio_decoding import decode_audio
    from modeling_data2vec.trainers.samples import UnreadableError

    for name, files in (("prompts", sorted(PROMPTS.rglob("*.g722"))), ("syllables", sorted(SYLLABLES.glob("*/3.ogg")))):
        clips, labels = [], []
        for file in files:
            try:
                clip = decode_audio(str(file.resolve()), 16_000)
            except UnreadableError:  # one Russian prompt is empty
                continue
            clips.append(clip.astype(np.float16))
            labels.append(file.parent.name)
        sizes = np.array([len(clip) for clip in clips])
        np.savez(folder / f"{name}.npz", waveforms=np.concatenate(clips), sizes=sizes, labels=np.array(labels))


def load(folder: Path, name: str):
    """(clips, folder names) that `decode` wrote; each clip normalised."""
    import numpy as np
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor()
    data = np.load(folder / f"{name}.npz")
    clips = np.split(data["waveforms"].astype(np.float32), data["sizes"].cumsum()[:-1])
    return [extractor(clip, sampling_rate=16_000)["input_values"][0] for clip in clips], data["labels"].tolist()


class Crops:
    """Random crops of the prompts: a pure function of (seed, epoch, index)."""

    def __init__(self, clips, seed: int, length: int, shortest: int) -> None:
        self.clips = [clip for clip in clips if len(clip) >= shortest]
        self.seed, self.length, self.epoch = seed, length, 0

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def lengths(self) -> list[int]:
        return [min(len(clip), self.length) for clip in self.clips]

    def __getitem__(self, index: int) -> dict:
        from random import Random

        import torch

        clip = self.clips[index]
        rng = Random(f"{self.seed} {self.epoch} {index}")
        start = rng.randint(0, max(0, len(clip) - self.length))
        return {"input_values": torch.from_numpy(clip[start : start + self.length]), "key": rng.getrandbits(31)}


def syllable_parts(name: str) -> tuple[str, str, str]:
    """(base syllable, initial, final) of a folder's name: bopomofo with a digit for the tone.

    Example:
        >>> syllable_parts("ㄅㄚ3")
        ('ㄅㄚ', 'ㄅ', 'ㄚ')
    """
    base = name.rstrip("12345")
    initial = base[0] if base[0] in INITIALS else ""
    return base, initial, base.removeprefix(initial)


def time_bins(frames, count: int = 6):
    """Mean, standard deviation and `count` means over time of one clip's frames [T, D]: [(2 + count) * D]."""
    import numpy as np

    edges = np.linspace(0, len(frames), count + 1)
    bins = [frames[int(a) : max(int(a) + 1, round(b))].mean(0) for a, b in itertools.pairwise(edges)]
    return np.concatenate([frames.mean(0), frames.std(0), *bins])


def probe(features, names: list[str], strengths: tuple[float, ...] = (0.01, 0.1, 1.0)) -> dict[str, float]:
    """Accuracy for initials and finals, five folds by base syllable.

    The regularisation is chosen within each training part, by base syllable as well.
    """
    import warnings

    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.asarray(features)
    parts = [syllable_parts(name) for name in names]
    groups = np.array([part[0] for part in parts])
    scores = {}
    for index, task in enumerate(TASKS, start=1):
        labels = np.array([part[index] for part in parts])
        accuracies = []
        for train, test in GroupKFold(5, shuffle=True, random_state=0).split(features, labels, groups):
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-2))
            if len(strengths) > 1:
                grid = {"logisticregression__C": strengths}
                inner = GroupKFold(3, shuffle=True, random_state=0).split(train, labels[train], groups[train])
                classifier = GridSearchCV(classifier, grid, cv=list(inner))
            else:
                classifier.set_params(logisticregression__C=strengths[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # finals that a fold never heard
                accuracies.append(classifier.fit(features[train], labels[train]).score(features[test], labels[test]))
        scores[task] = float(np.mean(accuracies))
    return scores


def encode(model, clips):
    """`time_bins` of each clip's frames: of the last layer, and of the mean of all layers."""
    import numpy as np
    import torch

    encoder = model.base_model.eval()
    last, mean = [], []
    with torch.no_grad():
        for clip in clips:
            states = torch.cat(encoder(torch.from_numpy(clip)[None], output_hidden_states=True).hidden_states[1:])
            last.append(time_bins(states[-1].numpy()))
            mean.append(time_bins(states.mean(0).numpy()))
    return {"last layer": np.stack(last), "mean of layers": np.stack(mean)}


def train(folder: Path, changes: dict, seed: int, budget: float, careless: bool = False) -> dict:
    """One run in this process: pretrain for `budget` CPU seconds, then probe; returns the figures."""
    import torch
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec import Data2Vec2AudioForPreTraining
    from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, Data2VecTrainingArguments
    from modeling_data2vec.trainers.collators import AudioMaskCollator
    from modeling_data2vec.trainers.recipes import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    recipe = load_recipe(RECIPE)
    training = {name: changes.pop(name) for name in list(changes) if name in ("learning_rate", "warmup_steps")}
    config = recipe.model_config(changes)
    data = recipe.data
    prompts, _ = load(folder, "prompts")
    syllables, names = load(folder, "syllables")
    crops = Crops(prompts, seed, int(16_000 * data["max_seconds"]), int(16_000 * data["min_seconds"]))

    def trainer(steps: int, output: str) -> Data2VecTrainer:
        torch.manual_seed(seed)
        settings = recipe.training_arguments({"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 10)})
        config.ema_anneal_end_step = max(1, int(0.7 * steps))
        args = Data2VecTrainingArguments(
            output,
            **(settings | training),
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            stop_on_collapse=careless,
        )
        model = Data2Vec2AudioForPreTraining(config)
        return Data2VecTrainer(model, args, AudioMaskCollator(config, data["crop"]), train_dataset=crops)

    result: dict = {"probes": {}}
    with tempfile.TemporaryDirectory() as output:
        trainer(3, output).train()
        start = time.process_time()
        trainer(WARM_STEPS, output).train()
        steps = int(budget / ((time.process_time() - start) / WARM_STEPS))
        run = trainer(steps, output)
        blank = encode(run.model, syllables)
        start = time.process_time()
        try:
            run.train()
        except CollapseError as error:
            result["diagnosis"] = str(error)
        result |= {"steps": run.state.global_step, "cpu_minutes": (time.process_time() - start) / 60}
    for name, layers in (("random weights", blank), ("model", encode(run.model, syllables))):
        for layer, features in layers.items():
            result["probes"][f"{name}, {layer}"] = probe(features, names)
    log = [entry for entry in run.state.log_history if "target_spread" in entry]
    keys = "step loss constant_loss target_std position_explained student_rank feature_encoder_rank feature_encoder_std"
    result["health"] = [{key: entry[key] for key in keys.split()} for entry in (log[0], log[len(log) // 2], log[-1])]
    return result


def mfcc_baseline(folder: Path) -> dict[str, float]:
    import torch

    from modeling_data2vec.trainers.baselines import mfcc_statistics

    syllables, names = load(folder, "syllables")
    return probe(mfcc_statistics([torch.from_numpy(clip) for clip in syllables]), names)


def run_apart(folder: Path, changes: dict, seed: int, budget: float, careless: bool = False) -> dict:
    """`train` in a process of its own, on one thread."""
    arguments = json.dumps([str(folder), changes, seed, budget, careless])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--one", arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(runs: list[dict], baseline: dict[str, float]) -> None:
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    steps = statistics.mean(run["steps"] for run in runs)
    print(f"\ndata2vec 2.0: {len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
    print("| features | initial | each seed | final | each seed |\n|---|---:|---|---:|---|")
    for name in runs[0]["probes"]:
        cells = []
        for task in TASKS:
            scores = [run["probes"][name][task] for run in runs]
            spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
            cells.append(f"{statistics.mean(scores):.3f}{spread} | {', '.join(f'{score:.3f}' for score in scores)}")
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| MFCC | {baseline['initial']:.3f} | | {baseline['final']:.3f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--careless", action="store_true", help="settings that collapse, with the health monitor on")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not PROMPTS.exists() or not SYLLABLES.exists():
        sys.exit(f"{PROMPTS} or {SYLLABLES} is missing: {__doc__.strip().splitlines()[-1].split(': ', 1)[1]}")
    if options.one:
        folder, *rest = json.loads(options.one)
        return print(json.dumps(train(Path(folder), *rest)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decode(folder)
        if options.careless:
            run = run_apart(folder, dict(CARELESS), options.seeds[0], 60 * options.minutes, careless=True)
            return print(json.dumps(run, indent=2, ensure_ascii=False))
        runs = []
        for seed in options.seeds:
            runs.append(run_apart(folder, {}, seed, 60 * options.minutes))
            print(f"done: seed {seed}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
        report(runs, mfcc_baseline(folder))


if __name__ == "__main__":
    main()
