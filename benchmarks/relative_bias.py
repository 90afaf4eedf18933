"""What data2vec 1.0 on images gains from one relative position bias for all layers, and from sdpa attention.

    python benchmarks/relative_bias.py

One step (forward and backward) of a small ViT on 224 x 224 images, in three ways, interleaved: as pretraining does it,
with the bias computed in every layer as transformers' encoder does it by itself, and with eager attention. Medians of
CPU time (user + system, all threads) on a CPU, of elapsed time on a GPU.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from unittest.mock import patch

import torch

from modeling_data2vec import Data2VecVisionForPreTraining, Data2VecVisionPreTrainingConfig, modeling_data2vec_vision
from modeling_data2vec.trainers.modalities.names import mask_collator

SIZES = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def model(attention: str) -> Data2VecVisionForPreTraining:
        torch.manual_seed(0)
        config = Data2VecVisionPreTrainingConfig(**SIZES, attn_implementation=attention)
        return Data2VecVisionForPreTraining(config).to(device).train()

    models = {"sdpa": model("sdpa"), "eager": model("eager")}
    examples = [{"pixel_values": torch.randn(3, 224, 224), "key": i} for i in range(options.batch)]
    batch = {name: value.to(device) for name, value in mask_collator(models["sdpa"].config)(examples).items()}
    in_every_layer = patch.object(modeling_data2vec_vision, "shared_bias_computed_once", lambda encoder: nullcontext())
    variants = {
        "as pretraining does it": ("sdpa", nullcontext()),
        "bias in every layer": ("sdpa", in_every_layer),
        "eager attention": ("eager", nullcontext()),
    }

    def seconds(attention: str, context) -> float:
        clock = time.perf_counter if device == "cuda" else time.process_time
        with context:
            start = clock()
            models[attention](**batch).loss.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            return clock() - start

    times: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(options.repetitions + 1):
        for name, variant in variants.items():
            taken = seconds(*variant)
            if repetition:  # the first one warms up
                times[name].append(taken)
    base = statistics.median(times["as pretraining does it"])
    print(f"{options.batch} images, {device}, {torch.get_num_threads()} thread(s), {options.repetitions} repetitions\n")
    print("| step | ms | times the first |\n|---|---:|---:|")
    for name, all_taken in times.items():
        median = statistics.median(all_taken)
        print(f"| {name} | {1000 * median:.0f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
