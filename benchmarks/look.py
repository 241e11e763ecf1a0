"""One hundred samples to look at, numbered, and how many of them somebody found broken.

    python benchmarks/look.py --out runs/look

Draws the sheets (prompts and seeds never used in training, truncation 1) and prints one JSON object with
what assets/reports/look.json says of them: the figure broken_of_100 is counted by eye, and the file holds
the number and the fault of each picture. Status 2 where the notes are of another model than the one drawn.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from workbench.evaluation.faithfulness import draw_prompts
from workbench.images import grid, save_png
from workbench.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "assets" / "reports" / "look.json"
N, SEED, COLUMNS, ROWS, ZOOM = 100, 4_000, 5, 5, 4


def main() -> int:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "models" / "shepherd-64")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "look")
    asked = parser.parse_args()
    pipeline = Pipeline.from_pretrained(asked.model, device="cpu")
    prompts, _ = draw_prompts(N, SEED)
    images = pipeline(prompts, seed=[SEED + k for k in range(N)], truncation=1.0).images.clamp(-1, 1)
    large = torch.nn.functional.interpolate(images, scale_factor=ZOOM, mode="bicubic").clamp(-1, 1)
    asked.out.mkdir(parents=True, exist_ok=True)
    for sheet, part in enumerate(large.split(COLUMNS * ROWS)):
        save_png(grid(part, COLUMNS, pad=6), asked.out / f"{sheet * COLUMNS * ROWS:02d}.png")
    (asked.out / "prompts.txt").write_text("".join(f"{k:02d} {text}\n" for k, text in enumerate(prompts)))
    notes = json.loads(NOTES.read_text(encoding="utf-8"))
    if notes["model"] != pipeline.weight_hash:
        print(
            f"The notes in {NOTES.name} are of the model {notes['model']}, and this is "
            f"{pipeline.weight_hash}: look at the sheets in {asked.out} and write new ones.",
            file=sys.stderr,
        )
        return 2
    print(json.dumps({"n": N, "broken": len(notes["broken"]), "model": notes["model"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
