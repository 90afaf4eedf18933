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


def interval(scores: np.ndarray) -> float:
    """Half the width of a 95 % interval for the difference of two rows' means; scores [variants, seeds].

    All variants share one deviation, of what is left when each variant's and each seed's mean is taken out: three
    seeds alone would say little about the deviation of a single difference.
    """
    count, seeds = scores.shape
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    freedom = (count - 1) * (seeds - 1)
    return float(student_t.ppf(0.975, freedom) * np.sqrt((rest**2).sum() / freedom * 2 / seeds))


def modality_table(runs: list[dict], says: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Lines of a table of one modality and budget; and a sign for each variant: "+", "-" or "0"."""
    by_variant = {name: [run for run in runs if run["variant"] == name] for name in says}
    by_variant = {name: sorted(own, key=lambda run: run["seed"]) for name, own in by_variant.items() if own}
    figures = list(runs[0]["probes"])
    seeds = [run["seed"] for run in by_variant["default"]]
    complete = [name for name, own in by_variant.items() if [run["seed"] for run in own] == seeds]
    scores = {
        name: np.array([[run["probes"][figure] for figure in figures] for run in by_variant[name]]) for name in complete
    }  # [seeds, figures]
    trained = np.array([scores[name].mean(1) for name in complete if name != "random weights"])
    reach = interval(trained) if len(seeds) > 1 else float("nan")
    lines = [
        f"| variant | steps | CPU s | {' | '.join(figures)} | difference, mean of both |",
        "|---|---:|---:|" + "---:|" * len(figures) + "---:|",
    ]
    signs = {}
    for name in complete:
        own = by_variant[name]
        difference = float((scores[name] - scores["default"]).mean())
        cell = f"{difference:+.3f}"
        if name not in ("default", "random weights"):
            signs[name] = "0" if not abs(difference) > reach else "+" if difference > 0 else "-"
            cell = f"**{cell}** ± {reach:.3f}" if signs[name] != "0" else f"{cell} ± {reach:.3f}"
        steps, seconds = (np.mean([run[key] for run in own]) for key in ("steps", "cpu_seconds"))
        means = " | ".join(f"{mean:.3f}" for mean in scores[name].mean(0))
        lines.append(f"| {name} | {steps:,.0f} | {seconds:.0f} | {means} | {'' if name == 'default' else cell} |")
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
        seeds = sorted({run["seed"] for run in own})
        column = f"{modality}, {seconds:g} s"
        for name, sign in signs.items():
            summary[name][column] = sign
        tables += [f"### {modality.capitalize()}, {seconds:g} CPU-seconds, seeds {', '.join(map(str, seeds))}", ""]
        tables += [*lines, ""]
    columns = list(dict.fromkeys(column for signs in summary.values() for column in signs))
    lines = [f"| variant | change | {' | '.join(columns)} |", "|---|---|" + ":---:|" * len(columns)]
    for name, signs in summary.items():
        if signs:
            cells = " | ".join(signs.get(column, "") for column in columns)
            lines.append(f"| {name} | {says[name]} | {cells} |")
    head = PAGE.read_text().split(MARK)[0]
    legend = "`+` and `-`: the interval of the difference to the default leaves 0 out; `0`: it does not."
    PAGE.write_text("\n".join([head + MARK, *lines, "", legend, "", *tables]).rstrip() + "\n")
