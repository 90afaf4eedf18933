"""examples/mteb_own_data.py: mteb runs on saved folders with tasks of local data, by our loader and its own alike."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from processors import PAGES, TOKENS, save_processor
from recordings import voice
from tiny_runs import tiny_model

from modeling_data2vec.trainers.modalities.image import digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "mteb_own_data.py"
LABELS = [number % 2 for number in range(40)]


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("mteb", reason="make test-slow installs it: pip install -e .[mteb]")
    spec = importlib.util.spec_from_file_location("mteb_own_data", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def halves(samples: Dataset) -> DatasetDict:
    return DatasetDict(train=samples.select(range(24)), test=samples.select(range(24, 40)))


def texts(rate: int) -> Dataset:
    words = [PAGES[3 * label].split() for label in LABELS]
    parts = [" ".join(page[i % (len(page) - 20) :][:20]) for i, page in enumerate(words)]
    return Dataset.from_dict({"text": parts, "label": LABELS})


def images(rate: int) -> Dataset:
    train = digits("train")
    return train.select([place for place, label in enumerate(train["label"]) if label < 2][:40])


def sounds(rate: int) -> Dataset:
    clips = [voice(0.3 + 0.01 * i, rate=rate, seed=8 * label + i % 3) for i, label in enumerate(LABELS)]
    return Dataset.from_dict(
        {"audio": [{"array": clip, "sampling_rate": rate} for clip in clips], "label": LABELS},
    )


CASES = {
    "text": ("text", texts, {"vocab_size": TOKENS}),
    "image": ("images", images, {}),
    "audio": ("speech", sounds, {}),
}


def score(mteb, encoder, task) -> float:
    (result,) = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False).task_results
    return result.scores["test"][0]["main_score"]


@pytest.mark.slow
@pytest.mark.parametrize("modality", CASES)
def test_a_task_of_local_data_runs(example, modality, tmp_path):
    data, samples, fields = CASES[modality]
    tiny_model(f"{data} 2.0", **fields).save_pretrained(tmp_path)
    save_processor(data, tmp_path)
    ours = example.Data2VecEncoder(str(tmp_path))
    task = example.classification("own", modality, halves(samples(16_000)))
    found = score(example.mteb, ours, task)
    assert 0.5 <= found <= 1
    if modality == "audio":  # of another rate; mteb's own loader needs torchaudio
        assert score(example.mteb, ours, example.classification("own", modality, halves(samples(8_000)))) >= 0.5
        return
    theirs = example.mteb.models.SentenceTransformerEncoderWrapper(str(tmp_path))
    theirs.mteb_model_meta = theirs.mteb_model_meta.model_copy(update={"modalities": [modality]})
    assert np.isclose(score(example.mteb, theirs, task), found)
