"""The authors' stored numbers: every case of a folder, which `DATA2VEC_REFERENCE` may name."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FOLDER = Path(os.environ.get("DATA2VEC_REFERENCE") or Path(__file__).parent / "reference")


@dataclass
class Case:
    name: str
    info: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors under `prefix.`, without the prefix."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def names(pattern: str) -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob(f"{pattern}/case.json"))


def load(name: str) -> Case:
    folder = FOLDER / name
    tensors = load_file(folder / "tensors.safetensors") if (folder / "tensors.safetensors").exists() else {}
    return Case(name, json.loads((folder / "case.json").read_text()), tensors)
