"""A tiny model's folder that is published, and under which name."""

from pathlib import Path

import torch
from tiny_runs import tiny_model

NAME = "anna/tiny"


def saved(folder: Path, kind: str = "images 2.0") -> Path:
    model = tiny_model(kind)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(0.1)
    model.save_pretrained(folder)
    return folder
