"""Runs that are killed at random moments of all their phases and resumed, as a script: must end as if nothing happened.

    python tests/support/killed_runs.py --kills 60

Each run is a fork of one process that has imported everything, and gets SIGKILL. What must hold: no complete checkpoint
is lost, and after `--resume` weights, optimizer, losses, figures and files are those of a run that nobody killed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file
from tiny_tasks import body, few_digits

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.finetuning import run as finetuning
from modeling_data2vec.trainers.pretraining import run as pretraining
from modeling_data2vec.trainers.pretraining.modality_run import RunPart
from modeling_data2vec.trainers.runs.base_trainer import BaseTrainer
from modeling_data2vec.trainers.runs.checkpoints import check_files, last_checkpoint

TINY = ["hidden_size=16", "num_hidden_layers=2", "average_top_k_layers=2", "num_attention_heads=2"]
TINY += ["intermediate_size=32", "decoder_dim=16", "decoder_layers=2", "num_masks=2"]
SPEECH = ["conv_dim=[8,8,8]", "num_conv_pos_embedding_groups=2", "decoder_groups=2"]
STEPS = ["--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1", "--max_steps", "6", "--warmup_steps", "1"]
STEPS += ["--save_strategy", "steps", "--save_steps", "2", "--save_total_limit", "2"]
KINDS = ("images", "speech", "text", "joint", "fine-tuning")
# Where a phase begins: functions of a run, by the name of the phase.
PHASES: list[tuple[str, Any, str]] = [
    ("training", BaseTrainer, "training_step"),
    ("saving", BaseTrainer, "_save_checkpoint"),
    ("final save", BaseTrainer, "save_locally"),
    ("drawing", RunPart, "draw_features"),
    ("drawing", pretraining, "plot_curves"),
    ("checking", pretraining, "check_reload"),
    ("checking", finetuning, "_check_reload"),
    ("probing", RunPart, "report"),
    ("measuring", BaseTrainer, "evaluate"),
    ("card", BaseTrainer, "create_model_card"),
]
CLOSING = ("final save", "drawing", "checking", "probing", "measuring", "card")


@dataclass
class Mark:
    """A phase that began `at` so many seconds after the start, and lasted so long."""

    phase: str
    at: float
    seconds: float


@dataclass
class Ended:
    """How a run ended: its exit code, negative if it was killed; its phases; steps of the checkpoints it completed."""

    code: int
    marks: list[Mark]
    saved: list[int]


# ---- a run in a process of its own ----


def report_phases(pipe: int) -> None:
    """Let this process write where its phases begin and end."""

    def reporting(phase: str, function: Callable) -> Callable:
        def reported(*arguments: Any, **kwargs: Any) -> Any:
            os.write(pipe, f"begin {phase}\n".encode())
            result = function(*arguments, **kwargs)
            step = f" {arguments[0].state.global_step}" if phase == "saving" else ""
            os.write(pipe, f"end {phase}{step}\n".encode())
            return result

        return reported

    for phase, owner, name in PHASES:
        setattr(owner, name, reporting(phase, getattr(owner, name)))


def forked(work: Callable[[], int], log: Path, kill: tuple[str, int, float] | None = None) -> Ended:
    """Do something in a fork of this process, and kill it at (phase, which of that name, seconds after it began)."""
    reads, writes = os.pipe()
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 70
        try:
            report_phases(writes)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writes)
    marks, saved, open_marks = [Mark("start", 0.0, 0.0)], [], []
    seen: Counter[str] = Counter({"start": 1})
    if kill is not None and kill[0] == "start":
        _kill(pid, kill[2])
    with os.fdopen(reads) as lines:
        for line in lines:
            now = time.perf_counter() - start
            word, _, rest = line.strip().partition(" ")
            if word == "end":
                mark = open_marks.pop()
                mark.seconds = now - mark.at
                if mark.phase == "saving":
                    saved.append(int(rest.split()[-1]))
                continue
            if len(marks) == 1:
                marks[0].seconds = now
            marks.append(Mark(rest, now, 0.0))
            open_marks.append(marks[-1])
            seen[rest] += 1
            if kill is not None and (rest, seen[rest]) == kill[:2]:
                _kill(pid, kill[2])
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), marks, saved)


def _kill(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)


# ---- what is run ----


def make_data(root: Path) -> int:
    """Clips, a tokenizer, labelled digits and a body to fine-tune."""
    (root / "clips").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        seconds = 0.6 + 0.1 * index
        tone = 0.3 * np.sin(2 * np.pi * (200 + 50 * index) * np.arange(int(16_000 * seconds)) / 16_000)
        soundfile.write(root / "clips" / f"{index}.wav", tone + 0.02 * rng.standard_normal(len(tone)), 16_000)
    argv = ["--dataset", "python-docs", "--vocab_size", "300", "--output_dir", str(root / "tokenizer")]
    code = run("tokenizer", argv)
    few_digits(root / "digits")
    body("images 2.0", root / "body")
    return code


def command(kind: str, root: Path) -> tuple[str, list[str]]:
    """The command of a kind of run, without its folder."""
    clips, tokenizer, digits = (str(root / name) for name in ("clips", "tokenizer", "digits"))
    probes = ["--probe_limit", "40"]
    if kind == "fine-tuning":
        argv = ["--task", "image-classification", "--model", str(root / "body"), "--dataset", digits, *STEPS]
        argv += ["--eval_split", "test", "--eval_strategy", "steps", "--eval_steps", "2", "--learning_rate", "1e-2"]
        return "finetune", [*argv, "--per_device_train_batch_size", "8"]
    if kind == "joint":
        argv = ["--recipe", "data2vec2-tiny", "--dataset", f"audio={clips}", "vision=digits", "text=python-docs"]
        argv += ["--tokenizer", tokenizer, "--probe_split", "vision=test", *probes, *STEPS, "--config", *TINY]
        return "pretrain", [*argv, *(f"audio.{field}" for field in SPEECH)]
    options = {
        "images": ["data2vec2-vision-tiny", "--dataset", "digits", "--probe_split", "test", *probes],
        "speech": ["data2vec2-audio-tiny", "--dataset", clips],
        "text": ["data2vec2-text-tiny", "--dataset", "python-docs", "--tokenizer", tokenizer],
    }
    extra = SPEECH if kind == "speech" else []
    return "pretrain", ["--recipe", *options[kind], *STEPS, "--config", *TINY, *extra]


class Trials:
    """Kills of one kind of run, compared with a run that nobody kills.

    Args:
        kind: one of `KINDS`.
        root: folder with the data; runs are written below it.
    """

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        self.name, self.argv = command(kind, root)
        self.whole = root / f"{kind}-whole"
        self.ended = self.run(self.whole)
        assert self.ended.code == 0, (root / f"{self.whole.name}.log").read_text()

    def run(self, folder: Path, *options: str, kill: tuple[str, int, float] | None = None) -> Ended:
        argv = [*self.argv[:2], "--output_dir", str(folder), *options, *self.argv[2:]]
        return forked(lambda: run(self.name, argv), self.root / f"{folder.name}.log", kill)

    def phases(self) -> list[str]:
        return sorted({mark.phase for mark in self.ended.marks})

    def trial(self, rng: random.Random, phase: str) -> list[str]:
        """Kill a run in a phase, resume it, and say what is wrong then; nothing if it ended before it was killed."""
        marks = [mark for mark in self.ended.marks if mark.phase == phase]
        which = rng.randrange(len(marks))
        seconds = rng.uniform(0.0, marks[which].seconds)
        folder = self.root / f"{self.kind}-killed"
        shutil.rmtree(folder, ignore_errors=True)
        killed = self.run(folder, kill=(phase, which + 1, seconds))
        if killed.code != -signal.SIGKILL:
            raise TooLateError
        wrong = self.lost(folder, killed.saved)
        again = self.run(folder, "--resume")
        if again.code != 0:
            return [*wrong, f"the resumed run ended with {again.code}"]
        trained = sum(mark.phase == "training" for mark in again.marks)
        if killed.saved[-1:] == [6] and trained:
            wrong.append(f"{trained} micro-batches were trained after the run's end")
        return wrong + self.differences(folder)

    @staticmethod
    def lost(folder: Path, saved: list[int]) -> list[str]:
        """Checkpoints that were complete, and are not there or not whole after the kill."""
        wrong = []
        last = last_checkpoint(folder)
        if saved and (last is None or int(last.name[11:]) < saved[-1]):
            wrong.append(f"checkpoint-{saved[-1]} is lost")
        for path in folder.glob("checkpoint-*"):
            try:
                check_files(path)
            except ValueError as error:
                wrong.append(str(error))
        return wrong

    def differences(self, folder: Path) -> list[str]:
        """In what a folder differs from that of the run that nobody killed."""
        files = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()) for f in (folder, self.whole)]
        wrong = [f"files differ: {set(files[0]) ^ set(files[1])}"] if files[0] != files[1] else []
        for name in set(files[0]) & set(files[1]):
            one, other = folder / name, self.whole / name
            if name.endswith(".safetensors"):
                weights, expected = load_file(one), load_file(other)
                same = weights.keys() == expected.keys() and all(torch.equal(weights[k], expected[k]) for k in expected)
            elif name.endswith(("optimizer.pt", "scheduler.pt")):
                same = _equal(torch.load(one), torch.load(other))
            elif name.endswith("trainer_state.json"):
                same = _losses(one) == _losses(other)
            elif name.endswith(("probe.json", "config.json", "probe_vision.json")):
                same = one.read_bytes() == other.read_bytes()
            elif name == "provenance.json":
                same = _facts(one) == _facts(other)
            else:
                continue
            if not same:
                wrong.append(f"{name} differs")
        return wrong


class TooLateError(Exception):
    """The run ended before it was killed."""


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def _losses(state: Path) -> list[tuple]:
    history = json.loads(state.read_text())["log_history"]
    return [(e["step"], e.get("loss"), e.get("eval_loss"), e.get("eval_accuracy")) for e in history if "epoch" in e]


def _facts(provenance: Path) -> dict[str, Any]:
    values = json.loads(provenance.read_text())
    return {name: values.get(name) for name in ("steps", "health", "metrics", "hyperparameters")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--phases", nargs="+", help="default: all; 'closing' for what comes after training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, done, failed = random.Random(options.seed), Counter(), 0
    with tempfile.TemporaryDirectory(prefix="killed-runs-") as folder:
        root = Path(folder)
        assert forked(lambda: make_data(root), root / "data.log").code == 0, (root / "data.log").read_text()
        trials = [Trials(kind, root) for kind in options.kinds]
        wanted = CLOSING if options.phases == ["closing"] else options.phases
        plans = [(one, phase) for one in trials for phase in one.phases() if wanted is None or phase in wanted]
        rng.shuffle(plans)
        while done.total() < options.kills:
            one, phase = plans[done.total() % len(plans)]
            try:
                wrong = one.trial(rng, phase)
            except TooLateError:
                continue
            done[phase] += 1
            failed += bool(wrong)
            print(f"{done.total():3} {one.kind}, killed in {phase}: {'; '.join(wrong) or 'as if nothing happened'}")
            sys.stdout.flush()
    counts = ", ".join(f"{phase} {count}" for phase, count in sorted(done.items()))
    print(f"{done.total()} kills ({counts}): {failed} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
