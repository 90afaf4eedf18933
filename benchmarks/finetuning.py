"""What is pretraining worth when a model is fine-tuned? The same fine-tuning from pretrained and from random weights.

    python benchmarks/finetuning.py --folder runs/finetuning --reviews vaderSentiment-3.3.2.tar.gz
    python benchmarks/finetuning.py --folder runs/finetuning --tasks phrases --seeds 0

For each kind of data one small model is pretrained with `data2vec pretrain` on one thread (once; it stays in the
folder). Then `finetune` trains

- all weights, from random and from pretrained ones,
- LoRA and a head on pretrained weights,
- a head alone on both (not for phrases).

A seed decides which samples are labelled, the head, the order and, without pretraining, the weights. Every run is a
process of its own with the same steps and settings for random and pretrained weights; results are kept in
`FOLDER/results.json`, so a run that was stopped goes on. The data: see `finetuning_data.py`.
"""

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from budgeted_runs import each, peak_memory, run_apart, summary
from finetuning_data import PROMPTS, prepare

HERE = Path(__file__).parent
# Recipe, steps and changes of pretraining: 4 to 10 CPU-minutes each, half an hour for spectrograms.
PRETRAINING: dict[str, tuple[str, int, dict[str, int]]] = {
    "vision": ("fashion_mnist", 4_000, {}),
    "audio": ("speech_small", 3_000, {}),
    "text": ("text_small", 5_000, {}),
    # Crops as long as a phrase: beyond a crop of the recipe's, positions are new to the model.
    "spectrogram": ("data2vec2-spectrogram-tiny", 22_500, {"spectrogram_length": 192}),
}
BATCHES = {"spectrogram": 3}  # clips of a step, where they are not the recipe's
METHODS: dict[str, dict[str, Any]] = {
    "all weights, random": {"pretrained": False},
    "all weights, pretrained": {"pretrained": True},
    "LoRA, pretrained": {"pretrained": True, "peft": "lora"},
    "head, pretrained": {"pretrained": True, "freeze": "encoder"},
    "head, random": {"pretrained": False, "freeze": "encoder"},
}
# (kind of data, task of `data2vec finetune`, figure, {labelled samples, or None for all: training steps}, batch)
TASKS: dict[str, tuple[str, str, str, dict[int | None, int], int]] = {
    "fashion": ("vision", "image-classification", "accuracy", {600: 400, 6_000: 1_000}, 16),
    "glosses": ("text", "text-classification", "accuracy", {100: 150, 1_000: 400, 10_000: 1_200}, 16),
    "reviews": ("text", "text-classification", "accuracy", {100: 150, 1_000: 400, None: 1_000}, 16),
    "phrases": ("audio", "ctc", "cer", {None: 1_200}, 4),
    "Spanish phrases, spectrograms": ("spectrogram", "ctc", "cer", {None: 1_200}, 4),
    "Russian phrases, spectrograms": ("spectrogram", "ctc", "cer", {None: 1_200}, 4),
}
TOO_LITTLE = ("head, pretrained", "head, random")  # for phrases: one linear layer can't spell
RATES = {"all weights": 1e-3, "LoRA": 3e-3, "head": 1e-2}


def pretrain(kind: str, folder: Path) -> Path:
    """A pretrained model in the folder, made now if it is not there, and one with random weights beside it."""
    output = folder / f"pretrained-{kind}"
    if (output / "model.safetensors").exists():
        return output
    recipe, steps, changes = PRETRAINING[kind]
    dataset = {"vision": folder / "fashion", "text": folder / "glosses"}.get(kind, PROMPTS)
    own = HERE / recipe
    command: list[Any] = ["data2vec", "pretrain", "--recipe", own if own.exists() else recipe]
    command += ["--dataset", dataset, "--output_dir", output, "--max_steps", steps, "--warmup_steps", steps // 20]
    changes = changes | {"ema_anneal_end_step": steps * 7 // 10}
    command += ["--config", *(f"{name}={value}" for name, value in changes.items())]
    command += ["--save_strategy", "no", "--disable_tqdm", "true"]
    if kind in BATCHES:
        command += ["--per_device_train_batch_size", BATCHES[kind]]
    if kind == "text":
        tokenizer = ["data2vec", "tokenizer", "--dataset", dataset, "--vocab_size", 8_000]
        run([*tokenizer, "--output_dir", folder / "tokenizer"])
        command += ["--tokenizer", folder / "tokenizer"]
    run(command)
    return output


def run(command: list) -> None:
    """One of the package's commands, by the interpreter that runs this script."""
    words = [sys.executable, "-m", "data2vec_cli", *map(str, command[1:])]
    subprocess.run(words, check=True, stdout=sys.stderr)


def finetune_once(folder: str, task: str, labels: int | None, method: str, seed: int) -> dict:
    """One fine-tuning in this process: its figure on the test split, trained weights, CPU time and memory."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoProcessor, set_seed
    from transformers.utils import logging

    from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
    from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
    from modeling_data2vec.trainers.finetuning.run import finetune

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    kind, name, figure, steps, batch = TASKS[task]
    how = METHODS[method]
    source = pretrained = Path(folder) / f"pretrained-{kind}"
    output = Path(folder) / "last"
    shutil.rmtree(output, ignore_errors=True)
    if not how["pretrained"]:
        set_seed(seed)
        source = Path(folder) / f"random-{kind}-{seed}"
        AutoModel.from_config(AutoConfig.from_pretrained(pretrained)).save_pretrained(source)
        AutoProcessor.from_pretrained(pretrained).save_pretrained(source)
    options = FinetuningOptions(
        task=name,
        model=str(source),
        dataset=str(Path(folder) / task),
        test_split="test",
        limit=labels,
        peft=how.get("peft"),
        max_length=64 if kind == "text" else None,
    )
    args = FinetuningArguments(
        str(output),
        max_steps=steps[labels],
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=32,
        learning_rate=RATES[method.split(",")[0]],
        weight_decay=0.01,
        freeze=how.get("freeze"),
        save_strategy="no",
        seed=seed,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
    )
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        tuned = finetune(options, args, peft_changes={"r": 8, "lora_alpha": 16} if options.peft else None)
    return {
        "figure": tuned.metrics["test"][figure],
        "trained": sum(weight.numel() for weight in tuned.model.parameters() if weight.requires_grad),
        "cpu_seconds": time.process_time() - start,
        "peak_mib": peak_memory(),
    }


def report(results: dict[str, dict], seeds: list[int]) -> None:
    for task, (_, _, figure, steps, _) in TASKS.items():
        for labels in steps:
            rows = {
                method: [results[key] for seed in seeds if (key := name_of(task, labels, method, seed)) in results]
                for method in METHODS
            }
            if not any(rows.values()):
                continue
            print(f"\n{task}, {labels or 'all'} labels, {steps[labels]} steps\n")
            print(f"| trained | {figure} | each seed | weights trained | CPU seconds | memory |")
            print("|---|---:|---|---:|---:|---:|")
            for method, runs in rows.items():
                if not runs:
                    continue
                scores = [one["figure"] for one in runs]
                seconds = sum(one["cpu_seconds"] for one in runs) / len(runs)
                memory = max(one["peak_mib"] for one in runs)
                print(
                    f"| {method} | {summary(scores)} | {each(scores)} | {runs[0]['trained']:,} | {seconds:.0f} | "
                    f"{memory:.0f} MiB |"
                )


def name_of(task: str, labels: int | None, method: str, seed: int) -> str:
    return f"{task}/{labels or 'all'}/{method}/{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/finetuning"), help="data, models and results")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reviews", help="vaderSentiment-3.3.2.tar.gz, for the reviews")
    parser.add_argument("--table", action="store_true", help="only print what has been measured")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return print("\n" + json.dumps(finetune_once(*json.loads(options.one))))
    file = options.folder / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if options.table:
        return report(results, options.seeds)
    if "reviews" in options.tasks and not options.reviews:
        sys.exit(
            "--reviews is missing: pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 fetches the file"
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    for task in options.tasks:
        prepare(task, options.folder / task, options.reviews)
    for kind in dict.fromkeys(TASKS[task][0] for task in options.tasks):
        if kind == "text":
            prepare("glosses", options.folder / "glosses", None)
        pretrain(kind, options.folder)
    for seed in options.seeds:  # methods interleaved
        for task in options.tasks:
            for labels in TASKS[task][3]:
                for method in METHODS:
                    key = name_of(task, labels, method, seed)
                    if key not in results and not (TASKS[task][1] == "ctc" and method in TOO_LITTLE):
                        one = [str(options.folder), task, labels, method, seed]
                        results[key] = run_apart("--one", json.dumps(one))
                        file.write_text(json.dumps(results, indent=2))
                        print(f"done: {key}: {json.dumps(results[key])}", file=sys.stderr, flush=True)
    report(results, options.seeds)


if __name__ == "__main__":
    main()
