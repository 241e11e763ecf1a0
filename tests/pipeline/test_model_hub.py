"""Models from and to the Hugging Face Hub, by real requests to a server of ours."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline

PROMPT = "a white dog in snow"
WEIGHTS = "generator.safetensors"


def refused(folder, message):
    with pytest.raises(WorkbenchError, match=message) as caught:
        Pipeline.from_pretrained(folder)
    assert len(str(caught.value)) < 500


def test_offline_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refused("someone/some-model", "some-model is no folder here, and the Hugging Face Hub cannot be reached")


def test_a_hub_that_hangs_up_is_one_clear_sentence(monkeypatch, tmp_path):
    """As a proxy or a captive portal does: the connection stands, and no answer comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            with contextlib.suppress(OSError):  # the server was closed: done
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        refused("someone/some-model", "no folder here, and the Hugging Face Hub cannot be reached")
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", ["a--b/c", "a/..b", "a/" + "b" * 100, "a/b.git"])
def test_names_the_hub_would_not_take(name):
    refused(name, "no valid Hub name|There is no model folder|cannot be reached")


class Hub(BaseHTTPRequestHandler):
    """The three answers of the Hub that a download needs, over the files of `folder`; all else is refused."""

    folder = None
    commit = "0" * 40
    asked: list[str] = []

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(403, b'{"error": "no"}', body=True)

    def answer(self, *, body):
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/me/tiny"):
            names = [str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()]
            info = {"id": "me/tiny", "sha": self.commit, "siblings": [{"rfilename": name} for name in names]}
            tree = [{"type": "file", "path": n, "size": 1, "oid": "0" * 40} for n in names]
            self.reply(200, json.dumps(tree if "/tree/" in path else info).encode(), body=body)
        elif path.startswith(f"/me/tiny/resolve/{self.commit}/"):
            data = (self.folder / path.split(self.commit + "/")[1]).read_bytes()
            self.reply(200, data, body=body)
        else:
            self.reply(401, b'{"error": "no"}', body=body)

    def reply(self, status, data, *, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{recipes.sha256(data)[:40]}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        """Keeps the tests' output clean."""


@pytest.fixture
def hub(folder, monkeypatch, tmp_path):
    """A small Hub on this machine that holds the model folder as me/tiny."""
    handler = type("TinyHub", (Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_comes_from_the_hub_without_its_pickles(hub, folder):
    (folder / "pytorch_model.bin").write_bytes(b"cos\n")
    loaded = Pipeline.from_pretrained("me/tiny")
    local = Pipeline.from_pretrained(folder)
    assert torch.equal(loaded(PROMPT).images, local(PROMPT).images)
    assert any(WEIGHTS in path for path in hub.asked) and not any(".bin" in path for path in hub.asked)


def test_a_model_the_hub_refuses(hub):
    refused("me/private", r"the Hugging Face Hub refused it \(status 401\): check the name")


def test_an_upload_the_hub_refuses(hub, pipe):
    with pytest.raises(WorkbenchError, match=r"refused me/new \(status 403\): .* your token may write"):
        pipe.push_to_hub("me/new", token="hf_none")


def test_uploads_check_their_name_and_the_network_first(pipe):
    for name in ("", "shepherd", "a/b/c", "me/", "/x", "me/ x", None, 3):
        with pytest.raises(WorkbenchError, match="no Hub name: expected owner/name"):
            pipe.push_to_hub(name)
    with pytest.raises(WorkbenchError, match="cannot be reached, me/tiny was not uploaded"):
        pipe.push_to_hub("me/tiny", token="hf_none")
