"""The processors of a joint model, each in a sub-folder called like its modality."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any


class JointProcessor:
    """What a `Trainer` saves beside a joint model: `audio/preprocessor_config.json`, `text/tokenizer.json` and so on.

    transformers loads each by its sub-folder: `AutoTokenizer.from_pretrained("runs/joint", subfolder="text")`.

    Args:
        processors: by modality.
    """

    def __init__(self, processors: Mapping[str, Any]) -> None:
        self.processors = dict(processors)

    def save_pretrained(self, save_directory: str | PathLike[str], **options: Any) -> None:
        """Save all; `options` are those of each processor's own method."""
        for name, processor in self.processors.items():
            processor.save_pretrained(Path(save_directory) / name, **options)
