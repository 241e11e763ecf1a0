"""A tiny untrained model, a run folder made of renders, and the app serving both."""

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
import torch
from tiny_upsampler import tiny_upsampler

from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import vocabulary
from workbench.images import grid, save_gif, save_png
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline, Upscaler

SIDE = 32
STEPS = (0, 1_000, 2_000, 4_000)


def tiny_pipeline() -> Pipeline:
    """An untrained pipeline of 32 px with the vocabulary of the world."""
    sizes = [4, 8, 16, SIDE]
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=SIDE,
        channels=dict.fromkeys(sizes, 32),
        kernels=dict.fromkeys(sizes, 1),
        blocks=dict.fromkeys(sizes, 1),
        attention={},
        cross_attention={8: 1},
        w_dim=64,
        mlp_ratio=1,
    )
    return Pipeline(Generator(config), TextEncoder.from_clip(new_mini_clip(vocabulary())), {"name": "tiny"})


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as a model folder."""
    return tiny_pipeline().save_pretrained(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def up_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny upscaler of four times as a model folder."""
    torch.manual_seed(0)
    encoder = TextEncoder.from_clip(new_mini_clip(vocabulary()))
    up = Upscaler(tiny_upsampler(), encoder, {"name": "tiny-up4"})
    return up.save_pretrained(tmp_path_factory.mktemp("ups") / "tiny-up4")


def write_run(folder: Path, steps: tuple[int, ...] = STEPS, *, film: bool = True) -> Path:
    """A run folder as the trainer writes it: grids that come out of noise, losses, two evaluations."""
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"preset": "shepherd-64"}))
    clean = render([draw_factors(5, i) for i in range(4)], SIDE, supersample=1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    lines, frames = [], []
    for k, nimg in enumerate(steps):
        share = k / (len(steps) - 1)
        sheet = grid(torch.lerp(noise, clean, share), 2, scale=2)
        save_png(sheet, folder / "samples" / f"grid_{nimg:09d}.png")
        frames.append(sheet)
        lines.append({"kind": "step", "cur_nimg": nimg, "loss_G": 2 - share, "loss_D": 1 - share / 2})
        lines.append({"kind": "sample", "cur_nimg": nimg, "file": f"samples/grid_{nimg:09d}.png"})
    for nimg, right in ((steps[1], 0.25), (steps[-1], 0.75)):
        shares = dict.fromkeys(("coat", "pose", "scene", "light", "all"), right)
        lines.append(
            {"kind": "eval", "cur_nimg": nimg, **shares, "frechet": 2.0, "floor": 0.5, "diversity": right}
        )
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if film:
        save_gif(frames, folder / "training.gif", seconds_per_frame=0.2)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return write_run(tmp_path_factory.mktemp("runs") / "first-run")


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def served(model_folder: Path, run_folder: Path) -> Iterator[str]:
    """Address of the app serving the tiny model and the run."""
    from workbench.app.server import launch

    page = launch(model_folder, port=free_port(), run=run_folder, upscaler="none", block=False)
    assert urllib.request.urlopen(page.local_url, timeout=60).status == 200
    yield page.local_url.rstrip("/")
    page.close()


@pytest.fixture(scope="session")
def served_up(model_folder: Path, up_folder: Path) -> Iterator[str]:
    """Address of the app serving the tiny model and the tiny upscaler."""
    from workbench.app.server import launch

    page = launch(model_folder, port=free_port(), upscaler=up_folder, block=False)
    yield page.local_url
    page.close()


@pytest.fixture
def a_port() -> int:
    """A port that is free now."""
    return free_port()


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """Debian's chromium under playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    from watching import FLAGS

    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))


@pytest.fixture
def watched(browser: Any) -> Iterator[Any]:
    """A desktop page; closing checks that nothing went wrong and nothing was asked of the outside."""
    from watching import Watched

    seen = Watched(browser)
    yield seen
    seen.leave()  # closing breaks off what the page still reads, which it may complain about
    seen.context.close()
    assert seen.outside == []
    assert seen.errors == []
