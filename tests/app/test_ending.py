"""The end of the app: by Ctrl-C, by a signal or with its terminal, nothing stays in the temporary folder."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from workbench.app.server import ended_by_signals, own_cache

# Somebody's work that ends at a Stop alone goes on while the page is told to end.
SERVE = """
import sys, threading, time
from workbench.app.long_work import Stops
from workbench.app.server import launch

def work(tell):
    while True:
        time.sleep(0.05)
        tell("on it")

threading.Thread(target=lambda: list(Stops().run(work, "me")), daemon=True).start()
launch(sys.argv[1], port=int(sys.argv[2]), upscaler="none")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_whatever_ends_it_ends_it_in_order(name, model_folder, a_port, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-c", SERVE, str(model_folder), str(a_port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert "GigaGAN workbench: http" in process.stdout.readline()
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--b--\r\n'
        asked = urllib.request.Request(f"http://127.0.0.1:{a_port}/gradio_api/upload", data=body)
        asked.add_header("Content-Type", "multipart/form-data; boundary=b")
        assert urllib.request.urlopen(asked, timeout=60).status == 200
        assert list(tmp_path.glob("workbench-gradio-*/*/*"))
        process.send_signal(getattr(signal, name))
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0 and said.splitlines()[-1] == "Stopped."
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("workbench-")] == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_that_is_ignored_stays_so_and_others_are_given_back():
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with pytest.raises(KeyboardInterrupt), ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert signal.getsignal(signal.SIGTERM) == before[0]
        beside = threading.Thread(target=lambda: ended_by_signals().__enter__())
        beside.start()  # a notebook's thread may not set signals
        beside.join()
        assert signal.getsignal(signal.SIGTERM) == before[0]
    finally:
        signal.signal(signal.SIGHUP, before[1])


def test_a_folder_for_pictures_that_does_not_exist_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "not" / "there"))
    kept = own_cache.__wrapped__()
    assert os.path.dirname(kept.name) == str(tmp_path / "not" / "there")
    kept.cleanup()
