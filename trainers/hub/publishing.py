"""Publishing model folders on the Hub: sending what `outgoing.py` prepares, and the card, here and there."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers.utils import logging

from ..files.writing import write_text
from .eval_results import FILES as EVAL_RESULTS
from .model_card import CARD_LOCK, check_card, outside_of_marks, write_card
from .options import PushOptions
from .outgoing import WEIGHTS, check_outgoing, model_config, prepare
from .preflight import PublishError, check_disk, explained, preflight, retried
from .provenance import Provenance

logger = logging.get_logger(__name__)

CARD_STATE = ".card-pushed"  # a hash of what a person had written when the card was last pushed


# ---- publishing ----


def publish(folder: str | Path, repo_id: str, options: PushOptions | None = None, *, token: str | None = None) -> str:
    """Publish a model folder; returns the address of the commit.

    Weights go as safetensors, without the teacher unless asked for; pickles and checkpoints never go. The card is
    renewed, here and there, and what people wrote into it, on either side, stays.

    Raises:
        PublishError: says what went wrong. The folder is as it was; a new try sends only what has not arrived.
        ValueError: the folder can't be published as it is; nothing was asked of the Hub.
    """
    folder, options = Path(folder), options or PushOptions()
    check_outgoing(folder, with_teacher=options.with_teacher)
    repo_id = preflight(repo_id, token=token, model_type=model_config(folder).get("model_type"))
    if options.license is not None:
        provenance = Provenance.load(folder)
        provenance.license = options.license
        provenance.save(folder)
    check_disk(tempfile.gettempdir(), sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    create_repository(repo_id, token=token, private=options.private, revision=options.revision)
    with tempfile.TemporaryDirectory(prefix="data2vec-push-") as staging:
        try:
            prepare(folder, Path(staging), with_teacher=options.with_teacher, with_code=options.with_code)
        except OSError as error:
            raise PublishError(
                f"{folder} was not published: it could not be copied to {staging} ({error}). Free some space, or set "
                "TMPDIR to another disk"
            ) from error
        renew_card(folder, repo_id, staging=Path(staging), token=token, revision=options.revision)
        address = upload(
            Path(staging), repo_id, token=token, revision=options.revision, message=options.message, source=folder
        )
    card_was_pushed(folder)
    return address


def create_repository(repo_id: str, *, token: str | None, private: bool | None, revision: str | None = None) -> None:
    """Make a repository, and a branch, where there is none."""
    api = HfApi(token=token)
    calls: list[tuple[str, Callable[[], Any]]] = [
        (repo_id, lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
    ]
    if revision is not None:
        name = f"the branch {revision} of {repo_id}"
        calls.append((name, lambda: api.create_branch(repo_id, branch=str(revision), exist_ok=True)))
    for name, call in calls:
        try:
            retried(call, f"{name} could not be created")
        except HfHubHTTPError as error:
            raise PublishError(
                f"the Hub refuses to make {name}: {explained(error)} Does the token have the right to write there?"
            ) from error


def upload(
    staging: Path,
    repo_id: str,
    *,
    token: str | None,
    revision: str | None,
    message: str,
    source: Path,
    path_in_repo: str | None = None,
) -> str:
    """Send a prepared folder in one commit; returns the commit's address."""
    api = HfApi(token=token)

    def send() -> str:
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=staging,
            path_in_repo=path_in_repo,
            revision=revision,
            commit_message=message,
            delete_patterns=[*WEIGHTS, EVAL_RESULTS],  # of an earlier push, in another number of files
        )
        return str(commit.commit_url)

    try:
        return retried(send, f"{repo_id} could not be written to")
    except (PublishError, HfHubHTTPError, ValueError) as error:
        raise PublishError(
            f"{source} was not published: {explained(error)}. It is complete on this disk: "
            f"`data2vec push {source} {repo_id}` tries again, and large files that have arrived are not sent twice"
        ) from error


# ---- the card, here and there ----


def renew_card(folder: Path, repo_id: str, *, staging: Path, token: str | None, revision: str | None) -> None:
    """Write a folder's card anew, with what people have written into it here or on the Hub.

    Args:
        folder: holds the card and what it is made of.
        repo_id: where it goes, which its code loads the model by.
        staging: what goes there, perhaps with code; the card is copied to it.
        token, revision: of the repository.

    Raises:
        PublishError: both have changed since the last push.
    """
    local = folder / "README.md"
    remote = retried(lambda: _remote_card(repo_id, token, revision), f"the card of {repo_id} could not be read")
    with CARD_LOCK:
        if remote is not None:
            _take_over(local, remote, repo_id)
        write_card(folder, repo_id, with_code="auto_map" in model_config(staging))
        shutil.copy(local, staging)


def _take_over(local: Path, remote: str, repo_id: str) -> None:
    """Put a card of the Hub in the place of the local one where people have changed it there alone."""
    if not local.exists():
        write_text(local, remote)
        return
    here, there = outside_of_marks(local.read_text(encoding="utf-8")), outside_of_marks(remote)
    state = local.with_name(CARD_STATE)
    last = state.read_text() if state.exists() else None
    if here == there or _hash(there) == last:
        return
    if last is not None and _hash(here) != last:
        raise PublishError(
            f"people have changed both {local} and the card of {repo_id} since the last push: copy what is to stay "
            "from one to the other, so that they agree, and push again"
        )
    write_text(local, remote)


def card_was_pushed(folder: Path) -> None:
    """Remember what a person had written into the card when it was pushed."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    write_text(folder / CARD_STATE, _hash(outside_of_marks(text)))


def _remote_card(repo_id: str, token: str | None, revision: str | None) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = hf_hub_download(repo_id, "README.md", token=token, revision=revision, local_dir=folder)
        except (RepositoryNotFoundError, RemoteEntryNotFoundError):
            return None
        check_card(Path(path))  # now, and not after the upload
        return Path(path).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
