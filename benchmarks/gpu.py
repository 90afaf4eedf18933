"""A GPU at work: ViT-B and L (2.0), speech base and text base, eager and compiled, in one table of at most 10 minutes.

    python benchmarks/gpu.py             # on a GPU, in bf16
    python benchmarks/gpu.py --tiny      # small models, on a CPU as well: does the script work?

For each model: ms a step (forward, backward, AdamW, the teacher's average), the share of the chip's peak that our
formula's floating-point operations make of it, samples a second, peak memory, synchronisations of one step (what makes
the CPU wait for the GPU), and programs that were compiled for three input lengths. Then ALiBi as a bias for sdpa beside
flex attention, and a loader of JPEGs beside the step that it feeds.
"""

import argparse
import io
import statistics
import time
import warnings
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from step import matrix_rate, samples
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.data import DataLoader

from modeling_data2vec import Data2Vec2AudioConfig, Data2Vec2TextConfig, Data2Vec2VisionConfig
from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.feature_encoder import alibi_bias
from modeling_data2vec.trainers import ImageTransform
from modeling_data2vec.trainers.inspection.costs import step_flops, step_shape
from modeling_data2vec.trainers.media.image_transform import decode_image
from modeling_data2vec.trainers.modalities.names import mask_collator

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "average_top_k_layers": 2,
    "num_masks": 2,
    "decoder_dim": 64,
}
# Config, kind of data, batch, and the lengths of three batches (pixels, seconds, tokens).
MODELS = {
    "ViT-B 2.0": (lambda: Data2Vec2VisionConfig(), "images", 64, (224,)),
    "ViT-L 2.0": (lambda: Data2Vec2VisionConfig(**LARGE), "images", 32, (224,)),
    "speech base 2.0": (lambda: Data2Vec2AudioConfig(), "speech", 8, (15.6, 14.1, 12.3)),
    "text base 2.0": (lambda: Data2Vec2TextConfig(), "text", 16, (512, 480, 400)),
}
TINY = {
    "images, tiny": (lambda: Data2Vec2VisionConfig(**SMALL), "images", 2, (64,)),
    "speech, tiny": (lambda: Data2Vec2AudioConfig(conv_dim=[32] * 7, **SMALL), "speech", 2, (1.0, 0.9, 0.8)),
    "text, tiny": (lambda: Data2Vec2TextConfig(vocab_size=100, **SMALL), "text", 2, (64, 60, 48)),
}


def elapsed(function: Any, repetitions: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        if CUDA:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def on_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copied from pinned memory while the GPU works."""
    return {
        name: (value.pin_memory() if CUDA else value).to(DEVICE, non_blocking=True) for name, value in batch.items()
    }


class Step:
    """A training step in bf16 on a GPU, in fp32 on a CPU."""

    def __init__(self, config: Any, compiled: bool) -> None:
        torch.manual_seed(0)
        torch._dynamo.reset()
        self.model = pretraining_class(config.model_type)(config).to(DEVICE).train()
        self.counter = CompileCounterWithBackend("inductor")
        self.forward = torch.compile(self.model, backend=self.counter) if compiled else self.model
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=CUDA)
        self.updates = 0

    def __call__(self, batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=CUDA):
            loss = self.forward(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.updates += 1
        self.model.update_teacher(self.updates)


def synchronisations(step: Step, batch: dict[str, torch.Tensor]) -> str:
    """How often one step waits for the GPU."""
    if not CUDA:
        return ""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step(batch)
    torch.cuda.set_sync_debug_mode("default")
    return str(sum("synchroniz" in str(warning.message) for warning in caught))


def report(name: str, tiny: bool, compiled: bool, peak: float) -> None:
    make_config, kind, batch_size, lengths = (TINY if tiny else MODELS)[name]
    config = make_config()
    collate = mask_collator(config)
    batches = [on_device(collate(samples(kind, config, batch_size, length, 0.0))) for length in lengths]
    step = Step(config, compiled)
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    for batch in batches:  # the first length is compiled for itself, the second for all
        step(batch)
        step(batch)
    programs = step.counter.frame_count
    seconds = elapsed(lambda: step(batches[0]), 3 if tiny else 10)
    shape = step_shape(config, batch_size, None if kind == "images" else lengths[0])
    flops = step_flops(config, shape).total
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if CUDA else ""
    print(
        f"| {name} | {'compiled' if compiled else 'eager'} | {batch_size} | {1e3 * seconds:.1f} | "
        f"{flops / seconds / peak:.0%} | {batch_size / seconds:.0f} | {memory} | "
        f"{synchronisations(step, batches[0])} | {programs if compiled else ''} |",
        flush=True,
    )


def report_alibi(tiny: bool) -> None:
    """ALiBi as a bias that sdpa adds, and as a function that flex attention computes inside of its kernel."""
    rows, heads, length, width = (2, 2, 64, 32) if tiny else (64, 12, 512, 64)
    dtype = torch.bfloat16 if CUDA else torch.float32
    q, k, v = (torch.randn(rows, heads, length, width, device=DEVICE, dtype=dtype) for _ in range(3))
    bias = alibi_bias(torch.arange(length, device=DEVICE)[:, None], heads)[None].to(dtype)
    slopes = -bias[0, :, 0, 1].float()

    def score(value: Any, row: Any, head: Any, query: Any, key: Any) -> Any:
        return value - slopes[head] * (query - key).abs()

    calls = {"sdpa, no bias": lambda: F.scaled_dot_product_attention(q, k, v)}
    calls["sdpa, ALiBi as a bias"] = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    if CUDA:
        from torch.nn.attention.flex_attention import flex_attention

        flex = torch.compile(flex_attention)
        calls["flex attention, ALiBi"] = lambda: flex(q, k, v, score_mod=score)
    print(f"\n| attention of [{rows}, {heads}, {length}, {width}], forward | ms |\n|---|---:|")
    for name, call in calls.items():
        call()
        print(f"| {name} | {1e3 * elapsed(call, 10):.2f} |", flush=True)


class Photos(torch.utils.data.Dataset):
    """JPEGs in memory, decoded and cropped anew each time."""

    def __init__(self, size: int, count: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (25, 34, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        self.data, self.count, self.transform = file.getvalue(), count, ImageTransform((size, size))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = decode_image({"bytes": self.data, "path": None}, 3)
        return {"pixel_values": self.transform(image, Random(index)), "key": index}


def report_loader(name: str, tiny: bool, workers: int) -> None:
    make_config, _, batch_size, (size,) = (TINY if tiny else MODELS)[name]
    config = make_config()
    photos = Photos(int(size), (4 if tiny else 40) * batch_size)
    loader = DataLoader(
        photos, batch_size, collate_fn=mask_collator(config), num_workers=workers, pin_memory=CUDA, drop_last=True
    )
    start = time.perf_counter()
    for batch in loader:
        on_device(batch)
    alone = len(photos) / (time.perf_counter() - start)
    step = Step(config, compiled=False)
    start = time.perf_counter()
    for batch in loader:
        step(on_device(batch))
    if CUDA:
        torch.cuda.synchronize()
    fed = len(photos) / (time.perf_counter() - start)
    print(f"\nJPEGs of 500 x 375, {workers} workers: {alone:.0f} images/s alone, {fed:.0f} with a step of {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small models: a test of the script")
    parser.add_argument("--models", nargs="+", help="names of the table's first column; default: all")
    parser.add_argument("--no-compile", action="store_true", help="eager steps only")
    parser.add_argument("--peak", type=float, help="TFLOP/s to take shares of, e.g. 790; default: a matrix product's")
    parser.add_argument("--workers", type=int, default=8 if CUDA else 1)
    options = parser.parse_args()
    if not CUDA and not options.tiny:
        parser.error("there is no GPU: give --tiny to try the script")
    models = options.models or list(TINY if options.tiny else MODELS)
    peak = options.peak * 1e12 if options.peak else matrix_rate(CUDA)
    where = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"{where}, torch {torch.__version__}, peak {peak / 1e12:.2f} TFLOP/s\n")
    print("| model | | batch | ms | of the peak | samples/s | memory | synchronisations | programs, 3 lengths |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in models:
        for compiled in (False,) if options.no_compile else (False, True):
            report(name, options.tiny, compiled, peak)
    report_alibi(options.tiny)
    report_loader(models[0], options.tiny, options.workers)


if __name__ == "__main__":
    main()
