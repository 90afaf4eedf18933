"""Folders of photos, clips and tables, and what an opened source holds of them."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from modeling_data2vec.trainers.modalities.speech import TRANSCRIBED
from modeling_data2vec.trainers.sources.loading import load_source


def photo(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path)
    return path


def clip(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(round(seconds * 16_000)) / 10), 16_000)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def files(opened, root: Path) -> list[str]:
    """Files of an opened source below a folder; all exist."""
    dataset, column = opened
    found = [Path(row[column]["path"]).resolve() for row in dataset]
    assert all(file.is_file() for file in found)
    return [str(file.relative_to(root.resolve())) for file in found]


def transcripts(source: Path, root: Path, split: str = "train") -> dict[str, str]:
    dataset, column = load_source(str(source), TRANSCRIBED, split=split)
    text = next(name for name in ("text", "sentence", "transcription") if name in dataset.column_names)
    return dict(zip(files((dataset, column), root), dataset[text], strict=True))
