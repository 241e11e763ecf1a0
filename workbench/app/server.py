"""The page as a whole, and the server: on this computer alone unless another host is asked for.

Nothing is sent anywhere: no analytics, no share link, no font or script from outside.
"""

import contextlib
import functools
import html
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio when it is imported

import gradio as gr

from workbench.app.create import create_tab
from workbench.app.dataset import dataset_tab
from workbench.app.edit import edit_tab
from workbench.app.evaluate import evaluate_tab
from workbench.app.evaluate_work import Bench
from workbench.app.jobs import Facts, Studio, looks_local, missing_model
from workbench.app.learn import learn_tab
from workbench.app.long_work import end_all
from workbench.app.magnifier import Magnifier
from workbench.app.race import race_tab
from workbench.app.race_lanes import Track
from workbench.app.runs import Shelf
from workbench.app.theme import css, head, theme
from workbench.app.training import training_tab
from workbench.app.upscale import upscale_tab
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]
MODEL = "assets/models/shepherd-64"
UPSCALER = "assets/models/shepherd-up4"
SHIPPED_RUN = ROOT / "assets" / "training" / "shepherd-64"
_MAX_WAITING = 40  # a class at once; past that the page says that the queue is full
_MAX_UPLOAD = 2**30  # a folder of pictures as a ZIP


def build(
    model_folder: str | Path | None = None,
    run_folder: str | Path | None = None,
    upscaler_folder: str | Path | None = None,
    diffusion_folder: str | Path | None = None,
    student_folder: str | Path | None = None,
) -> gr.Blocks:
    """The page, not yet served.

    Args:
        model_folder: a model folder or Hub name; the shipped model when None. Missing, the page says so.
        run_folder: a run, or a folder of runs, to show first beside the shipped one and those under runs/.
        upscaler_folder: the same of an upscaler; missing, the Upscale tab says so.
        diffusion_folder, student_folder: models that race against the GAN; what ships or lies under runs/
            when None.
    """
    own_cache()
    pictures = tempfile.TemporaryDirectory(prefix="workbench-app-")  # gone when the page is
    studio = Studio(_model(model_folder, MODEL), Path(pictures.name))
    glass = Magnifier(_model(upscaler_folder, UPSCALER), studio)
    track = Track(studio, *(None if f is None else str(f) for f in (diffusion_folder, student_folder)))
    shelf = Shelf(
        shipped=SHIPPED_RUN, runs=Path("runs"), named=None if run_folder is None else Path(run_folder)
    )
    with gr.Blocks(title="GigaGAN workbench", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        top = gr.HTML(header_html(None), elem_id="top")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Create", id="create"):
                drawn, send = create_tab(studio, glass)
            with gr.Tab("Edit", id="edit") as tab:
                edit_tab(studio, tab)
            with gr.Tab("Upscale", id="upscale") as tab:
                upscale_tab(glass, tab, tabs, drawn, send)
            with gr.Tab("Dataset", id="dataset") as tab:
                dataset_tab(Path("runs"), tab)
            with gr.Tab("Training", id="training") as tab:
                training_tab(shelf, tab)
            with gr.Tab("Evaluate", id="evaluate") as tab:
                evaluate_tab(Bench(studio, shelf), tab)
            with gr.Tab("Race", id="race") as tab:
                race_tab(track, tab)
            with gr.Tab("Learn", id="learn") as tab:
                learn_tab(studio, tab)
        foot = gr.HTML(footer_html(""), elem_id="foot")

        def fill() -> tuple[str, str]:
            from workbench.app.prompts import vocabulary_html

            sound = studio.trouble() is None
            header = header_html(studio.facts() if sound else None, missing=not sound)
            words = vocabulary_html(studio.pipeline().text_encoder) if sound else ""
            return header, footer_html(words)

        page.load(fill, None, [top, foot], queue=False, show_progress="hidden", api_visibility="private")
    page.queue(max_size=_MAX_WAITING)
    page.studio, page.shelf, page.pictures = studio, shelf, pictures
    return page


@functools.cache
def own_cache() -> tempfile.TemporaryDirectory:
    """Gradio's folder of pictures, this process's own and gone with it.

    Gradio names a picture by its content in one folder of the whole computer, and a page that ends deletes
    what it made: two pages that drew the same picture would take it from each other.
    """
    within = os.environ.get("GRADIO_TEMP_DIR") or None
    if within is not None:
        Path(within).mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(prefix="workbench-gradio-", dir=within)
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    return folder


def launch(
    model: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    open_browser: bool = False,
    *,
    run: str | Path | None = None,
    upscaler: str | Path | None = None,
    diffusion: str | Path | None = None,
    student: str | Path | None = None,
    block: bool = True,
) -> gr.Blocks:
    """Serve the page and print its address; returns when stopped (at once when `block` is False).

    Raises WorkbenchError when the port is taken or the host is not one of this computer.
    """
    check_port(host, port)
    spare_loopback()
    with ended_by_signals() if block else contextlib.nullcontext():
        page = build(model, run, upscaler, diffusion, student)
        options = launch_options(page, host, port)
        page.launch(**options, inbrowser=open_browser, quiet=True, prevent_thread_lock=True)
        page.studio.start_loading()  # after the page is up: importing torch would hold it back
        print(f"GigaGAN workbench: {page.local_url}  (Ctrl-C stops it)", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print("Everybody who reaches this computer over the network can use this page.", flush=True)
        named = page.studio.model
        if looks_local(named) and not Path(named).exists():  # one may come: the page stays
            print(f"warning: {missing_model(named)}", file=sys.stderr, flush=True)
        if block:
            wait(page)
    return page


def wait(page: gr.Blocks) -> None:
    """Until Ctrl-C; then no request is answered any more, and the work in hand ends."""
    with contextlib.suppress(KeyboardInterrupt):
        while page.is_running:
            time.sleep(0.1)
    with contextlib.suppress(OSError):  # the terminal may be gone
        print("Stopped.", flush=True)
    end_all()  # before the server, which waits for those who are still told of it
    page.server.close()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and a terminal that is closed do what Ctrl-C does: Python ends in order, and uploads
    and pictures go with it. One that is ignored (nohup) stays so; outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, told) for number in heard}
    try:
        yield
    finally:  # a second one ends it at once
        for number, handler in before.items():
            signal.signal(number, handler)


def launch_options(page: gr.Blocks, host: str, port: int) -> dict[str, Any]:
    """How the page is served: no share link, no monitoring, no files but the cache and the run pictures."""
    return {
        "server_name": host,
        "server_port": port,
        "share": False,
        # Gradio asks its own page and gives up after 3 s, telling people to share it with the world; a busy
        # machine only needs more time. The switch does nothing else.
        "_frontend": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "run_history": False,
        "allowed_paths": [],
        "max_file_size": _MAX_UPLOAD,
        "footer_links": [],
        "app_kwargs": {"routes": [page.shelf.route()]},
        "theme": theme(),
        "css": css(),
        "head": head(),
    }


def spare_loopback() -> None:
    """Keep the network's proxy out of what this computer says to itself: Gradio asks its own server."""
    for name in ("no_proxy", "NO_PROXY"):
        spared = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*spared, "127.0.0.1", "localhost", "::1"]))


def check_port(host: str, port: int) -> None:
    """WorkbenchError with the next free port when `port` cannot be had."""
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise WorkbenchError(
            f"The port is {port}, expected a whole number from 1 to 65535, for example 7860."
        )
    problem = port_problem(host, port)
    if problem is None:
        return
    free = next(
        (other for other in range(port + 1, min(port + 100, 65536)) if port_problem(host, other) is None),
        None,
    )
    tip = f"Port {free} is free: start with `--port {free}`." if free else "Choose another with `--port`."
    raise WorkbenchError(
        f"Port {port} on {host} cannot be used ({problem}): perhaps the app already runs there. {tip}"
    )


def port_problem(host: str, port: int) -> str | None:
    """Why a port cannot be listened on; None when it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does: a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise WorkbenchError(
                f"The host {host!r} is not known: use 127.0.0.1 for this computer alone."
            ) from None
        except OSError as error:
            return error.strerror or str(error)
    return None


def header_html(facts: Facts | None, *, missing: bool = False) -> str:
    """Name, one line of explanation, and what makes the pictures here."""
    if facts is not None:
        cells = [
            ("model", facts.name),
            ("parameters", f"{facts.parameters / 1e6:.1f} M"),
            ("picture", f"{facts.resolution} × {facts.resolution}"),
            ("runs on", f"{facts.device.upper()}, {facts.precision}"),
        ]
        said = "".join(f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in cells)
        said = f'<dl class="wb-model">{said}</dl>'
    else:
        said = f'<p class="wb-model wb-hint">{"No model loaded" if missing else "Loading the model …"}</p>'
    line = "A prompt and a seed become a picture, by a GAN trained on a drawn world."
    return f'<header class="wb-top"><div><h1>GigaGAN workbench</h1><p>{line}</p></div>{said}</header>'


def footer_html(words: str) -> str:
    """What the model knows."""
    line = "This page runs on this computer and sends nothing anywhere."
    return f'<footer class="wb-foot">{words}<p>{line}</p></footer>'


def _model(model: str | Path | None, shipped: str) -> str:
    """The model's name as given; the shipped folder, written as short as it can be, for None."""
    if model is not None:
        return str(model)
    return shipped if Path(shipped).exists() or not (ROOT / shipped).exists() else str(ROOT / shipped)
