"""Hours that each line of `make demo-models` takes on this machine, from a rehearsal of all of them in short.

    python benchmarks/demo_models.py

The lines are those that make itself would run, in their order, in a folder of their own: each works on what
the lines before it left there, so a rehearsal that ends has shown that all of them fit together. A training's
hours are its images at the rate of the rehearsal's history; of what draws or fits, two short runs give what
one more picture costs; what is no longer in short runs in whole. The rows of the ablation are not rehearsed:
their rates are those of its report. Pauses for grids and measurements between steps are not counted.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ABLATION = ROOT / "assets" / "reports" / "ablation.json"

# By the name of its folder, or by its subcommand where it has none: what is shown in short.
TRAINED = {
    "mini-clip": 4_000, "shepherd-64": 2_048, "second/critics": 1_024, "second/shepherd-64": 1_024,
    "critics-64": 1_024, "shepherd-64-diffusion": 2_048, "shepherd-64-student": 512, "up4-by-pixels": 192,
    "shepherd-up4": 192,
}  # fmt: skip
COUNTED = {  # option, its value in whole, two in short
    "world": ("--count", 16_000, (128, 1_024)),
    "judge": ("--images", 9_000, (512, 1_536)),
    "train-encoder": ("--images", 12_800, (960, 2_880)),
    "world-256": ("--count", 1_600, (16, 64)),
}


def lines(demo: Path, profile: str) -> list[list[str]]:
    """The workbench's commands of `make demo-models`, as their words."""
    told = subprocess.run(
        ["make", "-n", "demo-models", f"DEMO={demo}", f"PROFILE={profile}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.replace("\\\n", " ")  # fmt: skip
    found = re.findall(r"-m workbench\.cli ([^;|\"\n]+)", told)
    return [words for one in found if (words := shlex.split(one))[0] != "app"]


def name_of(words: list[str], demo: Path) -> str:
    """The command's folder under `demo`, or its first word."""
    if "--out" not in words:
        return words[0]
    return str(Path(words[words.index("--out") + 1]).relative_to(demo))


def timed(words: list[str], home: Path) -> float:
    """Seconds of the command, run in the folder `home`; what it prints is kept back unless it fails."""
    home.mkdir(parents=True, exist_ok=True)
    words = [str(ROOT / word) if word.startswith("benchmarks/") else word for word in words]
    line = [sys.executable, "-m", "workbench.cli", *words]
    begun = time.perf_counter()
    done = subprocess.run(line, cwd=home, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"workbench {shlex.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return time.perf_counter() - begun


def with_length(words: list[str], option: str, value: int | Path) -> list[str]:
    """The command with another value of `option`, and no bound of minutes."""
    kept = list(words)
    for name in (option, "--minutes"):
        if name in kept:
            place = kept.index(name)
            del kept[place : place + 2]
    return [*kept, option, str(value)]


def full_length(words: list[str], name: str) -> int:
    """Images of the whole training, as its line, its file of settings or its preset says."""
    from workbench.models.presets import preset
    from workbench.training.lengths import in_images, parse_length

    if "--images" in words:
        return in_images(parse_length("images", words[words.index("--images") + 1]), 0)
    if "--config" in words:
        return json.loads((ROOT / words[words.index("--config") + 1]).read_text(encoding="utf-8"))["images"]
    if name == "mini-clip":
        return history(ROOT / "assets" / "models" / "mini-clip")[-1]["cur_nimg"]
    return preset(words[words.index("--preset") + 1]).train["images"]


def history(run: Path) -> list[dict]:
    """The lines of steps of a run."""
    from workbench.training.history import read_history

    return read_history(run, "step")


def rate_of(run: Path) -> float:
    """Images a second of all steps, without those before the first line where there are several: they bring
    weights into their layouts.
    """
    first, last = history(run)[0], history(run)[-1]
    if "seconds" not in last:
        return last["images_per_s"]
    if first is last or first["cur_nimg"] == last["cur_nimg"]:
        return last["cur_nimg"] / last["seconds"]
    return (last["cur_nimg"] - first["cur_nimg"]) / (last["seconds"] - first["seconds"])


def rehearse(words: list[str], demo: Path) -> dict:
    """Run one line in short; its minutes in whole, and how they were found."""
    name = name_of(words, demo)
    if name == "ablation":
        rows = json.loads(ABLATION.read_text(encoding="utf-8"))["rows"]
        return {"minutes": sum(row["images"] / row["images_per_s"] for row in rows) / 60, "by": "its report"}
    if name in TRAINED:
        timed(with_length(words, "--images", TRAINED[name]), demo)
        rate = rate_of(Path(words[words.index("--out") + 1]))
        if "--minutes" in words:
            return {
                "minutes": float(words[words.index("--minutes") + 1]),
                "images_per_s": rate,
                "by": "its line",
            }
        images = full_length(words, name)
        return {"minutes": images / rate / 60, "images": images, "images_per_s": rate, "by": "its rate"}
    if name in COUNTED:
        option, whole, (few, more) = COUNTED[name]
        assert option not in words or int(words[words.index(option) + 1]) == whole
        spare = with_length(words, "--out", demo / "spare" / name)
        first = timed(with_length(spare, option, few), demo / "spare")
        each = max(timed(with_length(words, option, more), demo) - first, 0.0) / (more - few)
        found = {"images": whole, "images_per_s": 1 / each if each else None, "by": "two lengths"}
        return {"minutes": (first + each * (whole - few)) / 60, **found}
    return {"minutes": timed(words, demo) / 60, "by": "the whole"}


def main() -> None:
    """Rehearse every line and print what was found."""
    from workbench.evaluation.figures import provenance

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="workbench-demo-") as scratch:
        demo = Path(scratch)
        for words in lines(demo, args.profile):
            found.append({"line": f"{words[0]} {name_of(words, demo)}", **rehearse(words, demo)})
            print(f"{found[-1]['line']}: {found[-1]['minutes']:.1f} min", file=sys.stderr)
    hours = sum(one["minutes"] for one in found) / 60
    print(json.dumps({"profile": args.profile, "hours": hours, "lines": found, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
