"""Peak memory of `data2vec embed` for ten times the data: it must not grow with them.

    python benchmarks/embed_memory.py

The data are pictures of noise, 96 x 96, which it writes itself. Each run is a process of its own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (500, 5_000)
MEASURED = """
import resource, sys
import data2vec_cli
assert data2vec_cli.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def small_model(folder: Path) -> None:
    """An untrained encoder of 96 x 96 pixels, with its processor."""
    from transformers import ViTImageProcessorPil

    from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_prenet_layers": 1, "num_attention_heads": 2}
    config = Data2Vec2VisionConfig(
        **sizes, intermediate_size=128, average_top_k_layers=2, decoder_dim=32, image_size=96, patch_size=16
    )
    Data2Vec2VisionModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 96, "width": 96}).save_pretrained(folder)


def main() -> None:
    print("| pictures | peak memory (MiB) |\n|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        model, photos = Path(folder, "model"), Path(folder, "photos")
        small_model(model)
        photos.mkdir()
        for size in SIZES:
            rng = np.random.default_rng(0)
            for number in range(size):
                pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(photos / f"{number:06}.png", compress_level=0)
            argv = ["embed", str(model), str(photos), "--output", str(Path(folder, f"{size}.npy")), "--device", "cpu"]
            command = [sys.executable, "-c", MEASURED, *argv]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            print(f"| {size:,} | {int(result.stdout.split()[-1]):,} |", flush=True)


if __name__ == "__main__":
    main()
