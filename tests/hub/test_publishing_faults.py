"""publishing.py, when the Hub or the way to it fails: what the user sees, and what is left."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import hf_hub_download
from published_models import NAME, saved
from transformers import AutoModel

from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.hub import preflight as preflight_module
from modeling_data2vec.trainers.hub.preflight import PublishError
from modeling_data2vec.trainers.hub.publishing import publish

pytestmark = pytest.mark.usefixtures("quick")


STEPS = {
    "whoami": ("GET", "/api/whoami-v2"),
    "create": ("POST", "/api/repos/create"),
    "read the card": ("HEAD", "/resolve/main/README.md"),
    "validate the card": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/lfs/"),
    "verify": ("POST", "/lfs-verify"),
    "commit": ("POST", "/commit/"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_that_passes_is_not_seen(hub, token, tmp_path, step):
    folder = saved(tmp_path / "model")
    hub.fail(*STEPS[step], status=503)
    publish(folder, NAME)
    assert "model.safetensors" in hub.files(NAME) and not hub.faults


# These the client itself tries again, for half a minute and more.
PATIENT = {"read the card", "preupload", "batch", "upload"}


@pytest.mark.parametrize(
    "step",
    # What was verified before is not verified again, so that fault passes.
    [pytest.param(step, marks=[pytest.mark.slow] * (step in PATIENT)) for step in STEPS if step != "verify"],
)
def test_a_fault_that_stays_is_named_and_leaves_the_folder_as_it_was(hub, token, tmp_path, step):
    folder = saved(tmp_path / "model")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    hub.fail(*STEPS[step], status=500, times=1000)
    with pytest.raises(PublishError, match="500|cannot find the requested files|Error while uploading"):
        publish(folder, NAME)
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    if ("model", NAME) in hub.repositories:
        assert hub.files(NAME) == {}
    hub.faults.clear()
    publish(folder, NAME)
    assert "model.safetensors" in hub.files(NAME)


def test_a_stale_parent_is_tried_again(hub, token, tmp_path):
    hub.fail("POST", "/commit/", status=412)
    publish(saved(tmp_path / "model"), NAME)
    assert "config.json" in hub.files(NAME)


def test_a_commit_that_meets_another_is_tried_again(hub, token, tmp_path):
    hub.fail("POST", "/commit/", status=409, body={"error": "Conflict: reference update failed"})
    publish(saved(tmp_path / "model"), NAME)
    assert "config.json" in hub.files(NAME) and not hub.faults


@pytest.fixture
def waits(monkeypatch):
    """The seconds that are waited between tries, without waiting."""
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, time=lambda: 1_000_000_000.0)
    monkeypatch.setattr(preflight_module, "time", clock)
    return waited


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7), ("Sun, 09 Sep 2001 01:47:10 GMT", 30), ("Sun, 09 Sep 2001 01:46:10 GMT", 0), ("soon", 0), ("-5", 0)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_hub_says_how_long_to_wait(hub, token, tmp_path, waits, status, retry_after, seconds):
    hub.fail("POST", "/commit/", status=status, headers={"Retry-After": retry_after})
    publish(saved(tmp_path / "model"), NAME)
    assert waits == [seconds] and "config.json" in hub.files(NAME)


@pytest.mark.parametrize("retry_after", ["86400", "Sun, 09 Sep 2063 01:46:40 GMT", "inf", "1e400"])
def test_a_wait_of_hours_is_left_to_the_user(hub, token, tmp_path, waits, retry_after):
    hub.fail("POST", "/commit/", status=429, headers={"Retry-After": retry_after})
    with pytest.raises(PublishError, match="the Hub asks to wait .* s.*It is complete on this disk"):
        publish(saved(tmp_path / "model"), NAME)
    assert not waits and hub.files(NAME) == {}


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (401, "does not know the token"),
        (402, "asks for payment"),
        (403, "the token may not write"),
        (404, "the repository is gone"),
        (413, "larger than the Hub takes"),
        (422, "does not accept what a file holds"),
        (507, "storage of this namespace is used up"),
    ],
)
def test_a_refused_commit_is_explained_and_not_tried_again(hub, token, tmp_path, capsys, status, meaning):
    folder = saved(tmp_path / "model")
    hub.fail("POST", "/commit/", status=status, body={"error": "said by the server"})
    assert run("push", [str(folder), NAME]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and meaning in lines[0] and str(status) in lines[0] and "said by the server" in lines[0]
    assert not hub.faults and sum("/commit/" in path for _, path, _ in hub.requests) == 1


@pytest.mark.parametrize(("status", "message"), [(403, "may not write"), (507, "used up"), (429, "too many requests")])
def test_whoami_is_refused_for_other_reasons_than_the_token(hub, token, tmp_path, status, message):
    hub.fail("GET", "/api/whoami-v2", status=status, times=10)
    with pytest.raises(PublishError, match=message) as refused:
        publish(saved(tmp_path / "model"), NAME)
    assert "revoked" not in str(refused.value)


def test_a_line_that_is_cut(hub, token, tmp_path):
    hub.fail("POST", "/commit/", cut=0)
    publish(saved(tmp_path / "model"), NAME)
    assert "config.json" in hub.files(NAME)


def test_a_cut_download_is_whole_in_the_end(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    publish(folder, NAME)
    hub.fail("GET", "/lfs/", cut=500)
    path = hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == hub.files(NAME)["model.safetensors"]


def test_a_disk_that_fills_up(hub, token, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    folder = saved(tmp_path / "model")
    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(PublishError, match="No space left on device.*TMPDIR"):
        publish(folder, NAME)
    monkeypatch.undo()
    assert AutoModel.from_pretrained(folder) is not None and hub.files(NAME) == {}


@pytest.mark.slow
def test_a_server_that_does_not_answer(hub, token, tmp_path):
    """The client waits for 10 seconds."""
    hub.fail("POST", "/commit/", hang=15.0)
    publish(saved(tmp_path / "model"), NAME)
    assert "config.json" in hub.files(NAME)
