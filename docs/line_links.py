"""Renews the line numbers in the pages' links to functions and classes.

    python docs/line_links.py

A link looks like [`Data2VecTrainer.compute_loss`](../trainers/pretraining/trainer.py#L170).
"""

import ast
import re
from pathlib import Path

DOCS = Path(__file__).parent
LINK = re.compile(r"\[`(?P<name>[\w.]+)`\]\((?P<path>\.\./[\w/.]+\.py)#L\d+\)")


def lines_of(path: Path) -> dict[str, int]:
    """The line of each function and class of a file; methods by `Class.method`."""
    found: dict[str, int] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found[prefix + child.name] = child.lineno
                visit(child, f"{prefix}{child.name}.")

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def renewed(text: str) -> str:
    """A page with the line numbers as they are now.

    Raises:
        KeyError: a link names what its file does not have.
    """

    def link(match: re.Match[str]) -> str:
        name, path = match["name"], match["path"]
        return f"[`{name}`]({path}#L{lines_of(DOCS / path)[name]})"

    return LINK.sub(link, text)


def main() -> None:
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
