"""Stops real training processes at random moments and counts how many end as the run that never was.

    python benchmarks/resume.py [--kills 20] [--seed 0]

Every fourth is killed inside a checkpoint's write; the others by SIGKILL, SIGTERM and Ctrl-C at any moment.
Each is resumed to its end and compared with the whole run: weights, optimisers and averages bit for bit,
every history line apart from its times, every grid. Prints one JSON object; status 1 where one differs.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import killing  # noqa: E402
import tiny_run  # noqa: E402
import torch  # noqa: E402


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # bits are compared
    dice, stops = random.Random(asked.seed), []
    with tempfile.TemporaryDirectory(prefix="workbench-resume-") as scratch:
        folder = Path(scratch)
        inputs = tiny_run.make_inputs(folder)
        seconds = tiny_run.run_tiny(inputs, folder / "whole").seconds
        for number in range(asked.kills):
            run = folder / f"stopped-{number}"
            stop = killing.stop_and_resume(inputs, folder / "whole", run, dice, seconds, number=number)
            stops.append(stop)
            verdict = "identical" if not stop.differs else f"differs in {', '.join(stop.differs[:5])}"
            print(f"{number + 1}/{asked.kills} {stop.how} after {stop.at}: {verdict}", file=sys.stderr)
    identical = sum(not stop.differs for stop in stops)
    result = {
        "kills": len(stops),
        "identical": identical,
        "while_writing": sum(stop.writing for stop in stops),
        "signals": dict(Counter(stop.how for stop in stops)),
        "seed": asked.seed,
    }
    print(json.dumps(result))
    return int(identical < len(stops))


if __name__ == "__main__":
    sys.exit(main())
