"""Silence for a while: of what transformers says of weights that are as they should be, and of notes to developers."""

import logging as python_logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def errors_only() -> Iterator[None]:
    """Let transformers say nothing but errors for a while."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def errors_only_of(*packages: str) -> Iterator[None]:
    """Let packages, and whoever calls `logging.warning` without a logger, say nothing but errors for a while.

    The root logger gets a filter rather than a level: its level is also that of all loggers without one, ours too.
    """
    levels = {logger: logger.level for logger in map(python_logging.getLogger, packages)}
    root = python_logging.getLogger()

    def is_error(record: python_logging.LogRecord) -> bool:
        return record.levelno >= python_logging.ERROR

    root.addFilter(is_error)
    for logger in levels:
        logger.setLevel(python_logging.ERROR)
    try:
        yield
    finally:
        root.removeFilter(is_error)
        for logger, level in levels.items():
            logger.setLevel(level)
