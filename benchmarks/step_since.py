"""Images a second of shepherd-64's training step: today's code beside an earlier commit's, in turns.

    python benchmarks/step_since.py

The earlier code and its mini-CLIP are read from git into a temporary folder and run with the packages of
today; the preset's networks, batch and losses are the same in both. Prints one JSON object:
medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = "42ef577"  # the first demo model shipped: the first version that trained from end to end
LINE = ("-m", "workbench.cli", "bench", "step", "--preset", "shepherd-64", "--batch-size", "32", "--json")


def images_per_s(code: Path) -> float:
    """Of one run of `workbench bench step` by the code in that folder."""
    told = subprocess.run(
        [sys.executable, "-P", *LINE], cwd=code, env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(told.stdout)["images_per_s"]


def main() -> None:
    """Time both and print what was found."""
    sys.path.insert(0, str(ROOT))
    from workbench.evaluation.figures import provenance

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--commit", default=FIRST)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="workbench-before-") as scratch:
        archive = subprocess.run(
            ["git", "archive", args.commit, "workbench", "assets/models/mini-clip"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
        subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
        pairs = [(images_per_s(Path(scratch)), images_per_s(ROOT)) for _ in range(args.rounds)]
    before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [now / then for then, now in pairs]
    found = {
        "commit_before": args.commit, "rounds": args.rounds, "before_images_per_s": before,
        "images_per_s": after, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
    }  # fmt: skip
    print(json.dumps({**found, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
