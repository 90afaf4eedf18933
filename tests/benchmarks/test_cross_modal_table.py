"""benchmarks/cross_modal_table.py: kept results of two seeds as tables."""

from itertools import permutations
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAIRS = [f"{one} to {other}" for one, other in permutations(("audio", "text", "vision"), 2)]


def result(arm: str, seed: int) -> dict:
    """What `cross_modal.py` keeps of a run, in which the loss within pictures rises as pairs are learned."""
    better = 0.01 * (arm == "pairs")
    log = [
        {
            "step": step,
            **{f"{name}/loss": 2.0 for name in ("audio", "text")},
            "vision/loss": 2 + abs(step - 4) / 9,
            "vision/loss_below_constant": 0.5 - step / 40,
            "pairs/loss": 1.0,
            "pairs/loss_below_constant": step / 20,
        }
        for step in range(12)
    ]
    return {
        "arm": arm,
        "seed": seed,
        "steps": 160,
        "cpu_minutes": 0.5,
        "logs": {"all": log},
        "retrieval": {"ridge": {pair: {"recalls": {"1": 4 / 128}, "median_rank": 30} for pair in PAIRS}},
        "probes": {
            "audio": {"initial": 0.50 + better, "final": 0.40},
            "vision": {"vision": 0.70 + seed / 100},
            "text": {"text": 0.30},
        },
    }


def test_tables_of_kept_results(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cross_modal_table

    text = cross_modal_table.report([result(arm, seed) for arm in ("separate", "shared", "pairs") for seed in (0, 1)])
    assert "| pairs | 51.0 (51.0 to 51.0), 102% | 40.0 (40.0 to 40.0), 100% | 70.5" in text
    assert "| pairs - separate | 1.0 (1.0 to 1.0); 2 of 2, p 0.50 |" in text
    assert "| pairs, ridge |" + 6 * " 4.0; 30 |" + " 4.0 |" in text
    assert "| shared | 2.00, 2.00; named in 0 of 2 | 2.00, 2.78; named in 2 of 2 |" in text


def test_runs_of_another_size_have_lines_of_their_own(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cross_modal_table

    size = {"pairs": 587, "transcripts": False, "width": 128}
    light = result("pairs", 0) | size | {"weight across": 0.25}
    text = cross_modal_table.curve_table([result("pairs", seed) | size for seed in (0, 1)] + [light])
    assert "| 160 | 587 | 128 | pairs | 2 |" in text
    assert "| 160 | 587 | 128 | pairs, weight 0.25 | 1 |" in text
