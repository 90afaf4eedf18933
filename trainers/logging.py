"""What is shown for a while: nothing but errors of some packages, or what a command has to say; no bar after it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def errors_only(*packages: str) -> Iterator[None]:
    """Let packages say nothing but errors for a while."""
    levels = {logger: logger.level for logger in map(logging.getLogger, packages)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def errors_only_at_root() -> Iterator[None]:
    """The same for whoever calls `logging.warning`, without a logger.

    By a filter, since the root logger's level is that of all loggers without one, ours too.
    """
    root = logging.getLogger()

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    root.addFilter(is_error)
    try:
        yield
    finally:
        root.removeFilter(is_error)


class _Output(logging.Handler):
    """Writes information to standard output, as it is; the rest goes where it would go without this handler."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            sys.stdout.write(record.getMessage() + "\n")
        elif not logging.getLogger().handlers and logging.lastResort is not None:
            logging.lastResort.handle(record)


@contextmanager
def information_shown() -> Iterator[None]:
    """Write what this package logs as information to standard output, for commands.

    Example:
        >>> with information_shown():
        ...     logging.getLogger(f"{__package__}.runs").info("Training on 45 images.")
        Training on 45 images.
    """
    logger, handler = logging.getLogger(__package__), _Output()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def bars_closed() -> Iterator[None]:
    """End all progress bars, so that nothing of them follows on what is said of an error."""
    try:
        yield
    finally:
        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()
