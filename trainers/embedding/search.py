"""`data2vec search`: which samples of one kind of data belong to samples of another, in a table."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from modeling_data2vec import Data2Vec2ForPreTraining

from ..files.model_folders import loading
from ..files.output_checks import check_output_file
from ..files.writing import new_file
from ..modalities.encoders import move_to
from ..modalities.names import by_modality_name
from ..named_values import named_value
from .across import embed_across
from .embed import Embeddings
from .options import SearchOptions
from .run import said_of

OF_DATA = ("split", "column", "id_column")  # options that may differ by modality
COLUMNS = ("query", "rank", "id", "cosine")


def nearest_across(queries: Embeddings, collection: Embeddings, count: int) -> list[dict[str, Any]]:
    """The nearest samples of a collection to each query, the nearest first; equally near ones in the data's order.

    Args:
        queries, collection: vectors of length 1 in one space, as `embed_across` gives them.
        count: samples for each query; all where there are fewer.

    Returns:
        a row for each of them: `query` and `id` are the samples' names, `rank` counts from 1.
    """
    rows = []
    for query, vector in zip(queries.ids, queries.vectors, strict=True):
        cosines = collection.vectors @ vector
        for rank, place in enumerate(np.argsort(-cosines, kind="stable")[:count], start=1):
            found = (query, rank, collection.ids[place], round(float(cosines[place]), 6))
            rows.append(dict(zip(COLUMNS, found, strict=True)))
    return rows


def search_to_file(model: str, queries: str, collection: str, options: SearchOptions) -> str:
    """Write the nearest samples of the collection to each query into `options.output`.

    Args:
        model: folder or Hub id of a model that was trained on pairs.
        queries, collection: MODALITY=DATA, of two modalities.

    Returns:
        what was written and left out, for people.

    Raises:
        ValueError: the data are not of two of the model's modalities, or as `embed_across`.
    """
    check_output_file(Path(options.output), "--output")
    named = [named_value(text) for text in (queries, collection)]
    (given, _), (space, _) = named
    if not given or not space or given == space:
        raise ValueError(
            f"{queries} and {collection} must be named by two modalities of the model, as in audio=clips vision=photos"
        )
    loaded = _load(model)
    if options.device is not None:
        move_to(loaded, options.device)
    elif torch.accelerator.is_available():
        move_to(loaded, torch.accelerator.current_accelerator())  # type: ignore[arg-type]
    columns = {name: by_modality_name(getattr(options, name) or [], [given, space], f"--{name}") for name in OF_DATA}
    found = []
    for name, data in named:
        where = {option: values[str(name)] for option, values in columns.items() if str(name) in values}
        batches: dict[str, Any] = {"batch_size": options.batch_size, **where}
        found.append(embed_across(loaded, data, modality=str(name), space=space, **batches))
    queried, searched = found
    rows = nearest_across(queried, searched, options.neighbors)
    with new_file(Path(options.output)) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        if options.output.endswith(".csv"):
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(rows)
        else:
            json.dump(rows, file, ensure_ascii=False, indent=2)
    what = (
        f"the {min(options.neighbors, len(searched))} nearest of {len(searched):,} samples to each of {len(queried):,}"
    )
    left_out = {
        f"{name} {sample}": why  # samples of both may be numbered
        for (name, _), one in zip(named, found, strict=True)
        for sample, why in one.left_out.items()
    }
    return f"Wrote {options.output}: {what}.{said_of(left_out)}"


def _load(model: str) -> Any:
    """A pretraining model with several modalities, of a folder or Hub id."""
    try:
        with loading(model):
            config = AutoConfig.from_pretrained(model)
            if config.model_type != Data2Vec2ForPreTraining.config_class.model_type:
                raise ValueError(
                    f"{model} is of type {config.model_type}, but only a joint model that was trained with --pairs "
                    "finds samples of one modality by those of another (docs/one_network.md)"
                )
            return Data2Vec2ForPreTraining.from_pretrained(model)
    except OSError as error:
        raise ValueError(f"model {model!r} can't be loaded: {str(error).splitlines()[0]}") from error
