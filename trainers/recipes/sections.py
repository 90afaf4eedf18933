"""What the files of all recipes share: sections of keys and values, required keys, numbers as yaml misses them."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_origin

from ..files.yaml_files import read_yaml
from ..option_checks import did_you_mean

EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def no_such_recipe(name: str | Path, names: list[str], others: str) -> ValueError:
    """The error for a name that is none of `names`, and nothing else that could be given."""
    hint = " ".join([did_you_mean(str(name), names), "Name one of"]).strip()
    return ValueError(f"there is no recipe {str(name)!r}: {hint} {', '.join(names)}, {others}")


def read_sections(path: Path, kind: type) -> dict[str, Any]:
    """Read the sections of a recipe's file; fields that are dicts in the dataclass `kind` must hold keys and values.

    Raises:
        ValueError: it is not yaml, or a section is none.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold keys and values, but holds {type(values).__name__}")
    for name in ["data", *(entry.name for entry in fields(kind) if get_origin(entry.type) is dict)]:
        if not isinstance(values.get(name, {}), dict):
            raise ValueError(f"{path}: {name} must hold keys and values, but is {values[name]!r}")
    return values


def required_fields(kind: Any) -> list[str]:
    """Names of the fields of a dataclass that have no default."""
    return [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]


def require(given: dict[str, Any], names: list[str], where: str) -> None:
    """Raise a ValueError that lists the keys that are missing."""
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Convert texts such as `1e-3` in `values` to numbers: yaml reads them as text without a point and a sign."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return numbers(value)
        if not isinstance(value, str) or not EXPONENT.fullmatch(value):
            return value
        number = float(value)
        return int(number) if number.is_integer() else number

    return {key: convert(value) for key, value in values.items()}
