"""Of several seeds the one whose picture says most clearly what the prompt says, told by a CLIP.

A GAN draws so quickly that it can afford to draw again. Ramesh et al. 2021 (arXiv 2102.12092, Sec. 2.6) rank
samples in this way. N pictures of H x W pixels, `of` candidates of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.clip_io import Clip, load_clip, read_json
from workbench.models.text import TextEncoder
from workbench.noise import MAX_SEED
from workbench.pipeline.core import Pipeline, Samples, plan_pictures

MOST = 64  # candidates of a picture
STRIDE = 1_000_000  # seed s stands for s, s + STRIDE, …: a row of seeds shares no candidate, and can be read


def clip_of(pipeline: Pipeline, folders: Sequence[str | Path]) -> Clip:
    """The first of these CLIP folders that reads a prompt as the pipeline does: it knows the same words.

    Folders that are missing, or hold a text tower alone, are passed over. Raises WorkbenchError where none
    is left, and for a model that reads no text.
    """
    if pipeline.text_encoder is not None:
        probe = "a white dog"
        own = pipeline.text_encoder([probe]).embedding.cpu()
        for folder in map(Path, folders):
            config = folder / "config.json"
            if config.is_file() and read_json(config).get("kind") == "clip":
                clip = load_clip(folder, device=pipeline.device)
                said = clip.encode_text([probe]).cpu()
                if said.shape == own.shape and torch.allclose(said, own, atol=1e-4):
                    return clip
    raise WorkbenchError(
        f"No CLIP here reads prompts as {pipeline.name} does, so none can say which picture fits a prompt "
        "best. Draw one of each, or give a CLIP: `workbench sample --best-of 4 --clip DIR`."
    )


class Chooser:
    """Called as a Pipeline is; draws `of` pictures for each that it gives, and keeps the best of them.

    The recipe is that of the picture kept, with its own seed, so that a plain pipeline makes it again. Its
    `chosen` says that it was chosen: of how many, from which seed on, by which CLIP, and its agreement.
    """

    def __init__(self, pipeline: Pipeline, clip: Clip, of: int = 4) -> None:
        """clip: any CLIP; its words limit what it can tell apart. Raises WorkbenchError for an `of` outside
        2 to 64, and for a model that reads no text.
        """
        if isinstance(of, bool) or not isinstance(of, int) or not 2 <= of <= MOST:
            raise WorkbenchError(
                f"The best of {of!r} was asked for: expected a whole number from 2 to {MOST}."
            )
        if pipeline.text_encoder is None:
            raise WorkbenchError(
                f"The model {pipeline.name} reads no text, so none of its pictures can fit a prompt better: "
                "draw without choosing."
            )
        self.pipeline, self.clip, self.of = pipeline, clip, of

    @property
    def text_encoder(self) -> TextEncoder | None:
        """That of the pipeline, which prompts are checked with."""
        return self.pipeline.text_encoder

    def candidates(self, seed: int) -> list[int]:
        """The seeds that a seed stands for, itself first."""
        return [seed + k * STRIDE for k in range(self.of)]

    def agreement(self, images: Tensor, prompt: str) -> Tensor:
        """Cosine of each picture, [N, 3, H, W] in [-1, 1], and the prompt in the CLIP, [N] on the CPU."""
        with torch.inference_mode():
            seen = self.clip.encode_image(images.to(self.clip.device))
            return (seen @ self.clip.encode_text([prompt]).T)[:, 0].cpu()

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        count: int = 1,
        truncation: float = 1.0,
        batch_size: int = 1,
    ) -> Samples:
        """The best of the candidates of each picture. Arguments and mistakes as in `Pipeline`; of candidates
        that agree as well as each other, the first is kept.
        """
        texts, seeds, warnings = plan_pictures(prompts, seed, count, self.text_encoder)
        if max(seeds) > MAX_SEED - (self.of - 1) * STRIDE:
            raise WorkbenchError(
                f"Seed {max(seeds)} and its candidates go beyond the largest seed {MAX_SEED}: start lower."
            )
        images, kept, recipes = [], [], []
        for text, first in zip(texts, seeds, strict=True):
            drawn = self.pipeline(
                text, seed=self.candidates(first), truncation=truncation, batch_size=batch_size
            )
            agreement = self.agreement(drawn.images, text)
            best = int(agreement.argmax())
            images.append(drawn.images[best])
            kept.append(drawn.seeds[best])
            chosen = {"of": self.of, "first_seed": first, "by": self.clip.name}
            chosen["agreement"] = round(float(agreement[best]), 6)
            recipes.append({**drawn.recipes[best], "index": len(recipes), "chosen": chosen})
        return Samples(torch.stack(images), texts, kept, recipes, warnings)
