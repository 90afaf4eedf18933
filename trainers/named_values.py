"""NAME=VALUE on the command line: fields of configs, and what each modality has."""

import json
from collections.abc import Sequence
from typing import Any


def named_value(text: str) -> tuple[str | None, str]:
    """Split NAME=VALUE at the first sign of equality; a value alone has the name None.

    Example:
        >>> named_value("audio=a=b.wav"), named_value("clips")
        (('audio', 'a=b.wav'), (None, 'clips'))
    """
    name, separator, value = text.partition("=")
    return (name, value) if separator else (None, text)


def assignments(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Values by name; they are read as JSON where they can be.

    Args:
        texts: of the form NAME=VALUE.
        option: that they were given by, for the error.

    Raises:
        ValueError: one has no name.

    Example:
        >>> assignments(["num_masks=4", "norm_position=pre"], "--config")
        {'num_masks': 4, 'norm_position': 'pre'}
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, value = named_value(text)
        if not name:
            raise ValueError(f"{option} takes NAME=VALUE, not {text!r}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values
