"""Does it learn? data2vec on Fashion-MNIST, and the papers' two claims at equal compute.

    python benchmarks/learning_vision.py                 # three seeds against raw pixels and random weights
    python benchmarks/learning_vision.py --claims        # K = 1 against K = all, M = 1 against M = 8

Every run is `Data2VecTrainer` with `benchmarks/fashion_mnist/recipe.yaml`, on one thread. Its length is a budget of CPU
time (user + system): the number of steps is computed from the time of the first ones, so variants that are cheaper
make more steps. Reported is the CPU time that the whole training took.

The data come with Debian: apt-get install -y dataset-fashion-mnist
"""

import argparse
import gzip
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from budgeted_runs import each, peak_memory, run_apart, steps_within, summary

DATA = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).parent
RECIPES = {"2.0": HERE / "fashion_mnist", "1.0": HERE / "fashion_mnist_v1"}
LABELS = (1_000, 10_000)
CLAIMS = {
    "K = all, M = 8": {},
    "K = 1": {"average_top_k_layers": 1},
    "M = 1": {"num_masks": 1},
}


def read_idx(name: str):
    """One of the data set's IDX files as a uint8 array."""
    import numpy as np

    with gzip.open(DATA / f"{name}.gz") as file:
        data = file.read()
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def dataset(split: str):
    """A split as a `datasets.Dataset` of arrays [28, 28] and labels."""
    import datasets

    prefix = {"train": "train", "test": "t10k"}[split]
    images, labels = read_idx(f"{prefix}-images-idx3-ubyte"), read_idx(f"{prefix}-labels-idx1-ubyte")
    features = datasets.Features({"image": datasets.Array2D((28, 28), "uint8"), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features).with_format("numpy")


def train(changes: dict, seed: int, budget: float, version: str) -> dict:
    """One run in this process: pretrain for `budget` CPU seconds, then probe; returns the figures."""
    import torch
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments, ImageTransform
    from modeling_data2vec.trainers.data.samples import SampleDataset
    from modeling_data2vec.trainers.evaluation.probe_table import probe_table
    from modeling_data2vec.trainers.modalities.image import ImageReader
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    recipe = load_recipe(RECIPES[version])
    config = recipe.model_config(changes)
    arrays = {split: dataset(split) for split in ("train", "test")}
    augmentation = recipe.augmentation
    transform = ImageTransform(config.image_shape, 1, **augmentation)

    def trainer(steps: int, output: str) -> Data2VecTrainer:
        torch.manual_seed(seed)
        settings = recipe.training_arguments({"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 20)})
        config.ema_anneal_end_step = max(1, int(0.7 * steps))
        args = Data2VecTrainingArguments(
            output, **settings, save_strategy="no", disable_tqdm=True, use_cpu=True, stop_on_collapse=False
        )
        images = SampleDataset(arrays["train"], ImageReader(transform), seed=seed)
        return Data2VecTrainer(recipe.model_class(config), args, train_dataset=images)

    with tempfile.TemporaryDirectory() as folder:
        steps = steps_within(budget, lambda steps: trainer(steps, folder))
        run = trainer(steps, folder)
        start = time.process_time()
        run.train()
        seconds, memory = time.process_time() - start, peak_memory()
    whole = ImageTransform(
        config.image_shape, 1, augmentation["mean"], augmentation["std"], crop_scale=(1.0, 1.0), horizontal_flip=False
    )
    import numpy as np

    order = np.random.default_rng(seed).permutation(60_000)[: LABELS[-1]]
    sets = []
    for split, rows in (("train", order), ("test", np.arange(10_000))):
        pixels = torch.from_numpy(np.array(arrays[split][rows]["image"], dtype=np.float32) / 255)[:, None]
        sets.append((torch.stack([whole(image) for image in pixels]), np.asarray(arrays[split][rows]["label"])))
    layers = list(range(1, config.num_prenet_layers + config.num_hidden_layers + 1))
    result: dict = {"steps": steps, "cpu_minutes": seconds / 60, "peak_mib": memory, "probes": {}}
    for name, layer in (("last layer", -1), ("all layers", layers)):
        table = probe_table(run.model, *sets, label_counts=[LABELS[0], None], layer=layer, seeds=(seed,))
        for row in table.to_dict()["rows"]:
            if row["probe"] == "linear":
                result["probes"][f"{row['features']}, {name}, {row['labels']}"] = row["mean"]
    return result


def report(results: dict[str, list[dict]]) -> None:
    for variant, runs in results.items():
        minutes = statistics.mean(run["cpu_minutes"] for run in runs)
        steps = statistics.mean(run["steps"] for run in runs)
        print(f"\n{variant}: {len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
        print("| features, pooled over | labels | linear probe | each seed |\n|---|---:|---:|---|")
        for name in runs[0]["probes"]:
            scores = [run["probes"][name] for run in runs]
            features, layer, labels = name.rsplit(", ", 2)
            print(f"| {features}, {layer} | {int(labels):,} | {summary(scores)} | {each(scores)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", action="store_true", help="compare K and M instead")
    parser.add_argument("--version", choices=RECIPES, default="2.0", help="of data2vec")
    parser.add_argument("--minutes", type=float, help="CPU-minutes of a run; default 20, with --claims 5")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{DATA} is missing: apt-get install -y dataset-fashion-mnist")
    if options.one:
        return print(json.dumps(train(*json.loads(options.one))))
    minutes = options.minutes or (5 if options.claims else 20)
    variants = CLAIMS if options.claims else {f"data2vec {options.version}": {}}
    results: dict[str, list[dict]] = {name: [] for name in variants}
    for seed in options.seeds:  # variants interleaved
        for name, changes in variants.items():
            results[name].append(run_apart("--one", json.dumps([changes, seed, 60 * minutes, options.version])))
            print(f"done: {name}, seed {seed}: {json.dumps(results[name][-1])}", file=sys.stderr, flush=True)
    report(results)


if __name__ == "__main__":
    main()
