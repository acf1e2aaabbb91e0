"""The routes of the Hugging Face Hub that its client calls to read and to commit models, over HTTP on this machine."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_a_secret_that_no_message_shows"


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of each commit."""
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, changes: dict[str, bytes]) -> str:
        files = self.commits.get(self.branches.get(branch, ""), {}) | changes
        name = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Hub:
    """Repositories by owner/name, uploads by their digest, and the paths that were asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def hub_on_this_machine() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Routes,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Routes(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._read()

    def do_HEAD(self) -> None:
        self._read()

    def do_PUT(self) -> None:
        content = self._body()
        digest = urlsplit(self.path).path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == digest
        self.hub.uploads[digest] = content
        self._answer(200, b"")

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self._body()
        self.hub.asked.append(path)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        owner, name, verb, revision = path.removeprefix("/api/models/").split("/")
        repository = self.hub.repositories[f"{owner}/{name}"]
        if unquote(revision) not in repository.branches and repository.commits:
            return self._refuse(404, "RevisionNotFound", "no such branch")
        if verb == "preupload":
            files = [
                {"path": one["path"], "uploadMode": _mode(one["path"]), "shouldIgnore": False, "oid": None}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        assert verb == "commit"
        return self._commit(f"{owner}/{name}", unquote(revision), [json.loads(line) for line in body.splitlines()])

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.hub.repositories else 200
        self.hub.repositories.setdefault(name, Repository(private=asked.get("visibility") == "private"))
        made = {"url": f"{self.hub.address}/{name}", "name": name, "id": name}
        return self._answer(status, json.dumps(made).encode(), {"Content-Type": "application/json"})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def _commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> None:
        changes = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.hub.uploads[value["oid"]]
        done = self.hub.repositories[name].commit(branch, changes)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{done}", "commitOid": done, "success": True})

    def _read(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(path)
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, verb, *rest = "/".join(parts[:2]), *(parts[2:] or ["revision", "main"])
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            return self._refuse(401 if not known else 404, "RepoNotFound", "Repository not found")
        if repository.gated:
            return self._refuse(403, "GatedRepo", "Access is restricted")
        if (commit := repository.resolve(unquote(rest[0]))) is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        files = repository.commits[commit]
        if verb == "revision":
            return self._json({"id": name, "sha": commit, "siblings": [{"rfilename": one} for one in files]})
        if verb == "tree":
            return self._json([_entry(one, content) for one, content in files.items()])
        assert verb == "resolve"
        if (content := files.get(rest[1])) is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _json(self, value: object, kind: str = "application/json") -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": kind})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


def _entry(path: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    return entry | (
        {"lfs": {"oid": digest, "size": len(content), "pointerSize": 134}} if _mode(path) == "lfs" else {}
    )
