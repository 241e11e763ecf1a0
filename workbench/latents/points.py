"""Points of the latent space: what the synthesis network needs for a picture, and the picture of it.

Letters: N points, W style inputs (`Generator.num_ws`), L rows of t_local. A point is (ws, text): ws steers
every layer, text is what the cross-attention reads. The prompt acts through both, so that an edit which moves
one alone meets the other's resistance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline, check_truncation, clean_prompt

_ALONE = 64  # more captions, or more rows of z, are computed together: their last bits then differ
Texts = tuple[Text, ...]  # one for each size of G, coarse to fine


@dataclass(frozen=True)
class Points:
    """N points. ws [N, W, w_dim]; texts: one Text of N rows for each size of G, () where G reads none.

    Immutable: every edit gives new points.
    """

    ws: Tensor
    texts: Texts = ()

    def __post_init__(self) -> None:
        if self.ws.dim() != 3 or any(len(text.mask) != len(self.ws) for text in self.texts):
            rows = [len(text.mask) for text in self.texts]
            raise WorkbenchError(
                f"ws has the shape {list(self.ws.shape)} and the texts {rows} rows: expected [N, W, w_dim] "
                "and N rows each."
            )
        if not torch.isfinite(self.ws).all():
            raise WorkbenchError(
                "The style inputs hold values that are not finite: give finite strengths and positions."
            )

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Points:
        """The points of `rows`, always as points: an index of any kind gives one point, [] gives none."""
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.ws.device)
            rows = rows.long() if rows.numel() == 0 else rows  # an empty list is one of floats
            rows = rows[None] if rows.dim() == 0 else rows
        return Points(self.ws[rows], tuple(text.index_select(rows) for text in self.texts))

    def with_ws(self, ws: Tensor) -> Points:
        """The same captions with other styles."""
        return Points(ws, self.texts)

    def with_text(self, text: Text | None) -> Points:
        """The same styles with one caption at all sizes."""
        return Points(self.ws, () if text is None else (text,) * len(self.texts))

    @staticmethod
    def cat(parts: Sequence[Points]) -> Points:
        """All points of several, in order."""
        texts = zip(*(part.texts for part in parts), strict=True)
        return Points(torch.cat([part.ws for part in parts]), tuple(Text.cat(rows) for rows in texts))


def points(
    pipeline: Pipeline,
    prompts: str | Sequence[str],
    seeds: int | Sequence[int],
    *,
    truncation: float = 1.0,
) -> Points:
    """Points of prompts and seeds, as many as the longer of the two; one of either serves all of the other.

    The picture of a point is that of `pipeline(prompt, seed=seed, truncation=truncation)`, to the bit for up
    to 64 points; of more, ws (and more than 64 different captions) are computed together and differ in their
    last bits. Raises WorkbenchError for an empty prompt, a bad seed, or lists of different length.
    """
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    numbers = list(seeds) if isinstance(seeds, Sequence | range) else [seeds]
    count = max(len(listed), len(numbers))
    if not listed or not numbers or {len(listed), len(numbers)} - {1, count}:
        raise WorkbenchError(
            f"There are {len(listed)} prompts and {len(numbers)} seeds: give one of each for every point, "
            "or one for all."
        )
    listed, numbers = listed * (count // len(listed)), numbers * (count // len(numbers))
    truncation = check_truncation(truncation)
    text = texts_of(pipeline, listed)
    z = draw_z(numbers, pipeline.G.config.z_dim)
    mean = None
    if truncation != 1.0:
        distinct, places = _distinct(pipeline, listed)
        mean = torch.cat([pipeline.w_mean(caption) for caption in distinct])[places]
    return from_z(pipeline, z, text, truncation=truncation, mean=mean)


@torch.no_grad()
def texts_of(pipeline: Pipeline, prompts: Sequence[str]) -> Text | None:
    """The captions as G reads them, one row a prompt; None where G reads none.

    Each caption is read once, however often it comes. Up to 64 different ones are read one by one and
    remembered, so that their bits are the pipeline's and don't depend on their company; more go through the
    encoder together and differ in their last bits.
    """
    if pipeline.text_encoder is None:
        return None
    distinct, places = _distinct(pipeline, prompts)
    if len(distinct) <= _ALONE:
        text = Text.cat([pipeline.text(caption) for caption in distinct])
    else:
        text = pipeline.G.encode_text(pipeline.text_encoder(distinct).to(pipeline.device))
    return text if len(distinct) == len(places) else text.index_select(places)


def _distinct(pipeline: Pipeline, prompts: Sequence[str]) -> tuple[list[str], Tensor]:
    """(the different captions as they are read, in order; the place among them of each of N prompts [N])."""
    read: dict[str, str] = {}
    for prompt in prompts:
        if not isinstance(prompt, str) or prompt not in read:  # what is no text is refused, not looked up
            read[prompt] = clean_prompt(prompt, pipeline.text_encoder).text
    place = {caption: k for k, caption in enumerate(dict.fromkeys(read.values()))}
    return list(place), torch.tensor([place[read[prompt]] for prompt in prompts], device=pipeline.device)


@torch.no_grad()
def from_z(
    pipeline: Pipeline,
    z: Tensor,
    text: Text | None,
    *,
    truncation: float = 1.0,
    mean: Tensor | None = None,
) -> Points:
    """Points of noise z [N, z_dim] under captions of N rows: w = M(z, t_global), the same at every layer."""
    w = _mapped(pipeline, z.to(pipeline.device), None if text is None else text.t_global)
    if mean is not None:
        w = torch.lerp(mean, w, truncation)
    return from_w(pipeline, w, text)


def _mapped(pipeline: Pipeline, z: Tensor, t_global: Tensor | None) -> Tensor:
    """M(z, t_global); few rows one by one, so that a point's bits don't depend on its company."""
    alone = range(len(z)) if len(z) <= _ALONE else [slice(None)]
    rows = [slice(k, k + 1) if isinstance(k, int) else k for k in alone]
    return torch.cat(
        [pipeline.G.mapping(z[row], None if t_global is None else t_global[row]) for row in rows]
    )


def from_w(pipeline: Pipeline, w: Tensor, text: Text | None) -> Points:
    """Points of w [N, w_dim], the same at every layer, or ws [N, W, w_dim]."""
    ws = w if w.dim() == 3 else w[:, None].expand(-1, pipeline.G.num_ws, -1)
    return Points(ws.clone(), () if text is None else (text,) * len(pipeline.G.config.sizes))


@torch.no_grad()
def draw(pipeline: Pipeline, at: Points, *, batch_size: int = 16) -> Tensor:
    """The pictures of points: [N, 3, S, S] float32 in [-1, 1] on the CPU.

    batch_size 1 gives the same bits alone or in any company on a CPU; more is faster and close.
    """
    check_fit(pipeline, at)
    parts = []
    for start in range(0, len(at), batch_size):
        part = at[start : start + batch_size]
        parts.append(synthesise(pipeline, part).clamp(-1, 1).cpu())
    side = pipeline.G.config.resolution
    return torch.cat(parts) if parts else torch.empty(0, 3, side, side)


def synthesise(pipeline: Pipeline, at: Points) -> Tensor:
    """x_0 of points [N, 3, S, S], unclamped, with its gradient: for inversion."""
    return pipeline.G.synthesis(at.ws, at.texts or None)[0].float()


def check_fit(pipeline: Pipeline, at: Points) -> None:
    """WorkbenchError where points belong to a model of another shape."""
    G = pipeline.G
    sizes = len(G.config.sizes) if G.text is not None else 0
    if at.ws.shape[1:] != (G.num_ws, G.config.w_dim) or len(at.texts) != sizes:
        raise WorkbenchError(
            f"These points have {at.ws.shape[1]} styles of {at.ws.shape[2]} numbers and {len(at.texts)} "
            f"texts; {pipeline.name} takes {G.num_ws} of {G.config.w_dim} and {sizes}. They were made with "
            "another model: make them with this one."
        )
