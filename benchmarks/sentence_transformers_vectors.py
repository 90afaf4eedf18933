"""How far vectors by sentence-transformers are from `embed`'s, in padded batches and alone.

    python benchmarks/sentence_transformers_vectors.py

Models of the base width with four layers and random weights; five pictures, clips and texts of different lengths.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from processors import TOKENS, save_processor, some_samples

from modeling_data2vec import (
    Data2Vec2AudioConfig,
    Data2Vec2AudioModel,
    Data2Vec2SpectrogramConfig,
    Data2Vec2SpectrogramModel,
    Data2Vec2TextConfig,
    Data2Vec2TextModel,
    Data2Vec2VisionConfig,
    Data2Vec2VisionModel,
    embed,
)

LAYERS = {"num_hidden_layers": 4, "average_top_k_layers": 2}
MODELS = {
    "images": (Data2Vec2VisionModel, Data2Vec2VisionConfig(**LAYERS, image_size=8, patch_size=2, num_channels=1)),
    "speech": (Data2Vec2AudioModel, Data2Vec2AudioConfig(**LAYERS)),
    "spectrograms": (Data2Vec2SpectrogramModel, Data2Vec2SpectrogramConfig(**LAYERS, num_mel_bins=16, patch_size=4)),
    "text": (Data2Vec2TextModel, Data2Vec2TextConfig(**LAYERS, vocab_size=TOKENS)),
}


def main() -> None:
    print("| data | largest value | largest difference, one batch | alone |\n|---|---:|---:|---:|")
    for data, (model_class, config) in MODELS.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            model_class(config).save_pretrained(folder)
            save_processor(data, Path(folder))
            samples = some_samples(data)
            ours, encoder = embed(folder, samples, progress=False).vectors, SentenceTransformer(folder)
            together = np.abs(encoder.encode(samples) - ours).max()
            alone = np.abs(np.stack([encoder.encode(sample) for sample in samples]) - ours).max()
            print(f"| {data} | {np.abs(ours).max():.2f} | {together:.1e} | {alone:.1e} |", flush=True)


if __name__ == "__main__":
    main()
