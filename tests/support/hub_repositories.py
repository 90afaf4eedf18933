"""What the Hub on localhost holds: users, repositories, commits and files; and the faults that it is told."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

LARGE = 1_000_000  # bytes from which a file is stored as a large one
LARGE_ENDINGS = (".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".png")
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    """One file's content; of a file that came by Xet, only what names it."""

    data: bytes
    large: bool = False
    xet: tuple[str, str, int] | None = None  # Xet hash, SHA-256, size

    @property
    def size(self) -> int:
        return len(self.data) if self.xet is None else self.xet[2]

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return self.xet[1] if self.xet else hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": self.size, "oid": self.oid}
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return entry


@dataclass
class Commit:
    title: str
    files: dict[str, Blob]
    parent: str | None = None

    @property
    def oid(self) -> str:
        listing = [self.title, str(self.parent), *(f"{path} {blob.oid}" for path, blob in sorted(self.files.items()))]
        return hashlib.sha1("\n".join(listing).encode()).hexdigest()


@dataclass
class Repository:
    name: str
    kind: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add(Commit("initial commit", {}), "main")

    def add(self, commit: Commit, branch: str) -> str:
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def at(self, revision: str) -> str | None:
        """The commit that a branch, a tag or (the beginning of) a commit id names."""
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or next((oid for oid in self.commits if len(revision) > 6 and oid.startswith(revision)), None)


@dataclass
class Fault:
    """What happens to the next requests that match."""

    method: str
    path: re.Pattern[str]
    status: int = 500
    times: int = 1
    hang: float = 0.0
    cut: int | None = None
    after: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class User:
    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers
