"""The tables of docs/objectives_lab.md: each variant of the objectives lab beside the default, with intervals."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "objectives_lab.md"
RESULTS = ROOT / "benchmarks" / "objectives" / "results.json"
MARK = "## Results\n"  # what stands above is written by hand
KEY = ("seconds", "modality", "variant", "seed")


def collect(folder: Path) -> list[dict]:
    """All runs: those of the committed file and those of a folder, which are put into the file."""
    runs = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    found = {tuple(run[name] for name in KEY): run for run in runs}
    for file in folder.glob("run *.json"):
        run = json.loads(file.read_text())
        found[tuple(run[name] for name in KEY)] = run
    runs = [found[key] for key in sorted(found)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, runs)) + "\n]\n")
    return runs


def reach_of_one(scores: np.ndarray) -> float:
    """Half the width of a 95 % interval for the difference of two variants on one seed; scores [variants, seeds].

    All variants share one deviation, of what is left when each variant's and each seed's mean is taken out: a few
    seeds alone would say little about the deviation of a single difference. NaN for less than 2 degrees of freedom.
    """
    count, seeds = scores.shape
    freedom = (count - 1) * (seeds - 1)
    if freedom < 2:
        return float("nan")
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    return float(student_t.ppf(0.975, freedom) * np.sqrt(2 * (rest**2).sum() / freedom))


def modality_table(runs: list[dict], says: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Lines of a table of one modality and budget; and a sign for each variant: "+", "-", "0", or "?" if unknown."""
    figures = list(runs[0]["probes"])
    scores: dict[str, dict[int, np.ndarray]] = {name: {} for name in says}
    for run in runs:
        scores[run["variant"]][run["seed"]] = np.array([run["probes"][figure] for figure in figures])
    default = scores["default"]
    # Variants with fewer seeds than the default get intervals too: they say nothing about the deviation.
    # What is below random weights has collapsed, and its seeds differ as nothing else does.
    floor = np.mean(list(scores["random weights"].values())) if scores["random weights"] else -np.inf
    complete = [
        own
        for name, own in scores.items()
        if own.keys() >= default.keys() and name != "random weights" and np.mean(list(own.values())) > floor
    ]
    reach = reach_of_one(np.array([[own[seed].mean() for seed in default] for own in complete]))
    lines = [
        f"| variant | seeds | steps | CPU s | {' | '.join(figures)} | difference, mean of both |",
        "|---|---:|---:|---:|" + "---:|" * len(figures) + "---:|",
    ]
    signs = {}
    for name, own in scores.items():
        paired = [seed for seed in own if seed in default]
        if not paired:
            continue
        difference = float(np.mean([own[seed] - default[seed] for seed in paired]))
        width = reach / np.sqrt(len(paired))
        apart = abs(difference) > width
        cell = "" if name == "default" else f"{difference:+.3f}"
        if name not in ("default", "random weights"):
            signs[name] = "?" if np.isnan(width) else "0" if not apart else "+" if difference > 0 else "-"
            cell = (f"**{cell}**" if apart else cell) + ("" if np.isnan(width) else f" ± {width:.3f}")
        steps, seconds = (
            np.mean([run[key] for run in runs if run["variant"] == name]) for key in ("steps", "cpu_seconds")
        )
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(list(own.values()), axis=0))
        lines.append(f"| {name} | {len(own)} | {steps:,.0f} | {seconds:.0f} | {means} | {cell} |")
    return lines, signs


def write_page(folder: Path, says: dict[str, str]) -> None:
    """Write the results below the hand-written part of the page.

    Args:
        folder: of the runs.
        says: what each variant changes.
    """
    says = {"random weights": "the default's before its first step", **says}
    runs = collect(folder)
    summary: dict[str, dict[str, str]] = {name: {} for name in says}
    tables = []
    for (seconds, modality), group in groupby(runs, key=lambda run: (run["seconds"], run["modality"])):
        own = list(group)
        lines, signs = modality_table(own, says)
        column = f"{modality}, {seconds:g} s"
        for name, sign in signs.items():
            summary[name][column] = sign
        tables += [f"### {modality.capitalize()}, {seconds:g} CPU-seconds", ""]
        tables += [*lines, ""]
    columns = list(dict.fromkeys(column for signs in summary.values() for column in signs))
    lines = [f"| variant | change | {' | '.join(columns)} |", "|---|---|" + ":---:|" * len(columns)]
    for name, signs in summary.items():
        if signs:
            cells = " | ".join(signs.get(column, "") for column in columns)
            lines.append(f"| {name} | {says[name]} | {cells} |")
    head = PAGE.read_text().split(MARK)[0]
    legend = [
        "`+` and `-`: the interval of the difference to the default leaves 0 out; `0`: it does not; `?`: too few runs.",
        "Below, accuracies are means over a row's own seeds, differences those to the default on the same seeds.",
    ]
    PAGE.write_text("\n".join([head + MARK, *lines, "", *legend, "", *tables]).rstrip() + "\n")
