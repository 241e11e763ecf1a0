"""A folder of small renders with captions and factors, as `workbench dataset world` writes one."""

import json
from dataclasses import asdict
from pathlib import Path

from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import caption
from workbench.images import save_png


def render_folder(folder: Path, *, count: int, side: int, seed: int) -> Path:
    """Pictures 0 … count - 1 of the world `seed`, one ray a pixel."""
    (folder / "images").mkdir(parents=True)
    factors = [draw_factors(seed, k) for k in range(count)]
    lines = []
    for k, picture in enumerate(render(factors, side, supersample=1)):
        save_png(picture, folder / f"images/{k:06d}.png")
        row = {"file_name": f"images/{k:06d}.png", "text": caption(factors[k], seed, k)}
        lines.append(json.dumps(row | asdict(factors[k])))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"kind": "shepherd-world", "seed": seed}))
    return folder
