"""A recipe for batches of 64, in batches of 8: with its schedule scaled by the rules, and with it left as it is.

    python benchmarks/scaled_batch.py
    python benchmarks/scaled_batch.py --seeds 0 1 2 --changes learning_rate=0.003 --validation   # to tune by

All runs see equally many images, on one thread; the last row scales all but the teacher's decays. Accuracies are those
of ridge and nearest neighbours on the mean of patches, with 1,000 labels, five subsets. Each run's figures stay in a
file of `--output_dir`; what is there is not run again.

The data come with Debian: apt-get install -y dataset-fashion-mnist
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budgeted_runs import each, run_apart, summary
from learning_vision import DATA, NUM_VALIDATION, dataset, normalized, read_idx

from modeling_data2vec.trainers.named_values import assignments

RECIPE = Path(__file__).parent / "fashion_mnist_64"
SMALL = 8  # images in an optimizer step
RUNS = ("64, the recipe", "8, scaled", "8, as it is", "8, scaled but for the teacher")
PROBES = ("ridge", "kNN")


def schedule(name: str, changes: dict[str, Any]) -> Any:
    """The recipe of a row of the table."""
    from dataclasses import replace

    from modeling_data2vec import load_recipe

    recipe = load_recipe(RECIPE)
    recipe = replace(recipe, training=recipe.training | changes)
    if name == RUNS[0]:
        return recipe
    config = recipe.model_config()
    decays = {"ema_decay": config.ema_decay, "ema_end_decay": config.ema_end_decay}
    if name == RUNS[1]:
        return recipe.scaled(SMALL)
    if name == RUNS[3]:
        return recipe.scaled(SMALL, **decays)
    steps = recipe.scaled(SMALL).training["max_steps"]  # equally many images
    size = {"max_steps": steps, "per_device_train_batch_size": SMALL}
    return replace(recipe, training=recipe.training | size)


def pretrain_and_probe(name: str, seed: int, changes: dict[str, Any], validation: bool) -> dict[str, float]:
    """Figures of one run: CPU seconds, the last loss relative to a constant, and accuracies."""
    from modeling_data2vec.trainers import Data2VecTrainer, ImageTransform, encode
    from modeling_data2vec.trainers.data.samples import SampleDataset
    from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
    from modeling_data2vec.trainers.evaluation.probes import knn, ridge_probe
    from modeling_data2vec.trainers.modalities.image import ImageReader

    torch.set_num_threads(1)
    recipe = schedule(name, changes)
    config = recipe.model_config()
    torch.manual_seed(seed)
    model = recipe.model_class(config)
    reader = ImageReader(ImageTransform(config.image_shape, 1, **recipe.augmentation))
    quiet = {"seed": seed, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "stop_on_collapse": False}
    start = time.process_time()
    with tempfile.TemporaryDirectory() as output:
        args = recipe.arguments(output, **quiet)
        trainer = Data2VecTrainer(model, args, train_dataset=SampleDataset(dataset("train"), reader, seed=seed))
        trainer.train()
    seconds = time.process_time() - start
    logs = [entry for entry in trainer.state.log_history if "loss_below_constant" in entry]
    train, train_y = read_idx("train-images-idx3-ubyte"), read_idx("train-labels-idx1-ubyte")
    if validation:
        test, test_y = train[-NUM_VALIDATION:], train_y[-NUM_VALIDATION:]
        train, train_y = train[:-NUM_VALIDATION], train_y[:-NUM_VALIDATION]
    else:
        test, test_y = read_idx("t10k-images-idx3-ubyte"), read_idx("t10k-labels-idx1-ubyte")
    subsets = [label_subset(train_y, 1_000, 100 * seed + number) for number in range(5)]
    test_x = encode(model, normalized(test, recipe), batch_size=250)
    found: dict[str, list[float]] = {probe: [] for probe in PROBES}
    for ids in subsets:
        x = encode(model, normalized(train[ids], recipe), batch_size=250)
        found["ridge"].append(ridge_probe(x, train_y[ids], test_x, test_y))
        found["kNN"].append(knn(x, train_y[ids], test_x, test_y))
    figures = {probe: float(np.mean(scores)) for probe, scores in found.items()}
    return figures | {"cpu_seconds": seconds, "below_constant": logs[-1]["loss_below_constant"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, metavar="NAME")
    parser.add_argument("--changes", nargs="*", default=[], help="of the recipe's training arguments: NAME=VALUE")
    parser.add_argument("--validation", action="store_true", help="the last training images instead of the test images")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/scaled_batch"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: apt-get install -y dataset-fashion-mnist")
    if options.one:
        print(json.dumps(pretrain_and_probe(*json.loads(options.one))))
        return
    options.output_dir.mkdir(parents=True, exist_ok=True)
    print("| batch | ridge | each | kNN | each | loss below a constant | CPU-s |\n|---|---:|---|---:|---|---:|---:|")
    for name in options.runs:
        found = []
        for seed in options.seeds:
            key = "_".join([name.replace(", ", "_").replace(" ", "-"), str(seed), *options.changes])
            file = options.output_dir / f"{key}{'_validation' if options.validation else ''}.json"
            if not file.exists():
                changes = assignments(options.changes, "--changes")
                file.write_text(json.dumps(run_apart("--one", json.dumps([name, seed, changes, options.validation]))))
            found.append(json.loads(file.read_text()))
        cells = [
            cell
            for probe in PROBES
            for scores in [[one[probe] for one in found]]
            for cell in (summary(scores), each(scores))
        ]
        below, seconds = (sum(one[key] for one in found) / len(found) for key in ("below_constant", "cpu_seconds"))
        print(f"| {name} | {' | '.join(cells)} | {below:.0%} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
