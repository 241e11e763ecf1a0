"""How a run goes at this moment, from its folder alone: a state, numbers, and sentences for a person."""

import html
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from workbench.app.runs import Run, records_of, series, settings_of

_RATES = 5  # log lines whose median speed is the speed
_WORDS = 3  # remarks that stand beside the progress; the view below has all
_CALM = "The monitor reads every line; so far it has nothing to remark."


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One look at a run.

    state: "starting", "running", "saving", "done", "paused", "stopped", "failed" or "still" (nobody trains
    it, and it is not at its end). ours: started from a page or a notebook, so that it can be paused here.
    seen, budget: images, budget None before config.json is there; rate: images a second; trouble: why it
    failed. saved: images at the newest checkpoint, None without one; whole: whether it ended in the usual
    way, which saves everything. resumable: whether there are checkpoints to go on from, or nothing was
    trained yet. words: the newest remarks of the trainer, oldest first. now: losses and D's verdicts of the
    last line.
    """

    state: str
    ours: bool
    seen: int
    budget: int | None
    rate: float | None
    trouble: str | None
    saved: int | None
    whole: bool
    resumable: bool
    words: tuple[tuple[int, str], ...]
    now: dict[str, float]

    @property
    def alive(self) -> bool:
        """Whether it trains now."""
        return self.state in ("starting", "running", "saving")

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of the budget at the present speed."""
        if not self.rate or self.budget is None:
            return None
        return max(0, self.budget - self.seen) / self.rate


def look(folder: Path) -> Progress:
    """How the run in this folder goes now."""
    from workbench.training import background, checkpoint  # bring psutil, torch; the page is up before them

    trainer, records = background.look(folder), records_of(folder)
    steps = [record for record in records if record.get("kind") == "step"]
    budget = settings_of(folder).get("config", {}).get("images")
    seen = records[-1]["cur_nimg"] if records else 0
    rates = [rate for _, rate in series(steps[-_RATES:], "images_per_s")]
    told = [(record["cur_nimg"], str(record["text"])) for record in records if record.get("text")]
    state = _state(trainer, started=bool(steps), done=isinstance(budget, int) and seen >= budget)
    return Progress(
        state=state,
        ours=trainer.kind == "ours" or (trainer.kind == "none" and trainer.began is not None),
        seen=seen,
        budget=budget if isinstance(budget, int) else None,
        rate=median(rates) if rates else None,
        trouble=trainer.trouble,
        saved=checkpoint.newest_nimg(folder),
        whole=trainer.ended in ("done", "stopped", "paused"),
        resumable=not records or any((folder / "checkpoints").glob("step-*")),
        words=tuple(told[-_WORDS:]),
        now=_now(steps[-1]) if steps else {},
    )


def _state(trainer: Any, *, started: bool, done: bool) -> str:
    if trainer.alive:
        return "saving" if trainer.asked else "running" if started else "starting"
    if trainer.trouble:
        return "failed"
    if done:
        return "done"
    return {"pause": "paused", "stop": "stopped"}.get(trainer.asked, "still")


def _now(step: dict[str, Any]) -> dict[str, float]:
    wanted = {"G's loss": "G.loss", "D's loss": "D.loss", "D of real": "D.real", "D of generated": "D.fake"}
    return {label: step[name] for label, name in wanted.items() if isinstance(step.get(name), (int, float))}


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 3 min, 2.5 h, 4 days."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            number = seconds / size
            return f"{number:.0f} {name}" if number >= 10 or name == "min" else f"{number:.1f} {name}"
    return f"{seconds:.0f} s"


def live_html(run: Run, seen: Progress) -> str:
    """The state in a sentence, a bar, the numbers of this moment, and what the trainer says in words."""
    total = f" of {seen.budget:,}" if seen.budget else ""
    count = f"{seen.seen:,}{total} images"
    bar = ""
    if seen.budget and seen.state != "done":
        share = min(1.0, seen.seen / seen.budget)
        role = f'role="progressbar" aria-valuemin="0" aria-valuemax="1" aria-valuenow="{share:.4f}"'
        bar = f'<div class="wb-bar" {role} aria-label="{count}"><i style="width:{share:.2%}"></i></div>'
    head, more = _sentence(run, seen, count)
    said = f'<p class="wb-status" role="status"><b>{html.escape(head)}</b> {html.escape(more)}</p>'
    numbers = " · ".join(f"{label} {value:.2f}" for label, value in seen.now.items())
    now = f'<p class="wb-hint wb-now">{html.escape(numbers)}</p>' if seen.alive and numbers else ""
    return f'<div class="wb-live wb-{seen.state}">{said}{bar}{now}{_words(seen)}</div>'


def says_saving(shown: str | None) -> bool:
    """Whether this is `live_html` of a run that saves: what a visitor had before him when he pressed."""
    return bool(shown) and shown.startswith('<div class="wb-live wb-saving">')


def _sentence(run: Run, seen: Progress, count: str) -> tuple[str, str]:
    """(what is the matter, the rest of it)."""
    pace = f"{seen.rate:.3g} images a second" if seen.rate else "the speed is known after the first log line"
    left = f", about {duration(seen.left_s)} left" if seen.left_s else ""
    where = "" if seen.ours else " Started in a terminal: Ctrl-C there saves and ends it."
    model = f"The model is in {run.folder / 'model'}." if (run.folder / "model").is_dir() else ""
    goes_on = " Resume goes on from there, bit for bit." if seen.resumable else ""
    return {
        "starting": (
            "Getting ready.",
            "The pictures are read and the networks built; the first line comes soon.",
        ),
        "running": (f"Training: {count}.", f"{pace.capitalize()}{left}.{where}"),
        "saving": (
            "Finishing this step, then saving.",
            f"{count} so far. Stop, pressed again, leaves at once: what is not saved is lost.",
        ),
        "done": (f"Done: {count}.", model),
        "paused": (f"Paused at {count}.", f"{_kept(seen)}{goes_on}"),
        "stopped": (f"Stopped at {count}.", f"{_kept(seen)} {model}{goes_on}"),
        "failed": (f"Ended at {count}.", f"{seen.trouble}{goes_on if seen.seen else ''}"),
        "still": (f"Not training: {count}.", goes_on.strip()),
    }[seen.state]


def _kept(seen: Progress) -> str:
    """What there is of a run that was asked to end."""
    if seen.whole or (seen.saved or 0) >= seen.seen > 0:
        return "Everything is saved."
    if not seen.seen:
        return "Nothing was trained yet."
    after = f"what came after image {seen.saved:,}" if seen.saved else "what it had learnt"
    return f"It left at once: {after} is lost."


def _words(seen: Progress) -> str:
    """The newest remarks, newest first; while it trains, silence is said too."""
    if not seen.words:
        return f'<p class="wb-hint">{_CALM}</p>' if seen.state == "running" else ""
    if not seen.alive:
        return ""  # the view has them all
    rows = "".join(f"<li><b>at {nimg:,}</b> {html.escape(text)}</li>" for nimg, text in reversed(seen.words))
    return f'<ul class="wb-said-by-monitor" aria-label="What the trainer says">{rows}</ul>'
