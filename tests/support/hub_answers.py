"""What the Hub on localhost answers: by repositories, commits, branches and tags, and what is read."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from hub_repositories import DATE, LARGE, LARGE_ENDINGS, Blob, Commit, Refused, Repository
from hub_requests import HubRequest
from xet_files import xet_hashes


class HubAnswers(HubRequest):
    """The answers, a method for each route."""

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


API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[\w.-]+/[\w.-]+)"
PAGE = r"/(?P<kind>datasets/|spaces/)?(?P<name>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/whoami-v2", HubAnswers.whoami),
    ("POST", "/api/repos/create", HubAnswers.create),
    ("DELETE", "/api/repos/delete", HubAnswers.delete),
    ("POST", "/api/repos/move", HubAnswers.move),
    ("PUT", f"{API}/settings", HubAnswers.settings),
    ("POST", "/api/validate-yaml", HubAnswers.validate_yaml),
    ("POST", f"{API}/preupload/{REVISION}", HubAnswers.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", HubAnswers.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", HubAnswers.lfs_put),
    ("GET", r"/lfs/(?P<oid>\w+)", HubAnswers.lfs_get),
    ("POST", "/lfs-verify", HubAnswers.lfs_verify),
    ("POST", f"{API}/commit/{REVISION}", HubAnswers.commit),
    ("POST", f"{API}/branch/(?P<branch>[^/]+)", HubAnswers.branch),
    ("POST", f"{API}/tag/{REVISION}", HubAnswers.tag),
    ("DELETE", f"{API}/(?P<what>branch|tag)/(?P<reference>[^/]+)", HubAnswers.delete_reference),
    ("GET", f"{API}/xet-(?P<right>read|write)-token/{REVISION}", HubAnswers.xet_token),
    ("GET", f"{API}/refs", HubAnswers.refs),
    ("GET", f"{API}/commits/{REVISION}", HubAnswers.commits),
    ("GET", API, HubAnswers.info),
    ("GET", f"{API}/revision/{REVISION}", HubAnswers.info),
    ("GET", f"{API}/tree/{REVISION}(?P<path>/.+)?", HubAnswers.tree),
    ("POST", f"{API}/paths-info/{REVISION}", HubAnswers.paths_info),
    ("GET", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)", HubAnswers.resolve),
]
HubAnswers.routes = ROUTES
