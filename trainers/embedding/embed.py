"""Feature vectors of any data by any encoder, in two lines."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

from ..data.samples import nothing_readable
from ..evaluation.features import encode
from ..evaluation.options import Layers, layer_numbers
from ..modalities.encoders import load_encoder, move_to
from .data import Data, SampleStream, open_data, readable, windows
from .options import FeatureOptions

logger = logging.get_logger(__name__)

# Batches that are read at once and sorted by length: what memory has to hold of the inputs.
WINDOW = 8
SMALLEST_NORM = 1e-12


@dataclass
class Embeddings:
    """Feature vectors, and which samples they belong to. `np.asarray` gives the vectors.

    Attributes:
        vectors: fp32 [N, D], in the order of the data.
        rows: int64 [N], each vector's place in the data.
        ids: N names: of files, or of a column, or the places as text.
        left_out: why each sample without a vector has none, by its name.
    """

    vectors: np.ndarray
    rows: np.ndarray
    ids: list[str]
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.vectors, dtype=dtype, copy=copy)

    def to_dataset(self) -> datasets.Dataset:
        """A `datasets.Dataset` with the columns `row`, `id` and `features`."""
        length = self.vectors.shape[1]
        features = datasets.Features(
            {
                "row": datasets.Value("int64"),
                "id": datasets.Value("string"),
                "features": datasets.List(datasets.Value("float32"), length=length),
            }
        )
        columns = {"row": self.rows, "id": self.ids, "features": list(self.vectors)}
        return datasets.Dataset.from_dict(columns, features=features)


def embed(
    model: str | os.PathLike[str] | PreTrainedModel,
    data: Data,
    *,
    processor: Any = None,
    modality: str | None = None,
    split: str = "train",
    column: str | None = None,
    id_column: str | None = None,
    pooling: str = "mean",
    layer: Layers = -1,
    normalize: bool = False,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Embeddings:
    """Take one feature vector of each sample by a frozen encoder.

    Samples of similar length share a batch; of ours, no vector depends on the padding. A sample that can't be read is
    left out, with a warning.

    Args:
        model: folder, Hub id or loaded model: any of ours (pretraining, task, joint) or any Hugging Face encoder of
            images, waveforms or tokens.
        data: a folder, table, saved dataset or Hub id; a data set of `datasets`, streamed or not; or a list: of paths,
            PIL images, arrays [H, W, channels], waveforms [samples] at the model's rate, or texts.
        processor: image processor, feature extractor or tokenizer, or a folder or Hub id with it; default: the model's.
        modality: of a joint model: "audio", "text" or "vision".
        split, column: of a source that has several; the column is found by itself where there is only one.
        id_column: holds the samples' ids; default: names of files, where there are some, else the place in the data.
        pooling: how the real positions (patches, frames, tokens) become one vector: "mean", "max", "std", "cls",
            "grid2", "time6", "bands", "bands_max", "bands_std", or several as in "mean+max"; see `extract_features`.
        layer: -1 for the encoder's output; any other number is an index of `hidden_states`; several, as in [2, 4] or
            "2+4", stand side by side.
        normalize: scale vectors to length 1.
        batch_size: samples in a forward pass.
        device: e.g. "cpu" or "cuda:1"; default: the accelerator if there is one, or where a loaded model is.
        progress: whether to show a progress bar.

    Raises:
        ValueError: model, data or options don't fit together, or no sample can be read.

    Example:
        >>> from transformers import ViTImageProcessorPil
        >>> from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionModel
        >>> config = Data2Vec2VisionConfig(hidden_size=32, num_hidden_layers=2, num_prenet_layers=1, image_size=16,
        ...     num_attention_heads=2, intermediate_size=64, average_top_k_layers=2, patch_size=4, decoder_dim=32)
        >>> processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
        >>> features = embed(Data2Vec2VisionModel(config), "digits", processor=processor, split="test", progress=False)
        >>> features.vectors.shape, features.ids[:2], features.to_dataset().column_names
        ((500, 32), ['0', '1'], ['row', 'id', 'features'])
    """
    layers = [str(number) for number in layer_numbers(layer)]
    options = FeatureOptions(pooling=pooling, layers=layers, normalize=normalize, batch_size=batch_size)
    encoder, kind = load_encoder(os.fspath(model) if isinstance(model, os.PathLike) else model, processor, modality)
    if device is not None:
        move_to(encoder, device)
    samples = open_data(kind, data, split=split, column=column, id_column=id_column)
    return _joined(list(embed_parts(encoder, samples, options, progress=progress)), kind.medium.noun)


def _joined(parts: list[Embeddings], noun: str) -> Embeddings:
    left_out = {name: why for part in parts for name, why in part.left_out.items()}
    filled = [part.vectors for part in parts if len(part)]  # those of no sample have no width
    if not filled:
        raise nothing_readable(left_out, noun)
    rows = np.concatenate([part.rows for part in parts])
    return Embeddings(np.concatenate(filled), rows, [name for part in parts for name in part.ids], left_out)


def of_length_1(vectors: np.ndarray) -> np.ndarray:
    """Rows [N, D] scaled to length 1, so that their products are cosines; a zero row stays."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(SMALLEST_NORM)


def embed_parts(
    encoder: PreTrainedModel,
    samples: SampleStream,
    options: FeatureOptions,
    *,
    first_part: int = 0,
    progress: bool = False,
) -> Iterator[Embeddings]:
    """`embed` part by part: the same vectors in memory that does not grow with the data.

    Args:
        first_part: start with this part; the samples before it are not decoded.

    Yields:
        vectors of the next `WINDOW` batches of samples; of none if none of them can be read.
    """
    size = WINDOW * options.batch_size
    bar = tqdm(total=samples.known_length(), initial=first_part * size, unit="sample", disable=not progress)
    with closing(bar):
        for window in windows(samples.read(first_part * size), size):
            read, left_out = readable(window)
            for name, why in left_out.items():
                logger.warning(f"Leaving out {samples.reader.noun} {name}: {why}")
            vectors = np.empty((0, 0), dtype=np.float32)
            if read:
                inputs: Any = [sample.inputs for sample in read]
                settings: Any = {"pooling": options.pooling, "layer": options.layers, "batch_size": options.batch_size}
                vectors = encode(encoder, inputs, **settings)
            if read and options.normalize:
                vectors = of_length_1(vectors)
            rows = np.array([sample.row for sample in read], dtype=np.int64)
            yield Embeddings(vectors, rows, [sample.id for sample in read], left_out)
            bar.update(len(window))
