"""Worker processes of a loader: they live as long as their run, and leave signals to it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import multiprocessing as torch_multiprocessing
from torch.utils.data import DataLoader

from .stopping import SIGNALS

_in_run = False  # whether processes that are forked now are a run's workers


def _block_signals() -> None:
    if _in_run:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


if hasattr(os, "register_at_fork"):  # before torch starts threads in a worker, which would get the signals instead
    os.register_at_fork(after_in_child=_block_signals)


class WorkerInit:
    """First call in a worker process: block signals, then run the loader's own `worker_init_fn`.

    A signal that reaches all processes of a run (Ctrl-C, a scheduler's SIGTERM) must not take away the workers before
    the run has its checkpoint. When the run's process dies, in whatever way, they go with it at once.
    """

    def __init__(self, then: Callable[[int], Any] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        if hasattr(signal, "sigwaitinfo"):  # Linux
            torch_multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            for number in SIGNALS:  # for threads of libraries that unblock everything
                signal.signal(number, _nothing)
            threading.Thread(target=_obey_the_parent, args=(os.getppid(),), daemon=True).start()
        if self.then is not None:
            self.then(worker)


def _nothing(number: int, frame: Any) -> None:
    pass


def _obey_the_parent(parent: int) -> None:
    """End the process by a SIGTERM of its parent, and by no other signal."""
    while True:
        info = signal.sigwaitinfo(SIGNALS)
        if info.si_signo == signal.SIGTERM and info.si_pid == parent:
            os._exit(0)


def with_own_workers(loader: DataLoader) -> DataLoader:
    """Give a loader's workers `WorkerInit`."""
    inner = inner_loader(loader)
    if inner.num_workers and not isinstance(inner.worker_init_fn, WorkerInit):
        inner.worker_init_fn = WorkerInit(inner.worker_init_fn)
    return loader


def inner_loader(loader: DataLoader) -> DataLoader:
    """The loader that makes the batches, which accelerate may have wrapped."""
    return getattr(loader, "base_dataloader", loader)


@contextmanager
def no_worker_stays() -> Iterator[None]:
    """After an error or a signal, end the worker processes that were started in the block, whatever they are doing."""
    global _in_run
    before = set(multiprocessing.active_children())
    try:
        _in_run = True
        yield
    except BaseException:
        workers = [one for one in multiprocessing.active_children() if one.daemon and one not in before]
        quiet = bool(workers) and hasattr(signal, "pthread_sigmask")
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD]) if quiet else None
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        if blocked is not None:  # torch would take their end for an error, had it been told before
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        raise
    finally:
        _in_run = False
