"""The results of `cross_modal.py` as Markdown and as a picture."""

import statistics
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student_t

from modeling_data2vec.trainers.monitoring.joint_health import rising_losses
from modeling_data2vec.trainers.monitoring.modality_logs import by_modality

ARMS = {"separate": False, "shared": False, "pairs": True, "shuffled pairs": True}  # whether it predicts across
RANDOM = "random weights"
# What is shown of the probes: modality and name of the score, and a heading.
SHOWN = {
    ("audio", "initial"): "speech: initial",
    ("audio", "final"): "speech: final",
    ("vision", "vision"): "images",
    ("text", "text"): "text",
}
COMPARED = [("shared", "separate"), ("pairs", "separate"), ("pairs", "shared"), ("pairs", "shuffled pairs")]
CHANCE = 1 / 128  # of recall at 1 among the test stamps

Runs = dict[str, dict[int, dict]]  # by arm and seed


def by_arm(results: list[dict]) -> Runs:
    """The runs by arm and seed; random weights, which "shared" measured, first."""
    found: Runs = {name: {} for name in (RANDOM, *ARMS)}
    for run in results:
        found[run["arm"]][run["seed"]] = run
        if RANDOM in run:
            found[RANDOM][run["seed"]] = run[RANDOM]
    return {arm: runs for arm, runs in found.items() if runs}


def interval(values: list[float]) -> str:
    """Mean and, of several, the 95% interval of the mean by Student's t.

    Example:
        >>> interval([1.0, 2.0, 3.0])
        '2.0 (-0.5 to 4.5)'
    """
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    reach = student_t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ({mean - reach:.1f} to {mean + reach:.1f})"


def rows(head: list[str], lines: list[list[str]]) -> str:
    cells = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def probe_table(arms: Runs) -> str:
    """Accuracies in %, and the mean share of the separate run's of the same seed."""
    lines = []
    for arm, runs in arms.items():
        line = [arm]
        for modality, name in SHOWN:
            scores = {seed: 100 * run["probes"][modality][name] for seed, run in runs.items()}
            both = [seed for seed in scores if seed in arms.get("separate", {})]
            shares = [scores[seed] / arms["separate"][seed]["probes"][modality][name] for seed in both]
            line.append(interval(list(scores.values())) + (f", {statistics.mean(shares):.0f}%" if shares else ""))
        minutes = [run["cpu_minutes"] for run in runs.values() if "cpu_minutes" in run]
        lines.append([*line, f"{statistics.mean(minutes):.1f}" if minutes else ""])
    return rows(["arm", *SHOWN.values(), "CPU-minutes"], lines)


def comparison_table(arms: Runs) -> str:
    """Differences of two arms in points, seed by seed: mean, interval, seeds above, p of a sign test."""
    lines = []
    for first, second in COMPARED:
        seeds = sorted(arms.get(first, {}).keys() & arms.get(second, {}).keys())
        if not seeds:
            continue
        line = [f"{first} - {second}"]
        for modality, name in SHOWN:
            a, b = ([100 * arms[arm][seed]["probes"][modality][name] for seed in seeds] for arm in (first, second))
            differences = [x - y for x, y in zip(a, b, strict=True)]
            above, unequal = sum(d > 0 for d in differences), sum(d != 0 for d in differences)
            sign = f", p {binomtest(above, unequal).pvalue:.2f}" if unequal > 1 else ""  # one seed says nothing
            line.append(f"{interval(differences)}; {above} of {len(seeds)}{sign}")
        lines.append(line)
    return rows(["difference in points", *SHOWN.values()], lines)


def retrieval_table(arms: Runs) -> str:
    """Recall at 1 among the 128 test stamps as a multiple of chance."""
    pairs = [f"{a} to {b}" for a in ("audio", "text", "vision") for b in ("audio", "text", "vision") if a != b]
    lines = []
    for arm, runs in arms.items():
        for kind in ("ridge", "heads", "heads, seen"):
            found = [run["retrieval"][kind] for run in runs.values() if kind in run["retrieval"]]
            if found:
                ones = [statistics.mean(run[pair]["recalls"]["1"] for run in found) / CHANCE for pair in pairs]
                ranks = [statistics.mean(run[pair]["median_rank"] for run in found) for pair in pairs]
                cells = [f"{one:.1f}; {rank:.0f}" for one, rank in zip(ones, ranks, strict=True)]
                lines.append([f"{arm}, {kind}", *cells, f"{statistics.mean(ones):.1f}"])
    return rows(["features", *pairs, "mean"], lines)


def mean_recall(run: dict, kind: str) -> float:
    """Recall at 1, mean over the six directions, as a multiple of chance."""
    return statistics.mean(one["recalls"]["1"] for one in run["retrieval"][kind].values()) / CHANCE


def mean_rank(run: dict, kind: str) -> float:
    """The median rank, mean over the six directions."""
    return statistics.mean(one["median_rank"] for one in run["retrieval"][kind].values())


def size_of(run: dict) -> tuple[int, int, bool, int, int, float]:
    """Updates, pairs, whether texts are transcripts, width, layers with own feed-forward parts, weight across."""
    own, weight = run.get("own FFN", 0), run.get("weight across", 1.0)
    return run["steps"], run["pairs"], run["transcripts"], run["width"], own, weight


def curve_points(results: list[dict]) -> dict[tuple[int, int, bool, int, int, float], Runs]:
    """The runs of each size, from the smallest."""
    sizes = sorted({size_of(run) for run in results})
    return {size: by_arm([run for run in results if size_of(run) == size]) for size in sizes}


def curve_table(results: list[dict]) -> str:
    """What each arm has at each size: accuracies, and retrieval among unseen and among training stamps."""
    lines = []
    for (steps, pairs, transcripts, width, own, weight), arms in curve_points(results).items():
        for arm, found in arms.items():
            runs = list(found.values())
            data = f"{pairs:,}" + (", transcripts" if transcripts else "")
            arm += (", own FFN" if own else "") + (f", weight {weight}" if weight != 1 else "")
            line = [f"{steps:,}", data, str(width), arm, str(len(runs))]
            for modality, name in SHOWN:
                line.append(f"{statistics.mean(100 * run['probes'][modality][name] for run in runs):.1f}")
            for kind in ("ridge", "heads", "heads, seen"):
                known = [run for run in runs if kind in run["retrieval"]]
                recall, rank = ([measure(run, kind) for run in known] for measure in (mean_recall, mean_rank))
                line.append(f"{statistics.mean(recall):.1f}; {statistics.mean(rank):.0f}" if known else "")
            lines.append(line)
    head = ["updates", "pairs", "width", "arm", "seeds", *SHOWN.values()]
    return rows([*head, "ridge, unseen", "heads, unseen", "heads, seen"], lines)


def direction_table(arms: Runs) -> str:
    """In how many of the trunk's channels' directions the pooled latents of training stamps differ."""
    lines = []
    for arm, runs in arms.items():
        found = [run["directions"] for run in runs.values() if "directions" in run]
        if found:
            means = [statistics.mean(one[name] for one in found) for name in ("audio", "vision", "text")]
            lines.append([arm, *(f"{mean:.1f}" for mean in means)])
    return rows(["directions of pooled latents", "speech", "images", "text"], lines)


def loss_table(arms: Runs) -> str:
    """Each modality's own loss, lowest and last log, mean over seeds; in how many runs the health check names it."""
    lines = []
    for arm, runs in arms.items():
        if arm == RANDOM:
            continue
        line = [arm]
        for modality in ("audio", "vision", "text"):
            lows, lasts, named = [], [], 0
            for run in runs.values():
                logs = run["logs"].get("all") or run["logs"][modality]
                losses = [entry[f"{modality}/loss"] for entry in logs]
                lows.append(min(losses))
                lasts.append(losses[-1])
                named += modality in rising_losses(by_modality(logs))
            line.append(f"{statistics.mean(lows):.2f}, {statistics.mean(lasts):.2f}; named in {named} of {len(runs)}")
        lines.append(line)
    return rows(["lowest and last loss", "speech", "images", "text"], lines)


def cosine_table(arms: Runs) -> str:
    """Cosines between the gradients of a modality's own terms and those across, by layer of the trunk."""
    lines = []
    for arm, runs in arms.items():
        found = [run["term_cosines"] for run in runs.values() if "term_cosines" in run]
        for pair in found[0] if found else ():
            layers = np.mean([one[pair] for one in found], axis=0)
            lines.append([f"{arm}: {pair.replace('_', ', ')}", *(f"{value:.3f}" for value in layers)])
    depth = max((len(line) - 1 for line in lines), default=0)
    return rows(["gradient cosines", *(f"layer {number + 1}" for number in range(depth))], lines)


def report(results: list[dict]) -> str:
    """All tables."""
    arms = by_arm(results)
    steps = sorted({run["steps"] for run in results})
    seeds = "; ".join(f"{arm}: {', '.join(map(str, sorted(runs)))}" for arm, runs in arms.items())
    tables = (probe_table, comparison_table, retrieval_table, direction_table, loss_table, cosine_table)
    head = f"Updates of each modality: {', '.join(map(str, steps))}. Seeds: {seeds}."
    return "\n\n".join([head, *(table(arms) for table in tables)])


def figure(results: list[dict], path: Path) -> None:
    """Draw what each arm keeps of the separate runs, and how alike modalities are in each layer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms = by_arm(results)
    drawn, axes = pyplot.subplots(1, 4, figsize=(13, 3.6), gridspec_kw={"width_ratios": [2, 1, 1, 1]})
    colors = dict(zip(arms, ("0.7", "0.35", "tab:blue", "tab:green", "tab:orange"), strict=False))
    for place, (arm, runs) in enumerate(arms.items()):
        for column, (modality, name) in enumerate(SHOWN):
            seeds = [seed for seed in runs if seed in arms.get("separate", {})]
            own = [100 * runs[seed]["probes"][modality][name] for seed in seeds]
            base = [arms["separate"][seed]["probes"][modality][name] for seed in seeds]
            shares = [one / other for one, other in zip(own, base, strict=True)]
            x = column + (place - (len(arms) - 1) / 2) * 0.16
            label = arm if not column else None
            axes[0].bar(x, statistics.mean(shares), 0.14, color=colors[arm], label=label)
            axes[0].plot([x] * len(shares), shares, "k.", markersize=3)
    axes[0].axhline(100, color="0.5", linewidth=0.8)
    axes[0].set_xticks(range(len(SHOWN)), list(SHOWN.values()))
    axes[0].set_title("accuracy, % of a separate trunk (dots: seeds)", fontsize=9)
    axes[0].set_ylim(40, 125)
    axes[0].legend(fontsize=7, ncol=3, loc="upper center")
    for axis, pair in zip(axes[1:], ("audio_text", "audio_vision", "vision_text"), strict=True):
        for arm, runs in arms.items():
            matrices = [np.diagonal(run["cka"][pair]) for run in runs.values() if "cka" in run]
            if matrices:
                axis.plot(np.mean(matrices, axis=0), color=colors[arm], marker="o", markersize=3, label=arm)
        axis.set_title(f"CKA, {' and '.join(pair.split('_'))}", fontsize=9)
        axis.set_xlabel("layer (0: into the trunk)", fontsize=8)
        axis.axhline(0, color="0.5", linewidth=0.8)
    drawn.tight_layout()
    drawn.savefig(path, dpi=110)
