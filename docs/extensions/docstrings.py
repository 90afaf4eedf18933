"""Docstrings in Markdown, as this package writes them, to the markup that Sphinx reads."""

import dataclasses
import re
from typing import Any

CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[([^\]`]+)\]\((https?://[^)]+)\)")
LONGEST_SIGNATURE = 12  # arguments; those of longer ones are listed in the text


def to_restructured_text(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Change a docstring in place: code, links, tables, and an empty line before each list."""
    text = LINK.sub(r"`\1 <\2>`__", CODE.sub(r"``\1``", "\n".join(lines)))
    text = re.sub(r"``([^`]+) <(https?://[^>]+)>``__", r"`\1 <\2>`__", text)
    lines[:] = with_lists(with_tables(text.split("\n")))


def with_tables(lines: list[str]) -> list[str]:
    """Lines with Markdown's tables as list-tables.

    Example:
        >>> with_tables(["| a | b |", "|---|---|", "| 1 | 2 |"])
        ['', '.. list-table::', '   :header-rows: 1', '', '   * - a', '     - b', '   * - 1', '     - 2', '']
    """
    found: list[str] = []
    inside = False
    for line in lines:
        indent, row = line[: len(line) - len(line.lstrip())], line.strip()
        if not (row.startswith("|") and row.endswith("|")):
            found += ["", line] if inside else [line]
            inside = False
            continue
        if not inside:
            found += ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
        inside = True
        if not re.fullmatch(r"[|:\s-]+", row):
            for number, cell in enumerate(row.strip("|").split("|")):
                found.append(f"{indent}   {'* -' if number == 0 else '  -'} {cell.strip()}".rstrip())
    return [*found, ""] if inside else found


def with_lists(lines: list[str]) -> list[str]:
    """Lines with an empty one before each list that follows a paragraph at once."""
    found: list[str] = []
    for line in lines:
        before = found[-1].strip() if found else ""
        if line.lstrip().startswith("- ") and before and not before.startswith(("- ", "* -", ".. ", ":")):
            indent = len(line) - len(line.lstrip())
            if len(found[-1]) - len(found[-1].lstrip()) <= indent:
                found.append("")
        found.append(line)
    return found


def short_signature(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """`(...)` for classes whose arguments would fill a screen: configs and training arguments."""
    if what != "class" or signature is None:
        return None
    many = len(dataclasses.fields(value)) if dataclasses.is_dataclass(value) else signature.count(": ")
    return ("(...)", returned) if many > LONGEST_SIGNATURE else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", to_restructured_text, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", short_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
