"""The server: on this computer alone, with one public endpoint, and no file but what it means to serve."""

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

from workbench.app import server
from workbench.errors import WorkbenchError
from workbench.images import open_picture, read_recipe, to_uint8
from workbench.pipeline import MAX_TRUNCATION, Pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def client(served) -> Client:
    return Client(served, verbose=False)


def status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_generate_gives_files_with_their_recipes(client, model_folder):
    gallery, said, python, shell, _ = client.predict(
        prompt="a white dog", seed="41", count=3, truncation=0.8, api_name="/generate"
    )
    expected = Pipeline.from_pretrained(model_folder)("a white dog", seed=41, count=3, truncation=0.8)
    assert [item["caption"] for item in gallery] == ["seed 41", "seed 42", "seed 43"]
    for item, array, recipe in zip(gallery, to_uint8(expected.images), expected.recipes, strict=True):
        path = item["image"]["path"] if isinstance(item["image"], dict) else item["image"]
        with open_picture(path) as picture:
            assert np.array_equal(np.asarray(picture), array)
        kept = read_recipe(path)
        assert kept["prompt"] == "a white dog" and kept["seed"] == recipe["seed"]
    assert "3 pictures" in said and "ms per picture on this CPU" in said
    assert "seed=41, count=3, truncation=0.8" in python and "--seed 41" in shell


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"seed": "-3"}, "negative"),
        ({"count": 0}, "less than minimum value 1"),
        ({"truncation": 7}, "greater than maximum value 1.5"),
    ],
)
def test_a_mistake_comes_back_as_one_sentence(client, change, message):
    arguments = {"prompt": "a dog", "seed": "1", "count": 1, "truncation": 1.0} | change
    with pytest.raises(Exception, match=message):
        client.predict(**arguments, api_name="/generate")


def test_what_edit_draws_create_draws_again(served):
    """A picture that is dropped back sets the slider, which must reach as far as the other tab's."""
    config = json.load(urllib.request.urlopen(f"{served}/config", timeout=30))
    props = [component["props"] for component in config["components"]]
    most = {prop.get("elem_id"): prop["maximum"] for prop in props if "maximum" in prop}
    assert most["truncation"] == most["edit-truncation"] == MAX_TRUNCATION


def test_two_endpoints_are_public(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert sorted(named) == ["/edit", "/generate"]


def test_no_file_is_handed_out_but_the_apps_own(served, run_folder, model_folder):
    for path in (
        ROOT / "pyproject.toml",
        "/etc/passwd",
        run_folder / "history.jsonl",
        model_folder / "config.json",
    ):
        assert status(f"{served}/gradio_api/file={path}") in (403, 404), path
    assert status(f"{served}/gradio_api/file=http://example.org/") in (403, 404)
    assert status(f"{served}/monitoring") in (403, 404)
    assert status(f"{served}/run-picture/first-run/training.gif") == 200
    assert status(f"{served}/run-picture/first-run/config.json") == 404


def test_the_page_shares_nothing(served):
    config = json.load(urllib.request.urlopen(f"{served}/config", timeout=30))
    assert config["analytics_enabled"] is False
    with pytest.raises(OSError):  # listens on loopback alone
        socket.create_connection(
            (socket.gethostbyname("localhost").replace("127.0.0.1", "127.0.0.2"), port_of(served)), 1
        )


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_a_taken_port_is_named_with_one_that_is_free(served):
    port = port_of(served)
    with pytest.raises(WorkbenchError, match=f"Port {port} on 127.0.0.1 cannot be used") as caught:
        server.launch(port=port, block=False)
    free = int(str(caught.value).partition("--port ")[2].partition("`")[0])
    assert free != port and server.port_problem("127.0.0.1", free) is None


def test_a_proxy_of_the_network_is_not_asked_about_this_computer(monkeypatch, a_port, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    page = server.launch(tmp_path / "none", port=a_port, upscaler="none", block=False)
    try:
        assert status(page.local_url) == 200
    finally:
        page.close()


@pytest.mark.parametrize("port", [0, 65536, -1, "7860", True])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(WorkbenchError, match="1 to 65535"):
        server.check_port("127.0.0.1", port)


def test_a_foreign_host_is_refused():
    with pytest.raises(WorkbenchError, match="cannot be used"):
        server.check_port("203.0.113.7", 7860)


def test_each_process_has_a_folder_of_pictures_of_its_own():
    told = "import os; from workbench.app.server import build; build(); print(os.environ['GRADIO_TEMP_DIR'])"
    folders = [
        subprocess.run(
            [sys.executable, "-c", told], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for _ in range(2)
    ]
    assert folders[0] != folders[1]
    assert not any(Path(folder).exists() for folder in folders)


def test_a_model_that_is_not_there_is_told_in_the_terminal_too(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = server.launch(tmp_path / "none", port=port, block=False)
    page.close()
    told = capsys.readouterr()
    assert told.err.startswith(f"warning: There is no model at {tmp_path / 'none'}.")
    assert "GigaGAN workbench: http" in told.out


def test_the_page_is_built_without_torch_and_without_a_model():
    """What makes the page quick to answer: torch and matplotlib come after it."""
    code = (
        "import sys; from workbench.app.server import build; page = build('assets/models/none');"
        "print([m for m in ('torch', 'open_clip', 'matplotlib') if m in sys.modules]);"
        "print('no model at assets/models/none' in str(page.get_config_file()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]
