"""How the code is built, as Markdown tables: sizes, comments, import levels and circles, and what a push copies.

    python benchmarks/structure.py
    git worktree add /tmp/before HEAD~100 && python benchmarks/structure.py /tmp/before  # the same of another commit

A level is one more than the highest level that a file imports from: a file of level 1 imports none of its part.
"""

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PARTS = ("modeling_data2vec", "trainers", "tests", "examples", "benchmarks")
# Tensor code that does the most in the fewest lines: here a reader needs to be told why.
DENSE = ["masking", "span_masks", "beit_masks", "counter_rng", "student_teacher", "length_groups", "feature_encoder"]
DENSE += ["heads", "convolutions", "trunk", "objective", "embedding"]
DENSE += ["modeling_data2vec2_audio", "modeling_data2vec2_vision"]
# Where the code of a model that is pushed with its code begins; other files come along by relative imports.
ENTRIES = {
    "images": "vision",
    "speech": "audio",
    "text": "text",
    "spectrograms": "spectrogram",
}
SUFFIXES = {"encoder and heads": ("", "_tasks"), "pretraining too": ("", "_tasks", "_pretraining")}


@cache
def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def comment_lines(path: Path) -> int:
    """Lines that hold a comment, alone or after code; docstrings are none."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def imports_of(path: Path) -> Iterator[Path]:
    """Files that a file imports relatively, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            target = path.parents[node.level - 1].joinpath(*node.module.split("."))
            yield from (file for file in (target.with_suffix(".py"), target / "__init__.py") if file.is_file())


def reached(entries: Iterable[Path]) -> set[Path]:
    """The files and all that they import, directly or not."""
    found, waiting = set(), list(entries)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imports_of(path)
    return found


def levels(files: Iterable[Path]) -> tuple[dict[Path, int], set[Path]]:
    """The level of each file, and the files that import themselves through others."""
    found: dict[Path, int] = {}
    circles: set[Path] = set()

    def visit(path: Path, above: tuple[Path, ...]) -> int:
        if path in above:
            circles.update(above[above.index(path) :])
            return 0
        if path not in found:
            found[path] = 1 + max((visit(one, (*above, path)) for one in imports_of(path)), default=0)
        return found[path]

    for path in files:
        visit(path, ())
    return found, circles


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    names = head.split(" | ")
    lines = [f"| {head} |", f"|---|{'---:|' * (len(names) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}"


def part_row(root: Path, name: str) -> list[object]:
    files = sorted((root / name).rglob("*.py"))
    sizes = [lines_of(path) for path in files]
    largest = max(files, key=lines_of)
    folders = [len(list(folder.glob("*.py"))) for folder in {path.parent for path in files}]
    level, circles = levels(files)
    comments = share(sum(map(comment_lines, files)), sum(sizes))
    median = round(statistics.median(sizes))
    biggest = f"{lines_of(largest)} ({largest.relative_to(root / name)})"
    return [name, len(files), sum(sizes), median, biggest, max(folders), max(level.values()), len(circles), comments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=Path(__file__).parent.parent, help="a checkout")
    root = parser.parse_args().root.resolve()
    package = root / "modeling_data2vec"

    head = "part | files | lines | median file | largest file | largest folder | levels | files in circles | comments"
    print(table(head, (part_row(root, name) for name in PARTS if list((root / name).rglob("*.py")))))

    dense = [path for name in DENSE if (path := package / f"{name}.py").is_file()]
    rows = [(f"`{path.name}`", lines_of(path), share(comment_lines(path), lines_of(path))) for path in dense]
    total = sum(map(lines_of, dense))
    rows.append(("all of them", total, share(sum(map(comment_lines, dense)), total)))
    print(table("dense tensor code | lines | comments", rows))

    pushed = []
    for kind, name in ENTRIES.items():
        row: list[object] = [kind]
        for suffixes in SUFFIXES.values():
            files = reached(
                path for suffix in suffixes if (path := package / f"modeling_data2vec2_{name}{suffix}.py").is_file()
            )
            row += [len(files), sum(map(lines_of, files))]
        pushed.append(row)
    print(table("pushed with its code | files | lines | with pretraining: files | lines", pushed))


if __name__ == "__main__":
    main()
