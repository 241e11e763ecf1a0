"""What it costs the demo model that its weights ship as float16.

    python benchmarks/rounding.py

The weights before rounding do not ship. Each of them lay within half a unit in the last place of the number
that does, and anywhere there alike; so a model drawn from these cells differs from the shipped one as the
trained one did. Both draw the same pictures, and the judge measures both. Prints one JSON object: the
likeness of their pictures in dB, the largest difference in steps of 8 bits, and each figure of both.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("ratio", "all", "pose", "diversity", "recall", "coverage", "geometry_ratio")


def unround(network: nn.Module, seed: int) -> None:
    """Move each weight of `network` to a random place of the cell that float16 rounds to it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            step = torch.from_numpy(np.spacing(np.abs(p.numpy()).astype(np.float16)).astype(np.float32))
            p.add_((torch.rand(p.shape, generator=generator) - 0.5) * step)


def likeness(one: Tensor, other: Tensor) -> dict:
    """Of pictures [N, 3, S, S] in [-1, 1]: dB by picture, and the largest step between their 8-bit pixels."""
    error = (one - other).double().square().mean((1, 2, 3))
    psnr = 10 * torch.log10(4 / error)
    levels = ((one.clamp(-1, 1) + 1) * 127.5).round() - ((other.clamp(-1, 1) + 1) * 127.5).round()
    return {
        "psnr_median": psnr.median().item(), "psnr_least": psnr.min().item(),
        "levels_most": levels.abs().max().item(), "levels_mean": levels.abs().mean().item(),
    }  # fmt: skip


def main() -> None:
    """Measure both and print what was found."""
    sys.path.insert(0, str(ROOT))
    from workbench.evaluation.complete import evaluate_completely
    from workbench.evaluation.faithfulness import draw_prompts, from_pipeline
    from workbench.evaluation.features import load_judge
    from workbench.evaluation.figures import provenance
    from workbench.pipeline import Pipeline

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--pictures", type=int, default=200)
    args = parser.parse_args()
    models = ROOT / "assets" / "models"
    shipped, unrounded = (Pipeline.from_pretrained(models / "shepherd-64", device="cpu") for _ in range(2))
    unround(unrounded.G, 0)
    prompts, _ = draw_prompts(args.pictures, 0)
    seeds = list(range(args.pictures))
    drawn = [pipe(prompts, seed=seeds).images for pipe in (shipped, unrounded)]
    judge, figures = load_judge(models / "judge"), {}
    for name, pipe in (("float16", shipped), ("unrounded", unrounded)):
        found = evaluate_completely(from_pipeline(pipe), judge, n=args.n)
        figures[name] = {key: found[key] for key in MEASURED}
    about = {"n": args.n, "pictures": args.pictures}
    print(json.dumps({**about, **likeness(*drawn), **figures, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
