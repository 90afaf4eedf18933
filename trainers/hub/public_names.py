"""Public names of models and data, without paths, user and host names of the machine that they were made on."""

import getpass
import json
import os
import re
import socket
import tempfile
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from modeling_data2vec.model_files import read_json

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
OF_MODALITY = re.compile(r"(?:^| )(?=(?:audio|spectrogram|text|vision)=)")
ABSOLUTE = re.compile(r"([/~]|[A-Za-z]:[\\/]|\\\\)[^\n]*")
# Keys of any JSON file that hold where something was loaded from or saved to.
PLACES = ("_name_or_path", "name_or_path", "base_model_name_or_path", "best_model_checkpoint", "resume_from_checkpoint")
# Files that are vocabularies, where a text that looks like a path is a token.
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
ALL_PATHS = ("fairseq.json",)  # files with the options of a run, which name many places, also of other machines


def public_name(name: str) -> str:
    """The public name of a model or data set: a Hub id stays, of a path only the last part is kept.

    Example:
        >>> public_name("/home/ann/speech/clips"), public_name("facebook/data2vec-audio-base"), public_name("digits")
        ('clips', 'facebook/data2vec-audio-base', 'digits')
        >>> public_name("https://ann:secret@example.org/a.csv?key=1")
        'https://example.org/a.csv'
    """
    if "://" in name:
        address = urlsplit(name)
        host = address.hostname or ""
        return f"{address.scheme}://{host}{f':{address.port}' if address.port else ''}{address.path}"
    local = _exists(name)
    if not local and (("/" not in name and "\\" not in name) or HUB_ID.fullmatch(name)) and name not in (".", ".."):
        return name
    path = Path(name).expanduser()
    last = PureWindowsPath(str(path.resolve() if local else path)).name  # which takes both separators
    return "a local folder" if last in ("", "..", *_private_names()) else last


def public_data(text: str) -> str:
    """The public names of one data set, or of several, each with its modality.

    Example:
        >>> public_data("audio=/home/ann/my clips text=corpora/english/all.txt")
        'audio=my clips text=all.txt'
    """
    parts = []
    for part in filter(None, OF_MODALITY.split(text)):
        modality, equals, name = part.partition("=") if OF_MODALITY.match(part) else ("", "", part)
        parts.append(modality + equals + public_name(name))
    return " ".join(parts)


def without_places(value: Any, *, all_paths: bool = False) -> Any:
    """A value of JSON in which no text is a path: what lies in this home, working or temporary folder, and what
    `PLACES` hold.

    Args:
        value: of any kind.
        all_paths: also take paths of other machines for paths, which elsewhere may be labels ("/m/0dgw9r").
    """
    if isinstance(value, dict):
        return {
            key: public_name(item)
            if key in PLACES and isinstance(item, str) and item
            else without_places(item, all_paths=all_paths)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_places(item, all_paths=all_paths) for item in value]
    if not isinstance(value, str) or not ABSOLUTE.fullmatch(value):
        return value
    inside = any(value == place or value.startswith(f"{place}/") for place in _private_places())
    is_path = inside or (all_paths and len(re.split(r"[/\\]+", value.strip("/"))) > 1)
    return public_name(value) if is_path else value


def make_public(folder: Path) -> None:
    """Take the names of places out of all JSON files of a folder that is to be published."""
    for path in folder.rglob("*.json"):
        if path.name in VOCABULARIES:
            continue
        found = read_json(path, dict | list)
        public = without_places(found, all_paths=path.name in ALL_PATHS)
        if public != found:
            path.write_text(json.dumps(public, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, with NUL, of an unknown user
        return False


def _private_places() -> list[str]:
    places = {Path(os.path.expanduser("~")), Path.cwd(), Path(tempfile.gettempdir())}
    return sorted({str(place) for one in places for place in (one, one.resolve())} - {"/"})


def _private_names() -> set[str]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # of a container without users
        user = ""
    return {Path(os.path.expanduser("~")).name, user, socket.gethostname()} - {""}
