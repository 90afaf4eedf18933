"""Figures of a model as files of the Hub, which shows them beside the model and on the data set's leaderboard."""

from pathlib import Path

import yaml
from huggingface_hub import EvalResult

from .public_names import HUB_ID

FOLDER = ".eval_results"
FILES = f"{FOLDER}/data2vec-*.yaml"
TASK = "default"  # of the data set's eval.yaml


def write_eval_results(folder: Path, results: list[EvalResult]) -> None:
    """Write the results on data sets of the Hub, each as a file below `.eval_results`.

    The Hub takes one score of a data set a file. What makes two of them different stands in `notes`. Results on other
    data can't be written this way: they stand in the card alone.

    Args:
        folder: that is to be published.
        results: as they are in the card's metadata.
    """
    for number, result in enumerate(results):
        if not HUB_ID.fullmatch(result.dataset_name):
            continue
        notes = [result.metric_name or result.metric_type, *([result.dataset_split] if result.dataset_split else [])]
        entry = {
            "dataset": {"id": result.dataset_name, "task_id": TASK},
            "value": result.metric_value,
            "notes": ", ".join(notes),
        }
        path = folder / FOLDER / f"data2vec-{number:02}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump([entry], sort_keys=False), encoding="utf-8")
