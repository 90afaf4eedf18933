"""Requests to the Hub on localhost: parsed, refused, answered; who may do what."""

import json
import re
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_repositories import Commit, Refused, Repository, User


class HubRequest(BaseHTTPRequestHandler):
    """One request: a method of `routes` answers it with (status, JSON or bytes, headers)."""

    hub: Any
    routes: list[tuple[str, str, Callable[..., Any]]]
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
        for method, pattern, answer in self.routes:
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
