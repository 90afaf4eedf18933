"""Does it learn? data2vec on Fashion-MNIST against what costs nothing, and the papers' two claims at equal compute.

    python benchmarks/learning_vision.py --minutes 15                 # three seeds
    python benchmarks/learning_vision.py --minutes 2.5 --validation   # without the test images: to tune by
    python benchmarks/learning_vision.py --claims --minutes 3         # K = 1 against all, M = 1 against 8
    python benchmarks/learning_vision.py --minutes 15 --patch_size 4  # 49 patches an image; an hour of probes

Every run is `Data2VecTrainer` with `benchmarks/fashion_mnist/recipe.yaml`, on one thread, for a budget of CPU time
(user + system): the number of steps is computed from the time of the first ones, so variants that are cheaper make
more steps. Reported is the CPU time that the whole training took. Models and accuracies stay in `--output_dir`; what
is there is not run again.

The data come with Debian: apt-get install -y dataset-fashion-mnist tuxpaint-stamps-default
"""

import argparse
import gzip
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budgeted_runs import each, peak_memory, run_apart, stable_then_decay, steps_within, summary

DATA = Path("/usr/share/datasets/fashion-mnist")
HERE = Path(__file__).parent
RECIPES = {"2.0": HERE / "fashion_mnist", "1.0": HERE / "fashion_mnist_v1"}
Features = Callable[[np.ndarray], np.ndarray]
CLAIMS: dict[str, dict[str, Any]] = {
    "K = all, M = 8": {},
    "K = 1": {"average_top_k_layers": 1},
    "M = 1": {"num_masks": 1},
}
NUM_VALIDATION = 10_000  # of the 60,000 training images, the last ones
# How many labels a probe gets (None: all), and over how many subsets of so many its accuracy is averaged.
RIDGE_LABELS = {1_000: 5, 10_000: 1}
KNN_LABELS = {100: 10, 1_000: 5, None: 1}
KNN_TEST = 5_000  # test images for neighbours among all labels, the first ones: they take longest
TWO_LAYERS = "2+4"  # neighbours among all labels are asked for of single layers only


def read_idx(name: str):
    """One of the data set's IDX files as a uint8 array."""
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


# ---- pretraining ----


def pretrain(changes: dict, seed: int, budget: float, version: str, folder: Path) -> dict:
    """Pretrain for `budget` CPU seconds and save the model in `folder`; returns steps, time and memory."""
    from transformers.utils import logging as transformers_logging

    from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments, ImageTransform
    from modeling_data2vec.trainers.data.samples import SampleDataset
    from modeling_data2vec.trainers.modalities.image import ImageReader
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    recipe = load_recipe(RECIPES[version])
    config = recipe.model_config(changes)
    reader = ImageReader(ImageTransform(config.image_shape, 1, **recipe.augmentation))
    arrays = dataset("train")

    def trainer(steps: int, output: str) -> Data2VecTrainer:
        torch.manual_seed(seed)
        changed: dict[str, Any] = {"max_steps": steps, "seed": seed, "warmup_steps": max(1, steps // 20)}
        if config.patch_size == 4:  # tuned apart from the recipe's 7; half as many images take as long
            changed |= {"per_device_train_batch_size": 4} | stable_then_decay(steps)
        settings = recipe.training_arguments(changed)
        config.ema_anneal_end_step = max(1, int(0.7 * steps))
        args = Data2VecTrainingArguments(
            output, **settings, save_strategy="no", disable_tqdm=True, use_cpu=True, stop_on_collapse=False
        )
        return Data2VecTrainer(recipe.model_class(config), args, train_dataset=SampleDataset(arrays, reader, seed=seed))

    with tempfile.TemporaryDirectory() as output:
        steps = steps_within(budget, lambda steps: trainer(steps, output))
        run = trainer(steps, output)
        start = time.process_time()
        run.train()
        seconds = time.process_time() - start
    run.save_model(str(folder))
    return {"steps": steps, "cpu_minutes": seconds / 60, "peak_mib": peak_memory()}


# ---- probes ----


def normalized(images: np.ndarray, recipe: Any) -> torch.Tensor:
    """Grey images uint8 [N, 28, 28] as the model takes them, [N, 1, 28, 28]."""
    mean, std = recipe.augmentation["mean"][0], recipe.augmentation["std"][0]
    return ((torch.from_numpy(images.astype(np.float32)) / 255 - mean) / std)[:, None]


def kinds_of_features(encoders: dict[str, Any], recipe: Any) -> dict[str, Features]:
    """Raw pixels, and each encoder's features, by their names: functions of images uint8 [N, 28, 28]."""
    from modeling_data2vec.trainers.evaluation.features import encode

    def features(encoder: Any, pooling: str, layer: Any, images: np.ndarray) -> np.ndarray:
        return encode(encoder, normalized(images, recipe), pooling=pooling, layer=layer, batch_size=250)

    kinds: dict[str, Features] = {"raw pixels": lambda images: normalized(images, recipe).flatten(1).numpy()}
    for name, encoder in encoders.items():
        rows, columns = encoder.config.grid
        kinds[f"{name}, mean of patches"] = partial(features, encoder, "mean", -1)
        for title, layer in (("grid", -1), ("grid, layers 2 + 4", TWO_LAYERS)):
            kinds[f"{name}, {rows} x {columns} {title}"] = partial(features, encoder, f"grid{rows}", layer)
    return kinds


def fashion_probes(kind: str, features: Features, seed: int, validation: bool) -> dict[str, float]:
    """Accuracies of some features on products, by column of the table."""
    from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
    from modeling_data2vec.trainers.evaluation.probes import knn, ridge_probe

    train, train_y = read_idx("train-images-idx3-ubyte"), read_idx("train-labels-idx1-ubyte")
    test, test_y = read_idx("t10k-images-idx3-ubyte"), read_idx("t10k-labels-idx1-ubyte")
    if validation:
        test, test_y = train[-NUM_VALIDATION:], train_y[-NUM_VALIDATION:]
        train, train_y = train[:-NUM_VALIDATION], train_y[:-NUM_VALIDATION]
    columns = {
        (probe, accuracy, count): [label_subset(train_y, count or len(train), 100 * seed + n) for n in range(subsets)]
        for probe, accuracy, counts in (("ridge", ridge_probe, RIDGE_LABELS), ("kNN", knn, KNN_LABELS))
        for count, subsets in counts.items()
        if count or not kind.endswith("layers 2 + 4")
    }
    used = np.unique(np.concatenate([ids for subsets in columns.values() for ids in subsets]))
    x, test_x = features(train[used]), features(test)
    found = {}
    for (probe, accuracy, count), subsets in columns.items():
        asked = slice(None if count else KNN_TEST)
        scores = [
            accuracy(x[np.searchsorted(used, ids)], train_y[ids], test_x[asked], test_y[asked]) for ids in subsets
        ]
        found[f"{probe}, {f'{count:,}' if count else 'all'} labels"] = float(np.mean(scores))
    return found


def stamps() -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """(grey images, categories, five folds) of Tux Paint's stamps; those of one name are in one fold."""
    from sklearn.model_selection import StratifiedGroupKFold
    from stamps import STAMPS, named_stamps, thumbnail

    found = [(picture, name) for name, pictures in named_stamps().items() for picture in pictures]
    sizes = Counter(picture.relative_to(STAMPS).parts[0] for picture, _ in found)
    found = [one for one in found if sizes[one[0].relative_to(STAMPS).parts[0]] >= 10]  # 12 categories of 16
    pictures = np.stack([np.asarray(thumbnail(picture, 28).convert("L")) for picture, _ in found])
    _, labels = np.unique([picture.relative_to(STAMPS).parts[0] for picture, _ in found], return_inverse=True)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(pictures, labels, [name for _, name in found])
    return pictures, labels, list(folds)


def stamps_probes(features: Features) -> dict[str, float]:
    """Accuracies of some features on the categories of stamps."""
    from modeling_data2vec.trainers.evaluation.probes import knn, ridge_probe

    pictures, labels, folds = stamps()
    x = features(pictures)
    return {
        f"{probe}, stamps": float(
            np.mean([accuracy(x[train], labels[train], x[test], labels[test]) for train, test in folds])
        )
        for probe, accuracy in (("ridge", ridge_probe), ("kNN", knn))
    }


def mean_probes(encoders: dict[str, Any], recipe: Any, seed: int) -> dict[str, dict[str, float]]:
    """Logistic regression on the mean of patches, of the last layer and of all layers side by side."""
    from modeling_data2vec.trainers.evaluation.features import encode
    from modeling_data2vec.trainers.evaluation.probe_labels import label_subset
    from modeling_data2vec.trainers.evaluation.probes import linear_probe

    order = np.random.default_rng(seed).permutation(60_000)[:10_000]
    train, train_y = read_idx("train-images-idx3-ubyte")[order], read_idx("train-labels-idx1-ubyte")[order]
    test, test_y = read_idx("t10k-images-idx3-ubyte"), read_idx("t10k-labels-idx1-ubyte")
    found: dict[str, dict[str, float]] = {}
    for name, encoder in encoders.items():
        layers = range(1, encoder.config.num_hidden_layers + 1)
        for title, layer in (("last layer", [-1]), ("all layers", [*layers])):
            x, test_x = (
                encode(encoder, normalized(part, recipe), layer=layer, batch_size=250) for part in (train, test)
            )
            found[f"{name}, {title}"] = {}
            for count in (1_000, 10_000):
                ids = label_subset(train_y, count, seed)
                accuracy = linear_probe(x[ids], train_y[ids], test_x, test_y, seed)
                found[f"{name}, {title}"][f"linear, {count:,} labels"] = accuracy
    return found


def run(changes: dict, seed: int, budget: float, options: argparse.Namespace, folder: Path) -> dict:
    """Pretrain and probe one model, as far as `folder` does not have it already; returns the figures."""
    from transformers import AutoModel

    from modeling_data2vec.trainers.evaluation.baselines import random_weights
    from modeling_data2vec.trainers.recipes.recipe import load_recipe

    facts = folder / "pretraining.json"
    if not facts.exists():
        done = run_apart("--one", json.dumps([changes, seed, budget, options.version, str(folder)]))
        facts.write_text(json.dumps(done))
    file = folder / f"{options.probes}{'_validation' if options.validation else ''}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    torch.set_num_threads(1)
    model, recipe = AutoModel.from_pretrained(folder), load_recipe(RECIPES[options.version])
    encoders = {"random weights": random_weights(model, seed), "model": model}
    if options.probes == "mean":
        found = found or mean_probes(encoders, recipe, seed)
    else:
        for kind, features in kinds_of_features(encoders, recipe).items():
            if kind not in found:
                found[kind] = fashion_probes(kind, features, seed, options.validation)
                found[kind] |= {} if options.validation else stamps_probes(features)
                file.write_text(json.dumps(found))
    file.write_text(json.dumps(found))
    return json.loads(facts.read_text()) | {"probes": found}


def report(results: dict[str, list[dict]]) -> None:
    for variant, runs in results.items():
        minutes = statistics.mean(run["cpu_minutes"] for run in runs)
        steps = statistics.mean(run["steps"] for run in runs)
        print(f"\n{variant}: {len(runs)} seed(s), {steps:,.0f} steps, {minutes:.1f} CPU-minutes\n")
        columns = list(next(iter(runs[0]["probes"].values())))
        print(f"| features | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
        for kind in runs[0]["probes"]:
            measured = [column for column in columns if column in runs[0]["probes"][kind]]
            cells = [
                summary([run["probes"][kind][column] for run in runs]) if column in measured else ""
                for column in columns
            ]
            print(f"| {kind} | {' | '.join(cells)} |")
        print("\nEach seed:\n")
        for kind in runs[0]["probes"]:
            for column in runs[0]["probes"][kind]:
                print(f"- {kind}; {column}: {each([run['probes'][kind][column] for run in runs])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", action="store_true", help="compare K and M instead")
    parser.add_argument("--version", choices=RECIPES, default="2.0", help="of data2vec")
    parser.add_argument("--patch_size", type=int, choices=(7, 4), default=7, help="of square patches")
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU-minutes of pretraining")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--probes",
        choices=("grid", "mean"),
        help="ridge and kNN of a grid of patches (default), or logistic regression of their mean (with --claims)",
    )
    parser.add_argument("--validation", action="store_true", help="probe on part of the training images")
    parser.add_argument("--output_dir", type=Path, default=Path("learning_vision"), help="for models and accuracies")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{DATA} is missing: apt-get install -y dataset-fashion-mnist tuxpaint-stamps-default")
    options.probes = options.probes or ("mean" if options.claims else "grid")
    if options.one:
        changes, seed, budget, version, folder = json.loads(options.one)
        return print(json.dumps(pretrain(changes, seed, budget, version, Path(folder))))
    variants = CLAIMS if options.claims else {f"data2vec {options.version}": {}}
    if options.patch_size != 7:
        variants = {f"{name}, patches of {options.patch_size}": {"patch_size": options.patch_size} for name in variants}
    results: dict[str, list[dict]] = {name: [] for name in variants}
    for seed in options.seeds:  # variants interleaved
        for name, changes in variants.items():
            folder = options.output_dir / f"{name}, {options.minutes:g} minutes, seed {seed}"
            folder.mkdir(parents=True, exist_ok=True)
            results[name].append(run(changes, seed, 60 * options.minutes, options, folder))
            print(f"done: {name}, seed {seed}: {json.dumps(results[name][-1])}", file=sys.stderr, flush=True)
    report(results)


if __name__ == "__main__":
    main()
