"""Whether a modality of a joint run pays for what is learned across modalities."""

import math
from collections.abc import Mapping, Sequence

from modeling_data2vec.cross_modal import PAIRS

# Thresholds of `rising_losses`, of the mean of `WINDOW` logs: noise of single batches is a few percent.
WINDOW = 3
MIN_RISE = 0.05  # of a modality's own loss, above its lowest
MIN_LOSS = 0.05  # of the share that it knows of its own targets, since then: targets that grow richer raise a loss, too
MIN_GAIN = 0.02  # of the share that is known of another modality


def rising_losses(parts: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, str]:
    """Modalities whose own loss rises while what is predicted across modalities improves, each with that in words.

    Such a run goes on: its trunk leaves what serves one modality for what serves pairs, which probes of this modality
    show late (issue 4 of MJEPA's code reports it, after 100 epochs).

    Args:
        parts: `by_modality` of a joint model's log.

    Example:
        >>> audio = [{"step": s, "loss": 2 + abs(s - 4) / 9, "loss_below_constant": 0.5 - s / 40} for s in range(12)]
        >>> pairs = [{"step": s, "loss": 1.0, "loss_below_constant": s / 20} for s in range(12)]
        >>> print(rising_losses({"audio": audio, "pairs": pairs})["audio"])
        audio/loss has risen from 2.07 (step 4) to 2.67 (step 10), while pairs/loss_below_constant rose from 0.2 to 0.5
    """
    across = [entry for entry in parts.get(PAIRS, []) if math.isfinite(entry.get("loss_below_constant", math.nan))]
    findings = {}
    for name, entries in parts.items() if across else ():
        own = _smoothed(entries, "loss")
        if name == PAIRS or len(own) < 2 * WINDOW:
            continue
        low_step, low = min(own[:-WINDOW], key=lambda point: point[1])
        last_step, last = own[-1]
        known, own_known = (dict(_smoothed(part, "loss_below_constant")) for part in (across, entries))
        if any(step not in shares for step in (low_step, last_step) for shares in (known, own_known)):
            continue
        pays = last > (1 + MIN_RISE) * low and own_known[last_step] < own_known[low_step] - MIN_LOSS
        if pays and known[last_step] > known[low_step] + MIN_GAIN:
            findings[name] = (
                f"{name}/loss has risen from {low:.3g} (step {low_step}) to {last:.3g} (step {last_step}), while "
                f"{PAIRS}/loss_below_constant rose from {known[low_step]:.2g} to {known[last_step]:.2g}"
            )
    return findings


def _smoothed(entries: Sequence[Mapping[str, float]], name: str) -> list[tuple[int, float]]:
    """(step, mean of `WINDOW` logs around it) of those logs that have a figure."""
    points = [(int(entry["step"]), entry[name]) for entry in entries if name in entry]
    windows = (points[start : start + WINDOW] for start in range(len(points) - WINDOW + 1))
    return [(window[WINDOW // 2][0], sum(value for _, value in window) / WINDOW) for window in windows]
