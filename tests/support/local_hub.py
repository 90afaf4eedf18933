"""A Hub on localhost, for the genuine clients: repositories, commits, large files, downloads, and faults on demand.

It speaks the part of the Hub's HTTP interface that huggingface_hub, transformers and datasets use, with large files by
plain LFS or by Xet (`xet_files.py`). Everything is kept in memory.

    with LocalHub() as hub:
        hub.fail("POST", r"/commit/", status=500)  # the next commit
        HfApi(endpoint=hub.endpoint, token="hf_anna").create_repo("anna/model")
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from xet_files import xet_hashes

LARGE = 1_000_000  # bytes from which a file is stored as a large one
LARGE_ENDINGS = (".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".png")


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


class LocalHub:
    """The server; `endpoint` is its address.

    Args:
        port: 0 for any that is free.

    Attributes:
        users: by token: "hf_anna" may write (also for the organization "lab"), "hf_rita" may read.
        repositories: by (kind, name).
        requests: (method, path, status) of everything that was asked.
        bodies: what came with them.
    """

    def __init__(self, port: int = 0):
        self.users = {"hf_anna": User("anna", organizations=("lab",)), "hf_rita": User("rita", role="read")}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.bodies: list[bytes] = []
        self.faults: list[Fault] = []
        self.large_files: dict[str, bytes] = {}
        self.xet_folder: str | None = None  # where Xet clients write to, if they may
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Forget everything."""
        self.xet_folder = None
        for kept in (self.repositories, self.requests, self.bodies, self.faults, self.large_files):
            kept.clear()

    def fail(self, method: str, path: str, **what: Any) -> None:
        """Let the next request whose path matches end badly: see `Fault`."""
        self.faults.append(Fault(method, re.compile(path), **what))

    def files(self, name: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """What a repository holds."""
        repository = self.repositories[kind, name]
        return {path: blob.data for path, blob in repository.commits[str(repository.at(revision))].files.items()}

    def put(self, name: str, files: dict[str, bytes], kind: str = "model", **settings: Any) -> Repository:
        """Make a repository without a client, or add files to it."""
        repository = self.repositories.setdefault((kind, name), Repository(name, kind))
        for setting, value in settings.items():
            setattr(repository, setting, value)
        head = repository.branches["main"]
        blobs = {path: Blob(data, large=path.endswith(LARGE_ENDINGS)) for path, data in files.items()}
        repository.add(Commit("put", repository.commits[head].files | blobs, head), "main")
        return repository

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.method == method and fault.path.search(path):
                    if fault.after > 0:
                        fault.after -= 1
                        return None
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    """One request: a method of `ROUTES` answers it with (status, JSON or bytes, headers)."""

    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    # ---- requests and answers ----

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.bodies.append(self.body)
        fault = self.hub.take_fault(self.command, path)
        try:
            if fault is not None and fault.hang:
                time.sleep(fault.hang)
            if fault is not None and fault.cut is None and not fault.hang:
                raise Refused(fault.status, fault.body.get("error", f"fault {fault.status}"), **fault.headers)
            status, content, headers = self._route(path)
        except Refused as refused:
            headers = {"X-Error-Message": refused.message, **refused.headers}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            content = {"error": refused.message} | (fault.body if fault else {})
            status = refused.status
        self.hub.requests.append((self.command, path, status))
        self._send(status, content, headers, fault.cut if fault else None)

    def _route(self, path: str) -> tuple[int, Any, dict[str, str]]:
        for method, pattern, answer in ROUTES:
            if (self.command == method or (self.command == "HEAD" and method == "GET")) and (
                match := re.fullmatch(pattern, path)
            ):
                return answer(self, **match.groupdict())
        raise Refused(404, f"no route for {self.command} {path}")

    def _send(self, status: int, content: Any, headers: dict[str, str], cut: int | None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        if not isinstance(content, bytes):
            headers = {"Content-Type": "application/json"} | headers
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data if cut is None else data[:cut])
            if cut is not None:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True  # the client is gone

    def _json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")

    # ---- who may do what ----

    def _user(self) -> User | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.users:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.users[token]

    def _writer(self, namespace: str) -> User:
        user = self._user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if user.role != "write":
            raise Refused(403, "You have read access but not the required permissions for this operation")
        if namespace not in (user.name, *user.organizations):
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        return user

    def _repository(self, kind: str | None, name: str, *, write: bool = False, content: bool = False) -> Repository:
        kind = {"datasets": "dataset", "spaces": "space"}.get((kind or "models").strip("/"), "model")
        repository = self.hub.repositories.get((kind, name))
        user = self._user()
        owner = user is not None and name.split("/")[0] in (user.name, *user.organizations)
        if repository is None or (repository.private and not owner):
            raise Refused(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self._writer(name.split("/")[0])
        if content and repository.gated and not owner:
            raise Refused(401 if user is None else 403, f"Access to model {name} is restricted", "GatedRepo")
        return repository

    def _commit(self, repository: Repository, revision: str) -> Commit:
        oid = repository.at(revision)
        if oid is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository.commits[oid]

    # ---- repositories ----

    def whoami(self) -> Any:
        user = self._user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        organizations = [{"name": name} for name in user.organizations]
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role}}
        return 200, {"type": "user", "name": user.name, "orgs": organizations, "auth": auth}, {}

    def create(self) -> Any:
        asked = self._json()
        kind = asked.get("type") or "model"
        user = self._user()
        namespace = asked.get("organization") or (user.name if user else "")
        self._writer(namespace)
        name = f"{namespace}/{asked['name']}"
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.hub.repositories:
            return 409, {"error": f"You already created this {kind} repo", "url": url}, {}
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[kind, name] = Repository(name, kind, private=private)
        return 200, {"url": url, "name": name}, {}

    def delete(self) -> Any:
        asked = self._json()
        user = self._user()
        name = f"{asked.get('organization') or (user.name if user else '')}/{asked['name']}"
        kind = asked.get("type") or "model"
        self._repository(f"{kind}s", name, write=True)
        del self.hub.repositories[kind, name]
        return 200, {}, {}

    def move(self) -> Any:
        asked = self._json()
        kind = asked.get("type") or "model"
        repository = self._repository(f"{kind}s", asked["fromRepo"], write=True)
        self._writer(asked["toRepo"].split("/")[0])
        if (kind, asked["toRepo"]) in self.hub.repositories:
            raise Refused(409, "the name is taken")
        del self.hub.repositories[kind, repository.name]
        repository.name = asked["toRepo"]
        self.hub.repositories[kind, repository.name] = repository
        return 200, {}, {}

    def settings(self, kind: str, name: str) -> Any:
        repository = self._repository(kind, name, write=True)
        asked = self._json()
        if "private" in asked or "visibility" in asked:
            repository.private = bool(asked.get("private")) or asked.get("visibility") == "private"
        if "gated" in asked:
            repository.gated = bool(asked["gated"])
        return 200, asked, {}

    def validate_yaml(self) -> Any:
        content = self._json()["content"]
        match = re.match(r"^---\s*\n(.*?)\n---", content, re.DOTALL)
        try:
            values = yaml.safe_load(match[1]) if match else {}
            errors = [] if isinstance(values, dict | None) else [{"message": "metadata must be key: value"}]
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
        return 400 if errors else 200, {"errors": errors, "warnings": []}, {}

    # ---- commits ----

    def preupload(self, kind: str, name: str, revision: str) -> Any:
        repository = self._repository(kind, name, write=True)
        files = self._commit(repository, revision).files
        answer = []
        for asked in self._json()["files"]:
            large = asked["size"] > LARGE or asked["path"].endswith(LARGE_ENDINGS)
            known = files.get(asked["path"])
            answer.append(
                {
                    "path": asked["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": known.etag if known else None,
                }
            )
        return 200, {"files": answer}, {}

    def lfs_batch(self, kind: str | None, name: str) -> Any:
        self._repository(kind, name, write=True)
        objects = []
        for asked in self._json()["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.large_files:
                href = f"{self.hub.endpoint}/lfs/{asked['oid']}"
                answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{self.hub.endpoint}/lfs-verify"}}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def lfs_put(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "content does not match its checksum")
        self.hub.large_files[oid] = self.body
        return 200, {}, {}

    def lfs_verify(self) -> Any:
        if self._json()["oid"] not in self.hub.large_files:
            raise Refused(404, "no such object")
        return 200, {}, {}

    def commit(self, kind: str, name: str, revision: str) -> Any:
        repository = self._repository(kind, name, write=True)
        if revision not in repository.branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = repository.branches[revision]
        files = dict(repository.commits[head].files)
        title = ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, head):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[value["path"]] = self._large_file(value["oid"])
            elif key == "deletedFile":
                files.pop(value["path"], None)
            elif key == "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                files = {path: blob for path, blob in files.items() if not path.startswith(folder)}
        oid = repository.add(Commit(title, files, head), revision)
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"}, {}

    def _large_file(self, oid: str) -> Blob:
        if oid in self.hub.large_files:
            return Blob(self.hub.large_files[oid], large=True)
        if self.hub.xet_folder and oid in (known := xet_hashes(self.hub.xet_folder)):
            name, size = known[oid]
            return Blob(oid.encode(), large=True, xet=(name, oid, size))
        raise Refused(400, f"the large file {oid} was not uploaded")

    def xet_token(self, kind: str, name: str, revision: str, right: str) -> Any:
        """Where Xet clients read and write: a folder."""
        self._repository(kind, name, write=right == "write")
        expires = int(time.time()) + 3600
        address = f"local://{self.hub.xet_folder}"
        headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(expires)}
        return 200, {"casUrl": address, "accessToken": "xet", "exp": expires}, headers

    # ---- branches and tags ----

    def branch(self, kind: str, name: str, branch: str) -> Any:
        repository = self._repository(kind, name, write=True)
        if branch in repository.branches:
            raise Refused(409, f"Reference already exists: {branch}")
        start = self._json().get("startingPoint") or "main"
        repository.branches[branch] = self._commit(repository, start).oid
        return 200, {}, {}

    def tag(self, kind: str, name: str, revision: str) -> Any:
        repository = self._repository(kind, name, write=True)
        tag = self._json()["tag"]
        if tag in repository.tags:
            raise Refused(409, f"Tag already exists: {tag}")
        repository.tags[tag] = self._commit(repository, revision).oid
        return 200, {}, {}

    def delete_reference(self, kind: str, name: str, what: str, reference: str) -> Any:
        repository = self._repository(kind, name, write=True)
        if getattr(repository, {"branch": "branches", "tag": "tags"}[what]).pop(reference, None) is None:
            raise Refused(404, "no such reference", "RevisionNotFound")
        return 200, {}, {}

    def refs(self, kind: str, name: str) -> Any:
        repository = self._repository(kind, name)

        def listed(references: dict[str, str], what: str) -> list[dict[str, str]]:
            return [{"name": key, "ref": f"refs/{what}/{key}", "targetCommit": oid} for key, oid in references.items()]

        return (
            200,
            {"branches": listed(repository.branches, "heads"), "tags": listed(repository.tags, "tags"), "converts": []},
            {},
        )

    def commits(self, kind: str, name: str, revision: str) -> Any:
        repository = self._repository(kind, name)
        oid: str | None = self._commit(repository, revision).oid
        listed = []
        while oid is not None:
            commit = repository.commits[oid]
            listed.append({"id": oid, "title": commit.title, "message": "", "date": DATE, "authors": []})
            oid = commit.parent
        return 200, listed, {}

    # ---- reading ----

    def info(self, kind: str, name: str, revision: str | None = None) -> Any:
        repository = self._repository(kind, name)
        commit = self._commit(repository, revision or "main")
        return (
            200,
            {
                "_id": "1",
                "id": name,
                "modelId": name,
                "author": name.split("/")[0],
                "sha": commit.oid,
                "lastModified": DATE,
                "createdAt": DATE,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            },
            {},
        )

    def tree(self, kind: str, name: str, revision: str, path: str | None = None) -> Any:
        files = self._commit(self._repository(kind, name), revision).files
        inside = f"{path.strip('/')}/" if path else ""
        found = {key: blob for key, blob in files.items() if key.startswith(inside)}
        if inside and not found:
            raise Refused(404, f"{path} does not exist", "EntryNotFound")
        recursive = str(self.query.get("recursive", "")).lower() in ("true", "1")
        entries: list[dict[str, Any]] = []
        folders: set[str] = set()
        for key, blob in sorted(found.items()):
            parts = key[len(inside) :].split("/")
            for depth in range(1, len(parts)) if recursive else range(1, min(len(parts), 2)):
                folders.add(inside + "/".join(parts[:depth]))
            if recursive or len(parts) == 1:
                entries.append(blob.entry(key))
        entries += [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)]
        start, page = int(self.query.get("cursor", 0)), 100
        headers = {}
        if start + page < len(entries):
            query = "&".join(f"{key}={value}" for key, value in (self.query | {"cursor": str(start + page)}).items())
            headers["Link"] = f'<{self.hub.endpoint}{urlsplit(self.path).path}?{query}>; rel="next"'
        return 200, entries[start : start + page], headers

    def paths_info(self, kind: str, name: str, revision: str) -> Any:
        files = self._commit(self._repository(kind, name), revision).files
        try:
            paths = self._json()["paths"]
        except ValueError:
            paths = parse_qs(self.body.decode())["paths"]
        entries = [files[path].entry(path) for path in paths if path in files]
        for path in paths:
            if path not in files and any(key.startswith(f"{path.rstrip('/')}/") for key in files):
                entries.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return 200, entries, {}

    def resolve(self, kind: str | None, name: str, revision: str, path: str) -> Any:
        repository = self._repository(kind, name, content=True)
        commit = self._commit(repository, revision)
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound", **headers)
        blob = commit.files[path]
        if not blob.large:
            return self._bytes(blob.data, headers | {"ETag": f'"{blob.etag}"'})
        if blob.xet is None:
            self.hub.large_files[blob.sha256] = blob.data
        else:
            token = f"{self.hub.endpoint}/api/{kind or 'models'}/{name}/xet-read-token/{revision}"
            headers |= {"X-Xet-Hash": blob.xet[0], "Link": f'<{token}>; rel="xet-auth"'}
        headers |= {
            "X-Linked-Etag": f'"{blob.etag}"',
            "X-Linked-Size": str(blob.size),
            # Another host, as the Hub's storage is: clients follow redirects by themselves within one.
            "Location": f"{self.hub.endpoint.replace('127.0.0.1', 'localhost')}/lfs/{blob.sha256}",
        }
        return 302, b"", headers

    def lfs_get(self, oid: str) -> Any:
        if oid not in self.hub.large_files:
            raise Refused(404, "no such object")
        return self._bytes(self.hub.large_files[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    def _bytes(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Data, or the range of it that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            return 200, data, headers | {"Content-Length": str(len(data))}
        first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            return 416, b"", headers | {"Content-Range": f"bytes */{len(data)}"}
        part = data[first : last + 1]
        headers |= {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Length": str(len(part))}
        return 206, part, headers


DATE = "2026-01-01T00:00:00.000Z"
API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[\w.-]+/[\w.-]+)"
PAGE = r"/(?P<kind>datasets/|spaces/)?(?P<name>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create),
    ("DELETE", "/api/repos/delete", _Handler.delete),
    ("POST", "/api/repos/move", _Handler.move),
    ("PUT", f"{API}/settings", _Handler.settings),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("POST", f"{API}/preupload/{REVISION}", _Handler.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", _Handler.lfs_put),
    ("GET", r"/lfs/(?P<oid>\w+)", _Handler.lfs_get),
    ("POST", "/lfs-verify", _Handler.lfs_verify),
    ("POST", f"{API}/commit/{REVISION}", _Handler.commit),
    ("POST", f"{API}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("POST", f"{API}/tag/{REVISION}", _Handler.tag),
    ("DELETE", f"{API}/(?P<what>branch|tag)/(?P<reference>[^/]+)", _Handler.delete_reference),
    ("GET", f"{API}/xet-(?P<right>read|write)-token/{REVISION}", _Handler.xet_token),
    ("GET", f"{API}/refs", _Handler.refs),
    ("GET", f"{API}/commits/{REVISION}", _Handler.commits),
    ("GET", API, _Handler.info),
    ("GET", f"{API}/revision/{REVISION}", _Handler.info),
    ("GET", f"{API}/tree/{REVISION}(?P<path>/.+)?", _Handler.tree),
    ("POST", f"{API}/paths-info/{REVISION}", _Handler.paths_info),
    ("GET", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)", _Handler.resolve),
]
