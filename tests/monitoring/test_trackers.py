"""What trackers get: health figures and pictures in TensorBoard's files, one alert of a collapse in Trackio."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny_runs import arguments, digit_images, tiny_model
from transformers import TrainerControl, TrainerState

from modeling_data2vec import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.monitoring.trackers import add_pictures, alert
from modeling_data2vec.trainers.option_parser import OptionParser
from modeling_data2vec.trainers.runs import arguments as run_arguments
from modeling_data2vec.trainers.runs.callbacks import DivergenceCallback, HealthCallback


def events(folder) -> list:
    """All values in TensorBoard's files: records of length, checksum, event and checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("events.out.tfevents*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[12 + length + 4 :]
            found += [(value.tag, event.step, value) for value in event.summary.value]
    return found


def test_figures_and_pictures_are_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    model = tiny_model()
    args = arguments(tmp_path / "run", max_steps=2, report_to="tensorboard")
    trainer = Data2VecTrainer(model, args, train_dataset=digit_images(model.config))
    trainer.train()
    Image.new("L", (6, 4)).save(tmp_path / "masks.png")
    add_pictures(trainer, [tmp_path / "masks.png"])
    found = {(tag, step): value for tag, step, value in events(tmp_path / "run")}
    for name in ("loss", "target_std", "student_rank", "position_explained", "ema_decay"):
        assert {step for tag, step in found if tag == f"train/{name}"} == {1, 2}, name
    assert (found["masks", 2].image.height, found["masks", 2].image.width) == (4, 6)


def test_pictures_without_tensorboard_are_no_error(tmp_path):
    model = tiny_model()
    trainer = Data2VecTrainer(model, arguments(tmp_path), train_dataset=digit_images(model.config))
    add_pictures(trainer, [tmp_path / "none.png"])


@pytest.fixture
def alerts(monkeypatch):
    """What Trackio was told; the package need not be there."""
    told = []
    trackio = SimpleNamespace(
        alert=lambda title, text, level: told.append((title, text, level)), AlertLevel=SimpleNamespace(ERROR="error")
    )
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    return told


@pytest.mark.parametrize("callback", [HealthCallback(), DivergenceCallback()], ids=["health", "divergence"])
def test_a_diverged_run_is_an_alert(alerts, tmp_path, callback):
    args = arguments(tmp_path, health_start_step=0)
    args.report_to = ["trackio"]
    state = TrainerState(max_steps=10, log_history=[{"step": 1, "loss": float("nan"), "constant_loss": 1.0}])
    callback.on_log(args, state, TrainerControl(), logs=state.log_history[-1])
    assert alerts == [("The run is not healthy", callback.diagnosis, "error")]
    assert "diverged" in callback.diagnosis


def test_a_finding_that_stays_is_one_alert(alerts, tmp_path):
    args = arguments(tmp_path, health_start_step=0, stop_on_collapse=False)
    args.report_to = ["trackio"]
    state, callback = TrainerState(max_steps=10), HealthCallback()
    for step in (1, 2, 3):
        state.log_history.append({"step": step, "loss": float("nan"), "constant_loss": 1.0})
        callback.on_log(args, state, TrainerControl())
    assert len(alerts) == 1


def test_no_alert_where_the_run_does_not_report_to_trackio(alerts, tmp_path):
    alert(arguments(tmp_path), "collapsed")
    assert not alerts


def test_a_tracker_that_fails_stops_nothing(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    args = arguments(tmp_path)
    args.report_to = ["trackio"]
    alert(args, "collapsed")
    assert "Trackio took no alert" in caplog.text


def test_a_run_reports_to_several_at_once(monkeypatch):
    monkeypatch.setattr(run_arguments, "get_available_reporting_integrations", lambda: ["tensorboard", "trackio"])
    words = ["--recipe", "data2vec2-vision-tiny", "--dataset", "digits", "--output_dir", "run", "--report_to"]
    for names in (["tensorboard", "trackio"], ["trackio"]):
        assert OptionParser("pretrain", Data2VecTrainingArguments).parse([*words, *names])[1].report_to == names
    assert OptionParser("pretrain", Data2VecTrainingArguments).parse([*words, "none"])[1].report_to == []


@pytest.mark.slow
def test_trackio_and_wandb_themselves_without_a_network(tmp_path):
    pytest.importorskip("trackio", reason="trackio is missing: make test-trackers brings it")
    pytest.importorskip("wandb", reason="wandb is missing: make test-trackers brings it")
    command = "pretrain --recipe data2vec2-vision-tiny --dataset digits --output_dir run --report_to all --max_steps 40"
    command += " --warmup_steps 1 --logging_steps 5 --learning_rate 100 --max_grad_norm 1e9 --health_start_step 5"
    offline = {"TRACKIO_DIR": str(tmp_path / "trackio"), "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "data2vec_cli", *command.split()],
        cwd=tmp_path,
        env=os.environ | offline | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    (path,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(path) as database:
        (figures,) = database.execute("select metrics from metrics order by step").fetchone()
        told = database.execute("select title, text from alerts").fetchall()
    assert {"train/loss", "train/target_std", "train/student_rank"} <= set(json.loads(figures))
    (diagnosis,) = (line for line in done.stderr.splitlines() if "run diverged" in line or "run collapsed" in line)
    assert len(told) == 1 and told[0][0] == "The run is not healthy" and told[0][1] in diagnosis
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
