"""What drawing again buys: the shipped GAN plain, and the best of 2, 4 and 8 candidates told by its CLIP.

    python benchmarks/best_of.py --n 1000

The judge, which takes no part in the choice, says whether coat, pose, scene and light are as the prompt names
them, and how near the pictures lie to renders; the prompts and seeds are those of the race. Candidates of a
choice of 4 are those of a choice of 2 and two more, so each is drawn once. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from workbench.evaluation.faithfulness import evaluate, from_pipeline
from workbench.evaluation.features import load_judge
from workbench.evaluation.figures import provenance
from workbench.models.clip_io import load_clip
from workbench.pipeline import Chooser, Pipeline, Samples

MODELS = Path(__file__).resolve().parents[1] / "assets" / "models"
CHOICES = (1, 2, 4, 8)
KEPT = ("coat", "pose", "scene", "light", "all", "frechet", "floor", "ratio", "diversity")


class Remembering:
    """The pipeline at truncation 1, each picture drawn once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.text_encoder, self.name = pipeline, pipeline.text_encoder, pipeline.name
        self.known: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(
        self, prompts: str | Sequence[str], *, seed: Sequence[int], truncation: float, batch_size: int
    ) -> Samples:
        texts = [prompts] * len(seed) if isinstance(prompts, str) else list(prompts)
        wanted = list(zip(texts, seed, strict=True))
        if fresh := [one for one in wanted if one not in self.known]:
            drawn = self.pipeline(
                [text for text, _ in fresh], seed=[s for _, s in fresh], batch_size=batch_size
            )
            self.known.update(zip(fresh, drawn.images, strict=True))
        images = torch.stack([self.known[one] for one in wanted])
        return Samples(images, texts, list(seed), [{} for _ in wanted])


def main() -> None:
    """Measure every choice and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=1_000)
    args = parser.parse_args()
    pipeline = Pipeline.from_pretrained(MODELS / "shepherd-64", device="cpu")
    clip, judge, drawn = load_clip(MODELS / "mini-clip"), load_judge(), Remembering(pipeline)
    rows = []
    for of in CHOICES:
        source = drawn if of == 1 else Chooser(drawn, clip, of)
        found = evaluate(
            from_pipeline(source, batch_size=8), judge, n=args.n, diversity_prompts=16, diversity_samples=4
        )
        rows.append({"best_of": of, **{name: found[name] for name in KEPT}})
    about = {"n": args.n, "model": pipeline.name, "weights": pipeline.weight_hash, "clip": clip.name}
    print(json.dumps({**about, "judge": judge.version, "choices": rows, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
