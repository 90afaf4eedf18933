"""Signals: a checkpoint at the next step, an exit code of their own, and a run that goes on bit for bit."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from tiny_runs import arguments, tiny_model, tiny_samples
from tiny_tasks import body, few_digits
from transformers import TrainerCallback

from modeling_data2vec.trainers import Data2VecTrainer, StoppedError
from modeling_data2vec.trainers.cli import run as run_command
from modeling_data2vec.trainers.finetuning.arguments import FinetuningArguments
from modeling_data2vec.trainers.finetuning.options import FinetuningOptions
from modeling_data2vec.trainers.finetuning.run import finetune
from modeling_data2vec.trainers.runs.stopping import SIGNALS, StopCallback, signals_call, stop_at_once

CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGINT: 130}


class SendAt(TrainerCallback):
    """Sends signals to this process at an event of a step."""

    def __init__(self, number: int, step: int, event: str = "on_step_begin", times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times
        setattr(self, event, self.send)

    def send(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
                time.sleep(0.01)  # for Python to notice


def trainer(folder: Path, *callbacks: TrainerCallback, **overrides) -> Data2VecTrainer:
    model = tiny_model()
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4} | overrides
    data = {"train_dataset": tiny_samples(model), "eval_dataset": tiny_samples(model)}
    return Data2VecTrainer(model, arguments(folder, **settings), callbacks=list(callbacks), **data)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    whole = trainer(tmp_path_factory.mktemp("whole"))
    whole.train()
    return whole


def assert_equal(a: Data2VecTrainer, b: Data2VecTrainer) -> None:
    states = b.model.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in a.model.state_dict().items())
    losses = [[(e["step"], e["loss"]) for e in one.state.log_history if "loss" in e] for one in (a, b)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_ends_a_run_after_a_checkpoint_and_it_goes_on_equal(tmp_path, number, uninterrupted, capfd, caplog):
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(StoppedError) as caught:
        trainer(tmp_path, SendAt(number, 2)).train()
    assert caught.value.code == CODES[number]
    assert str(caught.value) == f"stopped by {number.name} after step 3: {tmp_path}/checkpoint-3 is saved"
    assert "train(resume_from_checkpoint=True) goes on from there" in caplog.text
    assert f"{number.name}: the run ends after this step, with a checkpoint." in capfd.readouterr().err
    assert names(tmp_path) == ["checkpoint-3"]
    assert [signal.getsignal(one) for one in SIGNALS] == before
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)
    assert_equal(again, uninterrupted)


def test_a_run_without_saves_is_saved_whole(tmp_path, uninterrupted):
    with pytest.raises(StoppedError):
        trainer(tmp_path, SendAt(signal.SIGTERM, 5), save_strategy="no", save_only_model=True).train()
    again = trainer(tmp_path, save_strategy="no")
    again.train(resume_from_checkpoint=True)
    assert_equal(again, uninterrupted)


def test_ctrl_c_twice_ends_it_at_once(tmp_path):
    with pytest.raises(StoppedError, match=rf"stopped by SIGINT; the last checkpoint is {tmp_path}/checkpoint-4$"):
        trainer(tmp_path, SendAt(signal.SIGINT, 5, times=2)).train()
    assert names(tmp_path) == ["checkpoint-4"]


def test_sigterm_twice_is_still_in_order(tmp_path):
    """A scheduler tells a run, and then all of its processes."""
    with pytest.raises(StoppedError, match="checkpoint-6 is saved"):
        trainer(tmp_path, SendAt(signal.SIGTERM, 5, times=2)).train()


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin"])
def test_before_the_first_step_there_is_nothing_to_save(tmp_path, event):
    with pytest.raises(StoppedError, match="stopped by SIGTERM; there is no checkpoint yet"):
        trainer(tmp_path / "run", SendAt(signal.SIGTERM, 0, event)).train()
    assert not list((tmp_path / "run").iterdir())


def test_a_signal_counts_where_python_ignores_errors(tmp_path):
    """Such as in the callback of a weak reference, which may run at any time."""
    send = SendAt(signal.SIGTERM, 0)

    def on_train_begin(args, state, control, **kwargs):
        gone = set()
        reference = weakref.ref(gone, lambda _: send.send(args, state, control))
        del gone
        assert reference() is None, "the signal has come, and its error was ignored"

    quiet = TrainerCallback()
    quiet.on_train_begin = on_train_begin
    with pytest.raises(StoppedError, match="stopped by SIGTERM; there is no checkpoint yet"):
        trainer(tmp_path / "run", quiet).train()


@pytest.mark.parametrize(("event", "step"), [("on_save", 4), ("on_save", 8), ("on_log", 8), ("on_epoch_end", 5)])
def test_a_signal_at_any_time_loses_nothing(tmp_path, event, step, uninterrupted):
    """Five steps are an epoch: while it is saved, at the last step, and where epochs end."""
    with pytest.raises(StoppedError, match="is saved"):
        trainer(tmp_path, SendAt(signal.SIGTERM, step, event)).train()
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)
    if step < 8:
        assert_equal(again, uninterrupted)
    assert not (tmp_path / ".incomplete").exists()


def test_a_run_in_another_thread_trains(tmp_path):
    """Where signals can't be handled."""
    one, errors = trainer(tmp_path, max_steps=1, save_strategy="no"), []

    def target():
        try:
            one.train()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert not errors and one.state.global_step == 1


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with signals_call(lambda number: pytest.fail("called")):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_epoch_cut_short_is_neither_evaluated_nor_logged_as_one(tmp_path):
    settings = {"max_steps": 12, "save_strategy": "epoch", "eval_strategy": "epoch", "logging_strategy": "epoch"}
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    with pytest.raises(StoppedError, match="after step 8"):
        trainer(tmp_path / "cut", SendAt(signal.SIGTERM, 7), **settings).train()
    again = trainer(tmp_path / "cut", **settings)
    again.train(resume_from_checkpoint=True)
    assert_equal(again, whole)
    histories = [one.state.log_history for one in (again, whole)]
    figures = [[(e["step"], e["eval_loss"]) for e in history if "eval_loss" in e] for history in histories]
    assert figures[0] == figures[1] and len(figures[0]) == 3


def test_a_signal_during_an_evaluation_lets_it_count(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 4}
    one = trainer(tmp_path, SendAt(signal.SIGTERM, 2, "on_prediction_step"), **settings)
    with pytest.raises(StoppedError, match="after step 2: .*checkpoint-2 is saved"):
        one.train()
    assert [entry["step"] for entry in one.state.log_history if "eval_loss" in entry] == [2]


def test_pushes_do_not_hold_up_a_run_that_a_signal_ended(tmp_path):
    one, sending = trainer(tmp_path, SendAt(signal.SIGTERM, 1)), threading.Event()
    pushes = [one.pusher._submit(lambda: sending.wait(20), tmp_path / name) for name in ("sent", "waiting")]
    try:
        started = time.monotonic()
        with pytest.raises(StoppedError, match="checkpoint-2 is saved"):
            one.train()
        assert time.monotonic() - started < 15
        assert [push.cancelled() for push in pushes] == [False, True]
    finally:
        sending.set()


@pytest.mark.parametrize("event", ["on_step_begin", "on_prediction_step"])
def test_fine_tuning_stops_and_goes_on_equal(tmp_path, monkeypatch, event):
    body_folder, digits = body("images 2.0", tmp_path / "body"), few_digits(tmp_path / "digits")

    def run(folder, resume=False):
        task = {"task": "image-classification", "model": str(body_folder), "dataset": str(digits)}
        settings = {"max_steps": 6, "per_device_train_batch_size": 8, "use_cpu": True, "disable_tqdm": True}
        settings |= {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
        args = FinetuningArguments(str(tmp_path / folder), logging_steps=4, **settings)
        return finetune(FinetuningOptions(**task, eval_split="test", resume=resume), args).trainer

    def send(self, *given, **kwargs):
        self._steps = True
        SendAt(signal.SIGTERM, 2).send(*given)

    whole = run("whole")
    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="after step [23]: "):
        patch.setattr(StopCallback, event, send, raising=False)
        run("cut")
    assert_equal(run("cut", resume=True), whole)


# ---- the command ----


def test_a_command_before_it_trains_is_stopped_at_once(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr("modeling_data2vec.trainers.pretraining.run._model_and_parts", interrupted)
    argv = ["--recipe", "data2vec2-vision-tiny", "--dataset", "my photos", "--use_cpu", "--hub_token", "secret"]
    code = run_command("pretrain", [*argv, "--resume", "--output_dir", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert code == 143
    assert "data2vec pretrain: stopped by SIGTERM. To go on:\n" in err and "secret" not in err
    assert err.endswith(
        f"data2vec pretrain --recipe data2vec2-vision-tiny --dataset 'my photos' --use_cpu --output_dir {tmp_path}/run "
        "--resume\n"
    )
    assert not list(tmp_path.iterdir())


class InDel:
    """Sends a signal from where Python ignores errors."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def in_weak_callback():
    gone = set()
    reference = weakref.ref(gone, lambda _: InDel().__del__())
    del gone
    return reference


@pytest.mark.parametrize("ignored", [InDel, in_weak_callback])
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_signal_that_python_ignores_ends_a_command_that_prepares(tmp_path, capsys, monkeypatch, command, ignored):
    came = []

    def interrupted(*arguments, **kwargs):
        ignored()
        came.append("it was ignored")
        time.sleep(20)
        pytest.fail("not stopped")

    monkeypatch.setattr("modeling_data2vec.trainers.pretraining.run.pretrain", interrupted)
    monkeypatch.setattr("modeling_data2vec.trainers.finetuning.run.finetune", interrupted)
    options = {"pretrain": ["--recipe", "data2vec2-vision-tiny"], "finetune": ["--task", "classification"]}[command]
    options += ["--model", "somewhere"] if command == "finetune" else []
    argv = [*options, "--dataset", "photos", "--use_cpu", "--output_dir", str(tmp_path / "run")]
    hook = sys.unraisablehook
    assert run_command(command, argv) == 143
    assert came and sys.unraisablehook is hook
    err = capsys.readouterr().err
    assert f"data2vec {command}: stopped by SIGTERM. To go on:" in err and "ignored" not in err


def test_a_signal_that_python_ignores_counts_at_the_end_at_the_latest():
    came = []
    with pytest.raises(StoppedError, match="stopped by SIGTERM"), signals_call(stop_at_once):
        InDel()
        came.append("it was ignored")
    assert came
    time.sleep(0.1)  # no signal comes later, whose handlers are gone


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGUSR1, 9))],
)
def test_a_real_process_with_workers(tmp_path, number):
    """The signal goes to all of its processes, as schedulers and terminals send it."""
    argv = ["--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--use_cpu", "--logging_steps", "1"]
    argv += ["--dataloader_num_workers", "2", "--save_steps", "1000", "--output_dir", str(tmp_path / "run")]
    argv += ["--per_device_train_batch_size", "4", "--disable_tqdm", "true", "--max_steps", "5000"]
    command = [sys.executable, "-m", "data2vec_cli", "pretrain", *argv]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while len(children(process.pid)) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        time.sleep(1)
        workers = children(process.pid)
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
        if number != signal.SIGKILL:
            assert process.returncode == CODES[number], err
            (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
            assert f"{checkpoint} is saved. To go on:\ndata2vec pretrain " in err and "Traceback" not in err
        deadline = time.monotonic() + 2
        while any(map(is_alive, workers)):
            assert time.monotonic() < deadline, "a worker outlives its run"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
