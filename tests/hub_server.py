"""A Hugging Face Hub on localhost: the genuine clients talk to it over HTTP, unpatched.

Repositories live in memory, large files in a folder of blobs. Set `HF_ENDPOINT` to `hub.endpoint` before the client is
first imported, or hand the endpoint to `HfApi`:

    with HubServer(tmp_path) as hub:
        HfApi(endpoint=hub.endpoint, token="hf_writer").create_repo("anna/tiny")
        assert ".gitattributes" in hub.files("anna/tiny")
"""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".h5", ".npy", ".npz", ".parquet", ".pt", ".pth", ".safetensors", ".zip")
LFS_SIZE = 10 << 20  # larger files are LFS files, whatever their name
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
NEVER = 4102444800  # seconds since 1970: the expiry of Xet tokens

ID = r"(?P<id>[\w.-]+(?:/[\w.-]+)?)"
REPO = rf"/api/(?P<type>model|dataset|space)s/{ID}"
PAGE = rf"/(?:(?P<type>dataset|space)s/)?{ID}"
REV = r"(?P<rev>[^/]+)"


@dataclass(frozen=True)
class User:
    """The owner of a token, its role ("write" or "read") and the organizations the user belongs to."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file of a commit: a regular one holds its bytes, an LFS file its sha256 and, in Xet mode, its Xet hash."""

    size: int
    data: bytes | None = None
    sha256: str | None = None
    xet: str | None = None

    @property
    def oid(self) -> str:
        """The git object's name; that of an LFS file is its pointer's."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        data = self.data if self.data is not None else pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A snapshot of all files, with the name of the commit before it."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    """A repository: its commits by name, and what its branches and tags point to."""

    type: str
    id: str
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The path of the repository's page, without the leading slash."""
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag, or a commit's name of seven digits or more."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and re.fullmatch("[0-9a-f]{7,40}", revision):
            oid = next((name for name in self.commits if name.startswith(revision)), None)
        if oid is None:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def add_commit(self, branch: str, files: dict[str, File], title: str, message: str, author: str) -> Commit:
        """Put a commit on top of the branch."""
        parent = self.branches.get(branch)
        key = [parent, len(self.commits), title, sorted((path, file.oid) for path, file in files.items())]
        oid = hashlib.sha1(json.dumps([self.type, self.id, *key]).encode()).hexdigest()
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.commits[oid] = Commit(oid, parent, title, message, author, date, files)
        self.branches[branch] = oid
        return self.commits[oid]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match, after the first `skip` of them."""

    method: str
    path: re.Pattern[str]
    status: int
    times: int
    hang: float | None
    cut_after: int | None
    message: str
    headers: dict[str, str]
    skip: int


class HubError(Exception):
    """An answer with an error status; the client chooses its exception by the code."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Request:
    """A request as a route sees it; `args` are the route's named groups without their percent signs."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    args: dict[str, str]

    def json(self) -> Any:
        """The body's JSON."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, f"The body is not JSON: {error}") from None


@dataclass
class Reply:
    """An answer: JSON, bytes, or a file on disk."""

    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Route = Callable[["HubServer", Request], Reply]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    """Enter a method of `HubServer` into the table; the first match in the order of the source is taken."""

    def enter(function: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return enter


class HubServer:
    """The server and its state; a context manager that listens on a free port.

    Large files come from and go to `storage`, a second port: to the clients another origin, which must not see tokens.
    `requests` holds (method, path, status) of every request, status 0 where the connection was cut before an answer.
    Set `part_size` (bytes) to make the clients send larger LFS files in parts, `page_size` to make listings longer
    than that come in pages.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.blobs, self.cas = self.folder / "blobs", self.folder / "xet"
        self.requests: list[tuple[str, str, int]] = []
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moved: dict[tuple[str, str], str] = {}
        self.faults: list[Fault] = []
        self.tokens = {"hf_writer": User("anna", "write", ("lab",)), "hf_reader": User("rita", "read")}
        self.part_size = 64 << 20
        self.page_size = 1000
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        self.servers: list[ThreadingHTTPServer] = []
        self.endpoint = self.storage = ""

    def __enter__(self) -> "HubServer":
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.cas.mkdir(exist_ok=True)
        handler = type("Handler", (_Handler,), {"hub": self})
        for _ in range(2):
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads, server.block_on_close = True, False
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            self.servers.append(server)
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()
        for connection in list(self.connections):  # kept alive by a client's pool: a stopped Hub answers nobody
            _hang_up(connection)

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """All files of a revision, path -> content."""
        return {path: self._content(file) for path, file in self.repos[repo_type, repo_id].at(revision).files.items()}

    def set_private(self, repo_id: str, private: bool = True, repo_type: str = "model") -> None:
        """Hide the repository from everybody but its namespace, or show it again."""
        self.repos[repo_type, repo_id].private = private

    def set_gated(
        self, repo_id: str, gated: str | bool = "auto", repo_type: str = "model", granted: tuple[str, ...] = ()
    ) -> None:
        """Keep the files from all users but the namespace's and those in `granted`; False opens the gate."""
        repo = self.repos[repo_type, repo_id]
        repo.gated, repo.granted = gated, set(granted)

    def fail(
        self,
        method: str,
        path: str,
        status: int = 500,
        times: int = 1,
        *,
        hang: float | None = None,
        cut_after: int | None = None,
        stale_parent: bool = False,
        message: str = "Internal Error",
        headers: dict[str, str] | None = None,
        skip: int = 0,
    ) -> Fault:
        """Spoil the next `times` requests of that method whose path matches the regular expression.

        Without further arguments they get `status`. `hang` waits that many seconds and then answers as usual;
        `cut_after` ends the connection after that many bytes of a PUT's body, or of the answer's body for any other
        method (the request has then been carried out); `stale_parent` is the 412 of a commit onto a moved branch.
        """
        if stale_parent:
            status, message = 412, "A commit has happened since. Please refresh and try again."
        fault = Fault(method, re.compile(path), status, times, hang, cut_after, message, headers or {}, skip)
        with self.lock:
            self.faults.append(fault)
        return fault

    def _fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counted."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path.search(path):
                    if fault.skip == 0:
                        fault.times -= 1
                        return fault
                    fault.skip -= 1
        return None

    def _answer(self, request: Request) -> Reply:
        """What the first route that matches says; errors are answers too."""
        for method, pattern, function in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == ("GET" if request.method == "HEAD" else request.method):
                request.args = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                try:
                    with self.lock:
                        return function(self, request)
                except HubError as error:
                    return Reply({"error": str(error)}, error.status, error.headers)
        return Reply({"error": "Not Found"}, 404)

    # Who may do what

    def _user(self, request: Request) -> User | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind and token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens.get(token)

    def _writer(self, request: Request) -> User:
        user = self._user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user.role != "write":
            raise HubError(403, "you must use a write token to upload to a repository.")
        return user

    def _repo(self, request: Request, *, write: bool = False, files: bool = False) -> Repo:
        """The repository in the path, if this token may write to it, read about it, or read its files."""
        kind, name = request.args.get("type", "model"), request.args["id"]
        user = self._user(request)
        if write and user is None:
            raise HubError(401, "Invalid username or password.")
        if (kind, name) in self.moved:
            location = request.path.replace(name, self.moved[kind, name], 1)
            raise HubError(307, f"Moved to {location}", Location=location)
        repo = self.repos.get((kind, name))
        member = user is not None and name.split("/")[0] in (user.name, *user.orgs)
        if repo is None or (repo.private and not member):
            # A public Hub doesn't tell strangers whether the repository exists; the client recognises a bare 401 as
            # such an answer on https addresses only, so the code says it here.
            message = "Repository not found" if user else "Invalid username or password."
            raise HubError(404 if user else 401, message, code="RepoNotFound")
        if write:
            self._writer(request)
            if not member:
                raise HubError(403, f"You don't have the rights to write to {name}")
        if files and repo.gated and not member and not (user and user.name in repo.granted):
            message = f"Access to {kind} {name} is restricted and you are not in the authorized list."
            raise HubError(403 if user else 401, message, code="GatedRepo")
        return repo

    def _namespace(self, request: Request, namespace: str | None) -> str:
        """The namespace to create a repository in, the user's own by default."""
        user = self._writer(request)
        if namespace not in (None, user.name, *user.orgs):
            raise HubError(403, f'You don\'t have the rights to create a repository under the namespace "{namespace}"')
        return namespace or user.name

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Reply:
        """The token's owner."""
        user = self._user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": user.role} for name in user.orgs]
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": user.role}}
        return Reply({"type": "user", "name": user.name, "fullname": user.name, "orgs": orgs, "auth": auth})

    # Repositories

    @route("POST", "/api/repos/create")
    def create(self, request: Request) -> Reply:
        """A repository with .gitattributes on its branch main."""
        body = request.json()
        kind, name = body.get("type") or "model", f"{self._namespace(request, body['organization'])}/{body['name']}"
        repo = Repo(kind, name, private=body.get("visibility") == "private" or body.get("private") is True)
        reply = Reply({"url": f"{self.endpoint}/{repo.path}", "name": name})
        if (kind, name) in self.repos:
            reply.content["error"], reply.status = f"You already created this {kind} repo: {name}", 409
        else:
            files = {".gitattributes": File(len(GITATTRIBUTES), GITATTRIBUTES)}
            repo.add_commit("main", files, "initial commit", "", name.split("/")[0])
            self.repos[kind, name] = repo
            self.moved.pop((kind, name), None)
        return reply

    @route("DELETE", "/api/repos/delete")
    def delete(self, request: Request) -> Reply:
        """Forget the repository; its blobs stay."""
        body = request.json()
        owner = body.get("organization") or self._writer(request).name
        request.args = {"type": body.get("type") or "model", "id": f"{owner}/{body['name']}"}
        repo = self._repo(request, write=True)
        del self.repos[repo.type, repo.id]
        return Reply({})

    @route("POST", "/api/repos/move")
    def move(self, request: Request) -> Reply:
        """Rename; the old name redirects."""
        body = request.json()
        request.args = {"type": body["type"], "id": body["fromRepo"]}
        repo = self._repo(request, write=True)
        self._namespace(request, body["toRepo"].split("/")[0])
        if (repo.type, body["toRepo"]) in self.repos:
            raise HubError(409, f"{body['toRepo']} exists")
        self.moved[repo.type, repo.id] = body["toRepo"]
        self.repos[repo.type, body["toRepo"]] = self.repos.pop((repo.type, repo.id))
        repo.id = body["toRepo"]
        return Reply({})

    @route("PUT", f"{REPO}/settings")
    def settings(self, request: Request) -> Reply:
        """Visibility and gate."""
        repo, body = self._repo(request, write=True), request.json()
        repo.private = body.get("visibility", "private" if repo.private else "public") == "private"
        repo.gated = body.get("gated", repo.gated)
        return Reply({"private": repo.private, "gated": repo.gated})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Reply:
        """A README's metadata, judged line by line: `key: value`, list items, indented lines and comments pass."""
        block = re.match(r"---\r?\n(.*?)^---", request.json()["content"], re.DOTALL | re.MULTILINE)
        if block is None:
            warning = {"message": "empty or missing yaml metadata in repo card"}
            return Reply({"errors": [], "warnings": [warning]})
        good = re.compile(r"[^:\s\[{][^:]*:(\s|$)|-(\s|$)|\s+\S|#|$")
        bad = [line for line in block[1].splitlines() if not good.match(line)]
        errors = [{"message": f"not YAML: {line}"} for line in bad]
        return Reply({"errors": errors, "warnings": []}, 400 if errors else 200)

    # Uploads

    @route("POST", f"{REPO}/preupload/{REV}")
    def preupload(self, request: Request) -> Reply:
        """For each file: LFS or regular, and what is there already."""
        files, answer = self._repo(request, write=True).at(request.args["rev"]).files, []
        for item in request.json()["files"]:
            mode = "lfs" if item["path"].endswith(LFS_SUFFIXES) or item["size"] > LFS_SIZE else "regular"
            old = files.get(item["path"])
            oid = old and (old.sha256 or old.oid)
            answer.append({"path": item["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return Reply({"files": answer})

    @route("POST", rf"{PAGE}\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request) -> Reply:
        """Where to send each object that is not there yet."""
        self._repo(request, write=True)
        objects = []
        for item in request.json()["objects"]:
            oid, answer = item["oid"], {"oid": item["oid"], "size": item["size"]}
            if not (self.blobs / oid).exists():
                upload: dict[str, Any] = {"href": f"{self.storage}/lfs/{oid}"}
                if item["size"] > self.part_size:
                    count = -(-item["size"] // self.part_size)
                    parts = {str(n): f"{self.storage}/lfs/{oid}/part/{n}" for n in range(1, count + 1)}
                    header = {"chunk_size": str(self.part_size), **parts}
                    upload = {"href": f"{self.endpoint}/lfs/{oid}/complete", "header": header}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.endpoint}/lfs/{oid}/verify"}}
            objects.append(answer)
        return Reply({"transfer": "basic", "objects": objects})

    @route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, request: Request) -> Reply:
        """An object's bytes."""
        return self._store(request.args["oid"], request.body)

    @route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})/part/(?P<part>[0-9]+)")
    def lfs_put_part(self, request: Request) -> Reply:
        """One part of an object."""
        (self.blobs / f"{request.args['oid']}.{request.args['part']}").write_bytes(request.body)
        return Reply({}, headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    @route("POST", "/lfs/(?P<oid>[0-9a-f]{64})/complete")
    def lfs_complete(self, request: Request) -> Reply:
        """Join the parts."""
        data, oid = b"", request.args["oid"]
        for part in request.json()["parts"]:
            path = self.blobs / f"{oid}.{part['partNumber']}"
            piece = path.read_bytes() if path.exists() else b""
            if part["etag"].strip('"') != hashlib.md5(piece).hexdigest():
                raise HubError(400, f"Part {part['partNumber']} is not what was sent")
            data += piece
        return self._store(oid, data)

    @route("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify")
    def lfs_verify(self, request: Request) -> Reply:
        """Whether the object is there and whole."""
        path = self.blobs / request.args["oid"]
        if not path.exists() or path.stat().st_size != request.json()["size"]:
            raise HubError(404, "The object is not there")
        return Reply({})

    def _store(self, oid: str, data: bytes) -> Reply:
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, "The content doesn't have the sha256 that was announced")
        (self.blobs / oid).write_bytes(data)
        return Reply({})

    def _content(self, file: File) -> bytes:
        return file.data if file.data is not None else (self.blobs / str(file.sha256)).read_bytes()

    @route("POST", f"{REPO}/commit/{REV}")
    def commit(self, request: Request) -> Reply:
        """Apply the operations, one JSON line each, on top of a branch."""
        repo, branch = self._repo(request, write=True), request.args["rev"]
        head = repo.at(branch)
        if branch not in repo.branches:
            raise HubError(400, f"{branch} is no branch: a commit goes on top of one")
        files, header = dict(head.files), {}
        for line in request.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            path = value.get("path", "")
            if path.startswith("/") or {".", "..", ".git"} & set(path.split("/")):
                raise HubError(400, f"Invalid path: {path}")
            if key == "header":
                header = value
            elif key == "file":
                data = base64.b64decode(value["content"])
                files[path] = File(len(data), data)
            elif key == "lfsFile":
                files[path] = self._lfs_file(value["oid"])
            elif key == "deletedFile" and path in files:
                del files[path]
            elif key == "deletedFolder" and any(name.startswith(path.rstrip("/") + "/") for name in files):
                files = {name: file for name, file in files.items() if not name.startswith(path.rstrip("/") + "/")}
            else:
                raise HubError(404, f"A file with this name doesn't exist: {path}", code="EntryNotFound")
        if header.get("parentCommit", head.oid) != head.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        author = self._writer(request).name
        new = repo.add_commit(branch, files, header.get("summary", ""), header.get("description", ""), author)
        url = f"{self.endpoint}/{repo.path}/commit/{new.oid}"
        return Reply({"success": True, "commitOid": new.oid, "commitUrl": url})

    def _lfs_file(self, sha256: str) -> File:
        """An LFS file that has been uploaded, either way."""
        path, xet = self.blobs / sha256, dict(xet_files(self.cas)).get(sha256)
        if xet and not path.exists():
            xet_download(self.cas, *xet, path)
        if not path.exists():
            raise HubError(400, f"The LFS object {sha256} has not been uploaded")
        return File(path.stat().st_size, sha256=sha256, xet=xet[0] if xet else None)

    @route("GET", f"{REPO}/xet-(?:write|read)-token/{REV}")
    def xet_token(self, request: Request) -> Reply:
        """A folder on this computer as the content-addressed store."""
        self._repo(request, write="write-token" in request.path, files=True)
        url, token = f"local://{self.cas}", "xet"
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(NEVER)}
        return Reply({"casUrl": url, "accessToken": token, "exp": NEVER}, headers=headers)

    # Branches, tags, history

    @route("POST", f"{REPO}/(?P<kind>branch|tag)/{REV}")
    def create_ref(self, request: Request) -> Reply:
        """A branch of that name from `startingPoint`, or a tag named in the body at that revision."""
        repo, body, rev = self._repo(request, write=True), request.json(), request.args["rev"]
        if request.args["kind"] == "branch":
            refs, name, start = repo.branches, rev, body.get("startingPoint") or "main"
        else:
            refs, name, start = repo.tags, body["tag"], rev
        oid = repo.at(start).oid
        if name in refs:
            raise HubError(409, f"Reference already exists: {name}")
        refs[name] = oid
        return Reply({})

    @route("DELETE", f"{REPO}/(?P<kind>branch|tag)/{REV}")
    def delete_ref(self, request: Request) -> Reply:
        """Drop a branch other than main, or a tag."""
        repo, name = self._repo(request, write=True), request.args["rev"]
        refs = repo.branches if request.args["kind"] == "branch" else repo.tags
        if refs is repo.branches and name == "main":
            raise HubError(403, "Cannot delete the branch main")
        if refs.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: {name}", code="RevisionNotFound")
        return Reply({})

    @route("GET", f"{REPO}/refs")
    def refs(self, request: Request) -> Reply:
        """All branches and tags."""
        repo, answer = self._repo(request), {"converts": [], "pullRequests": []}
        for kind, place, refs in (("branches", "heads", repo.branches), ("tags", "tags", repo.tags)):
            answer[kind] = [{"name": n, "ref": f"refs/{place}/{n}", "targetCommit": oid} for n, oid in refs.items()]
        return Reply(answer)

    @route("GET", f"{REPO}/commits/{REV}")
    def commits(self, request: Request) -> Reply:
        """The history, newest first."""
        repo, found = self._repo(request), []
        commit: Commit | None = repo.at(request.args["rev"])
        while commit is not None:
            item = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": commit.date}
            found.append(item | {"authors": [{"user": commit.author}]})
            commit = repo.commits[commit.parent] if commit.parent else None
        return self._page(request, found)

    # What is there

    def _page(self, request: Request, items: list[Any]) -> Reply:
        start = int(request.query.get("cursor", ["0"])[0])
        end, headers = start + self.page_size, {}
        if end < len(items):
            kept = "".join(f"&{quote(k)}={quote(v[0])}" for k, v in request.query.items() if k != "cursor")
            headers["Link"] = f'<{self.endpoint}{request.path}?cursor={end}{kept}>; rel="next"'
        return Reply(items[start:end], headers=headers)

    def _entry(self, commit: Commit, path: str) -> dict[str, Any] | None:
        """A file or folder as the listings describe it; None where there is neither."""
        file = commit.files.get(path)
        if file is None:
            inside = sorted((name, file.oid) for name, file in commit.files.items() if name.startswith(f"{path}/"))
            oid = hashlib.sha1(json.dumps(inside).encode()).hexdigest()
            return {"type": "directory", "path": path, "oid": oid, "size": 0} if inside else None
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": file.oid, "size": file.size}
        if file.sha256:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 127 + len(str(file.size))}
        if file.xet:
            entry["xetHash"] = file.xet
        return entry

    @route("GET", f"{REPO}/tree/{REV}(?:/(?P<path>.+))?")
    def tree(self, request: Request) -> Reply:
        """A folder's files and folders, in pages."""
        repo = self._repo(request)
        commit, folder = repo.at(request.args["rev"]), request.args.get("path", "").strip("/")
        prefix, paths = folder and f"{folder}/", set()
        for name in commit.files:
            if name.startswith(prefix):
                steps = name[len(prefix) :].split("/")
                depth = len(steps) if _true(request.query, "recursive") else 1
                paths |= {prefix + "/".join(steps[: n + 1]) for n in range(depth)}
        if folder and not paths:
            raise HubError(404, f"{folder} does not exist on {request.args['rev']}", code="EntryNotFound")
        return self._page(request, [self._entry(commit, path) for path in sorted(paths)])

    @route("POST", f"{REPO}/paths-info/{REV}")
    def paths_info(self, request: Request) -> Reply:
        """The entries of the given paths; those that don't exist are left out."""
        repo, form = self._repo(request), parse_qs(request.body.decode())
        commit = repo.at(request.args["rev"])
        entries = [self._entry(commit, path.strip("/")) for path in form.get("paths", [])]
        return Reply([entry for entry in entries if entry])

    @route("GET", f"{PAGE}/resolve/{REV}/(?P<path>.+)")
    def resolve(self, request: Request) -> Reply:
        """A regular file's bytes; a redirect to the blob of an LFS file."""
        repo, rev, path = self._repo(request, files=True), request.args["rev"], request.args["path"]
        commit = repo.at(rev)
        file = commit.files.get(path)
        if file is None:
            message = f"{path} does not exist on {rev}"
            raise HubError(404, message, code="EntryNotFound", X_Repo_Commit=commit.oid)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.sha256 or file.oid}"', "Accept-Ranges": "bytes"}
        if file.sha256 is None:
            return Reply(file.data, headers=headers | {"Content-Type": "application/octet-stream"})
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if file.xet:
            refresh = f"{self.endpoint}/api/{repo.type}s/{repo.id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": file.xet, "Link": f'<{refresh}>; rel="xet-auth"'}
        return Reply(b"", 302, headers | {"Location": f"{self.storage}/lfs/{file.sha256}"})

    @route("GET", "/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_get(self, request: Request) -> Reply:
        """An object's bytes; as on signed addresses, a token is not asked for but refused."""
        if "Authorization" in request.headers:
            raise HubError(400, "Only one auth mechanism allowed")
        path = self.blobs / request.args["oid"]
        if not path.exists():
            raise HubError(404, "The object is not there")
        return Reply(path.read_bytes(), headers={"ETag": f'"{path.name}"', "Accept-Ranges": "bytes"})

    @route("GET", f"{REPO}(?:/revision/{REV})?")
    def info(self, request: Request) -> Reply:
        """The repository at a revision."""
        repo = self._repo(request)
        commit = repo.at(request.args.get("rev", "main"))
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
        if _true(request.query, "blobs"):
            for item, (path, file) in zip(siblings, commit.files.items(), strict=True):
                item |= {"size": file.size, "blobId": file.oid}
                if file.sha256:
                    lfs = (self._entry(commit, path) or {})["lfs"]
                    item["lfs"] = lfs | {"sha256": file.sha256}
        created = next(iter(repo.commits.values())).date
        answer = {"id": repo.id, "author": repo.id.split("/")[0], "sha": commit.oid, "siblings": siblings}
        answer |= {"private": repo.private, "gated": repo.gated, "disabled": False, "tags": [], "downloads": 0}
        return Reply(answer | {"likes": 0, "createdAt": created, "lastModified": commit.date})


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers, faults included; what they mean is the server's business."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has given up waiting, or the Hub has stopped
            super().handle()
        self.hub.connections.discard(self.connection)

    def log_message(self, *_: Any) -> None:
        """Keep quiet: `requests` is the log."""

    def _body(self) -> Iterator[bytes]:
        """The request's body in pieces, by its length or chunked."""
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (piece := self.rfile.read(min(left, 1 << 16))):
            left -= len(piece)
            yield piece
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            yield self.rfile.read(size)
            self.rfile.readline()

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        fault, body = self.hub._fault(self.command, path), bytearray()
        cut = fault.cut_after if fault else None
        for piece in self._body():
            body += piece
            if cut is not None and self.command == "PUT" and len(body) >= cut:
                self.hub.requests.append((self.command, path, 0))
                return self._end()
        if fault and fault.hang is not None:
            self.hub.stopping.wait(fault.hang)
        if fault and fault.hang is None and cut is None:
            reply = Reply({"error": fault.message}, fault.status, {"X-Error-Message": fault.message} | fault.headers)
        else:
            reply = self.hub._answer(Request(self.command, path, parse_qs(query), self.headers, bytes(body), {}))
        self._send(path, reply, cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _send(self, path: str, reply: Reply, cut: int | None) -> None:
        """Write the answer, or the stretch of it that the Range header asks for."""
        content, status, headers = reply.content, reply.status, dict(reply.headers)
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        stretch = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and stretch and "Accept-Ranges" in headers:
            size = len(content)
            first = int(stretch[1]) if stretch[1] else max(0, size - int(stretch[2] or 0))
            last = min(size, int(stretch[2]) + 1) if stretch[1] and stretch[2] else size
            status = 206 if first < last else 416
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}" if status == 206 else f"bytes */{size}"
            content = content[first:last]
        self.hub.requests.append((self.command, path, status))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        if cut is not None:
            self._end()

    def _end(self) -> None:
        self.close_connection = True
        _hang_up(self.connection)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)


def _true(values: dict[str, list[str]], name: str) -> bool:
    return values.get(name, [""])[0].lower() in ("1", "true")


def xet_files(folder: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield (sha256, (Xet hash, size)) of the files that a Xet client has written to the folder.

    A shard starts with a header of 48 bytes. Then each file has a header (hash of 32 bytes, flags and number of
    segments, 4 bytes each, 8 unused), that many segments, as many verification entries if flag 31 is set, and its
    sha256 if flag 30 is set, all 48 bytes wide. A hash of ones ends the section. Hashes are four little-endian numbers.
    """
    for shard in folder.rglob("*.mdb"):
        data, at = shard.read_bytes(), 48
        while data[at : at + 32] not in (b"\xff" * 32, b""):
            flags, count = struct.unpack_from("<II", data, at + 32)
            name = "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, at))
            size = sum(struct.unpack_from("<I", data, at + 48 * (n + 1) + 36)[0] for n in range(count))
            at += 48 * (1 + count * (2 if flags >> 31 else 1))
            if flags >> 30 & 1:
                yield "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, at)), (name, size)
                at += 48


def xet_download(folder: Path, name: str, size: int, path: Path) -> None:
    """Put together a file from the folder of a Xet store, with the client's own means."""
    import hf_xet

    with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{folder}") as group:
        group.start_download_file(hf_xet.XetFileInfo(name, size), str(path.with_suffix(".part")))
    shutil.move(path.with_suffix(".part"), path)
