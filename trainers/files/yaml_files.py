"""YAML without aliases and deep nesting, which make small files endless."""

from pathlib import Path
from typing import Any

import yaml

BYTES = 200_000  # the largest recipe has 5,000; numbers with colons (1:30:00) take the square of their length


class _PlainLoader(yaml.SafeLoader):
    """`SafeLoader` without aliases: ten lines of them make a value of a billion parts."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} is an alias; write out what it stands for", event.start_mark
            )
        return super().compose_node(parent, index)


def parse_yaml(text: str, where: str | Path) -> Any:
    """Parse YAML.

    Args:
        text: YAML.
        where: what the text is, for errors.

    Raises:
        ValueError: it is no YAML, too long, too deep, or has aliases.
    """
    if len(text) > BYTES:
        raise ValueError(f"{where} has {len(text):,} characters, but at most {BYTES:,} are read as yaml")
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise ValueError(f"{where} is not valid yaml: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:  # numbers, dates, keys, tags
        raise ValueError(f"{where} is not valid yaml: {error}") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `parse_yaml`.
    """
    if path.stat().st_size > 4 * BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, but at most {BYTES:,} are read as yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): convert it") from error
    return parse_yaml(text, path)
