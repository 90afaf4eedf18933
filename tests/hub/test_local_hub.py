"""local_hub.py answers the genuine clients as the Hub does, and fails when it is told to."""

import io
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import datasets
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from xet_files import VERSION

from modeling_data2vec.trainers.data.streams import Share, Stream

ANNA = HfApi(token="hf_anna")
NAME = "anna/model"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "deep" / "model.safetensors").write_bytes(bytes(range(256)) * 50)
    return folder


def test_a_folder_goes_up_and_comes_down(hub, folder, tmp_path):
    ANNA.create_repo(NAME)
    ANNA.upload_folder(repo_id=NAME, folder_path=folder, commit_message="first")
    assert hub.files(NAME)["deep/model.safetensors"] == (folder / "deep/model.safetensors").read_bytes()
    there = snapshot_download(NAME, cache_dir=tmp_path / "cache")
    assert (tmp_path / there / "deep/model.safetensors").stat().st_size == 256 * 50
    assert [entry.path for entry in ANNA.list_repo_tree(NAME)] == ["config.json", "deep"]
    assert sorted(ANNA.list_repo_files(NAME)) == ["config.json", "deep/model.safetensors"]
    assert [commit.title for commit in ANNA.list_repo_commits(NAME)] == ["first", "initial commit"]
    hub.requests.clear()
    ANNA.upload_folder(repo_id=NAME, folder_path=folder)  # nothing has changed
    assert not [path for method, path, _ in hub.requests if method == "PUT"]


def test_branches_tags_settings_and_names(hub, folder):
    ANNA.create_repo(NAME)
    with pytest.raises(HfHubHTTPError, match="409"):
        ANNA.create_repo(NAME)
    assert ANNA.create_repo(NAME, exist_ok=True).repo_id == NAME
    ANNA.create_branch(NAME, branch="v2")
    ANNA.upload_file(repo_id=NAME, path_or_fileobj=b"x", path_in_repo="x.txt", revision="v2")
    ANNA.create_tag(NAME, tag="release", revision="v2")
    assert hub.files(NAME, "release") == {"x.txt": b"x"} and hub.files(NAME) == {}
    refs = ANNA.list_repo_refs(NAME)
    assert [branch.name for branch in refs.branches] == ["main", "v2"] and [tag.name for tag in refs.tags] == [
        "release"
    ]
    ANNA.delete_branch(NAME, branch="v2")
    ANNA.delete_tag(NAME, tag="release")
    ANNA.update_repo_settings(NAME, private=True)
    assert ANNA.model_info(NAME).private
    ANNA.move_repo(NAME, "lab/model")
    ANNA.delete_repo("lab/model")
    assert not hub.repositories


def test_rights(hub):
    hub.put("anna/secret", {"a.txt": b"a"}, private=True)
    hub.put("anna/gated", {"config.json": b"{}"}, gated=True)
    for token in (None, "hf_rita"):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).model_info("anna/secret")
        with pytest.raises(GatedRepoError):
            hf_hub_download("anna/gated", "config.json", token=token or False)
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token="hf_rita").create_repo("rita/model")
    with pytest.raises(HfHubHTTPError, match="403"):
        ANNA.create_repo("rita/model")
    with pytest.raises(HfHubHTTPError, match="token"):
        HfApi(token="hf_unknown").whoami()
    assert ANNA.whoami()["auth"]["accessToken"]["role"] == "write"


def test_what_is_not_there(hub, tmp_path):
    hub.put(NAME, {"a.txt": b"a"})
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "a.txt", revision="v9", cache_dir=tmp_path)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "b.txt", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="Invalid metadata"):
        operation = CommitOperationAdd("README.md", b"---\ntags: [\n---\n")
        ANNA.create_commit(NAME, [operation], commit_message="bad card")
    with pytest.raises(HfHubHTTPError, match="412"):
        ANNA.create_commit(NAME, [CommitOperationAdd("c", b"")], commit_message="late", parent_commit="0" * 40)


def test_faults(hub, folder, tmp_path):
    ANNA.create_repo(NAME)
    hub.fail("PUT", "/lfs/", status=503)  # the client tries again
    hub.fail("POST", "/commit/", status=500)  # this it does not
    with pytest.raises(HfHubHTTPError, match="500"):
        ANNA.upload_folder(repo_id=NAME, folder_path=folder)
    ANNA.upload_folder(repo_id=NAME, folder_path=folder)  # large files are there already
    hub.fail("GET", "/lfs/", cut=1000)
    there = hf_hub_download(NAME, "deep/model.safetensors", cache_dir=tmp_path)
    assert (tmp_path / there).stat().st_size == 256 * 50
    assert [status for method, _, status in hub.requests if method == "PUT"] == [503, 200]
    assert not hub.faults


def test_a_dataset_is_loaded(hub, tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "train.parquet")
    hub.put("anna/data", {"data/train.parquet": (tmp_path / "train.parquet").read_bytes()}, kind="dataset")
    assert datasets.load_dataset("anna/data", split="train", cache_dir=str(tmp_path))["text"] == ["a", "b"]
    streamed = datasets.load_dataset("anna/data", split="train", streaming=True)
    assert [row["text"] for row in streamed] == ["a", "b"]


def test_streams_of_a_dataset_are_shared(hub, tmp_path):
    """Parquet, whose sizes stand in its footers, and shards of WebDataset, which readers have as a whole."""
    for number, size in enumerate((3, 6, 4)):
        rows = datasets.Dataset.from_dict({"number": list(range(10 * number, 10 * number + size))})
        rows.to_parquet(tmp_path / f"train-{number}.parquet")
        with tarfile.open(tmp_path / f"train-{number}.tar", "w") as archive:
            for sample in range(10 * number, 10 * number + 2):
                member = tarfile.TarInfo(f"{sample}.cls")
                member.size = 2
                archive.addfile(member, io.BytesIO(b"%02d" % sample))
    for kind, column, sizes in (("parquet", "number", [3, 6, 4]), ("tar", "cls", None)):
        files = {f"data/{file.name}": file.read_bytes() for file in tmp_path.glob(f"*.{kind}")}
        hub.put(f"anna/{kind}", files, kind="dataset")
        stream = Stream(datasets.load_dataset(f"anna/{kind}", split="train", streaming=True), seed=0)
        stream.measure()
        assert stream.sizes == sizes
        shares = [Share(reader, 3) for reader in range(3)]
        whole = [list(stream.read(0, share)) for share in shares]
        found = [[example[column] for example, _ in part] for part in whole]
        assert len({*chain(*found)}) == (12 if sizes else 6) and len(set(map(len, found))) == 1
        (_, position), *rest = whole[1]
        assert list(stream.read(0, shares[1], position)) == rest


def test_transformers_load_from_it(hub, tmp_path):
    from transformers import AutoModel, BertConfig, BertModel

    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(**tiny, vocab_size=20)).push_to_hub(NAME, token="hf_anna")
    code = f"import transformers; print(type(transformers.AutoModel.from_pretrained({NAME!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "BertModel\n", done.stderr
    hub.requests.clear()
    for _ in range(2):
        AutoModel.from_pretrained(NAME, cache_dir=tmp_path)
    assert any(path.endswith("model.safetensors") for _, path, _ in hub.requests)


XET = """
import sys
from huggingface_hub import HfApi, hf_hub_download
api = HfApi(token="hf_anna")
api.create_repo("anna/model")
api.upload_folder(repo_id="anna/model", folder_path=sys.argv[1])
print(hf_hub_download("anna/model", "deep/model.safetensors", cache_dir=sys.argv[2]))
"""


@pytest.mark.skipif(version("hf_xet") != VERSION, reason=f"how files are listed is known of hf_xet {VERSION} alone")
def test_large_files_by_xet(hub, folder, tmp_path):
    """What users have by default; this process has it switched off."""
    hub.xet_folder = str(tmp_path / "xet")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    command = [sys.executable, "-c", XET, str(folder), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == (folder / "deep" / "model.safetensors").read_bytes()
    assert any("xet-write-token" in path for _, path, _ in hub.requests)
    assert not [path for method, path, _ in hub.requests if method == "PUT"]
