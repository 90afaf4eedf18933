"""What evaluations and checkpoints are for: with data to evaluate on, and without."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_tasks import FAST, body, few_digits

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.metrics import segmentation_metrics, token_metrics, transcript_metrics
from modeling_data2vec.trainers.finetuning.tasks.all_tasks import TASKS

STEPS = ("--save_strategy", "steps", "--eval_strategy", "steps")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return body("images 2.0", tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return few_digits(tmp_path_factory.mktemp("digits") / "data")


def finetune(model, digits, output, *options) -> int:
    words = ["--task", "image-classification", "--model", model, "--dataset", digits, "--output_dir", output]
    return run("finetune", [str(word) for word in (*words, *FAST, *options)])


# ---- without data to evaluate on ----


@pytest.mark.parametrize("strategy", [("steps", "--save_steps", "1"), ("epoch",), ("no",)])
def test_a_run_without_evaluation_keeps_its_last_weights(model, digits, tmp_path, capsys, strategy):
    assert finetune(model, digits, tmp_path / "out", "--max_steps", "2", "--save_strategy", *strategy) == 0
    saved = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert saved == {"steps": ["checkpoint-1", "checkpoint-2"], "epoch": ["checkpoint-2"], "no": []}[strategy[0]]
    assert (tmp_path / "out" / "model.safetensors").exists()
    out = capsys.readouterr().out
    said = "Training on 64 images; 8 batches of at most 8; 8 steps an epoch; 2 steps are 0.25 epochs of them."
    assert out.count(said) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval_strategy", "steps"], "--eval_strategy steps needs data to evaluate on: name an --eval_split or an"),
        (["--save_strategy", "best"], "--save_strategy best needs data to evaluate on"),
        (["--patience", "2"], "--patience needs data to evaluate on"),
        (["--eval_on_start", "true"], "--eval_on_start needs data to evaluate on"),
        (["--metric_for_best_model", "acuracy"], "metric_for_best_model is 'acuracy', but must be one of loss, accur"),
        (["--eval_split", "test", "--eval_strategy", "no", "--patience", "2"], "--patience needs evaluations, but"),
        (["--eval_split", "test", "--save_strategy", "steps"], "add --eval_strategy steps, or keep the last weights"),
        (["--eval_split", "test", "--eval_strategy", "steps"], "add --eval_strategy epoch, or keep the last weights"),
        (["--eval_split", "test", "--metric_for_best_model", "eval_wer"], "must be one of loss, accuracy, f1_macro"),
        (
            ["--eval_split", "test", *STEPS, "--save_steps", "3", "--eval_steps", "2"],
            "save_steps is 3 and eval_steps 2, but the best checkpoint is one that was evaluated: add --eval_steps 3",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_written(
    model, digits, tmp_path, capsys, options, message
):
    assert finetune(model, digits, tmp_path / "out", "--max_steps", "2", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_steps_that_go_together_and_weights_that_are_not_the_best(model, digits, tmp_path, caplog):
    options = ["--max_steps", "4", "--eval_split", "test"]
    steps = [*STEPS, "--save_steps", "4", "--eval_steps", "2"]
    assert finetune(model, digits, tmp_path / "steps", *options, *steps) == 0
    assert finetune(model, digits, tmp_path / "none", *options, "--save_strategy", "no") == 0
    assert "save_strategy is no, so the last weights are saved, not those of the best checkpoint" in caplog.text


def test_a_direction_that_was_given_is_kept(tmp_path):
    task = SimpleNamespace(metric="accuracy", figure_names=lambda: ("accuracy",))
    for given, expected in ((None, True), (False, False)):
        args = FinetuningArguments(str(tmp_path), use_cpu=True, greater_is_better=given)
        args.fit_to_data(task, evaluates=True)
        assert args.greater_is_better is expected and args.load_best_model_at_end


# ---- figures have the names that are offered ----


def figures_of(
    name: str, num_labels: int = 2, regression: bool = False, several: bool = False
) -> tuple[set[str], set[str]]:
    """Names offered, and names of what is measured."""
    task = object.__new__(TASKS[name])
    problem = "multi_label_classification" if several else "single_label_classification"
    task.config = SimpleNamespace(num_labels=num_labels, problem_type=problem)
    task.labels = None if regression else SimpleNamespace(names=["O", "B"])
    classes = np.array([0, 1, 1, 0])
    if name == "ctc":
        measured = transcript_metrics(["a"], ["b"])
    elif name == "semantic-segmentation":
        measured = segmentation_metrics(np.eye(2))
    elif several:
        measured = task.figures(np.eye(3), np.eye(3))
    elif name == "token-classification":
        measured = token_metrics(classes, classes, ["O", "B"])
    else:
        measured = task.figures(classes.astype(float) if regression else classes, classes)
    return set(task.figure_names()), set(measured)


@pytest.mark.parametrize("name", TASKS)
def test_offered_figures_are_those_that_are_measured(name):
    offered, measured = figures_of(name)
    assert offered == measured
    if name.endswith("-classification") and name != "token-classification":
        offered, measured = figures_of(name, num_labels=3)
        assert offered == measured and "f1" not in offered
        offered, measured = figures_of(name, several=True)
        assert offered == measured and "map" in offered
    if name == "text-classification":
        offered, measured = figures_of(name, regression=True)
        assert offered == measured and "pearson" in offered


# ---- the best checkpoint of a run whose folder was moved ----


def test_a_moved_run_ends_as_one_that_stayed(model, digits, tmp_path, caplog):
    """The first epoch is the best of both: later ones have a learning rate that ruins the model."""
    options = ["--eval_split", "test", "--save_total_limit", "1", "--learning_rate", "3"]
    options += ["--lr_scheduler_type", "constant", "--warmup_steps", "0", "--max_grad_norm", "0"]
    one, two = ["--num_train_epochs", "1"], ["--num_train_epochs", "3", "--resume"]
    for name in ("stayed", "moved"):
        assert finetune(model, digits, tmp_path / name, *options, *one) == 0
    shutil.copytree(tmp_path / "moved", tmp_path / "new")
    for path in (tmp_path / "moved").glob("checkpoint-*/model.safetensors"):
        path.write_bytes(b"another run's")  # what the state still points to is not this run's
    for name in ("stayed", "new"):
        assert finetune(model, digits, tmp_path / name, *options, *two) == 0
    assert "does not exist anymore" not in caplog.text
    stayed, moved = (load_file(tmp_path / name / "model.safetensors") for name in ("stayed", "new"))
    assert all(torch.equal(value, moved[key]) for key, value in stayed.items())
    names = [sorted(path.name for path in (tmp_path / name).glob("checkpoint-*")) for name in ("stayed", "new")]
    assert names[0] == names[1] == ["checkpoint-8"]
    metrics = [json.loads((tmp_path / name / "provenance.json").read_text())["metrics"] for name in ("stayed", "new")]
    assert metrics[0] == metrics[1]


def test_patience_goes_on_after_a_resume_and_a_run_that_ran_out_is_done(model, digits, tmp_path):
    options = ["--eval_split", "test", "--learning_rate", "0", "--patience", "2", "--num_train_epochs", "6"]
    options += ["--save_total_limit", "9"]
    assert finetune(model, digits, tmp_path / "whole", *options) == 0
    steps = sorted(int(path.name[11:]) for path in (tmp_path / "whole").glob("checkpoint-*"))
    assert steps == [8, 16, 24]
    (tmp_path / "again").mkdir()
    for step in steps[:2]:
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", tmp_path / "again" / f"checkpoint-{step}")
    for _ in range(2):  # from the middle, then from the end
        assert finetune(model, digits, tmp_path / "again", *options, "--resume") == 0
        assert sorted(int(path.name[11:]) for path in (tmp_path / "again").glob("checkpoint-*")) == steps
    longer = ["--patience", "3", "--num_train_epochs", "4", "--resume"]
    assert finetune(model, digits, tmp_path / "again", *options, *longer) == 0
    assert (tmp_path / "again" / "checkpoint-32").exists()
