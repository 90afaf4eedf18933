"""A Hub on localhost, for the genuine clients: repositories, commits, large files, downloads, and faults on demand.

It speaks the part of the Hub's HTTP interface that huggingface_hub, transformers and datasets use, with large files by
plain LFS or by Xet (`xet_files.py`). Everything is kept in memory.

    with LocalHub() as hub:
        hub.fail("POST", r"/commit/", status=500)  # the next commit
        HfApi(endpoint=hub.endpoint, token="hf_anna").create_repo("anna/model")
"""

import re
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from hub_answers import HubAnswers
from hub_repositories import LARGE_ENDINGS, Blob, Commit, Fault, Repository, User


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
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (HubAnswers,), {"hub": self}))
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
