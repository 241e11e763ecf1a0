"""The Race tab: one prompt, one Go; GAN, few-step student and diffusion side by side with their clocks, and a
blind vote. Layout and wiring; `race_run.py` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.app import prompts, race_view, race_votes
from workbench.app.create import new_seed
from workbench.app.jobs import MODEL_QUEUE, in_words
from workbench.app.long_work import Stops, Wish
from workbench.app.race_equal import needed
from workbench.app.race_lanes import Track
from workbench.app.race_run import MOST_STEPS, STUDENT_STEPS, Ask, Race, asked, race, steps_in
from workbench.app.upscale_view import status_html
from workbench.errors import WorkbenchError

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_ACT = {**_LIGHT, "queue": True}  # what may be refused goes through the queue, or the page shows no sentence
_MODEL = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, "show_progress": "hidden",
          "api_visibility": "private"}  # fmt: skip
_NOISED = 8  # pictures of the forward strip
_OUTPUTS = 10  # of a race: what `_outputs` lists


def race_tab(track: Track, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`."""
    stops = Stops()
    missing = gr.HTML(elem_id="race-missing")
    with gr.Row(elem_classes="wb-promptbar", equal_height=True):
        prompt = gr.Textbox(prompts.EXAMPLES[0], label="Prompt", max_lines=4, scale=8, elem_id="race-prompt")
        go = gr.Button("Go", variant="primary", scale=0, min_width=140, elem_id="race-go")
        stop = gr.Button("Stop", scale=0, min_width=100, elem_id="race-stop")
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=3, min_width=320):
            lanes = gr.HTML(elem_id="race-lanes")
            verdict = gr.HTML(elem_id="race-verdict")
            strips = gr.HTML(elem_id="race-strips")
        with gr.Column(scale=1, min_width=290):
            knobs = _knobs()
            vote = _vote_part()
    last, ballot, wish = gr.State(None), gr.State(None), gr.State(Wish())
    asks = [vote[name] for name in ("best", "gan", "student")]
    outputs = [lanes, verdict, strips, last, ballot, vote["part"], *asks, vote["said"]]
    controls = [
        prompt,
        *(knobs[name] for name in ("seed", "steps", "student", "sampler", "guidance", "blind")),
    ]

    @in_words
    def run(wish: Wish, request: gr.Request) -> Iterator[list[Any]]:
        if (wished := wish.take()) is None:  # stopped while it waited for others
            yield [gr.skip()] * _OUTPUTS
            return
        *how, blind = wished
        yield from _raced(track, stops, asked(*how), bool(blind), request.session_hash or "")

    for start in (go.click, prompt.submit):
        start(Wish.ask, [wish, *controls], None, **_ACT).success(run, wish, outputs, **_MODEL)

    def halt(wish: Wish, request: gr.Request) -> Any:
        stops.stop(request.session_hash or "")
        return status_html("Stopped before it began.") if wish.drop() else gr.skip()

    stop.click(halt, wish, verdict, **_LIGHT)
    knobs["dice"].click(new_seed, None, knobs["seed"], **_LIGHT)
    knobs["time"].click(_equal_time, last, [knobs["steps"], knobs["said"]], **_ACT)
    knobs["quality"].click(
        in_words(lambda: _equal_quality(track)), None,
        [knobs[name] for name in ("steps", "sampler", "guidance", "said")], **_MODEL,
    )  # fmt: skip
    vote["cast"].click(
        in_words(_cast), [last, ballot, *asks],
        [lanes, verdict, strips, vote["said"], vote["tally"], vote["part"]], **_ACT,
    )  # fmt: skip
    tab.select(in_words(lambda found: _opened(track, found)), last, [missing, lanes, vote["tally"]], **_ACT)


def _knobs() -> dict[str, Any]:
    with gr.Row(elem_classes="wb-seed", equal_height=True):
        seed = gr.Textbox("1", label="Seed", max_lines=1, scale=3, min_width=110, elem_id="race-seed")
        dice = gr.Button("New seed", scale=1, min_width=130, elem_id="race-dice")
    steps = gr.Slider(
        1, MOST_STEPS, 16, step=1, label="Steps of diffusion", elem_id="race-steps",
        info="Each step takes the same time again.",
    )  # fmt: skip
    in_time = gr.Button("As many as the GAN's time allows", size="sm", elem_id="race-equal")
    as_good = gr.Button("As many as the GAN's quality needs", size="sm", elem_id="race-equal-quality")
    said = gr.HTML(elem_id="race-needed")
    student = gr.Slider(
        STUDENT_STEPS[0], STUDENT_STEPS[-1], 2, step=1, label="Steps of the student", elem_id="race-student"
    )
    with gr.Accordion("How diffusion is sampled", open=False):
        sampler = gr.Radio(["dpm++", "ddim"], value="dpm++", label="Sampler", elem_id="race-sampler")
        guidance = gr.Slider(
            0, 8, 1.5, step=0.5, label="Guidance", elem_id="race-guidance",
            info="How far the prompt counts; at 1 a step is one pass through the network, else two.",
        )  # fmt: skip
    blind = gr.Checkbox(
        False, label="Blind", elem_id="race-blind",
        info="Names and clocks stay hidden until the class has voted.",
    )  # fmt: skip
    return {"seed": seed, "dice": dice, "steps": steps, "time": in_time, "quality": as_good, "said": said,
            "student": student, "sampler": sampler, "guidance": guidance, "blind": blind}  # fmt: skip


def _vote_part() -> dict[str, Any]:
    with gr.Group(visible=False, elem_id="race-vote") as part:
        best = gr.Radio([], label="Which is the best picture?", elem_id="race-best")
        gan = gr.Radio([], label="Which one did the GAN draw?", elem_id="race-which")
        student = gr.Radio(
            [], label="Which one did the few-step student draw?", visible=False, elem_id="race-which-student"
        )
        cast = gr.Button("Vote and lift the curtain", variant="primary", elem_id="race-cast")
    said = gr.HTML(elem_id="race-said")
    tally = gr.HTML(elem_id="race-tally")
    return {"part": part, "best": best, "gan": gan, "student": student, "cast": cast, "said": said,
            "tally": tally}  # fmt: skip


# --- what the events do ---


def _raced(track: Track, stops: Stops, ask: Ask, blind: bool, visitor: str) -> Iterator[list[Any]]:
    """The page's outputs, again after each step."""
    lanes = track.lanes()
    if blind and len(lanes) < 2:
        raise WorkbenchError(
            "A blind vote needs two lanes at least, and only the GAN is here: train another."
        )
    ballot = race_votes.shuffled(lanes) if blind else None
    for what, found in stops.run(lambda tell: race(track, ask, tell), visitor):
        yield _stopped(lanes) if what == "stopped" else _outputs(found, ballot)


def _stopped(lanes: tuple[str, ...]) -> list[Any]:
    """The outputs of a race that was broken off: lanes at the start, and nothing to vote on."""
    said = status_html("Stopped: nobody won. Press Go for another race.")
    shown = [race_view.start_html(lanes), said, "", None, None, gr.update(visible=False)]
    return [*shown, *[gr.skip()] * (_OUTPUTS - len(shown))]


def _outputs(found: Race, ballot: race_votes.Ballot | None) -> list[Any]:
    """Lanes, verdict, strips, the race, its ballot, and the vote's parts."""
    hidden = ballot is not None
    letters = ballot.letters if hidden and found.done else []
    choice = gr.update(choices=letters, value=None)
    return [
        race_view.lanes_html(found, ballot),
        "" if hidden else race_view.verdict_html(found),
        "" if hidden or not found.done else _strips(found),
        found if found.done else None,
        ballot,
        gr.update(visible=bool(letters)),
        choice,
        choice,
        gr.update(choices=letters, value=None, visible=_third(ballot)),
        "",
    ]


def _strips(found: Race) -> str:
    from workbench.diffusion.schedule import noising

    noised, times = noising(found.lane("gan").picture, count=_NOISED, seeds=[found.ask.seed])
    return race_view.strips_html(found, noised, times)


def _third(ballot: race_votes.Ballot | None) -> bool:
    """Whether the GAN's letter alone does not tell which is which."""
    return ballot is not None and len(ballot.order) > 2


def _cast(
    found: Race | None, ballot: Any, best: str | None, gan: str | None, student: str | None
) -> list[Any]:
    if found is None or ballot is None:
        raise WorkbenchError("There is nothing to vote on: tick Blind and press Go first.")
    taken = {"gan": gan, "student": student} if _third(ballot) else {"gan": gan}
    tally, right = race_votes.vote(ballot, best, taken)
    return [
        race_view.lanes_html(found),
        race_view.verdict_html(found),
        _strips(found),
        race_view.reveal_html(ballot, right),
        race_view.tally_html(tally),
        gr.update(visible=False),
    ]


@in_words
def _equal_time(found: Race | None) -> list[Any]:
    steps = None if found is None else steps_in(found)
    if steps is None:
        raise WorkbenchError(
            "The clocks have to run once first, with a diffusion model on the track: press Go."
        )
    if steps == 0:
        return [1, race_view.needed_html("Not even one step takes as little time as the GAN: here is one.")]
    return [steps, ""]


def _equal_quality(track: Track) -> list[Any]:
    """Steps, sampler and guidance, as far as they are known, and what is said of them."""
    found = needed(track)
    values = (found.steps, found.sampler, found.guidance)
    return [*(gr.skip() if value is None else value for value in values), race_view.needed_html(found.said)]


def _opened(track: Track, found: Race | None) -> list[Any]:
    """What is missing, the lanes before the first race, and the tally; looked at anew at each visit."""
    absent = [kind for kind in ("student", "diffusion") if track.place(kind) is None]
    lanes = race_view.start_html(track.lanes()) if found is None else gr.skip()
    return [race_view.missing_html(absent), lanes, race_view.tally_html(race_votes.read())]
