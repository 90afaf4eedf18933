"""The results of `one_network.py` as Markdown: probes, weights, retrieval."""

import statistics

from budgeted_runs import summary

from modeling_data2vec.trainers.evaluation.retrieval import Retrieval, retrieval_table
from modeling_data2vec.trainers.monitoring.gradient_cosine import COSINE, NORM

RANDOM, SEPARATE = "random weights", "separate"
# What is shown of the probes: modality and name of the score, and a heading.
SHOWN = {
    ("audio", "initial, last layer"): "speech: initial",
    ("audio", "final, last layer"): "speech: final",
    ("vision", "last layer"): "images",
    ("text", "last layer"): "text",
}

Runs = dict[int, dict]  # by seed


def by_variant(results: dict[str, dict]) -> dict[str, Runs]:
    """The runs "variant, seed" by variant and seed; random weights, which "shared" measured, first."""
    found: dict[str, Runs] = {RANDOM: {}}
    for key, run in results.items():
        variant, seed = key.rsplit(", ", 1)
        found.setdefault(variant, {})[int(seed)] = run
        if RANDOM in run:
            found[RANDOM][int(seed)] = run[RANDOM]
    return found


def probe_rows(variants: dict[str, Runs]) -> list[str]:
    """Accuracies, and their share of what the separate run with the same seed has."""
    lines = [f"| variant | {' | '.join(SHOWN.values())} | CPU-minutes |", "|---|" + "---:|" * (len(SHOWN) + 1)]
    separate = variants.get(SEPARATE, {})
    for variant, runs in variants.items():
        cells = []
        for modality, name in SHOWN:
            scores = {seed: run["probes"][modality][name] for seed, run in runs.items()}
            both = [seed for seed in scores if seed in separate and variant != SEPARATE]
            shares = [scores[seed] / separate[seed]["probes"][modality][name] for seed in both]
            share = f" ({100 * statistics.mean(shares):.0f}%)" if shares else ""
            cells.append(summary(list(scores.values())) + share if scores else "")
        minutes = [run["cpu_minutes"] for run in runs.values() if "cpu_minutes" in run]
        cells.append(f"{statistics.mean(minutes):.1f}" if minutes else "")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return lines


def parameter_rows(variants: dict[str, Runs]) -> list[str]:
    """Weights of what is used after pretraining."""
    names = ("encoders", "trunks", "own in the trunk")
    lines = ["| variant | encoders, all weights | trunks | modalities' own in the trunk |", "|---|---:|---:|---:|"]
    for variant, runs in variants.items():
        for run in [run for run in runs.values() if "parameters" in run][:1]:
            totals = [sum(part[name] for part in run["parameters"]) for name in names]
            lines.append(f"| {variant} | {' | '.join(f'{total:,}' for total in totals)} |")
    return lines


def gradient_rows(variants: dict[str, Runs], kind: str) -> list[str]:
    """Means of `gradient_cosine/...` or `gradient_norm/...` on the trunk's weights."""
    rows: dict[str, dict[str, list[float]]] = {}
    for variant, runs in variants.items():
        for run in runs.values():
            for key, value in run.get("gradients", {}).items():
                if key.startswith(kind):
                    rows.setdefault(variant, {}).setdefault(key.removeprefix(kind), []).append(value)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| variant | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for variant, row in rows.items():
        cells = [summary(row[column]) if column in row else "" for column in columns]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return lines


def mean_retrieval(runs: list[dict]) -> Retrieval:
    """Means over seeds."""
    recalls = {int(k): statistics.mean(run["recalls"][k] for run in runs) for k in runs[0]["recalls"]}
    return Retrieval(recalls, statistics.mean(run["median_rank"] for run in runs), runs[0]["num"])


def retrieval_rows(variants: dict[str, Runs]) -> str:
    rows = {}
    for variant, runs in variants.items():
        for kind in ("ridge", "heads"):
            found = [run["retrieval"][kind] for run in runs.values() if kind in run["retrieval"]]
            if found:
                rows[f"{variant}, {kind}"] = {
                    tuple(pair.split(" to ")): mean_retrieval([run[pair] for run in found]) for pair in found[0]
                }
    return retrieval_table(rows)


def report(results: dict[str, dict]) -> None:
    """Print all tables."""
    variants = by_variant(results)
    seeds = "; ".join(f"{variant}: {', '.join(map(str, sorted(runs)))}" for variant, runs in variants.items())
    steps = sorted({run["steps"] for run in results.values()})
    print(f"Updates of each modality: {', '.join(map(str, steps))}. Seeds so far: {seeds}.\n")
    gradients = (gradient_rows(variants, kind) for kind in (COSINE, NORM))
    for rows in (probe_rows(variants), parameter_rows(variants), *gradients):
        print("\n".join([*rows, ""]))
    print(retrieval_rows(variants))
