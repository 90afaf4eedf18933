"""Feature vectors of one modality in the space of another, by a model that was trained on pairs: search across them."""

import os
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor

from modeling_data2vec import Data2Vec2ForPreTraining

from ..data.samples import nothing_readable
from ..evaluation.retrieval import head_predictions, latents_of, pooled_features, whole_samples
from ..modalities.encoders import load_encoder
from .data import Data, Sample, open_data, readable, windows
from .embed import Embeddings, of_length_1


def embed_across(
    model: str | os.PathLike[str] | Data2Vec2ForPreTraining,
    data: Data,
    *,
    modality: str,
    space: str,
    processor: Any = None,
    split: str = "train",
    column: str | None = None,
    id_column: str | None = None,
    batch_size: int = 32,
) -> Embeddings:
    """Take a vector of each sample in one modality's space, so that the cosine finds what belongs together.

    In its own space a sample is what the teacher makes of it: its pooled layers, normalised by the statistics of the
    model's training (without any, over the data, so these should be a collection to be searched). From another
    modality, the model's head for the two predicts that.

    Args:
        model: a pretraining model with several modalities that was trained on pairs, or its folder or Hub id.
        data: as for `embed`.
        modality: of the data: "audio", "spectrogram", "text" or "vision".
        space: the modality whose space the vectors are in.
        processor, split, column, id_column: as for `embed`.
        batch_size: samples in a forward pass.

    Raises:
        ValueError: the model has no heads across modalities, or not these modalities; or as `embed`.

    Example:
        >>> pictures = embed_across("runs/paired", "photos", modality="vision", space="vision")  # doctest: +SKIP
        >>> words = embed_across("runs/paired", ["a wren"], modality="text", space="vision")  # doctest: +SKIP
        >>> found = pictures.ids[int((pictures.vectors @ words.vectors.T).argmax(0)[0])]  # doctest: +SKIP
    """
    loaded = _with_heads(model)
    loaded.config.of(space)  # says which modalities there are
    _, kind = load_encoder(loaded, processor, modality)
    samples = open_data(kind, data, split=split, column=column, id_column=id_column)
    kept: list[Sample] = []
    left_out: dict[str, str] = {}

    def batches() -> Iterator[dict[str, Tensor]]:
        for window in windows(samples.read(), batch_size):
            read, unreadable = readable(window)
            left_out.update(unreadable)
            kept.extend(sample._replace(inputs="") for sample in read)
            if inputs := [sample.inputs for sample in read if isinstance(sample.inputs, Tensor)]:
                yield whole_samples(kind, inputs)

    made = batches()
    first = next(made, None)
    if first is None:
        raise nothing_readable(left_out, kind.medium.noun)
    features = pooled_features(loaded, modality, chain([first], made))
    if modality == space:
        vectors = latents_of(loaded, modality, features)(features)
    else:
        vectors = head_predictions(loaded, modality, space, features.states)
    rows = np.array([sample.row for sample in kept], dtype=np.int64)
    return Embeddings(of_length_1(vectors), rows, [sample.id for sample in kept], left_out)


def _with_heads(model: Any) -> Any:
    """A loaded pretraining model, which has heads across modalities."""
    loaded: Any = Data2Vec2ForPreTraining.from_pretrained(model) if isinstance(model, str | os.PathLike) else model
    if not hasattr(loaded, "cross_modal"):
        raise ValueError(
            f"{getattr(loaded, 'name_or_path', '') or type(loaded).__name__} has no heads across modalities: train a "
            "pretraining model with cross_modal_layers on pairs, or compare features of one modality by embed"
        )
    return loaded
