"""HTML of the Upscale tab: the picture given, progress, numbers, tiles, two prompts side by side."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.app.sentences import absent_html

_THUMB = 512  # of the longer side of a picture inside the page


def status_html(sentence: str) -> str:
    """One line of progress or result."""
    return f'<p class="wb-status" role="status">{html.escape(sentence)}</p>'


def progress_html(sentence: str, done: int, total: int) -> str:
    """One line of progress, and a bar."""
    bar = f'<progress class="wb-progress" value="{done}" max="{total}" aria-label="tiles drawn"></progress>'
    return status_html(sentence) + bar


def notes_html(notes: Sequence[str]) -> str:
    """Sentences under a result; nothing for none."""
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<ul class="wb-notes">{said}</ul>' if said else ""


def missing_html(trouble: str | None) -> str:
    """What stands above the tab when nothing can be enlarged; nothing when it can."""
    return absent_html("No upscaler yet", trouble)


# --- pictures ---


def file_uri(png: Path) -> str:
    """A PNG as an address, recipe included."""
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")


def picture_uri(images: Any, most: int | None = None) -> str:
    """[1, 3, H, W] in [-1, 1] as an address; no side above `most`."""
    from PIL import Image

    from workbench.images import to_uint8

    picture, buffer = Image.fromarray(to_uint8(images)[0]), io.BytesIO()
    if most is not None and max(picture.size) > most:
        picture.thumbnail((most, most))
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def given_html(given: Any) -> str:
    """The picture that will be enlarged (`upscale_given.Given`), its own pixels visible, and what it is."""
    if given is None:
        said = "No picture yet: drop one, or draw one from the prompt."
        return f'<p class="wb-hint">{said}</p>'
    size = f"{given.width} × {given.height} px"
    if given.drawn:
        whence = f"drawn by this model: “{given.recipe['prompt']}”, seed {given.recipe['seed']}"
    else:
        whence = given.name
    words = html.escape(f"{size}, {whence}")
    picture = picture_uri(given.images, _THUMB)
    return (
        f'<figure class="wb-given"><img src="{picture}" alt="The picture to enlarge: {words}">'
        f"<figcaption>{words}{notes_html(given.notes)}</figcaption></figure>"
    )


# --- numbers ---


def made_html(made: Any, device: str) -> str:
    """Sizes, seconds, tiles and memory of `upscale_work.Made`, and what a person should know of it."""
    where = {"cpu": "this CPU", "cuda": "this GPU"}.get(device, device)
    width, height = made.size
    cells = [
        ("picture", f"{made.given.width} × {made.given.height} → {width} × {height} px"),
        ("time", f"{made.seconds:.2f} s on {where}"),
    ]
    if made.passes:
        cells.append(("tiles", f"{sum(one.pieces for one in made.passes)}"))
        cells.append(("memory plan", megabytes(max(one.seen + one.drawn for one in made.passes))))
    if made.aura is not None:
        cells.append(("AuraSR", f"{made.aura[2]:.2f} s"))
    said = "".join(f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in cells)
    read = f"The model read “{made.prompt}”." if made.prompt else ""
    return (
        f'<dl class="wb-numbers">{said}</dl><p class="wb-status">{html.escape(read)}</p>'
        f"{notes_html(made.notes)}"
    )


def megabytes(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"


# --- tiles ---


def tiles_html(given: Any, passes: Sequence[Any]) -> str:
    """The grid of each pass over the picture, and whether its tiles are exact or blended."""
    if given is None or not passes:
        return '<p class="wb-hint">The tiles are drawn here as soon as there is a picture.</p>'
    picture = picture_uri(given.images, _THUMB)
    shown = "".join(_pass(one, number, len(passes), picture) for number, one in enumerate(passes, start=1))
    return f'<div class="wb-passes">{shown}</div>'


def tiles_said(one: Any) -> str:
    """How one pass (`upscale_work.Pass`) is cut, in words."""
    size = f"{one.width} × {one.height} px"
    tiles = f"{one.pieces} tile" + ("" if one.pieces == 1 else "s")
    memory = f"About {megabytes(one.seen)} for what the network sees and {megabytes(one.drawn)} for a tile."
    if one.cells > 1:
        memory += f" Of each {one.cells} × {one.cells} pixels that are drawn the mean is kept."
    if one.cut.network is None:
        joined = (
            "nothing is joined" if one.pieces == 1 else "each to the last pixel as in one piece, no seams"
        )
        return (
            f"Exact. The network sees all of {size}, and its picture is drawn in {tiles}: {joined}. {memory}"
        )
    return (
        f"Blended. {size} are more than the network sees at once: it looks at {len(one.boxes)} squares of at "
        f"most {one.cut.network} px, which overlap by {one.cut.overlap} px and fade into each other there; "
        f"{tiles} in all. {memory}"
    )


def _pass(one: Any, number: int, of: int, picture: str) -> str:
    said, blended = html.escape(tiles_said(one)), one.cut.network is not None
    rects = "".join(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
        for left, top, right, bottom in one.boxes
    )
    title = f"Pass {number} of {of}: " if of > 1 else ""
    return (
        f'<figure class="wb-tiled {"blended" if blended else "exact"}">'
        f'<svg viewBox="0 0 {one.width} {one.height}" role="img" aria-label="{title}{said}">'
        f'<image href="{picture}" width="{one.width}" height="{one.height}" preserveAspectRatio="none"/>'
        f'<g class="wb-halo">{rects}</g><g>{rects}</g></svg>'
        f"<figcaption>{title}<b>{said.partition('.')[0]}.</b>{said.partition('.')[2]}</figcaption>"
        "</figure>"
    )


# --- text changes the detail ---


def pair_html(
    shown: Sequence[tuple[str, str]], apart: str, louder: int, mean: float, most: float, notes: Sequence[str]
) -> str:
    """Two enlarged pictures (address, prompt), the difference between them, and how large it is."""
    figures = "".join(
        f'<figure><img src="{picture}" alt="{html.escape(prompt)}"><figcaption>{html.escape(prompt)} '
        f'<a download="prompt-{number}.png" href="{picture}">PNG</a></figcaption></figure>'
        for number, (picture, prompt) in enumerate(shown, start=1)
    )
    strong = "" if louder == 1 else f", {louder} times as strong"
    said = (
        f"The same small picture, the same seed: only the words differ. Pixels differ by {mean:.1f} of 255 "
    )
    said += f"levels on average, by {most:.0f} at most."
    return (
        f'<div class="wb-pair wb-three">{figures}<figure><img src="{apart}" alt="difference of the two">'
        f"<figcaption>difference{strong}</figcaption></figure></div>{status_html(said)}{notes_html(notes)}"
    )
