"""How much a probe understates: digits by four probes and several poolings, beside plainer probes; and what they cost.

    python benchmarks/probes.py demo          # a model folder of digits (`make demo`)
    python benchmarks/probes.py --cost

"plain LR" is scikit-learn's logistic regression on standardised features, C from .01, .1 and 1 by a held-out quarter,
at most 300 iterations; "plain kNN" the vote of five with equal weights on standardised features.
"""

import argparse
import resource
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from modeling_data2vec import encode
from modeling_data2vec.trainers.evaluation.baselines import random_weights
from modeling_data2vec.trainers.evaluation.probe_labels import held_out_quarter, label_subset
from modeling_data2vec.trainers.evaluation.probes import all_predictions, linear_predictions, ridge_predictions
from modeling_data2vec.trainers.modalities.base import flattened
from modeling_data2vec.trainers.modalities.encoders import load_encoder

COUNTS, SEEDS = (10, 100, 1_297), (0, 1, 2)
FEATURES = {"mean of layers 1 2 3": ("mean", [1, 2, 3]), "mean": ("mean", -1), "grid2": ("grid2", -1)}
FEATURES |= {"grid4": ("grid4", -1)}
PROBES = ("plain LR", "linear", "ridge", "plain kNN", "kNN", "kNN, cosine")
SIZES = ((10_000, 768), (60_000, 768), (60_000, 2_048), (2_000, 16_384))


def plain(train_x, train_y, test_x) -> dict:
    scaler = StandardScaler().fit(train_x)
    x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    probes = [LogisticRegression(C=strength, max_iter=300, tol=1e-3) for strength in (0.01, 0.1, 1.0)]
    best, quarter = probes[-1], held_out_quarter(train_y, 0)
    if quarter is not None:
        kept, held = quarter
        scores = [probe.fit(x[kept], train_y[kept]).score(x[held], train_y[held]) for probe in probes]
        best = probes[int(np.argmax(scores))]
    best, neighbours = best.fit(x, train_y), KNeighborsClassifier(5).fit(x, train_y)
    return {"plain LR": best.predict(test_x), "plain kNN": neighbours.predict(test_x)}


def digits(folder: str) -> None:
    model, data = load_encoder(folder)
    (train, y), (test, test_y) = (data.labelled("digits", split=split, column=None) for split in ("train", "test"))
    y, test_y = np.asarray(y), np.asarray(test_y)
    found = {}
    for name, encoder in (("random weights", random_weights(model)), ("model", model)):
        for key, (pooling, layer) in FEATURES.items():
            parts = (encode(encoder, inputs, pooling=pooling, layer=layer) for inputs in (train, test))
            found[f"{name}, {key}"] = tuple(parts)
    found["raw pixels"] = flattened(train), flattened(test)
    print(f"| labels | features | {' | '.join(PROBES)} |\n|---:|---|{'---:|' * len(PROBES)}")
    for count in COUNTS:
        for name, (x, test_x) in found.items():
            scores: dict[str, list[float]] = {}
            for seed in SEEDS if count < len(y) else SEEDS[:1]:
                own = label_subset(y, count, seed)
                predicted = plain(x[own], y[own], test_x) | all_predictions(x[own], y[own], test_x)
                for probe, classes in predicted.items():
                    scores.setdefault(probe, []).append(np.mean(classes == test_y))
            cells = (f"{100 * np.mean(scores[probe]):.1f}" for probe in PROBES)
            print(f"| {count:,} | {name} | {' | '.join(cells)} |", flush=True)


def cost() -> None:
    print("| samples | channels | ridge, CPU-s | linear, CPU-s | memory, GiB |\n|---:|---:|---:|---:|---:|")
    for count, channels in SIZES:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 10, count)
        # Variances that fall as one over the square, as of real features, and classes that overlap.
        axes = (1 / np.arange(1, channels + 1)).astype(np.float32)
        x = rng.standard_normal((count, channels), dtype=np.float32) * axes
        x += rng.standard_normal((10, channels), dtype=np.float32)[y] * axes * 0.3
        seconds = []
        for probe in (ridge_predictions, linear_predictions):
            start = time.process_time()
            probe(x, y, x[:1_000])
            seconds.append(f"{time.process_time() - start:.0f}")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {count:,} | {channels:,} | {' | '.join(seconds)} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.model:
        digits(options.model)
    if options.cost:
        cost()
