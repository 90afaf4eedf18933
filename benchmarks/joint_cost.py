"""What a step of one network costs beside steps of three separate ones: time, weights and memory.

    nice python benchmarks/joint_cost.py                         # the sizes of cross_modal.py
    nice python benchmarks/joint_cost.py --width 512 --layers 6

Each modality brings a micro-batch of its own and one of masked stamps, of random numbers in the shapes of
`cross_modal.py`. "separate" does both by a model of its own; "shared" has one model and the three stamps in one
batch; "pairs" also predicts across. A step is forward, backward, Adam and the teacher's average. Every measurement is
a process of its own, on one thread; rounds go through all of them, and a line is the median of rounds, of CPU time
(user + system).
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch
from budgeted_runs import peak_memory, run_apart
from cross_modal import MODALITIES, load_settings

from modeling_data2vec import Data2Vec2Config, Data2Vec2ForPreTraining
from modeling_data2vec.configuration_data2vec2_joint import modality_configs
from modeling_data2vec.trainers.modalities.mixture import JointCollator
from modeling_data2vec.trainers.modalities.pairs import PairsCollator

MODELS = (*MODALITIES, "shared", "pairs")  # the first three are the separate ones
WARM = 3  # steps that are not timed


def sample(name: str, settings: dict) -> dict[str, Any]:
    """One random sample, of the longest shape that the experiment has."""
    if name == "audio":
        return {"input_values": torch.randn(int(16_000 * settings["pairs"]["max_seconds"]))}
    if name == "text":
        vocabulary, length = settings["text"]["vocab_size"], settings["data"]["text"]["block_length"]
        return {"input_ids": torch.randint(4, vocabulary, (length,))}
    size = settings["vision"]["image_size"]
    return {"pixel_values": torch.randn(1, size, size)}


def measure(kind: str, width: int, depth: int, steps: int) -> dict[str, float]:
    """Seconds of a step, MiB of weights (with the teacher's and Adam's) and at the peak beyond what imports take."""
    torch.set_num_threads(1)
    settings = load_settings()
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": depth}
    trunk = settings["trunk"] | sizes | {"average_top_k_layers": depth, "ema_anneal_end_step": 1_000}
    names = (kind,) if kind in MODALITIES else MODALITIES
    across = settings["cross_modal"] | {"cross_modal_weight": float(kind == "pairs")} if len(names) > 1 else {}
    configs = {f"{name}_config": modality_configs()[name](**(trunk | settings[name])) for name in names}
    before = peak_memory()
    model = Data2Vec2ForPreTraining(Data2Vec2Config(**configs, **across)).train()
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learned, 1e-4)
    collator = JointCollator(model.config)
    seconds = settings["data"]["audio"]["max_batch_seconds"] / settings["pairs"]["max_seconds"]
    own = {"audio": int(seconds), **{name: settings["data"][name]["batch_size"] for name in ("vision", "text")}}
    stamps = settings["pairs"]["batch_size"]

    def batches() -> list[dict[str, Any]]:
        made = [collator([sample(name, settings) | {"key": key} for key in range(own[name])]) for name in names]
        both: list[dict[str, Any]] = [
            {"pairs": {name: sample(name, settings) for name in names}, "key": key} for key in range(stamps)
        ]
        if len(names) == 1:
            return [*made, collator([one["pairs"][kind] | {"key": one["key"]} for one in both])]
        return [*made, PairsCollator.of(model.config)(both)]

    taken = []
    for step in range(WARM + steps):
        parts = batches()
        start = time.process_time()
        for batch in parts:
            model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.update_teacher(step + 1)
        taken.append(time.process_time() - start)
    weights = sum(weight.numel() for weight in model.parameters()) + 2 * sum(weight.numel() for weight in learned)
    return {
        "seconds": statistics.median(taken[WARM:]),
        "weights": 4 * weights / 2**20,
        "peak": peak_memory() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="that are timed in each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return print(json.dumps(measure(options.one, options.width, options.layers, options.steps)))
    found: dict[str, list[dict]] = {kind: [] for kind in MODELS}
    for _ in range(options.rounds):
        for kind in MODELS:
            words = [f"--{key}={getattr(options, key)}" for key in ("width", "layers", "steps")]
            found[kind].append(run_apart("--one", kind, *words))
    middle = {
        kind: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for kind, runs in found.items()
    }
    apart = [middle[name] for name in MODALITIES]
    middle["separate, one after another"] = {
        "seconds": sum(one["seconds"] for one in apart),
        "weights": sum(one["weights"] for one in apart),
        "peak": max(one["peak"] for one in apart),
    }
    base = middle["separate, one after another"]["seconds"]
    print(f"Width {options.width}, {options.layers} layers; medians of {options.rounds} processes.\n")
    print("| a step of | CPU ms | of separate | weights, teacher, Adam: MiB | peak MiB beyond imports |")
    print("|---|---:|---:|---:|---:|")
    for kind in (*MODALITIES, "separate, one after another", "shared", "pairs"):
        one = middle[kind]
        share = f"{100 * one['seconds'] / base:.0f}%"
        print(f"| {kind} | {1000 * one['seconds']:.0f} | {share} | {one['weights']:.1f} | {one['peak']:.0f} |")


if __name__ == "__main__":
    main()
