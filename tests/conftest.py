"""Shared by all tests: quiet, offline, and deterministic."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def datasets_cache(tmp_path_factory, monkeypatch):
    """datasets' cache in a folder of its own; its figures are kept in module variables."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def caplog(caplog):
    """transformers' loggers don't propagate by themselves."""
    from transformers.utils import logging

    logging.enable_propagation()
    yield caplog
    logging.disable_propagation()
