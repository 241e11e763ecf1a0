"""A small Hugging Face Hub on this machine: what an upload of a data set needs of the API, kept in memory."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants

TOKEN = "hf_stand_in"


@dataclass
class StandIn:
    """What the Hub holds. address: of its API; files: content by repository and name; private: repositories
    that are; commits: messages; asked: every request; large: suffixes that go through LFS."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    large: tuple[str, ...] = (".tar",)
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, dict | None]:
        """(status, JSON) of one request."""
        if path.startswith("/lfs/") and method == "PUT":
            self._blobs[path.removeprefix("/lfs/")] = body
            return 200, {}
        if token != TOKEN:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            bad = "license: none" in json.loads(body)["content"]
            return (400 if bad else 200), {"errors": [{"message": "not a licence"}] * bad, "warnings": []}
        parts = path.split("/")
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._lfs(json.loads(body)["objects"])
        repo = "/".join(parts[3:5])
        if repo not in self.files:
            return 404, {"error": "Repository not found"}
        if "/preupload/" in path:
            return 200, {"files": [self._mode(repo, file["path"]) for file in json.loads(body)["files"]]}
        if "/commit/" in path:
            return 200, self._commit(repo, body)
        return 200, {"id": repo, "sha": "0" * 40, "siblings": []}

    def _create(self, asked: dict) -> tuple[int, dict]:
        repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if not repo.startswith("me/"):
            return 403, {"error": "You don't have the rights to create a dataset under this namespace"}
        known = repo in self.files
        self.files.setdefault(repo, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(repo)
        return (409 if known else 200), {"url": f"{self.address}/datasets/{repo}"}

    def _mode(self, repo: str, path: str) -> dict:
        held = self.files[repo].get(path)
        oid = None if held is None else hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()
        large = path.endswith(self.large)
        if large and held is not None:
            oid = hashlib.sha256(held).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def _lfs(self, objects: list[dict]) -> dict:
        actions = [
            {**one, "actions": {"upload": {"href": f"{self.address}/lfs/{one['oid']}"}}} for one in objects
        ]
        return {"transfer": "basic", "objects": actions}

    def _commit(self, repo: str, body: bytes) -> dict:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                self.commits.append(value["summary"])
            elif key == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                self.files[repo][value["path"]] = self._blobs[value["oid"]]
        oid = f"{len(self.commits):040d}"
        address = f"{self.address}/datasets/{repo}/commit/{oid}"
        return {"success": True, "commitOid": oid, "commitUrl": address}


@contextlib.contextmanager
def serve(monkeypatch) -> Iterator[StandIn]:
    """The stand-in, with the real client of this process pointed at it and no token at hand."""
    hub = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = hub.answer(self.command, path, body, token)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_any

        def log_message(self, *args):
            """Keeps the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage is another server
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
