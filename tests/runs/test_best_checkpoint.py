"""Which evaluation is the best one, and where its checkpoint lies after the run's folder has moved."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import arguments
from transformers import TrainerState

from modeling_data2vec.trainers.runs.base_trainer import BaseTrainer
from modeling_data2vec.trainers.runs.best_checkpoint import find_best_checkpoint


class Judge(BaseTrainer):
    """Only the part of a trainer that chooses the best checkpoint."""

    def __init__(self, output: Path, *, greater: bool, evaluations: list[tuple[int, float, float]]) -> None:
        self.args = arguments(output, metric_for_best_model="figure", greater_is_better=greater, save_strategy="steps")
        self.state = TrainerState(is_world_process_zero=True)
        for step, figure, loss in evaluations:
            metrics = {"eval_figure": figure, "eval_loss": loss}
            self.state.global_step = step
            self.state.log_history.append(metrics | {"step": step})
            self._determine_best_metric(metrics, None)


NAN = float("nan")


@pytest.mark.parametrize(
    ("greater", "evaluations", "best"),
    [
        (True, [(2, 0.5, 1.0), (4, 0.5, 0.9), (6, 0.5, 0.95)], 4),  # the lower loss
        (True, [(2, 0.5, 1.0), (4, 0.5, 1.0)], 2),  # then the earlier
        (False, [(2, 0.5, 1.0), (4, 0.5, 0.9), (6, 0.6, 0.1)], 4),
        (True, [(2, 0.5, NAN), (4, 0.5, 3.0), (6, 0.5, NAN)], 4),
        (True, [(2, NAN, 0.1), (4, 0.2, 1.0), (6, NAN, 0.0)], 4),
        (False, [(2, NAN, 0.1), (4, NAN, 0.0)], None),
    ],
)
def test_of_equal_figures_the_lower_loss_is_the_best(tmp_path, greater, evaluations, best):
    assert Judge(tmp_path, greater=greater, evaluations=evaluations).state.best_global_step == best


def test_the_best_checkpoint_is_looked_for_in_the_folder_of_the_run(tmp_path, caplog):
    for name in ("old/checkpoint-4", "new/checkpoint-2", "new/checkpoint-4", "new/checkpoint-6"):
        (tmp_path / name).mkdir(parents=True)
    judge = Judge(tmp_path / "new", greater=True, evaluations=[(2, 0.6, 1.0), (4, 0.8, 1.0), (6, 0.7, 1.0)])
    judge.state.best_model_checkpoint = str(tmp_path / "old" / "checkpoint-4")
    find_best_checkpoint(judge.state, judge.args, tmp_path / "new" / "checkpoint-6")
    assert judge.state.best_model_checkpoint == str(tmp_path / "new" / "checkpoint-4") and not caplog.text
    shutil.rmtree(tmp_path / "new" / "checkpoint-4")
    find_best_checkpoint(judge.state, judge.args, tmp_path / "new" / "checkpoint-6")
    assert judge.state.best_model_checkpoint == str(tmp_path / "new" / "checkpoint-6")
    assert judge.state.best_metric == 0.7
    assert "checkpoint-4, the best one so far, is not in" in caplog.text and "checkpoint-6 is the best" in caplog.text
    judge.state.log_history.clear()
    shutil.rmtree(tmp_path / "new" / "checkpoint-6")
    find_best_checkpoint(judge.state, judge.args, tmp_path / "new" / "checkpoint-6")
    assert judge.state.best_model_checkpoint is judge.state.best_metric is judge.state.best_global_step is None
