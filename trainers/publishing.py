"""Publishing model folders on the Hub: what is sent, and the card, here and there."""

import fnmatch
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, hf_hub_download, save_torch_state_dict
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging

import modeling_data2vec
from modeling_data2vec.auto import MODELS, TASKS

from .model_card import outside_of_marks, write_card
from .one_line import first_line
from .option_checks import require_license
from .preflight import PublishError, check_disk, preflight, retried
from .provenance import Provenance
from .writing import write_text

logger = logging.get_logger(__name__)

# Everything else stays at home: pickles above all, and what only this machine needs.
PUBLISHED = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "README.md", "LICENSE*", "provenance.json", "probe*.json", "*.png"),
)
PARTS = ("audio", "text", "vision")  # sub-folders of a joint model, with the processor of each modality
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
WITH_TEACHER = ("fairseq.json", "fairseq.safetensors")  # what makes a converted file whole again
CARD_STATE = ".card-pushed"  # a hash of what a person had written when the card was last pushed


@dataclass
class PushOptions:
    """Options of `data2vec push`, beside folder and repository."""

    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    revision: str | None = field(default=None, metadata={"help": "Branch; made if there is none. Default: main."})
    with_teacher: bool = field(
        default=False, metadata={"help": "Also publish the teacher, with which pretraining goes on as it was."}
    )
    with_code: bool = field(
        default=False, metadata={"help": "Also publish the modules, for trust_remote_code=True without this package."}
    )
    license: str | None = field(default=None, metadata={"help": "Licence of the weights, as the Hub spells it."})
    message: str = field(default="Upload model", metadata={"help": "Commit message."})

    def __post_init__(self) -> None:
        require_license(self)


# ---- publishing ----


def publish(folder: str | Path, repo_id: str, options: PushOptions | None = None, *, token: str | None = None) -> str:
    """Publish a model folder; returns the address of the commit.

    Weights go as safetensors, without the teacher unless asked for; pickles and checkpoints never go. The card is
    renewed, here and there, and what people wrote into it, on either side, stays.

    Raises:
        PublishError: says what went wrong. The folder is as it was; a new try sends only what has not arrived.
    """
    folder, options = Path(folder), options or PushOptions()
    config = _config(folder)
    repo_id = preflight(repo_id, token=token, model_type=config.get("model_type"))
    if options.license is not None:
        provenance = Provenance.load(folder)
        provenance.license = options.license
        provenance.save(folder)
    check_disk(tempfile.gettempdir(), sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    create_repository(repo_id, token=token, private=options.private, revision=options.revision)
    renew_card(folder, repo_id, token=token, revision=options.revision)
    with tempfile.TemporaryDirectory(prefix="data2vec-push-") as staging:
        try:
            prepare(folder, Path(staging), with_teacher=options.with_teacher, with_code=options.with_code)
        except OSError as error:
            raise PublishError(
                f"{folder} was not published: it could not be copied to {staging} ({error}). Free some space, or set "
                "TMPDIR to another disk"
            ) from error
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
                f"the Hub refuses to make {name}: {first_line(error)} Does the token have the right to write there?"
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
            delete_patterns=list(WEIGHTS),  # of an earlier push, in another number of files
        )
        return str(commit.commit_url)

    try:
        return retried(send, f"{repo_id} could not be written to")
    except (PublishError, HfHubHTTPError, ValueError) as error:
        raise PublishError(
            f"{source} was not published: {first_line(error)}. It is complete on this disk: "
            f"`data2vec push {source} {repo_id}` tries again, and large files that have arrived are not sent twice"
        ) from error


def prepare(folder: Path, staging: Path, *, with_teacher: bool = False, with_code: bool = False) -> None:
    """Copy what is to be published: see `PUBLISHED`.

    Raises:
        PublishError: the folder has no safetensors.
    """
    staging.mkdir(parents=True, exist_ok=True)
    patterns = PUBLISHED + (WITH_TEACHER if with_teacher else ())
    for file in (*folder.iterdir(), *(file for part in PARTS for file in (folder / part).glob("*"))):
        if file.is_file() and any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns):
            target = staging / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    weights = weight_files(folder)
    if with_teacher:
        for file in folder.iterdir():
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in WEIGHTS):
                shutil.copy(file, staging / file.name)
    else:
        state = {name: value for file in weights for name, value in load_file(file).items()}
        kept = {name: value for name, value in state.items() if not name.startswith("teacher.")}
        save_torch_state_dict(kept, staging, max_shard_size="5GB", metadata={"format": "pt"})
    if with_code:
        _add_code(folder, staging)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a model: one file, or those that an index lists.

    Raises:
        PublishError: there are none, or some are missing.
    """
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    names = [SAFE_WEIGHTS_NAME]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        pickles = [file.name for file in folder.glob("*.bin")]
        hint = f", only {', '.join(pickles)}, which is a pickle" if pickles else ""
        raise PublishError(
            f"{folder} has no {', '.join(missing)}{hint}: save the model with save_pretrained, which writes safetensors"
        )
    return [folder / name for name in names]


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise PublishError(f"{folder} has no readable config.json, so it is no model folder ({error})") from error


def _add_code(folder: Path, staging: Path) -> None:
    """The package's flat modules, as far as the model needs them, and their names in the config."""
    config = _config(staging)
    package = Path(str(modeling_data2vec.__file__)).parent
    found = next((three for three in MODELS if three[0].model_type == config.get("model_type")), None)
    if found is None:
        raise PublishError(
            f"{folder} holds a model of type {config.get('model_type')}, which plain transformers loads: leave out "
            "--with_code"
        )
    config_class, model, pretraining_model = found
    classes = {"AutoConfig": config_class, "AutoModel": model, "AutoModelForPreTraining": pretraining_model}
    classes |= {auto.__name__: task for auto, task in TASKS if task.config_class is config_class}
    config["auto_map"] = {auto: f"{one.__module__.rpartition('.')[2]}.{one.__name__}" for auto, one in classes.items()}
    (staging / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    entries = {package / f"{one.__module__.rpartition('.')[2]}.py" for one in classes.values()}
    needed = {Path(file) for entry in entries for file in get_relative_import_files(entry)}
    for file in entries | needed:
        shutil.copy(file, staging / file.name)


# ---- the card, here and there ----


def renew_card(folder: Path, repo_id: str, *, token: str | None, revision: str | None) -> None:
    """Write a folder's card anew, with what people have written into it here or on the Hub.

    Raises:
        PublishError: both have changed since the last push.
    """
    local = folder / "README.md"
    remote = retried(lambda: _remote_card(repo_id, token, revision), f"the card of {repo_id} could not be read")
    if remote is not None:
        if not local.exists():
            write_text(local, remote)
        else:
            here, there = outside_of_marks(local.read_text(encoding="utf-8")), outside_of_marks(remote)
            last = (folder / CARD_STATE).read_text() if (folder / CARD_STATE).exists() else None
            if here != there and _hash(there) != last:
                if last is not None and _hash(here) != last:
                    raise PublishError(
                        f"people have changed both {local} and the card of {repo_id} since the last push: copy what "
                        "is to stay from one to the other, so that they agree, and push again"
                    )
                write_text(local, remote)
    write_card(folder, repo_id)


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
        text = Path(path).read_text(encoding="utf-8")
    ModelCard(text)  # metadata that can't be read are an error now, and not after the upload
    return text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
