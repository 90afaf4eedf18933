"""Shared by the tests of publishing."""

import pytest

from modeling_data2vec.trainers.hub import preflight as preflight_module


@pytest.fixture
def quick(monkeypatch):
    """Without waiting between tries."""
    monkeypatch.setattr(preflight_module, "WAITS", (0.0, 0.0))


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_anna")
