"""Signals end a run in order: a checkpoint at the next optimizer step, and an exit code that says which signal it was.

SIGTERM and SIGUSR1 are what schedulers send before they take a machine away; SIGINT is Ctrl-C.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ..data.even_epochs import cpu_group

logger = logging.get_logger(__name__)

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
SOON = 0.05  # seconds after which a signal that was ignored is sent again


class StoppedError(SystemExit):
    """A signal ended a run. A script that does not catch it ends with `code`, 128 + the signal's number.

    Args:
        said: what was stopped, what is saved, and how to go on.
        number: the signal's: 15 for SIGTERM, code 143; 2 for SIGINT, 130; 10 for SIGUSR1, 138.
    """

    def __init__(self, said: str, number: int) -> None:
        super().__init__(128 + number)
        self.said, self.number = said, number

    def __str__(self) -> str:
        return self.said


@contextmanager
def signals_call(handler: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call a function for each of the signals in the block; earlier handlers are restored at its end.

    Only Python's main thread can do this; in any other, nothing is changed. A signal that the process was started to
    ignore (as `nohup` does) is still ignored. One whose `StoppedError` Python ignores comes again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, lambda number, _: handler(signal.Signals(number)))
        with _ignored_ones_come_again(handler):
            yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def _ignored_ones_come_again(handler: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Send a signal again whose error was raised where Python ignores errors: in `__del__`, or the callback of a weak
    reference, which may run at any time. At the latest it counts at the block's end.
    """
    before, sent = sys.unraisablehook, list[tuple[threading.Timer, signal.Signals]]()

    def send_again(ignored: Any) -> None:
        if not isinstance(ignored.exc_value, StoppedError):
            return before(ignored)
        number = signal.Signals(ignored.exc_value.number)
        timer = threading.Timer(SOON, os.kill, (os.getpid(), number))
        timer.daemon = True
        sent.append((timer, number))
        timer.start()

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = before
        waiting = [number for timer, number in sent if timer.is_alive()]
        for timer, _ in sent:
            timer.cancel()
            timer.join()
    if waiting:
        handler(waiting[0])


def stop_at_once(number: signal.Signals) -> None:
    """Raise `StoppedError`, so that whatever is half done is cleared away."""
    raise StoppedError(f"stopped by {number.name}", number)


class StopCallback(TrainerCallback):
    """Ends a run after the optimizer step that is under way when a signal arrives, with a checkpoint.

    Before the first step, after the last one and at a second SIGINT the run ends at once: `StoppedError` is raised
    where it is. An evaluation that is under way is finished first, so that it counts for the best checkpoint. All
    processes agree after each step, so that they stop at the same one, whichever of them the signal reached.

    Attributes:
        stopping: the signal by which the processes agreed to stop.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self.stopping: signal.Signals | None = None
        self._steps = False  # whether optimizer steps are being made
        self._group: Any = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals that arrive in the block."""
        self.requested = self.stopping = None
        with signals_call(self.request):
            yield

    def request(self, number: signal.Signals) -> None:
        """Handle a signal: ask for a stop after this step, or stop at once."""
        before, self.requested = self.requested, number
        if not self._steps or (number == before == signal.SIGINT):
            stop_at_once(number)
        if before is None:
            again = " Ctrl-C again ends it at once." if number == signal.SIGINT else ""
            # Not by print, which may be what the signal interrupts.
            os.write(2, f"\n{number.name}: the run ends after this step, with a checkpoint.{again}\n".encode())

    def agree(self) -> bool:
        """Whether any process was asked to stop. All of them call this at the same places.

        The flag goes between the CPUs, and no GPU is waited for.
        """
        flag = int(self.requested or 0)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            if self._group is None:
                self._group = cpu_group()
            value = torch.tensor(flag)
            dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group)
            flag = int(value)
        self.stopping = signal.Signals(flag) if flag else None
        return self.stopping is not None

    def error(self, checkpoint: Path) -> StoppedError:
        """The error that ends a run which the processes agreed to stop, when its checkpoint is saved."""
        number, step = self.stopping or signal.SIGTERM, checkpoint.name.removeprefix("checkpoint-")
        said = f"stopped by {number.name} after step {step}: {checkpoint} is saved"
        logger.warning(f"The run was {said}; train(resume_from_checkpoint=True) goes on from there.")
        return StoppedError(said, number)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._steps = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.requested is not None and not self._steps:
            stop_at_once(self.requested)
        self._steps = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stop(args, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._steps:
            self._stop(args, control)

    def _stop(self, args: TrainingArguments, control: TrainerControl) -> None:
        if self.agree():
            control.should_save = control.should_training_stop = True
            args.save_only_model = False  # a run can't go on from weights alone

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Skip log, evaluation and save at the end of an epoch that was cut short."""
        if self.stopping is None:
            return
        if (state.epoch or 0) % 1:
            control.should_log = control.should_evaluate = control.should_save = False
        elif control.should_evaluate:
            control.should_save = True  # with its figures

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._steps = False
