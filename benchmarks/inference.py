"""Encoders of data2vec 2.0 beside transformers' nearest ones of the same size: time and memory of a forward pass.

    python benchmarks/inference.py            # base size
    python benchmarks/inference.py --quick    # small models

Random weights, sdpa attention, fp32, eval mode, no gradients, the same threads. All models of a table take turns;
times are medians, in CPU time (user + system, all threads) on a CPU, in elapsed time on a GPU. Memory is the peak of
what PyTorch allocates in a forward pass, so without what libraries below it take for themselves.

A second table is of batches of mixed lengths, of which 45% is padding: as the encoder takes them by itself (rows of
similar length together), as one padded batch, and by `features.encode` in small batches of similar length. A third one
is what the choice of groups rests on.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import torch
from step import DEVICE, clock
from torch import Tensor
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    Data2VecTextConfig,
    Data2VecTextModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioModel,
    Data2Vec2TextConfig,
    Data2Vec2TextModel,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
)
from modeling_data2vec.length_groups import group_cost
from modeling_data2vec.trainers.data.collators import pad_inputs
from modeling_data2vec.trainers.evaluation.features import encode

PADDING = 0.45
TABLES = ("equal", "mixed", "cost")
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
QUICK = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
TEXT = {"vocab_size": 50265, "max_position_embeddings": 514}
GROUPS = "modeling_data2vec.length_groups.can_group"
# (samples, length) in pixels, seconds and tokens
SHAPES = {"images": [(4, 224)], "speech": [(1, 10)], "text": [(8, 128), (2, 512)]}
MIXED = {"speech": (8, 4), "text": (16, 128)}
MAIN_INPUT = {"images": "pixel_values", "speech": "input_values", "text": "input_ids"}
UNIT = {"images": "pixels", "speech": "seconds", "text": "tokens"}


def builders(modality: str, size: dict) -> dict[str, Callable[[], torch.nn.Module]]:
    """What makes each model of a table, ours first."""
    ours = size | {"average_top_k_layers": 1}
    if modality == "images":
        # The published model's first two layers belong to the modality.
        split = ours | {"num_hidden_layers": size["num_hidden_layers"] - 2, "num_prenet_layers": 2}
        shared = size | {"use_shared_relative_position_bias": True}
        return {
            "data2vec 2.0": lambda: Data2Vec2VisionModel(Data2Vec2VisionConfig(**split)),
            "ViT": lambda: ViTModel(ViTConfig(**size), add_pooling_layer=False),
            "data2vec 1.0": lambda: Data2VecVisionModel(Data2VecVisionConfig(**shared)),
        }
    if modality == "speech":
        return {
            "data2vec 2.0": lambda: Data2Vec2AudioModel(Data2Vec2AudioConfig(**ours)),
            "Wav2Vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**size)),
            "data2vec 1.0": lambda: Data2VecAudioModel(Data2VecAudioConfig(**size)),
        }
    return {
        "data2vec 2.0": lambda: Data2Vec2TextModel(Data2Vec2TextConfig(**ours, vocab_size=TEXT["vocab_size"])),
        "RoBERTa": lambda: RobertaModel(RobertaConfig(**size, **TEXT), add_pooling_layer=False),
        "data2vec 1.0": lambda: Data2VecTextModel(Data2VecTextConfig(**size, **TEXT), add_pooling_layer=False),
    }


def build(modality: str, name: str, size: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    model: Any = builders(modality, size)[name]().to(DEVICE).eval()
    assert model.config._attn_implementation == "sdpa", name
    return model


def random_samples(modality: str, lengths: list[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    if modality == "images":
        return [torch.randn(3, int(n), int(n), generator=generator) for n in lengths]
    if modality == "speech":
        return [torch.randn(int(16_000 * n), generator=generator) for n in lengths]
    return [torch.randint(4, TEXT["vocab_size"], (int(n),), generator=generator) for n in lengths]


def mixed_lengths(count: int, longest: float) -> list[float]:
    """Evenly spread lengths in random order, of which a padded batch is `PADDING` padding."""
    shortest = 1 - 2 * PADDING  # the mean of what lies between it and 1 is 1 - PADDING
    shares = torch.linspace(shortest, 1, count)[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    return [longest * share for share in shares.tolist()]


def batch_of(modality: str, examples: list[Tensor]) -> dict[str, Tensor]:
    if modality == "images":
        return {MAIN_INPUT[modality]: torch.stack(examples).to(DEVICE)}
    values, mask = pad_inputs(examples, 1 if modality == "text" else 0.0)
    batch = {MAIN_INPUT[modality]: values} if mask is None else {MAIN_INPUT[modality]: values, "attention_mask": mask}
    return {name: value.to(DEVICE) for name, value in batch.items()}


def in_turns(functions: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repetitions + 1):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return {name: statistics.median(all_[1:]) for name, all_ in seconds.items()}


def forward(model: torch.nn.Module, batch: dict[str, Tensor], groups: bool = True) -> None:
    with torch.no_grad(), nullcontext() if groups else patch(GROUPS, lambda *args, **kwargs: False):
        model(**batch)


def peak(model: torch.nn.Module, batch: dict[str, Tensor], groups: bool = True) -> float:
    """MiB that one forward pass allocates at its peak, above what stands before it."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward(model, batch, groups)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        forward(model, batch, groups)
    assert profile.profiler is not None
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in changes)) / 2**20


def print_rows(seconds: dict[str, float], peaks: dict[str, float]) -> None:
    """One row for each, with its ratio to the first."""
    first = next(iter(seconds))
    print("| | ms | times the first | peak memory of activations | times the first |\n|---|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        memory = f" {peaks[name]:.0f} MiB | {peaks[name] / peaks[first]:.2f} " if name in peaks else " | "
        print(f"| {name} | {1e3 * taken:.0f} | {taken / seconds[first]:.2f} |{memory}|")


def side_by_side(modality: str, size: dict, count: int, length: float, repetitions: int, measure_memory: bool) -> None:
    print(f"\n{modality}, {count} x {length:g} {UNIT[modality]}\n")
    batch = batch_of(modality, random_samples(modality, [length] * count))
    models = {name: build(modality, name, size) for name in builders(modality, size)}
    seconds = in_turns({name: partial(forward, model, batch) for name, model in models.items()}, repetitions)
    measured = models if measure_memory else {}
    print_rows(seconds, {name: peak(model, batch) for name, model in measured.items()})


def mixed(modality: str, size: dict, count: int, longest: float, repetitions: int, measure_memory: bool) -> None:
    lengths = mixed_lengths(count, longest)
    examples = random_samples(modality, lengths)
    batch = batch_of(modality, examples)
    share = 1 - batch["attention_mask"].float().mean()
    print(f"\n{modality}, {count} samples of up to {longest:g} {UNIT[modality]} in a batch, {share:.0%} padding\n")
    models = {name: build(modality, name, size) for name in builders(modality, size)}
    ours, *others = models
    own = models[ours]
    functions: dict[str, Callable[[], object]] = {
        f"{ours}, as it is": lambda: forward(own, batch),
        f"{ours}, one padded batch": lambda: forward(own, batch, groups=False),
        f"{ours}, features.encode": lambda: encode(own, examples, batch_size=4),
    }
    functions |= {name: partial(forward, models[name], batch) for name in others}
    seconds = in_turns(functions, repetitions)
    peaks = {}
    if measure_memory:
        peaks = {name: peak(models[name], batch) for name in others}
        peaks[f"{ours}, as it is"] = peak(own, batch)
        peaks[f"{ours}, one padded batch"] = peak(own, batch, groups=False)
    print_rows(seconds, peaks)


def pass_costs(repetitions: int) -> None:
    """The time of a pass through 4 layers that does not grow with the length, in positions."""
    print("\n| width | cost of one more pass, positions | as `group_cost` has it |\n|---|---:|---:|")
    for width in (64, 192, 768):
        size = QUICK | {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
        model = build("text", "data2vec 2.0", size | {"num_hidden_layers": 4})
        batches = {str(n): batch_of("text", random_samples("text", [n])) for n in (16, 128)}
        short, long = in_turns(
            {name: partial(forward, model, batch) for name, batch in batches.items()}, repetitions
        ).values()
        print(f"| {width} | {short * (128 - 16) / (long - short) - 16:.0f} | {group_cost(width):.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--modality", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--tables", choices=TABLES, nargs="+", default=TABLES)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    size = QUICK if options.quick else BASE
    print(f"{DEVICE}, {torch.get_num_threads()} thread(s), torch {torch.__version__}", end=", ")
    print(f"width {size['hidden_size']}, {size['num_hidden_layers']} layers, {options.repetitions} repetitions")
    for modality in options.modality:
        for count, length in SHAPES[modality] if "equal" in options.tables else []:
            side_by_side(modality, size, count, length, options.repetitions, not options.no_memory)
        if modality in MIXED and "mixed" in options.tables:
            mixed(modality, size, *MIXED[modality], options.repetitions, not options.no_memory)
    if "cost" in options.tables:
        pass_costs(5 * options.repetitions)


if __name__ == "__main__":
    main()
