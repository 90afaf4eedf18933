"""Where a pretraining step's time goes, and how it and the memory grow with masks, batch and image size.

    python benchmarks/step.py            # the split and the sweeps, on the device that is there
    python benchmarks/step.py --quick    # fewer repetitions

All variants are measured interleaved in one run and reported as medians, in CPU time (user + system, all threads) on a
CPU, in elapsed time on a GPU. The floor is the rate of a large matrix product, measured in the same run; "share of the
floor" is the step's floating-point operations over what that rate would do in the same time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining
from modeling_data2vec.trainers import ImageMaskCollator
from modeling_data2vec.trainers.inspection import inspect

# The shape that the authors' code was timed with (docs/performance.md): a small ViT on 224 x 224 images.
SMALL = {
    "hidden_size": 192,
    "num_hidden_layers": 10,
    "num_prenet_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "average_top_k_layers": 10,
    "num_masks": 8,
    "decoder_dim": 192,
}
LARGE = {  # ViT-L, for a GPU
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_prenet_layers": 0,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "average_top_k_layers": 18,
    "num_masks": 16,
    "mask_prob": 0.75,
    "mask_prob_adjust": 0.1,
    "decoder_dim": 1024,
    "decoder_kernel": 5,
    "decoder_layers": 3,
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> float:
    """CPU seconds of this process on a CPU; elapsed seconds, after all work is done, on a GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(function: Callable[[], object]) -> float:
    start = clock()
    function()
    return clock() - start


class Step:
    """One model with a batch, an optimizer and its parts as functions to be timed."""

    def __init__(self, config: Data2Vec2VisionConfig, batch_size: int, autocast: bool, compiled: bool = False):
        torch.manual_seed(0)
        self.config = config
        self.batch_size = batch_size
        self.model = Data2Vec2VisionForPreTraining(config).to(DEVICE).train()
        self.forward = torch.compile(self.model) if compiled else self.model
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=1e-4, fused=DEVICE.type == "cuda", foreach=DEVICE.type == "cpu"
        )
        self.collator = ImageMaskCollator(config)
        self.images = torch.randn(batch_size, config.num_channels, *config.image_shape)
        self.autocast = autocast
        self.batch = self.draw()
        self.updates = 0

    def context(self):
        return torch.autocast(DEVICE.type, dtype=torch.bfloat16) if self.autocast else nullcontext()

    def draw(self) -> dict[str, torch.Tensor]:
        batch = self.collator([{"pixel_values": image, "key": i} for i, image in enumerate(self.images)])
        return {name: value.to(DEVICE) for name, value in batch.items()}

    def update_teacher(self) -> None:
        self.updates += 1
        self.model.update_teacher(self.updates)

    def optimize(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def whole(self) -> None:
        batch = self.draw()
        with self.context():
            loss = self.forward(**batch).loss
        loss.backward()
        self.optimize()
        self.update_teacher()

    def parts(self) -> dict[str, float]:
        """Seconds of each part of one step."""
        model, batch = self.model, self.batch
        seconds = {"masks": timed(self.draw)}
        with self.context():
            start = clock()
            embedding = model.base_model.feature_encoder.embed(batch["pixel_values"])
            states = model.student_states(embedding, batch["ids_keep"])
            seconds["student forward"] = clock() - start
            start = clock()
            leaf = states.detach().requires_grad_()
            predictions = model.predict(leaf, batch["ids_keep"], embedding.grid, batch["noise_keys"])
            seconds["decoder forward"] = clock() - start
            seconds["teacher forward"] = timed(lambda: model.teacher_layers(batch["pixel_values"], embedding))
        gradient = torch.randn_like(predictions)
        seconds["decoder backward"] = timed(lambda: predictions.backward(gradient))
        seconds["student backward"] = timed(lambda: states.backward(leaf.grad))
        seconds["optimizer"] = timed(self.optimize)
        seconds["teacher average"] = timed(self.update_teacher)
        return seconds


def matrix_rate(autocast: bool) -> float:
    """Floating-point operations per second of a large matrix product."""
    m, k, n = (8192, 8192, 8192) if DEVICE.type == "cuda" else (2048, 768, 3072)
    dtype = torch.bfloat16 if autocast else torch.float32
    a, b = torch.randn(m, k, device=DEVICE, dtype=dtype), torch.randn(k, n, device=DEVICE, dtype=dtype)
    return 2 * m * k * n / min(timed(lambda: a @ b) for _ in range(10))


def report_parts(step: Step, repetitions: int) -> None:
    rounds = [step.parts() | {"": timed(step.whole)} for _ in range(repetitions + 1)][1:]
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    whole = medians.pop("")
    rate = matrix_rate(step.autocast)
    flops = inspect(step.config, batch_size=step.batch_size).flops.total
    print(f"\nOne step: {1e3 * whole:.0f} ms, {flops / 1e9:.0f} GFLOP, {flops / whole / rate:.0%} of the floor")
    print(f"({rate / 1e9:.0f} GFLOP/s per {'GPU' if DEVICE.type == 'cuda' else 'CPU second'} in a matrix product)\n")
    print("| part | ms | share |\n|---|---:|---:|")
    total = sum(medians.values())
    for name, value in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"| {name} | {1e3 * value:.1f} | {value / total:.1%} |")
    print(f"| sum of the parts | {1e3 * total:.1f} | |")


def measure_alone(settings: dict, batch_size: int, autocast: bool, repetitions: int) -> dict[str, float]:
    """Median step time and peak memory of one variant in a process of its own (peak memory can't be reset)."""
    arguments = json.dumps([settings, batch_size, autocast, repetitions])
    result = subprocess.run(
        [sys.executable, __file__, "--alone", arguments], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def resident_memory(name: str) -> int:
    """Bytes of this process now ("VmRSS") or at its peak ("VmHWM"); `ru_maxrss` would start at the parent's peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def alone(settings: dict, batch_size: int, autocast: bool, repetitions: int) -> None:
    before = resident_memory("VmRSS")
    step = Step(Data2Vec2VisionConfig(**settings), batch_size, autocast)
    seconds = [timed(step.whole) for _ in range(repetitions + 1)][1:]
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resident_memory("VmHWM") - before
    print(json.dumps({"seconds": statistics.median(seconds), "peak": peak}))


def report_sweep(base: dict, batch_size: int, autocast: bool, repetitions: int) -> None:
    variants: dict[str, tuple[dict, int]] = {"as above": (base, batch_size)}
    variants |= {f"M = {m}": (base | {"num_masks": m}, batch_size) for m in (1, 4, 16)}
    variants |= {f"batch {b}": (base, b) for b in (batch_size // 2, batch_size * 2)}
    variants |= {f"{size} x {size} pixels": (base | {"image_size": size}, batch_size) for size in (112, 320)}
    results = {name: measure_alone(*variant, autocast, repetitions) for name, variant in variants.items()}
    first = results["as above"]
    print(
        "\n| variant | ms a step | ratio | ms an image and mask | peak memory above start |\n|---|---:|---:|---:|---:|"
    )
    for name, result in results.items():
        settings, size = variants[name]
        rows = size * settings["num_masks"]
        print(
            f"| {name} | {1e3 * result['seconds']:.0f} | {result['seconds'] / first['seconds']:.2f} | "
            f"{1e3 * result['seconds'] / rows:.1f} | {result['peak'] / 2**20:.0f} MiB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--large", action="store_true", help="ViT-L instead of the small model")
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--compile", action="store_true", help="also time the compiled step")
    parser.add_argument("--no-sweep", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return alone(*json.loads(options.alone))
    repetitions = 3 if options.quick else 7
    settings = LARGE if options.large else SMALL
    print(f"{DEVICE}, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {options.batch_size}")
    config = Data2Vec2VisionConfig(**settings)
    step = Step(config, options.batch_size, options.bf16)
    report_parts(step, repetitions)
    if options.compile:
        compiled = Step(config, options.batch_size, options.bf16, compiled=True)
        for _ in range(3):
            compiled.whole()
        pairs = [(timed(step.whole), timed(compiled.whole)) for _ in range(repetitions)]
        plain, fast = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(f"\ncompiled: {1e3 * fast:.0f} ms against {1e3 * plain:.0f} ms, {plain / fast:.2f}x")
    if not options.no_sweep:
        report_sweep(settings, options.batch_size, options.bf16, 1 if options.quick else 3)


if __name__ == "__main__":
    main()
