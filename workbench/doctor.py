"""`workbench doctor`: what this machine has, what will run where, and what mends each missing thing."""

import hashlib
import json
import os
import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "assets" / "models"
PORT = 7860
MIN_MEMORY_GIB = 4.0
MIN_DISK_GIB = 2.0
LIBRARIES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "torchmetrics",
    "accelerate",
    "gradio",
    "jupyterlab",
    "diffusers",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report. state: "ok", "note" (works, with less) or "missing"; fix: what mends it."""

    topic: str
    text: str
    state: str = "ok"
    fix: str = ""


def examine(*, port: int = PORT, models: Path = MODELS) -> list[Finding]:
    """All findings about this machine, in the order of the report."""
    if not 1 <= port <= 65535:
        raise WorkbenchError(f"The port is {port}: expected 1 to 65535.")
    return [
        *_machine(),
        *_libraries(),
        _disk(Path.cwd()),
        _port(port),
        _chromium(),
        *_models(models),
    ]


def report(findings: list[Finding]) -> tuple[str, int]:
    """The report as text, and the exit status: 0 when all is usable, 1 when something is missing."""
    marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
    width = max(len(f.topic) for f in findings)
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}  {finding.topic:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<9}{'':<{width}}  -> {finding.fix}")
    missing = [f.topic for f in findings if f.state == "missing"]
    lines.append(f"Missing: {', '.join(missing)}." if missing else "Everything needed is here.")
    return "\n".join(lines), 1 if missing else 0


def find_chromium() -> str | None:
    """Path of a chromium or Chrome for the browser tests; WORKBENCH_CHROMIUM goes first."""
    asked = os.environ.get("WORKBENCH_CHROMIUM")
    for name in (asked, *BROWSERS) if asked else BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    return None


def _machine() -> list[Finding]:
    from workbench.hardware import probe

    machine = probe()
    findings = [
        Finding(
            topic="system",
            text=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        ),
        Finding(topic="processor", text=f"{machine.cpu}, {machine.cores} core(s) for this process"),
        _memory(machine.memory_gib),
        Finding(topic="device", text=_device_text(machine)),
        Finding(topic="precision", text=machine.reason),
    ]
    if machine.conv_gflops:
        speeds = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in machine.conv_gflops.items())
        findings.append(Finding(topic="convolution", text=f"{speeds} (3×3, forward and backward)"))
    return findings


def _device_text(machine) -> str:
    if machine.gpu:
        return (
            f"{machine.device}: {machine.gpu}, {machine.gpu_memory_gib} GiB; training and sampling run there"
        )
    return (
        f"{machine.device}: training and sampling run on the processor"
        if machine.device == "cpu"
        else machine.device
    )


def _memory(gib: float) -> Finding:
    if gib >= MIN_MEMORY_GIB:
        return Finding(topic="memory", text=f"{gib} GiB")
    return Finding(
        topic="memory",
        text=f"{gib} GiB, and training shepherd-64 asks for {MIN_MEMORY_GIB:.0f}",
        state="note",
        fix="train the small preset: workbench train --preset shepherd-32",
    )


def _libraries() -> list[Finding]:
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    findings = [Finding(topic="libraries", text=", ".join(found))]
    if missing:
        fix = f"{sys.executable} -m pip install -c constraints.txt -e ."
        findings.append(
            Finding(topic="libraries", text=f"not installed: {', '.join(missing)}", state="missing", fix=fix)
        )
    return findings


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    if free >= MIN_DISK_GIB:
        return Finding(topic="disk", text=f"{free:.0f} GiB free in {folder}")
    return Finding(
        topic="disk",
        text=f"{free:.1f} GiB free in {folder}, and a data set and a run ask for {MIN_DISK_GIB:.0f}",
        state="missing",
        fix="free some space, or work in a folder on another disk (--out)",
    )


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                topic="port",
                text=f"127.0.0.1:{port} cannot be opened ({error.strerror})",
                state="note",
                fix=f"choose another: make app PORT={port + 1 if port < 65535 else port - 1}",
            )
    return Finding(topic="port", text=f"127.0.0.1:{port} is free for the app")


def _chromium() -> Finding:
    path = find_chromium()
    if path:
        return Finding(topic="chromium", text=f"{path}, for the browser tests")
    return Finding(
        topic="chromium",
        text="not found: the browser tests are skipped, all else works",
        state="note",
        fix="sudo apt-get install chromium",
    )


def _models(folder: Path) -> list[Finding]:
    configs = sorted(folder.glob("*/config.json"))
    if not configs:
        text = f"none in {folder}"
        return [
            Finding(
                topic="models",
                text=text,
                state="missing",
                fix="make demo-models (hours), or git checkout assets",
            )
        ]
    return [_model(path.parent) for path in configs]


def _model(folder: Path) -> Finding:
    """One shipped model: does it open, how big is it, and what is the hash of its weights."""
    topic = f"model {folder.name}"
    fix = f"bring it back: git checkout -- {folder}"
    try:
        kind = json.loads((folder / "config.json").read_text()).get("kind", "model")
    except (ValueError, AttributeError):
        return Finding(
            topic=topic, text=f"{folder / 'config.json'} is no JSON object", state="missing", fix=fix
        )
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        return Finding(topic=topic, text=f"no *.safetensors in {folder}", state="missing", fix=fix)
    parts = []
    for path in weights:
        problem = _unreadable(path)
        if problem:
            return Finding(topic=topic, text=f"{path} cannot be read ({problem})", state="missing", fix=fix)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        parts.append(f"{path.relative_to(folder)} {path.stat().st_size / 2**20:.1f} MiB sha256 {digest[:12]}")
    return Finding(topic=topic, text=f"{kind}: {'; '.join(parts)}")


def _unreadable(path: Path) -> str:
    """Why this safetensors file does not open; nothing when it does."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        return " ".join(str(error).split())
    return "" if names else "it holds no tensors"
