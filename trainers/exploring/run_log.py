"""A run folder's curves and diagnosis, from the log in its last checkpoint."""

import tempfile
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple

from ..monitoring.curves import plot_curves
from ..monitoring.health import diagnose
from ..monitoring.modality_logs import by_modality, summary_table
from ..runs.checkpoints import last_checkpoint, read_state

FIRST_JUDGED, PATIENCE = (
    50,
    3,
)  # a run's own defaults for the step from which it is judged, and the logs that must agree
HEALTHY = "No collapse and no divergence in the log."


class RunLog(NamedTuple):
    """What a run's log says.

    Attributes:
        diagnosis: what is wrong with the run, or that nothing is.
        table: figures at its first and last log, as Markdown.
        curves: a picture of its figures, as HTML.
    """

    diagnosis: str
    table: str
    curves: str


def read_run(folder: str | Path) -> RunLog | None:
    """Read and judge the log of a run; None for a folder or Hub id without a log of pretraining.

    Args:
        folder: that `data2vec pretrain` wrote, with a checkpoint in it, or such a checkpoint.
    """
    checkpoint = last_checkpoint(Path(folder)) or Path(folder)
    try:
        history: list[Any] = read_state(checkpoint)["log_history"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not any("loss" in entry and "step" in entry for entry in history):
        return None
    found = (
        diagnose(part, start_step=FIRST_JUDGED, patience=PATIENCE, modality=name)
        for name, part in by_modality(history).items()
    )
    with tempfile.TemporaryDirectory() as place:
        picture = plot_curves(history, Path(place) / "curves.png").read_bytes()
    curves = f'<img alt="curves of the run" src="data:image/png;base64,{b64encode(picture).decode()}">'
    return RunLog(" ".join(filter(None, found)) or HEALTHY, summary_table(history), curves)
