"""Where a pretraining step's time goes, and how it and the memory grow with masks, batch, length and padding.

    python benchmarks/step.py                    # images: the split and the sweeps, on the device that is there
    python benchmarks/step.py --modality speech  # or text
    python benchmarks/step.py --quick            # fewer repetitions

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
from dataclasses import replace
from typing import Any

import torch
from budgeted_runs import resident_memory
from transformers import AutoModelForPreTraining

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2TextConfig, Data2Vec2VisionConfig
from modeling_data2vec.linear import linear, own_linear
from modeling_data2vec.trainers.freed_memory import keep_freed_memory
from modeling_data2vec.trainers.inspection.report import inspect
from modeling_data2vec.trainers.modalities.names import mask_collator

CONFIGS = {"images": Data2Vec2VisionConfig, "speech": Data2Vec2AudioConfig, "text": Data2Vec2TextConfig}
# The shapes that the authors' code was timed with: a small ViT on 224 x 224 images, the published extractor before a
# small trunk, a small BERT. Dropout as published. `length` is in pixels, seconds and tokens.
SMALL = {
    "images": {
        "hidden_size": 192,
        "num_hidden_layers": 10,
        "num_prenet_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "average_top_k_layers": 10,
        "num_masks": 8,
        "decoder_dim": 192,
    },
    "speech": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "average_top_k_layers": 6,
        "num_masks": 8,
    },
    "text": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "average_top_k_layers": 6,
        "num_masks": 8,
        "decoder_dim": 256,
        "vocab_size": 10_000,
    },
}
LARGE = {  # for a GPU
    "images": {
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
    },
    "speech": {},  # the published base models
    "text": {},
}
BATCH = {"images": 8, "speech": 2, "text": 8}
LENGTH = {"images": 224, "speech": 8.0, "text": 256}
SWEEP = {"images": (112, 320), "speech": (2.0, 16.0), "text": (128, 512)}
UNIT = {"images": "pixels", "speech": "seconds", "text": "tokens"}
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


def samples(modality: str, config, batch_size: int, length: float, padding: float) -> list[dict]:
    """Random inputs of one length; with `padding` all but the first are shorter, so that this share is padded."""
    shares = [1.0] * batch_size
    if padding:
        shares[1:] = [1 - padding * batch_size / (batch_size - 1)] * (batch_size - 1)
    made = []
    for key, share in enumerate(shares):
        if modality == "images":
            values = torch.randn(config.num_channels, int(length), int(length))
        elif modality == "speech":
            values = torch.randn(int(16_000 * length * share))
        else:
            values = torch.randint(4, config.vocab_size, (int(length * share),))
        name = {"images": "pixel_values", "speech": "input_values", "text": "input_ids"}[modality]
        made.append({name: values, "key": key})
    return made


class Step:
    """One model with a batch, an optimizer and its parts as functions to be timed."""

    def __init__(
        self,
        modality: str,
        settings: dict,
        batch_size: int,
        length: float,
        autocast: bool,
        *,
        padding: float = 0.0,
    ):
        torch.manual_seed(0)
        if modality == "images":
            settings = settings | {"image_size": int(length)}
        self.config = CONFIGS[modality](**settings)
        self.batch_size = batch_size
        self.model = AutoModelForPreTraining.from_config(self.config).to(DEVICE).train()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=1e-4, fused=DEVICE.type == "cuda", foreach=DEVICE.type == "cpu"
        )
        self.collator = mask_collator(self.config)
        self.samples = samples(modality, self.config, batch_size, length, padding)
        self.autocast = autocast
        self.batch = self.draw()
        self.updates = 0

    def context(self):
        return torch.autocast(DEVICE.type, dtype=torch.bfloat16) if self.autocast else nullcontext()

    def draw(self) -> dict[str, torch.Tensor]:
        return {name: value.to(DEVICE) for name, value in self.collator(self.samples).items()}

    def update_teacher(self) -> None:
        self.updates += 1
        self.model.update_teacher(self.updates)

    def optimize(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def whole(self) -> None:
        batch = self.draw()
        with self.context():
            loss = self.model(**batch).loss
        loss.backward()
        self.optimize()
        self.update_teacher()

    def parts(self) -> dict[str, float]:
        """Seconds of each part of one step; "of it" is contained in the part before."""
        model, batch = self.model, self.batch
        encoder, trunk = model.base_model.feature_encoder, model.base_model.trunk
        inputs, attention_mask = batch[model.main_input_name], batch.get("attention_mask")
        mask, ids_keep = batch["mask"], batch["ids_keep"]
        seconds = {"masks": timed(self.draw)}
        with self.context(), own_linear():  # as `pretrain` does
            start = clock()
            embedding = encoder.embed(inputs, attention_mask)
            seconds["local feature encoder, forward"] = clock() - start
            inner = replace(embedding, tokens=embedding.tokens.detach().requires_grad_())
            start = clock()
            tokens, attention_masks = encoder.contextualize(inner, mask, ids_keep)
            seconds["positions, biases and prenet, forward"] = clock() - start
            with torch.no_grad():
                if isinstance(self.config, Data2Vec2AudioConfig):
                    seconds["of it: convolutional positions"] = timed(lambda: encoder.relative_positions(inner, mask))
                if self.config.use_alibi:
                    seconds["of it: ALiBi"] = timed(
                        lambda: encoder._attention_masks(tokens, None, embedding.grid, ids_keep)
                    )
            start = clock()
            states, _ = trunk(tokens, attention_masks)
            seconds["student's trunk, forward"] = clock() - start
            start = clock()
            leaf = states.detach().requires_grad_()
            predictions = model.side()._decode(
                leaf, ids_keep, embedding.grid, batch["noise_keys"], None, embedding.valid
            )
            seconds["decoder, forward"] = clock() - start
            seconds["teacher, forward"] = timed(lambda: model.teacher_layers(inputs, embedding, attention_mask))
        gradient = torch.randn_like(predictions)
        seconds["decoder, backward"] = timed(lambda: predictions.backward(gradient))
        seconds["student's trunk and positions, backward"] = timed(lambda: states.backward(leaf.grad))
        seconds["local feature encoder, backward"] = timed(lambda: embedding.tokens.backward(inner.tokens.grad))
        seconds["optimizer"] = timed(self.optimize)
        seconds["teacher average"] = timed(self.update_teacher)
        return seconds


def matrix_rate(autocast: bool) -> float:
    """Floating-point operations per second of a large matrix product."""
    m, k, n = (8192, 8192, 8192) if DEVICE.type == "cuda" else (2048, 768, 3072)
    dtype = torch.bfloat16 if autocast else torch.float32
    a, b = torch.randn(m, k, device=DEVICE, dtype=dtype), torch.randn(n, k, device=DEVICE, dtype=dtype)
    return 2 * m * k * n / min(timed(lambda: linear(a, b)) for _ in range(10))


def report_parts(step: Step, flops: int, repetitions: int) -> None:
    rounds = [step.parts() | {"": timed(step.whole)} for _ in range(repetitions + 1)][1:]
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    whole = medians.pop("")
    rate = matrix_rate(step.autocast)
    print(f"\nOne step: {1e3 * whole:.0f} ms, {flops / 1e9:.0f} GFLOP, {flops / whole / rate:.0%} of the floor")
    print(f"({rate / 1e9:.0f} GFLOP/s per {'GPU' if DEVICE.type == 'cuda' else 'CPU second'} in a matrix product)\n")
    print("| part | ms | share |\n|---|---:|---:|")
    total = sum(value for name, value in medians.items() if not name.startswith("of it"))
    for name, value in medians.items():
        print(f"| {name} | {1e3 * value:.1f} | {value / total:.1%} |")
    print(f"| sum of the parts | {1e3 * total:.1f} | |")


def measure_alone(repetitions: int, *step: object) -> dict[str, float]:
    """Median step time and peak memory of one variant in a process of its own (peak memory can't be reset)."""
    command = [sys.executable, __file__, "--alone", json.dumps([repetitions, *step])]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def alone(repetitions: int, modality: str, settings: dict, batch: int, length: float, autocast: bool, padding: float):
    before = resident_memory("VmRSS")
    step = Step(modality, settings, batch, length, autocast, padding=padding)
    seconds = [timed(step.whole) for _ in range(repetitions + 2)][2:]
    if DEVICE.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resident_memory("VmHWM") - before
    print(json.dumps({"seconds": statistics.median(seconds), "peak": peak}))


def report_sweep(modality: str, base: dict, batch: int, length: float, autocast: bool, repetitions: int) -> None:
    variants: dict[str, tuple] = {"as above": (base, batch, length, 0.0)}
    variants |= {f"M = {m}": (base | {"num_masks": m}, batch, length, 0.0) for m in (1, 4)}
    variants |= {f"batch {b}": (base, b, length, 0.0) for b in (batch // 2, batch * 2)}
    variants |= {f"{n:g} {UNIT[modality]}": (base, batch, n, 0.0) for n in SWEEP[modality]}
    if modality != "images":
        half = batch * 2
        variants["twice the batch, a quarter padded"] = (base, half, length, 0.25)
        variants["the same real lengths, unpadded"] = (base, half, 0.75 * length, 0.0)
    results: dict[str, list] = {name: [] for name in variants}
    for _ in range(repetitions):  # interleaved: the machine's speed changes
        for name, (settings, size, n, padding) in variants.items():
            results[name].append(measure_alone(1, modality, settings, size, n, autocast, padding))
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "peak")}
        for name, runs in results.items()
    }
    first = medians["as above"]["seconds"]
    print(
        "\n| variant | ms a step | ratio | ms a sample and mask | peak memory above start |\n|---|---:|---:|---:|---:|"
    )
    for name, figures in medians.items():
        settings, size, *_ = variants[name]
        rows = size * settings.get("num_masks", CONFIGS[modality]().num_masks)
        print(
            f"| {name} | {1e3 * figures['seconds']:.0f} | {figures['seconds'] / first:.2f} | "
            f"{1e3 * figures['seconds'] / rows:.1f} | {figures['peak'] / 2**20:.0f} MiB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", choices=CONFIGS, default="images")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batch-size", type=int, help="samples; default 8, of speech 2")
    parser.add_argument("--large", action="store_true", help="ViT-L, or published base models")
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    parser.add_argument("--no-sweep", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()  # as runs do
    if options.alone:
        return alone(*json.loads(options.alone))
    modality, repetitions = options.modality, 3 if options.quick else 7
    settings = (LARGE if options.large else SMALL)[modality]
    batch, length = options.batch_size or BATCH[modality], LENGTH[modality]
    print(f"{modality}, {DEVICE}, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {batch}", end="")
    print(f", {length:g} {UNIT[modality]}, M = {settings.get('num_masks', CONFIGS[modality]().num_masks)}")
    step = Step(modality, settings, batch, length, options.bf16)
    lengths: dict[str, dict[str, Any]] = {"speech": {"seconds": length}, "text": {"tokens": int(length)}}
    report_parts(step, inspect(step.config, batch_size=batch, **lengths.get(modality, {})).flops.total, repetitions)
    if not options.no_sweep:
        report_sweep(modality, settings, batch, length, options.bf16, 1 if options.quick else 3)


if __name__ == "__main__":
    main()
