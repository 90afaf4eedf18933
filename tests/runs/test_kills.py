"""Killed in any phase, also while it is being closed, any run is resumed to the same end, bit for bit."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "killed_runs.py"


def kills(*options: str) -> str:
    result = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_killed_while_it_is_closed():
    assert "2 kills (" in kills("--kills", "2", "--kinds", "images", "--phases", "closing")


@pytest.mark.slow
def test_sixty_kills_in_all_phases():
    assert "60 kills (" in kills("--kills", "60")
