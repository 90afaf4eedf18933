"""Does it learn speech? data2vec on studio prompts in five languages, probed on Mandarin syllables.

    python benchmarks/learning_speech.py                      # spectrograms: three seeds and what they have to beat
    python benchmarks/learning_speech.py --model log_mel      # the speech model with a log-mel front-end
    python benchmarks/learning_speech.py --stable             # a learning rate that falls in the last fifth alone

Every run is `Data2VecTrainer` with a shipped recipe, for spectrograms `data2vec2-spectrogram-tiny`, on one thread. Its
length is a budget of CPU time (user + system). Probes: `syllable_probes.py`. Models and figures are kept in a folder,
so that what was stopped goes on; delete `*-probes.json` to probe the models anew.

The data come with Debian: apt-get install -y asterisk-core-sounds-{en,es,fr,it,ru}-g722 gcin-voice
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from budgeted_runs import each, peak_memory, run_apart, stable_then_decay, steps_within, summary
from speech_sets import decode, require_recordings, syllables, training_samples
from syllable_probes import FEW, TASKS, baselines, encoded, probes

# Recipe, and changes of its config.
MODELS: dict[str, tuple[str, dict]] = {
    "spectrogram": ("data2vec2-spectrogram-tiny", {}),
    "log_mel": ("data2vec2-audio-tiny", {"front_end": "log_mel"}),
    "convolutions": ("data2vec2-audio-tiny", {}),
}
HEALTH = "step loss constant_loss target_std position_explained student_rank feature_encoder_rank feature_encoder_std"


def pretrain(folder: Path, run_name: str, model: str, seed: int, budget: float, stable: bool) -> dict:
    """One run in this process, of `budget` CPU seconds: keeps the model, and returns what the run says of itself."""
    import torch
    from transformers import AutoFeatureExtractor
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments
    from modeling_data2vec.trainers.modalities.names import modality
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    name, changes = MODELS[model]
    recipe = load_recipe(name)
    config = recipe.model_config(changes)
    reads = modality(recipe.model_class)(config, AutoFeatureExtractor.from_pretrained(recipe.config), recipe.data)
    samples = training_samples(folder, reads, seed)
    warmup = recipe.training["warmup_steps"] / recipe.training["max_steps"]
    rise = config.ema_anneal_end_step / recipe.training["max_steps"]
    output = folder / run_name

    def trainer(steps: int) -> Data2VecTrainer:
        torch.manual_seed(seed)
        changed = {"max_steps": steps, "seed": seed, "warmup_steps": max(1, round(warmup * steps))}
        changed |= stable_then_decay(steps) if stable else {}
        config.ema_anneal_end_step = max(1, round(rise * steps))
        args = Data2VecTrainingArguments(
            str(output),
            **(recipe.training_arguments(changed) | {"save_strategy": "no"}),
            disable_tqdm=True,
            use_cpu=True,
            stop_on_collapse=False,
        )
        return Data2VecTrainer(recipe.model_class(config), args, reads.collator(), train_dataset=samples)

    steps = steps_within(budget, trainer)
    run = trainer(steps)
    run.model.save_pretrained(f"{output}-random")
    start = time.process_time()
    run.train()
    result: dict = {"steps": run.state.global_step, "cpu_minutes": (time.process_time() - start) / 60}
    result["peak_mib"] = peak_memory()
    run.model.save_pretrained(output)
    reads.processor.save_pretrained(output)
    log = [entry for entry in run.state.log_history if "target_spread" in entry]
    result["health"] = [{key: entry[key] for key in HEALTH.split()} for entry in (log[0], log[len(log) // 2], log[-1])]
    return result


def probe_both(folder: Path, run: str) -> dict:
    """The figures of a kept model, and of the random weights that it started from."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    from modeling_data2vec.trainers.modalities.names import modality

    torch.set_num_threads(1)
    found: dict[str, dict] = {}
    for name, kept in (("random weights", f"{run}-random"), ("data2vec 2.0", run)):
        model = AutoModel.from_pretrained(folder / kept)
        reads = modality(model)(model.config, AutoFeatureExtractor.from_pretrained(folder / run), {})
        clips, names = syllables(folder, reads.probe_reader("audio"))
        found |= probes(name, encoded(model, clips), names)
    return found


def report(model: str, runs: list[dict], free: dict[str, dict]) -> None:
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    steps = statistics.mean(run["steps"] for run in runs)
    print(f"\n{model}: {len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
    print(f"| features | pooling | initial | final | {FEW} labels a class: initial | final | each seed, all labels |")
    print("|---|---|---:|---:|---:|---:|---|")
    figures = [f"{task}{few}" for few in ("", f", {FEW} labels") for task in TASKS]
    for row in runs[0]["probes"]:
        scores = {figure: [run["probes"][row][figure] for run in runs] for figure in figures}
        seeds = "; ".join(each(scores[task]) for task in TASKS)
        print(f"| {row} | {' | '.join(summary(scores[figure]) for figure in figures)} | {seeds} |")
    for row, scores in free.items():
        print(f"| {row} | {' | '.join(f'{scores[figure]:.3f}' for figure in figures)} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="spectrogram")
    parser.add_argument("--stable", action="store_true", help="a constant rate until the last fifth, not the recipe's")
    parser.add_argument("--minutes", type=float, default=10, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/learning_speech"), help="models and figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    require_recordings()
    if options.one:
        what, folder, *rest = json.loads(options.one)
        parts: dict[str, Callable[..., dict]] = {"pretrain": pretrain, "probes": probe_both, "baselines": baselines}
        return print("\n" + json.dumps(parts[what](Path(folder), *rest)))
    folder = options.folder
    if not (folder / "syllables.npz").exists():
        decode(folder)

    def kept(name: str, what: str, *arguments) -> dict:
        """The figures of a part, from its file if it was made before."""
        file = folder / f"{name}.json"
        if not file.exists():
            figures = run_apart("--one", json.dumps([what, str(folder), *arguments]))
            file.write_text(json.dumps(figures, indent=2, ensure_ascii=False))
        return json.loads(file.read_text())

    seconds = 60 * options.minutes
    runs = []
    for seed in options.seeds:
        run = f"{options.model}{'-stable' if options.stable else ''}-{seed}"
        facts = kept(run, "pretrain", run, options.model, seed, seconds, options.stable)
        runs.append(facts | {"probes": kept(f"{run}-probes", "probes", run)})
    report(options.model, runs, kept("baselines", "baselines"))


if __name__ == "__main__":
    main()
