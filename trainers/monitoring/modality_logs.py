"""A log by modality: a joint model's figures are logged as `audio/target_std`, those of others as `target_std`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modeling_data2vec.cross_modal import PAIRS

from ..modalities.names import config_of, members_of
from .health import measure_health, measure_pairs


class ModalityFigures:
    """Health figures and mean losses of each modality between two logs.

    Args:
        config: the model's.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.names = members_of(config)
        self.clear()

    def clear(self) -> None:
        """Begin a new interval."""
        self._health: dict[str, dict[str, Tensor]] = {}
        self._losses: dict[str, Tensor] = {}
        self._steps = dict.fromkeys(self.names, 0)

    def add_loss(self, name: str, part: Tensor, *, completes_step: bool) -> None:
        """Add a part of the modality's mean loss over an optimizer step, the last one with `completes_step`."""
        self._losses[name] = self._losses.get(name, 0.0) + part.detach()
        self._steps[name] += completes_step

    def measure(self, name: str, outputs: Any) -> None:
        """Measure the health of a modality by a batch of it."""
        if name == PAIRS:
            self._health[name] = measure_pairs(outputs)
        else:
            self._health[name] = measure_health(outputs, config_of(self.config, name))

    def state(self) -> dict[str, Any]:
        """Figures gathered since the last log, as plain numbers; `load` takes them."""
        health = {name: {key: float(value) for key, value in parts.items()} for name, parts in self._health.items()}
        losses = {name: float(loss) for name, loss in self._losses.items()}
        return {"health": health, "losses": losses, "steps": dict(self._steps)}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave."""
        for name, parts in state["health"].items():
            self._health[name] = {key: torch.tensor(value, device=device) for key, value in parts.items()}
        self._losses = {name: torch.tensor(loss, device=device) for name, loss in state["losses"].items()}
        self._steps |= state["steps"]

    def take(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """All figures since the last time, as they are logged; `reduce` is the mean over processes."""
        joint = len(self.names) > 1
        figures: dict[str, Tensor] = {}
        for name in self.names:
            prefix = f"{name}/" if joint else ""
            if joint and self._steps[name]:  # of a single modality it is the run's own loss
                figures[f"{prefix}loss"] = self._losses[name] / self._steps[name]
            figures |= {prefix + key: value for key, value in self._health.get(name, {}).items()}
        self.clear()
        if not figures:
            return {}
        values = reduce(torch.stack([value.float() for value in figures.values()]))
        return dict(zip(figures, values.tolist(), strict=True))


def by_modality(history: Sequence[Mapping[str, float]]) -> dict[str, list[dict[str, float]]]:
    """A log for each modality, with plain names and without what concerns all of them; `{"": ...}` of a single one.

    Args:
        history: `trainer.state.log_history`.

    Example:
        >>> by_modality([{"step": 1, "loss": 2.0, "audio/loss": 3.0}])
        {'audio': [{'step': 1, 'loss': 3.0}]}
        >>> by_modality([{"step": 1, "loss": 2.0}])
        {'': [{'step': 1, 'loss': 2.0}]}
    """
    prefixes = dict.fromkeys(key.split("/")[0] for entry in history for key in entry if key.endswith("/loss"))
    if not prefixes:
        return {"": [dict(entry) for entry in history]}
    return {name: [part for entry in history if (part := _part(entry, f"{name}/"))] for name in prefixes}


SUMMARY = {
    "loss": ("loss", "{:.2f}"),
    "loss_below_constant": ("below a constant predictor", "{:.0%}"),
    "position_explained": ("explained by position", "{:.0%}"),
    "student_rank": ("rank of student", "{:.0f}"),
    "feature_encoder_rank": ("of feature encoder", "{:.0f}"),
}


def summary_table(history: Sequence[Mapping[str, float]]) -> str:
    """Summary of a run as Markdown: a row for each modality, figures at its first and last log.

    Args:
        history: `trainer.state.log_history`.

    Example:
        >>> print(summary_table([{"step": 1, "loss": 2.0}, {"step": 9, "loss": 1.0}]).splitlines()[-1])
        | model | 1 to 9 | 2.00 to 1.00 | | | | |
    """
    lines = [
        f"| | steps | {' | '.join(head for head, _ in SUMMARY.values())} |",
        f"|---|---:|{'---:|' * len(SUMMARY)}",
    ]
    for name, entries in by_modality(history).items():
        logs = [entry for entry in entries if "loss" in entry]
        if not logs:
            continue
        first, last = logs[0], logs[-1]
        cells = [
            f" {form.format(first[key])} to {form.format(last[key])} " if key in first and key in last else " "
            for key, (_, form) in SUMMARY.items()
        ]
        lines.append(f"| {name or 'model'} | {first['step']:.0f} to {last['step']:.0f} |{'|'.join(cells)}|")
    return "\n".join(lines)


def _part(entry: Mapping[str, float], prefix: str) -> dict[str, float]:
    figures = {key.removeprefix(prefix): value for key, value in entry.items() if key.startswith(prefix)}
    return {"step": entry["step"], **figures} if figures and "step" in entry else {}
