"""Silence for a while, where weights are new or left out as they should be, or packages talk to their developers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
