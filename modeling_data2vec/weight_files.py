"""The weights of a model folder, in one file or several: found, read, counted, and checked to be numbers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from .model_files import reading_weights, weight_names


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        ValueError: it is damaged.
    """
    with reading_weights(path):
        return load_file(path)


def weight_paths(folder: str | Path) -> list[Path]:
    """The safetensors that make up a folder's model: one file, or those that its index lists.

    Raises:
        ValueError: some are missing, or the index is damaged.
    """
    folder = Path(folder)
    names = weight_names(folder)
    if missing := [name for name in names if not (folder / name).is_file()]:
        pickles = [file.name for file in folder.glob("*.bin")]
        hint = f", only {', '.join(pickles)}, which is a pickle" if pickles else ""
        raise ValueError(
            f"{folder} has no {', '.join(missing)}{hint}: save the model with save_pretrained, which writes safetensors"
        )
    return [folder / name for name in names]


def read_model_weights(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a folder's model by name, of one file or of several.

    Raises:
        ValueError: a file is missing or damaged.
    """
    return {name: value for path in weight_paths(folder) for name, value in read_weights(path).items()}


def check_finite(weights: Mapping[str, Tensor], where: str | Path) -> None:
    """Require that all weights are numbers.

    Args:
        weights: by name.
        where: file or folder that they are of.

    Raises:
        ValueError: names those that are not, and says how many of their elements.
    """
    wrong = {
        name: int((~torch.isfinite(value)).sum())
        for name, value in weights.items()
        if value.is_floating_point() and value.numel() and not all(map(torch.isfinite, torch.aminmax(value)))
    }
    if wrong:
        shown = [f"{name} ({count:,} of {weights[name].numel():,})" for name, count in list(wrong.items())[:5]]
        raise ValueError(
            f"{where} has NaN or infinity in {len(wrong)} of its {len(weights)} weights: {', '.join(shown)}"
            f"{', ...' if len(wrong) > 5 else ''}. The run that made them diverged: take an earlier checkpoint"
        )


def count_weights(folder: str | Path) -> int:
    """Count the tensors in a folder's safetensors, by their headers, which also say whether files are whole.

    Files that are missing count as none.

    Raises:
        ValueError: names the file that is damaged.
    """
    count = 0
    for name in weight_names(folder):
        path = Path(folder) / name
        if path.is_file():
            with reading_weights(path), safe_open(path, framework="pt") as tensors:
                count += len(tensors.keys())
    return count
