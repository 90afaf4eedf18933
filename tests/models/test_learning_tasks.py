"""Each head, 2.0's and transformers' own of 1.0, learns a little real data by heart."""

from itertools import groupby
from typing import Any

import pytest
import torch
from task_models import TASKS, Batch
from tiny_runs import KINDS
from torch import Tensor, nn
from transformers import AutoTokenizer

WIDER = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}
CHANGES = {  # by modality: fields of both versions, and of each
    "speech": {"both": WIDER | {"conv_dim": [32, 32]}, "2.0": {"decoder_dim": 48}},
    "spectrograms": {"both": WIDER | {"patch_size": [2, 8], "decoder_dim": 48}},
    "images": {"both": {}, "1.0": {"num_hidden_layers": 3, "out_indices": [1, 2, 3, 4]}},
    "text": {"both": WIDER | {"vocab_size": 300, "max_position_embeddings": 64}, "2.0": {"decoder_dim": 48}},
}


def said(outputs: Any, model: Any, labels: Tensor) -> Tensor:
    """What a model answers, in the shape of the labels."""
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits]).argmax(-1)
    logits = outputs.logits
    if "embeddings" in outputs:  # the speaker whose direction is nearest
        logits = nn.functional.normalize(logits) @ nn.functional.normalize(model.objective.weight, dim=0)
    if logits.ndim == 4:  # pixels
        return nn.functional.interpolate(logits, labels.shape[-2:], mode="bilinear").argmax(1)
    return logits.argmax(-1)


def error_rate(model: Any, batch: Batch) -> float:
    """Share of wrong answers; of letters, for CTC."""
    with torch.no_grad():
        outputs = model.eval()(**batch)
    if type(model).__name__.endswith("ForCTC"):
        return character_error_rate(outputs.logits, model, batch)
    if "start_positions" in batch:
        labels = torch.stack([batch["start_positions"], batch["end_positions"]])
    else:
        labels = batch["labels"]
    if labels.is_floating_point():  # one-hot
        labels = labels.argmax(-1)
    return float((said(outputs, model, labels) != labels)[labels >= 0].float().mean())


def character_error_rate(logits: Tensor, model: Any, batch: Batch) -> float:
    if model.main_input_name == "input_features":
        counts = model.num_real_frames(batch["input_features"], batch["attention_mask"])
    else:
        counts = (batch["attention_mask"].sum(1) - 170) // 160 + 1  # frames of the tiny models' convolutions
    errors = total = 0
    for row, count, labels in zip(logits.argmax(-1), counts, batch["labels"], strict=True):
        letters = [letter for letter, _ in groupby(row[:count].tolist()) if letter]
        expected = labels[labels >= 0].tolist()
        errors += edit_distance(letters, expected)
        total += len(expected)
    return errors / total


def edit_distance(one: list[int], other: list[int]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        (name, version)
        for name, task in TASKS.items()
        for version in ("2.0", "1.0")
        if f"{task.modality} {version}" in KINDS
    ],
)
def test_a_head_learns_by_heart(name, version, tokenizer, tmp_path):
    task = TASKS[name]
    batch = task.learnable(AutoTokenizer.from_pretrained(tokenizer))
    changes = CHANGES[task.modality]["both"] | CHANGES[task.modality].get(version, {})
    model = task.model(tmp_path, version, changes, **({"num_labels": 10} if name == "classes of images" else {}))
    if version == "1.0" and name == "classes of frames":  # it takes one-hot labels, and counts padding
        batch["labels"] = nn.functional.one_hot(batch["labels"].clamp_min(0), model.config.num_labels).float()
    elif version == "1.0" and name == "words under masks":  # which transformers leaves as the memory happens to be
        nn.init.zeros_(model.lm_head.bias)

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    error, limit = 1.0, 0.10 if name.startswith("CTC") else 0.05
    for _ in range(20):
        for _ in range(20):
            model.train()(**batch).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        error = error_rate(model, batch)
        if error < limit:
            return
    pytest.fail(f"{error:.0%} of the answers are still wrong after 400 steps")


def test_error_rates():
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([], [1, 3]) == 2
    assert edit_distance([1, 3], [3, 1]) == 2
