"""What docs/differences.md says is left out: tests skip, or are checked against, that table alone."""

import ast
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


def section(title: str) -> str:
    """Text of the page under `## title`."""
    return PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def left_out() -> dict[str, Any]:
    """Option to the only value accepted."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| .+ \|$", section("Left out"), flags=re.MULTILINE)
    return {option: ast.literal_eval(value) for option, value in rows}


def left_out_of(options: dict[str, Any]) -> dict[str, Any]:
    """Those of `options` that are set to something left out."""
    return {name: options[name] for name, value in left_out().items() if name in options and options[name] != value}
