"""Shared by all tests: quiet, deterministic, and with a Hub on localhost as their whole network."""

import os
import tempfile

import pytest
from local_hub import LocalHub

# Read when the clients are imported: every process of tests has a Hub, a cache and no token of its own.
HUB = LocalHub()  # has its port from here on, and answers when the session starts
HOME = tempfile.TemporaryDirectory(prefix="hub-home-")
os.environ |= {
    "HF_ENDPOINT": HUB.endpoint,
    "HF_HOME": HOME.name,
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
for inherited in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(inherited, None)
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_collection_modifyitems(items):
    """Put the rooms with the longest files first: two processes that share the files then end together."""
    items.sort(key=lambda item: item.path.parent.name not in ("runs", "hub", "finetuning", "pretraining"))


@pytest.fixture(scope="session", autouse=True)
def _local_hub():
    with HUB as hub:
        yield hub
    HOME.cleanup()


@pytest.fixture
def hub(_local_hub):
    """The Hub on localhost, empty."""
    _local_hub.reset()
    return _local_hub


@pytest.fixture
def tiny_folder(tmp_path, monkeypatch):
    """The folder of a tiny model, and the token of somebody who may push it."""
    from tiny_runs import tiny_model

    monkeypatch.setenv("HF_TOKEN", "hf_anna")
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


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


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Twelve clips of unequal length in two folders: rising and falling tones with noise, and a broken file."""
    import numpy as np
    import soundfile

    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for kind, (first, last) in {"rising": (200, 900), "falling": (900, 200)}.items():
        (folder / kind).mkdir()
        for i in range(6):
            seconds = 0.6 + 0.15 * i
            pitch = np.linspace(first, last, int(16_000 * seconds)) * rng.uniform(0.8, 1.2)
            clip = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) + 0.02 * rng.standard_normal(len(pitch))
            soundfile.write(folder / kind / f"{i}.wav", clip, 16_000)
    (folder / "rising" / "broken.wav").write_bytes(b"RIFF no sound")
    return folder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The folder of a byte-level BPE of 300 tokens."""
    import data2vec_cli

    folder = tmp_path_factory.mktemp("tokenizer") / "bpe"
    argv = ["tokenizer", "--dataset", "python-docs", "--vocab_size", "300", "--output_dir", str(folder)]
    assert data2vec_cli.main(argv) == 0
    return folder
