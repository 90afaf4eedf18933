"""Files that are built to do harm, or damaged: refused by name in 30 s and 2 GB, and nothing of them runs."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_files import MAKERS, MUTATED

SECONDS, BYTES = 30.0, 2 * 10**9  # docs/sharing.md
SCRIPT = Path(__file__).parent / "support" / "hostile_files.py"
# A few of each kind; the others are slow together.
QUICK = [
    *(
        "pickle: shared tuples as a key",
        "pickle: keys that collide",
        "pickle: os.system",
        "pickle: text of 2**63 bytes",
    ),
    *("content: a billion layers", "content: a stretched view", "pickle: a storage of 2**40 numbers", "yaml: aliases"),
    *("yaml: nested", "config.json: nested (inspect)", "config.json: a list (finetune)", "README.md: aliases (push)"),
    *("model.safetensors: a header of 2**63 (push)", "model.safetensors: cut off (export)"),
    "model.safetensors.index.json: leads elsewhere (probe)",
]


def attempts(names: list[str], folder: Path) -> Iterator[dict[str, Any]]:
    """What happens with each file: many in one process, and a new process after one that takes too long."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    while names:
        folder = folder / "again"
        folder.mkdir(parents=True)
        command = [sys.executable, str(SCRIPT), str(folder / "files"), *names]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment) as child:
            assert child.stdout is not None
            selector = selectors.DefaultSelector()
            selector.register(child.stdout, selectors.EVENT_READ)
            name = ""
            while True:
                line = child.stdout.readline() if selector.select(SECONDS * (1 if name else 5)) else b""
                if not line:
                    break
                found = json.loads(line)
                name = found.get("begins", "")
                if not name:
                    yield found
                    names = names[names.index(found["name"]) + 1 :]
            child.kill()
        if names:
            yield {"name": names[0], "killed": child.wait()}
            names = names[1:]


def wrong(found: dict[str, Any], codes: tuple[int, ...] = (2,)) -> str:
    """What a file achieved that it should not; empty for nothing."""
    if "killed" in found:
        return f"{found['name']}: it ended the process ({found['killed']}), or took longer than {SECONDS} s"
    failures = {
        "exit code": found["code"] not in codes,
        "not one line": found["code"] == 2 and found["lines"] != 1,
        "a traceback": "Traceback" in found["error"],
        "not named": found["code"] == 2 and not found["named"],
        "time": found["seconds"] > SECONDS,
        "memory": found["bytes"] > BYTES,
        "called": bool(found["called"]),
        "left": found["code"] == 2 and bool(found["left"]),
    }
    failed = [what for what, is_so in failures.items() if is_so]
    return f"{found['name']}: {', '.join(failed)}: {found}" if failed else ""


def test_a_few_hostile_files(tmp_path):
    results = list(attempts(QUICK, tmp_path))
    assert len(results) == len(QUICK)
    assert not [message for found in results if (message := wrong(found))]


@pytest.mark.slow
def test_all_hostile_files(tmp_path, capsys):
    assert len(MAKERS) >= 100
    results = list(attempts(list(MAKERS), tmp_path))
    assert len(results) == len(MAKERS)
    with capsys.disabled():
        show(results)
    assert not [message for found in results if (message := wrong(found))]


@pytest.mark.slow
def test_changed_bytes_are_refused_or_harmless(tmp_path, capsys):
    results = list(attempts(list(MUTATED), tmp_path))
    with capsys.disabled():
        show(results)
    assert not [message for found in results if (message := wrong(found, (0, 2)))]


def show(results: list[dict[str, Any]]) -> None:
    done = [found for found in results if "killed" not in found]
    longest, most = max(found["seconds"] for found in done), max(found["bytes"] for found in done)
    print(  # noqa: T201  the figures that docs/testing.md quotes
        f"\n{len(results)} files: {sum(bool(found['called']) for found in done)} executed, "
        f"{sum(found['code'] == 2 for found in done)} refused, longest {longest:.1f} s, "
        f"most memory {most / 1e9:.2f} GB"
    )
