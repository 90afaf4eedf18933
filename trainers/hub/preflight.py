"""Checks before publishing, and calls of the Hub that are tried again."""

import shutil
import tempfile
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, get_token, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import logging

from modeling_data2vec.model_files import read_json

from ..errors import first_line

logger = logging.get_logger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try
LONGEST_WAIT = 300.0  # seconds that a server may ask for
NO_ROOM = 507
MEANINGS = {
    401: "the Hub does not know the token any more; run `hf auth login`",
    402: "the Hub asks for payment, as for private storage beyond what is free",
    403: "the token may not write there",
    404: "the repository is gone, was renamed, or the token may not see it",
    409: "someone else keeps writing to the repository",
    413: "a file is larger than the Hub takes",
    422: "the Hub does not accept what a file holds, such as the card's metadata",
    429: "too many requests; wait some minutes",
    NO_ROOM: "the storage of this namespace is used up; delete what is not needed there, or ask for more",
}
Result = TypeVar("Result")


class PublishError(RuntimeError):
    """Something could not be published; nothing on this disk was lost."""


def preflight(repo_id: str, *, token: str | None = None, model_type: str | None = None) -> str:
    """Check that a model can be published under a name; better before a training run than after it.

    Args:
        repo_id: "namespace/name", or a name alone for one's own namespace.
        token: default: the one that `hf auth login` stored, or HF_TOKEN.
        model_type: what is to be published; a repository with another kind of model is not written over.

    Returns:
        The full name.

    Raises:
        PublishError: says what is wrong and what to do.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(
            f"{repo_id!r} can't be a name on the Hub: use NAMESPACE/NAME of letters, digits, '-', '_' and '.' ({error})"
        ) from error
    token = token or get_token()
    if token is None:
        raise PublishError(
            "there is no token to publish with: run `hf auth login`, or set HF_TOKEN, with a token that may write "
            "(made under Settings, Access Tokens)"
        )
    api = HfApi(token=token)
    try:
        user = retried(api.whoami, "the Hub could not be asked whose token this is")
    except HfHubHTTPError as error:
        if error.response.status_code != 401:
            raise PublishError(f"the Hub does not say whose token this is: {explained(error)}") from error
        raise PublishError(
            "the Hub does not know the token: it was revoked or is incomplete. Make a new one and run `hf auth login`"
        ) from error
    role = (user.get("auth") or {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PublishError(
            f"the token of {user['name']} can only read: make one that may write and run `hf auth login`"
        )
    namespaces = [user["name"], *(one["name"] for one in user.get("orgs", []))]
    full_name = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
    if full_name.split("/")[0] not in namespaces:
        raise PublishError(
            f"{user['name']} can't publish as {full_name}: the namespace must be {' or '.join(namespaces)}"
        )
    found = _published_type(api, full_name)
    if model_type is not None and found not in (None, model_type):
        raise PublishError(
            f"{full_name} already holds a model of type {found}, and this is {model_type}: choose another name, or "
            "delete that repository first"
        )
    return full_name


def _published_type(api: HfApi, repo_id: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = hf_hub_download(repo_id, "config.json", token=api.token, local_dir=folder, endpoint=api.endpoint)
            return read_json(path).get("model_type")
        except (RepositoryNotFoundError, RemoteEntryNotFoundError):
            return None
        except (HfHubHTTPError, OSError, ValueError) as error:
            logger.debug(f"{repo_id}: what it holds could not be read ({error})")
            return None


def check_disk(folder: str | Path, needed: int) -> None:
    """Raise a PublishError if the disk of a folder has less than so many bytes."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise PublishError(
            f"{folder} is on a disk with {free / 2**30:.1f} GiB left, but {needed / 2**30:.1f} GiB are needed: free "
            "some space, or choose another folder"
        )


def retried(call: Callable[[], Result], what: str) -> Result:
    """Call a function up to a few times while the fault can pass: a busy or broken server, a cut line, a timeout.

    Raises:
        PublishError: it never worked.
        HfHubHTTPError: the server refuses, and would again.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            if not _passes(error):
                raise
            if wait is None:
                raise PublishError(f"{what}, in {len(WAITS) + 1} tries: {explained(error)}") from error
            wait = max(wait, asked_to_wait(error))
            if wait > LONGEST_WAIT:
                raise PublishError(
                    f"{what} ({first_line(error)}): the Hub asks to wait {wait:,.0f} s. Try again after that time"
                ) from error
            logger.warning(f"{what} ({first_line(error)}); trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def asked_to_wait(error: Exception) -> float:
    """Seconds that a server's Retry-After asks for, a number or a date; 0 if it asks for none."""
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):  # neither, so nothing can be made of it
        return 0.0


def explained(error: Exception) -> str:
    """First line of an error; for a bare HTTP status also what it means and what to do."""
    meaning = MEANINGS.get(getattr(getattr(error, "response", None), "status_code", 0))
    return f"{first_line(error)}: {meaning}" if meaning else first_line(error)


def _passes(error: Exception) -> bool:
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (408, 409, 412, 429) or 500 <= response.status_code != NO_ROOM
    if isinstance(error, LocalEntryNotFoundError):  # the client gave up asking
        return True
    # Faults of the connection are the HTTP client's own errors; mistakes of ours are not.
    return not isinstance(error, ValueError | TypeError | KeyError | AttributeError | FileNotFoundError | PublishError)
