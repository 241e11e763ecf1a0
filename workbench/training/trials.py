"""The experiment bench: recipes that differ in one thing each, trained for the same number of images.

A plan (`benchmarks/recipe.json`) names the trials; what a person saw in their pictures and decided stands in
it too. Each trial is a run folder of its own and resumes where it stopped; the report is a table of them all.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.evaluation.complete import evaluate_completely
from workbench.evaluation.faithfulness import from_pipeline
from workbench.evaluation.features import load_judge
from workbench.evaluation.figures import provenance
from workbench.evaluation.reference import CACHE
from workbench.images import write_whole
from workbench.models.presets import Preset, preset
from workbench.pipeline import Pipeline
from workbench.training.config import TrainConfig, read_json
from workbench.training.history import read_history
from workbench.training.setup import check_judged
from workbench.training.trainer import train

ROW = "trial.json"  # in a trial's run folder: what was measured of it
MEASURED = ("frechet_ratio", "all", "coat", "pose", "scene", "light", "diversity", "precision", "recall",
            "coverage", "geometry_ratio")  # fmt: skip
_KEPT = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe. change: what differs, in a few words; preset, images: None = the plan's; data: folder of
    another set than the command's, None = the same; start_from: run or model folder whose weights it takes
    over, or the name of an earlier trial of the plan, None = fresh weights; start_critics: folder of critics
    that go on beside that G; G, D, vision, train: fields of the configs that it sets (vision None = no
    heads); eye: what is seen in the pictures; kept: whether the change stays, None = not decided.
    """

    name: str
    change: str
    preset: str | None = None
    images: int | None = None
    data: str | None = None
    start_from: str | None = None
    start_critics: str | None = None
    G: dict = field(default_factory=dict)
    D: dict = field(default_factory=dict)
    vision: dict | None = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    eye: str = ""
    kept: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trials with what they share. n: pictures of an evaluation."""

    preset: str
    images: int
    n: int
    trials: tuple[Trial, ...]


def read_plan(path: str | Path) -> Plan:
    """The plan in a JSON file. Raises WorkbenchError that names what is missing, unknown or doubled."""
    data = read_json(path, "a plan of trials")
    try:
        trials = tuple(Trial(**{**trial, **_resized(trial)}) for trial in data.pop("trials"))
        plan = Plan(**data, trials=trials)
    except (KeyError, TypeError, AttributeError) as error:
        allowed = ", ".join(one.name for one in fields(Trial))
        raise WorkbenchError(
            f"{path} is no plan of trials ({error}). Expected preset, images, n and trials, each with "
            f"{allowed}."
        ) from error
    names = [trial.name for trial in trials]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise WorkbenchError(f"{path} has two trials called {doubled[0]!r}: give each a name of its own.")
    return plan


def _resized(trial: dict) -> dict:
    """Tables by resolution with whole numbers as keys, which JSON has not."""
    return {
        part: {
            name: {int(k): v for k, v in value.items()} if isinstance(value, dict) else value
            for name, value in trial[part].items()
        }
        for part in ("G", "D")
        if part in trial
    }


def recipe_of(plan: Plan, trial: Trial, *, seed: int = 0) -> tuple[Preset, TrainConfig]:
    """Networks and settings of a trial: the preset's, with what the trial changes."""
    base, images = preset(trial.preset or plan.preset), trial.images or plan.images
    changed = replace(
        base,
        generator=replace(base.generator, **trial.G),
        discriminator=replace(base.discriminator, **trial.D),
        vision_aided=None if trial.vision is None else replace(base.vision_aided, **trial.vision),
    )
    settings = {
        **base.train,
        "seed": seed,
        "log_every_nimg": max(1, images // 100),
        "sample_every_nimg": max(1, images // 5),
        "eval_every_nimg": 0,
        "checkpoint_every_nimg": max(1, images // 4),
        "keep_checkpoints": 1,
        **trial.train,
        "images": images,
    }
    return changed, TrainConfig(preset=base.name, **settings)


def run_trials(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path,
    judge: str | Path,
    only: list[str] | None = None,
    device: str | None = None,
    cache: Path | None = CACHE,
    say: Callable[[str], None] = print,
) -> list[dict]:
    """Train and measure the trials that are not done (all, or those named), and return all rows so far.

    data: the set of all trials that name none of their own; cache: where the judge's view of the held-out
    renders is kept. Raises WorkbenchError for an unknown name, for a set that is not Shepherd World's alone,
    and what `train` raises.
    """
    known = [trial.name for trial in plan.trials]
    if unknown := [name for name in only or () if name not in known]:
        raise WorkbenchError(f"There is no trial {unknown[0]!r} in the plan: choose from {', '.join(known)}.")
    load_judge(judge)  # a wrong folder is told here, not after a trial is trained
    asked = [trial for trial in plan.trials if not only or trial.name in only]
    waiting = [trial for trial in asked if not (Path(out) / trial.name / ROW).is_file()]
    check_sets(plan, waiting, data)
    for trial in waiting:
        run = Path(out) / trial.name
        say(f"Trial {trial.name}: {trial.change}")
        networks, config = recipe_of(plan, trial)
        start = Path(out) / trial.start_from if trial.start_from in known else trial.start_from
        result = train(
            config, trial.data or data, run, clip=clip, judge=None, preset=networks, device=device,
            start_from=start, start_critics=trial.start_critics,
        )  # fmt: skip
        if result.reason != "done":
            say("The trials go on from here with the same command.")
            break
        text = json.dumps(measure(plan, trial, run, judge, cache), indent=1) + "\n"
        write_whole(run / ROW, lambda handle, text=text: handle.write(text.encode()))
    return [row for trial in plan.trials if (row := _read_row(Path(out), trial)) is not None]


def check_sets(plan: Plan, trials: Sequence[Trial], data: str | Path) -> None:
    """WorkbenchError where a set that one of the trials learns from is not there or none for the judge."""
    for source, name in dict.fromkeys((trial.data or data, trial.preset or plan.preset) for trial in trials):
        check_judged(source, preset(name).side)


def measure(plan: Plan, trial: Trial, run: Path, judge: str | Path, cache: Path | None) -> dict:
    """What is stated of a trial: its model of now against plan.n held-out renders, with its speed."""
    generate = from_pipeline(Pipeline.from_pretrained(run / "model"))
    found = evaluate_completely(generate, load_judge(judge), n=plan.n, cache=cache)
    steps = [record for record in read_history(run) if record["kind"] == "step"]
    return {
        "name": trial.name,
        "preset": trial.preset or plan.preset,
        "images": steps[-1]["cur_nimg"],
        "images_per_s": statistics.median(step["images_per_s"] for step in steps),
        "n": plan.n,
        "frechet_ratio": found["ratio"],
        **{name: found[name] for name in MEASURED if name != "frechet_ratio"},
        **provenance(),
    }


def _read_row(out: Path, trial: Trial) -> dict | None:
    """A trial's measurements with the plan's words on it; None where it is not done."""
    file = out / trial.name / ROW
    if not file.is_file():
        return None
    words = {"change": trial.change, "eye": trial.eye, "kept": trial.kept}
    return json.loads(file.read_text(encoding="utf-8")) | words


def write_report(rows: list[dict], folder: str | Path) -> Path:
    """recipe.json and recipe.md under `folder`; rows that an earlier report holds and `rows` does not stay.

    Returns the path of the table.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source, page = folder / "recipe.json", folder / "recipe.md"
    before = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else []
    merged = {row["name"]: row for row in [*before, *rows]}
    text = json.dumps(list(merged.values()), indent=1, ensure_ascii=False) + "\n"
    write_whole(source, lambda handle: handle.write(text.encode()))
    table = markdown(list(merged.values()))
    write_whole(page, lambda handle: handle.write(table.encode()))
    return page


def markdown(rows: list[dict]) -> str:
    """The table of trials as a page, those of one preset and budget together."""
    rows = sorted(rows, key=lambda row: (row["preset"], _budget(row["images"])))
    names = ("change", "preset", "images", "images/s", "Fréchet ÷ floor", "all four", "pose", "diversity",
             "recall", "coverage", "geometry ÷ floor", "what the eye sees", "kept")  # fmt: skip
    counts = " or ".join(f"{n:,}" for n in sorted({row["n"] for row in rows}))
    words = (
        "Changes to the recipe that ships, one seed each; compare rows of one preset and budget. Fréchet "
        "distance on the judge's mid-level features, over the distance of render to render, by "
        f"{counts} pictures. Images/s are those of the machine that a trial ran on, beside whatever else it "
        "did. Remade by `workbench trials --plan benchmarks/recipe.json --data DIR --report assets/reports`."
    )
    cells = [
        (row["change"], row["preset"], f"{row['images']:,}", f"{row['images_per_s']:.0f}",
         f"{row['frechet_ratio']:.2f}", f"{row['all']:.3f}", f"{row['pose']:.3f}",
         f"{row['diversity']:.2f}", f"{row['recall']:.2f}", f"{row['coverage']:.2f}",
         f"{row['geometry_ratio']:.1f}", row["eye"], _KEPT[row["kept"]])
        for row in rows
    ]  # fmt: skip
    return page("Trials of the demo model's recipe", words, names, cells)


def _budget(images: int) -> int:
    """Thousands of images: two runs of one budget differ by less than a batch."""
    return round(images / 1000)


def page(title: str, words: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown page: title, a paragraph, and a table of cells under their names."""
    lines = [f"# {title}", "", words, "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]) + "\n"
