"""What G, the upsampler and D refuse at their door: inputs whose shapes they were not built for.

Shapes alone are read, so that a check costs nothing beside a pass and waits for no GPU. Letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.mapping import Text


def check_noise(who: str, config, z: Tensor, t_global: Tensor | None) -> None:
    """Raises WorkbenchError unless z is [N, z_dim], with a caption [N, text_dim] for each row where text is
    read and none where it is not. who: "G" or "The upsampler".
    """
    if (t_global is None) != (config.text_dim is None):
        given, wanted = ("no", "one") if t_global is None else ("a", "none")
        raise WorkbenchError(
            f"{who} was given {given} caption, but its text_dim is {config.text_dim}, so it expects "
            f"{wanted}: give z and text features to one with text, z alone to one without."
        )
    if z.dim() != 2 or z.shape[1] != config.z_dim:
        raise WorkbenchError(
            f"{who} was given z of shape {list(z.shape)}: expected [N, {config.z_dim}]. Draw it with "
            f"draw_z(seeds, {config.z_dim})."
        )
    if t_global is not None and t_global.shape != (len(z), config.text_dim):
        raise WorkbenchError(
            f"{who} was given captions of shape {list(t_global.shape)} for {len(z)} rows of z: expected "
            f"[{len(z)}, {config.text_dim}], one for each. Repeat a caption that belongs to several "
            "(repeat_interleave), or take the text encoder that the model was made with."
        )


def check_styles(who: str, ws: Tensor, num_ws: int, w_dim: int) -> None:
    """Raises WorkbenchError unless ws is [N, num_ws, w_dim], or w [N, w_dim]."""
    if ws.shape[1:] not in ((w_dim,), (num_ws, w_dim)):
        raise WorkbenchError(
            f"{who} was given styles of shape {list(ws.shape)}: expected w [N, {w_dim}] or ws "
            f"[N, {num_ws}, {w_dim}]. Take w from this model's mapping."
        )


def check_text(who: str, text: Text | None, n: int, text_dim: int | None, *, attends: bool) -> None:
    """Raises WorkbenchError for a caption that is missing, not wanted, of another width, or not one for each
    of n pictures (one for all of them is heard by all). attends: whether a layer looks at it.
    """
    if text is None:
        if attends:
            raise WorkbenchError(
                f"{who} was given no text, but it has cross-attention, which expects t_local: pass what "
                "encode_text returns."
            )
        return
    if text_dim is None:
        raise WorkbenchError(
            f"{who} was given text, but its text_dim is None, so it expects none: pass text=None."
        )
    rows, _, width = text.t_local.shape
    if width != text_dim or rows not in (1, n):
        raise WorkbenchError(
            f"{who} was given {rows} captions {width} wide for {n} pictures: expected {n}, or one for all, "
            f"{text_dim} wide. Pass what its own encode_text returns."
        )


def check_texts(
    who: str, texts: Sequence[Text | None], n: int, text_dim: int | None, attends: Sequence[bool]
) -> None:
    """`check_text` for each size of G. Raises WorkbenchError unless there are as many texts as sizes."""
    if len(texts) != len(attends):
        raise WorkbenchError(
            f"{who} was given {len(texts)} texts: expected {len(attends)}, one for each of its sizes from "
            "4 px up. Pass a single text to use it at all of them."
        )
    for text, looked_at in zip(texts, attends, strict=True):
        check_text(who, text, n, text_dim, attends=looked_at)


def check_judged(D, x_pyramid: list[Tensor], captions: list[Tensor] | None, reconstruct: int) -> None:
    """Raises WorkbenchError for pictures, captions or rows that this D was not built for."""
    config, n = D.config, len(x_pyramid[0]) if x_pyramid else 0
    _check_levels(D, x_pyramid, n)
    if config.group and n % config.group:
        raise WorkbenchError(
            f"D was given {n} pictures: expected a multiple of its group of {config.group}. "
            "Change the batch, or build D with group=0."
        )
    if captions is not None:
        _check_captions(config.text_dim, captions, n)
    if reconstruct and D.decoder is None:
        raise WorkbenchError(
            f"reconstruct is {reconstruct}, but this D has no decoder and expects 0: build it with "
            "reconstruction=True."
        )
    if not 0 <= reconstruct <= n:
        raise WorkbenchError(
            f"reconstruct is {reconstruct}: expected 0 to {n}, the number of pictures. Pass how many of "
            "the first rows are real."
        )


def _check_levels(D, x_pyramid: list[Tensor], n: int) -> None:
    """The pictures: n squares of each size, or n oblong ones where D takes such."""
    entries = list(D.config.entries)
    sizes = [x.shape[-1] for x in x_pyramid]
    oblong = [list(x.shape[-2:]) for x in x_pyramid if x.shape[-2] != x.shape[-1]]
    if oblong and _takes_oblong(D, x_pyramid):
        sizes, oblong = entries, []
    if oblong:
        raise WorkbenchError(
            f"D was given a picture of {oblong[0][0]} x {oblong[0][1]} px: expected squares of "
            f"{entries} px. Cut the pictures square first."
        )
    if sizes != entries or any(len(x) != n for x in x_pyramid):
        raise WorkbenchError(
            f"D was given {[len(x) for x in x_pyramid]} pictures of {sizes} px: expected as many of "
            f"each of {entries} px. Make the levels with box_pyramid or pyramid_for."
        )


def _takes_oblong(D, x_pyramid: list[Tensor]) -> bool:
    """Whether these levels are those of one oblong picture that counts as this D's size: a D that ends in
    a mean takes any whose sides are whole pixels of its smallest map.
    """
    c, (height, width) = D.config, x_pyramid[0].shape[-2:]
    unit = c.resolution // 4
    whole = c.collapse == "mean" and D.decoder is None and height % unit == width % unit == 0
    levels = [[height * e // c.resolution, width * e // c.resolution] for e in c.entries]
    return whole and levels == [list(x.shape[-2:]) for x in x_pyramid]


def _check_captions(text_dim: int | None, captions: list[Tensor], n: int) -> None:
    """At least one set of n captions, as wide as D reads them."""
    if captions and text_dim is None:
        raise WorkbenchError(
            "D was given captions, but its text_dim is None, so it expects none: pass t_D=None, or build "
            "it with a text_dim."
        )
    if not captions:
        raise WorkbenchError(
            "D was given an empty list of captions: expected one set of them or more. Pass t_D=None to "
            "judge without."
        )
    if wrong := [len(t) for t in captions if len(t) != n]:
        raise WorkbenchError(
            f"D was given {wrong[0]} captions for {n} pictures: expected one for each. Repeat a caption "
            "that belongs to several pictures (repeat_interleave)."
        )
    if wrong := [list(t.shape) for t in captions if t.shape[1:] != (text_dim,)]:
        raise WorkbenchError(
            f"D was given captions of shape {wrong[0]}: expected [{n}, {text_dim}]. Pass what its own "
            "encode_text returns."
        )
