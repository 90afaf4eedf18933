"""Checkpoint files as fairseq writes them, made of the stored reference cases: pretrained and fine-tuned."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import reference_cases
import torch
from torch import Tensor

LETTERS = ["<s>", "<pad>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "I"]
NUM_LABELS = 5


def content(model: dict[str, Any], weights: dict[str, Any], task: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "args": None,
        "cfg": {"_name": None, "model": model, "task": {"_name": "task", "data": "/data", "normalize": True}},
        "model": OrderedDict(weights),
        "criterion": None,
        "optimizer_history": [{"num_updates": 2}],
        "task_state": task or {},
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": {}, "param_groups": []},
    }


def first(pattern: str) -> reference_cases.Case:
    """The first stored case of a pattern that can be represented here."""
    for name in reference_cases.names(pattern):
        case = reference_cases.load(name)
        if not case.left_out():
            return case
    pytest.skip(f"no case {pattern} that can be converted in {reference_cases.FOLDER}")


def model_section(case: reference_cases.Case) -> dict[str, Any]:
    name = "data2vec_multi" if case.version == "2.0" else case.info["model"]
    return dict(case.info["config"]) | {"_name": name}


def pretrained(case: reference_cases.Case) -> dict[str, Any]:
    """A checkpoint with a case's student and teacher."""
    key = "encoder._ema" if (case.version, case.modality) == ("1.0", "text") else "_ema"
    return content(model_section(case), case.group("state") | {key: OrderedDict(case.group("ema"))})


def linear(outputs: int, inputs: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(outputs, inputs, generator=generator) / 4,
        "bias": torch.randn(outputs, generator=generator),
    }


def named(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}


def fine_tuned(case: reference_cases.Case) -> dict[str, Any]:
    """A checkpoint of the model that the authors fine-tune from a case: CTC, image classes or sentence classes."""
    model = model_section(case)
    inner = {"model": model, "task": {"_name": "pretraining", "normalize": True}}
    state = case.group("state")
    hidden = {name: value for name, value in state.items() if ".decoder." not in name}
    kind = case.modality
    if kind == "audio":
        width = model.get("embed_dim") or model["encoder_embed_dim"]
        weights = named("w2v_encoder.w2v_model", {k: v for k, v in hidden.items() if not k.startswith("final_proj.")})
        weights |= named("w2v_encoder.proj", linear(len(LETTERS), width, 1))
        outer = {"_name": "wav2vec_ctc", "w2v_args": inner, "final_dropout": 0.1, "apply_mask": True}
        inner["model"] = model | {"mask_prob": 0.5, "mask_channel_prob": 0.25, "feature_grad_mult": 0.0}
        return content(outer, weights, {"target_dictionary": LETTERS})
    if kind in ("vision", "image", "spectrogram"):
        width = model["embed_dim"]
        # What `remove_pretraining_modules` leaves.
        gone = ("final_proj.", "mask_emb", "encoder.norm.")
        weights = named("model", {k: v for k, v in hidden.items() if not k.startswith(gone)})
        norm = {"weight": linear(1, width, 2)["weight"][0], "bias": linear(width, 1, 3)["bias"]}
        weights |= named("fc_norm", norm) | named("head", linear(NUM_LABELS, width, 1))
        name = "data2vec_image_classification" if kind == "vision" else "mae_image_classification"
        if kind != "vision":
            inner["model"] = model | {"start_drop_path_rate": 0.05, "end_drop_path_rate": 0.1}
        mode = "CLS_TOKEN" if kind == "spectrogram" else "MEAN_POOLING"
        return content({"_name": name, "pretrained_model_args": inner, "prediction_mode": mode}, weights)
    head = "classification_heads.sentence_classification_head"
    if kind == "text" and "transformer" in model:
        width = model["transformer"]["encoder"]["embed_dim"]
        weights = dict(hidden)
    else:
        width = model["embed_dim"]
        weights = named("model", hidden)
        model = {"_name": "data2vec_text_classification", "pretrained_model_args": inner}
    weights |= named(f"{head}.dense", linear(width, width, 1)) | named(f"{head}.out_proj", linear(NUM_LABELS, width, 2))
    return content(model, weights)


def write(folder: Path, name: str, checkpoint: dict[str, Any]) -> Path:
    path = folder / f"{name}.pt"
    torch.save(checkpoint, path)
    return path
