"""Does it learn from waveforms? Speech models with convolutions on studio prompts, probed on Mandarin syllables.

    python benchmarks/learning_waveforms.py                 # three seeds against MFCC and random weights
    python benchmarks/learning_waveforms.py --careless      # a run that collapses, and the health monitor's words

Every run is `Data2VecTrainer` with `benchmarks/speech_small/recipe.yaml`, on one thread. Its length is a budget of CPU
time (user + system). The probe is a logistic regression that names the initial (22 classes) or the final (39) of a
syllable that it has never heard: five folds by base syllable, over one man's voice that was not trained on.

The data come with Debian: apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from budgeted_runs import each, peak_memory, run_apart, steps_within, summary
from speech_sets import decode, normalized_syllables, require_recordings, training_clips
from syllable_probes import TASKS, unheard_folds

HERE = Path(__file__).parent
RECIPES = {"2.0": HERE / "speech_small", "1.0": HERE / "speech_small_v1"}
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
    scores = {}
    for task, labels, groups, folds in unheard_folds(names):
        accuracies = []
        for train, test in folds:
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
    """`time_statistics` of each clip's frames: of the last layer, and of the mean of all layers."""
    import numpy as np
    import torch

    from modeling_data2vec.trainers.media.mfcc import time_statistics

    encoder = model.base_model.eval()
    last, mean = [], []
    with torch.no_grad():
        for clip in clips:
            states = torch.cat(encoder(clip[None], output_hidden_states=True).hidden_states[1:])
            last.append(time_statistics(states[-1].numpy()))
            mean.append(time_statistics(states.mean(0).numpy()))
    return {"last layer": np.stack(last), "mean of layers": np.stack(mean)}


def train(folder: Path, changes: dict, seed: int, budget: float, version: str, careless: bool = False) -> dict:
    """One run in this process: pretrain for `budget` CPU seconds, then probe; returns the figures."""
    import torch
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers import CollapseError, Data2VecTrainer, Data2VecTrainingArguments
    from modeling_data2vec.trainers.modalities.speech import AudioMaskCollator
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    recipe = load_recipe(RECIPES[version])
    training = {name: changes.pop(name) for name in list(changes) if name in ("learning_rate", "warmup_steps")}
    config = recipe.model_config(changes)
    data = recipe.data
    clips, names = normalized_syllables(folder)
    samples = training_clips(folder, data, seed)

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
        model = recipe.model_class(config)
        return Data2VecTrainer(model, args, AudioMaskCollator(config, data["crop"]), train_dataset=samples)

    result: dict = {"probes": {}}
    with tempfile.TemporaryDirectory() as output:
        steps = steps_within(budget, lambda steps: trainer(steps, output))
        run = trainer(steps, output)
        blank = encode(run.model, clips)
        start = time.process_time()
        try:
            run.train()
        except CollapseError as error:
            result["diagnosis"] = str(error)
        result |= {"steps": run.state.global_step, "cpu_minutes": (time.process_time() - start) / 60}
        result["peak_mib"] = peak_memory()
    for name, layers in (("random weights", blank), ("model", encode(run.model, clips))):
        for layer, features in layers.items():
            result["probes"][f"{name}, {layer}"] = probe(features, names)
    log = [entry for entry in run.state.log_history if "target_spread" in entry]
    keys = "step loss constant_loss target_std position_explained student_rank feature_encoder_rank feature_encoder_std"
    result["health"] = [{key: entry[key] for key in keys.split()} for entry in (log[0], log[len(log) // 2], log[-1])]
    return result


def mfcc_baseline(folder: Path) -> dict[str, float]:
    from modeling_data2vec.trainers.media.mfcc import mfcc_statistics

    clips, names = normalized_syllables(folder)
    return probe(mfcc_statistics(clips), names)


def report(version: str, runs: list[dict], baseline: dict[str, float]) -> None:
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    steps = statistics.mean(run["steps"] for run in runs)
    print(f"\ndata2vec {version}: {len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
    print("| features | initial | each seed | final | each seed |\n|---|---:|---|---:|---|")
    for name in runs[0]["probes"]:
        cells = []
        for task in TASKS:
            scores = [run["probes"][name][task] for run in runs]
            cells.append(f"{summary(scores)} | {each(scores)}")
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| MFCC | {baseline['initial']:.3f} | | {baseline['final']:.3f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", choices=RECIPES, default="2.0", help="of data2vec")
    parser.add_argument("--minutes", type=float, default=15, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--careless", action="store_true", help="settings that collapse, with the health monitor on")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    require_recordings()
    if options.one:
        folder, *rest = json.loads(options.one)
        return print(json.dumps(train(Path(folder), *rest)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decode(folder)
        if options.careless:
            one = [name, CARELESS, options.seeds[0], 60 * options.minutes, options.version, True]
            return print(json.dumps(run_apart("--one", json.dumps(one)), indent=2, ensure_ascii=False))
        runs = []
        for seed in options.seeds:
            runs.append(run_apart("--one", json.dumps([name, {}, seed, 60 * options.minutes, options.version])))
            print(f"done: seed {seed}: {json.dumps(runs[-1])}", file=sys.stderr, flush=True)
        report(options.version, runs, mfcc_baseline(folder))


if __name__ == "__main__":
    main()
