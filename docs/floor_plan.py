"""Draws docs/images/floor_plan.svg from the imports: the rooms of `trainers/` and what each stands on.

    python docs/floor_plan.py

A line leads from a room down to one that it imports; what it reaches through another room as well has no line of its
own. Rooms are as high as the longest way down from them.
"""

import ast
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent.parent
TRAINERS = ROOT / "trainers"
MODELS = "modeling_data2vec/"
INK, PAPER, ACCENT = "#1f2933", "#eef2f6", "#ffe8cc"


def read_imports() -> dict[str, set[str]]:
    """The rooms that each room imports, `modeling_data2vec/` among them; files beside the rooms are left out."""
    rooms: dict[str, set[str]] = {MODELS: set()}
    for folder in sorted(path.parent for path in TRAINERS.glob("*/__init__.py")):
        found = rooms.setdefault(folder.name, set())
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level:
                    target = path.parents[node.level - 1].joinpath(*str(node.module).split("."))
                    room = target.relative_to(TRAINERS).parts[0]
                    found |= {room} if (TRAINERS / room).is_dir() else set()
                elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("modeling_data2vec"):
                    found.add(MODELS)
        found.discard(folder.name)
    return rooms


def without_detours(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that no longer way says already (transitive reduction)."""

    def reach(room: str) -> set[str]:
        return rooms[room].union(*(reach(below) for below in rooms[room]))

    return {room: {one for one in own if not any(one in reach(other) for other in own)} for room, own in rooms.items()}


def place(rooms: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """(x, y) of each room: y is its height, x keeps it near those that it stands on."""

    def height(room: str) -> int:
        return 1 + max(map(height, rooms[room])) if rooms[room] else 0

    floors: dict[int, list[str]] = {}
    for room in rooms:
        floors.setdefault(height(room), []).append(room)
    places: dict[str, tuple[float, float]] = {}
    for floor in sorted(floors):
        below = {room: [places[one][0] for one in rooms[room]] or [0.0] for room in floors[floor]}
        ordered = sorted(floors[floor], key=lambda room: sum(below[room]) / len(below[room]))
        for number, room in enumerate(ordered):
            places[room] = (number - (len(ordered) - 1) / 2, float(floor))
    return places


def draw(axes: Axes, rooms: dict[str, set[str]], places: dict[str, tuple[float, float]]) -> None:
    for room, (x, y) in places.items():
        for below in rooms[room]:
            axes.plot([x, places[below][0]], [y, places[below][1]], color="#9aa5b1", linewidth=1, zorder=1)
        files = len(list((TRAINERS / room).rglob("*.py"))) - 1 if room != MODELS else 0
        label = f"{room}\n{files} files" if files else room
        box = {"boxstyle": "round,pad=0.5", "facecolor": PAPER if files else ACCENT, "edgecolor": INK, "linewidth": 0.8}
        axes.text(x, y, label, ha="center", va="center", fontsize=10, color=INK, bbox=box, zorder=2)
    axes.set_xlim(min(x for x, _ in places.values()) - 0.6, max(x for x, _ in places.values()) + 0.6)
    axes.set_ylim(-0.6, max(y for _, y in places.values()) + 0.6)
    axes.axis("off")


def main() -> None:
    rooms = without_detours(read_imports())
    plt.rcParams["svg.hashsalt"] = "floor plan"  # the same file for the same imports
    figure, axes = plt.subplots(figsize=(8, 9))
    draw(axes, rooms, place(rooms))
    figure.savefig(ROOT / "docs" / "images" / "floor_plan.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
