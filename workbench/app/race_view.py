"""HTML of the Race tab: lanes with their clocks, strips of steps, the verdict, and the tally of votes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from workbench.app.race_lanes import NAMES
from workbench.app.race_run import Lane, Race, steps_in
from workbench.app.race_votes import Ballot
from workbench.app.sentences import marked
from workbench.app.upscale_view import picture_uri
from workbench.diffusion.entrants import how_to_make

_STRIP = 10  # pictures of a strip at most


def start_html(kinds: Sequence[str]) -> str:
    """The lanes before the first race."""
    cards = "".join(_card(NAMES[kind], "", None, "") for kind in kinds)
    return f'<div class="wb-lanes">{cards}</div>'


def lanes_html(race: Race, ballot: Ballot | None = None) -> str:
    """The lanes side by side; with a ballot by letters, in its order and without anything that tells them."""
    if ballot is not None:
        if not race.done:
            said = "All lanes draw behind the curtain, so that their speed doesn't tell who is who …"
            return f'<p class="wb-status" role="status">{said}</p>'
        cards = [
            _card(letter, f"picture of lane {letter}", race.lane(kind).picture, "")
            for letter, kind in zip(ballot.letters, ballot.order, strict=True)
        ]
    else:
        cards = [
            _card(lane.name, f"picture of the {lane.name}", lane.picture, _clock(lane)) for lane in race.lanes
        ]
    return f'<div class="wb-lanes">{"".join(cards)}</div>'


def _card(title: str, alt: str, picture: Any, under: str) -> str:
    shown = '<div class="wb-lane-empty">at the start</div>'
    if picture is not None:
        shown = f'<img src="{picture_uri(picture)}" alt="{html.escape(alt)}">'
    named = f"<figcaption>{html.escape(title[:1].upper() + title[1:])}</figcaption>"
    return f'<figure class="wb-lane">{named}{shown}{under}</figure>'


def _clock(lane: Lane) -> str:
    counted = "call" if lane.kind == "gan" else "step"
    facts = [f"{counted} {lane.calls} of {lane.of}", f"{lane.parameters / 1e6:.1f} M parameters"]
    if lane.trained:
        facts.append(f"trained on {lane.trained}")
    state = "done" if lane.done else "running" if lane.calls else "waiting"
    said = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    return f'<p class="wb-clock {state}"><b>{lane.ms:,.0f}</b> ms</p><ul class="wb-lane-facts">{said}</ul>'


def verdict_html(race: Race | None) -> str:
    """What the clocks said, in a sentence that is true whoever was first; nothing before the end."""
    if race is None or not race.done:
        return ""
    gan, others = race.lane("gan"), [lane for lane in race.lanes if lane.kind != "gan"]
    said = []
    for lane in others:
        ratio = lane.ms / gan.ms
        if ratio >= 1.05:
            compared = f"{ratio:.1f} times the GAN's time"
        elif ratio <= 0.95:
            compared = f"less than the GAN: {1 / ratio:.1f} times as fast"
        else:
            compared = "as long as the GAN"
        said.append(f"The {lane.name} took {compared}, for {lane.calls} step{'s' * (lane.calls != 1)}.")
    if (steps := steps_in(race)) is not None:
        diffusion = race.lane("diffusion")
        each = diffusion.ms / diffusion.calls
        fits = str(steps) if steps else "not even one"
        said.append(
            f"In the GAN's {gan.ms:.0f} ms the diffusion model has time for {fits} of its steps of "
            f"{each:.0f} ms."
        )
    if not others:
        said.append(f"The GAN took {gan.ms:.0f} ms, alone on the track.")
    return f'<p class="wb-status" role="status">{html.escape(" ".join(said))}</p>'


def strips_html(race: Race | None, noised: Any = None, times: Sequence[int] = ()) -> str:
    """How each diffusion lane came to its picture, and the way there backwards.

    noised: [K, 1, 3, S, S], the GAN's picture under more and more noise, at the steps `times`.
    """
    rows = []
    if noised is not None:
        shown = [(picture, f"t = {t}") for picture, t in zip(noised, times, strict=True)]
        rows.append(_strip("Forward: noise is added to the GAN's picture until nothing is left of it", shown))
    for lane in () if race is None else race.lanes:
        if lane.kind != "gan" and lane.strip:
            chosen = _spread(len(lane.strip))
            shown = [(lane.strip[k], f"step {k + 1}") for k in chosen]
            rows.append(_strip(f"Backward: what the {lane.name} sees behind the noise", shown))
    return "".join(rows)


def needed_html(said: str) -> str:
    """What is known of the steps that the GAN's quality needs."""
    return f'<p class="wb-hint" role="status">{marked(said)}</p>'


def _spread(count: int) -> list[int]:
    """At most _STRIP places of 0 … count - 1, evenly, the first and the last among them."""
    if count <= _STRIP:
        return list(range(count))
    return [round(k * (count - 1) / (_STRIP - 1)) for k in range(_STRIP)]


def _strip(title: str, shown: Sequence[tuple[Any, str]]) -> str:
    cells = "".join(
        f'<figure><img src="{picture_uri(picture.clamp(-1, 1))}" alt="{html.escape(title)}, '
        f'{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        for picture, caption in shown
    )
    return f'<h4 class="wb-strip-title">{html.escape(title)}</h4><div class="wb-race-strip">{cells}</div>'


def tally_html(tally: dict) -> str:
    """All votes on this machine so far."""
    votes, guesses = tally["best"], tally["guesses"]
    total = guesses["right"] + guesses["wrong"]
    if not total:
        return '<p class="wb-hint">No votes on this machine yet.</p>'
    liked = ", ".join(f"{NAMES[kind]} {votes.get(kind, 0)}" for kind in NAMES if votes.get(kind))
    said = (
        f"{total} vote{'s' * (total != 1)} on this machine. Liked best: {liked}. Which was which was told "
        f"right in {guesses['right']} of {total}."
    )
    return f'<p class="wb-status">{html.escape(said)}</p>'


def reveal_html(ballot: Ballot, right: bool) -> str:
    """Who was who."""
    who = ", ".join(
        f"{letter} was the {NAMES[kind]}" for letter, kind in zip(ballot.letters, ballot.order, strict=True)
    )
    return f'<p class="wb-status" role="status">{"Right" if right else "Wrong"}: {html.escape(who)}.</p>'


def missing_html(absent: Sequence[str]) -> str:
    """Which lanes are empty and how they are made; nothing when all are there."""
    if not absent:
        return ""
    rows = "".join(f"<li>{NAMES[kind]}: {marked(how_to_make(kind))}</li>" for kind in absent)
    said = "These lanes are empty, because no such model is here yet. Trained, it is found under runs/."
    return f'<div class="wb-empty"><h3>Not everybody is at the start</h3><p>{said}</p><ul>{rows}</ul></div>'
