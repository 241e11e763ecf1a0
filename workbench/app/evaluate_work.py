"""What the Evaluate tab does, without the page: measure a model, list reports, compare two, state figures."""

from __future__ import annotations

import contextlib
import html
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from workbench.app.jobs import Studio
from workbench.app.runs import Shelf
from workbench.app.sets import Sets
from workbench.errors import WorkbenchError

# Torch and the measures come with a report: imported inside the functions, the page is up before that.

REPORTS = Path("runs") / "reports"
SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "reports"
COUNTS = (200, 1000, 5000)
PAGE_MODEL = "the page's model"
_MET = {True: "yes", False: "no", None: "stated only"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A report that is asked for. model: a name of `Bench.models`; data: of its sets; n: pictures drawn."""

    model: str
    data: str
    n: int
    seed: int


class Bench:
    """The models, data sets and reports of this computer."""

    def __init__(self, studio: Studio, shelf: Shelf) -> None:
        self.studio, self.shelf, self.sets = studio, shelf, Sets(shelf.runs)

    def models(self) -> list[str]:
        """The page's model, then every finished run that has a GAN of its own."""
        runs = [name for name, run in self.shelf.list().items() if _may_be_gan(run.folder / "model")]
        return [PAGE_MODEL, *runs]

    def pipeline(self, name: str) -> Any:
        """A model by its name here, in memory of its own: Learn switches pieces of the page's off while it
        looks inside, and measuring is too long to hold that one. WorkbenchError where it is gone or damaged.
        """
        if name == PAGE_MODEL:
            self.studio.pipeline()  # says what to do where it is missing
        from workbench.pipeline import Pipeline

        folder = self.studio.model if name == PAGE_MODEL else self.shelf.get(name).folder / "model"
        return Pipeline.from_pretrained(folder)

    def measure(self, wanted: Wanted, tell: Callable[[str], Any]) -> Path:
        """Measure and write a report; returns its folder. What an earlier stop left is used.

        Raises WorkbenchError as the measures do, and whatever `tell` raises.
        """
        from workbench import hardware
        from workbench.evaluation.features import JUDGE_FOLDER, load_judge
        from workbench.evaluation.metrics.extractors import local_clip
        from workbench.evaluation.perceptual import perceptual_distance
        from workbench.evaluation.report.gathering import Tools, gather
        from workbench.evaluation.report.writing import write_report

        pipeline, data = self.pipeline(wanted.model), self.sets.get(wanted.data)
        device = hardware.choose_device(None)
        clip = JUDGE_FOLDER.parent / "mini-clip"
        tools = Tools(
            judge=load_judge(JUDGE_FOLDER, device), clip=local_clip(clip, device=device),
            distance=perceptual_distance("auto"),
        )  # fmt: skip
        found = gather(
            pipeline, data, tools, n=wanted.n, seed=wanted.seed, undisturbed=lambda: self._undisturbed(tell),
            progress=lambda done, total, what: tell(f"{what.capitalize()}: {done:,} of {total:,}"),
        )  # fmt: skip
        tell("Writing the report")
        named = pipeline.name if wanted.model == PAGE_MODEL else wanted.model
        out = REPORTS / report_name(wanted, named, pipeline.weight_hash)
        write_report(found, out)
        return out

    @contextlib.contextmanager
    def _undisturbed(self, tell: Callable[[Any], None]) -> Iterator[None]:
        """Everybody's pictures wait for one draw, or the speed would tell how busy this page was."""
        tell("Taking the speed")
        with self.studio.alone():
            yield

    def copies(self, folder: Path) -> list[str]:
        """A report's two files where the page may hand them out."""
        kept = self.studio.new_folder()
        return [str(shutil.copy(folder / name, kept / name)) for name in ("report.html", "report.json")]

    def reports(self) -> list[str]:
        """Names of the reports here, the newest first, and at the end those that ship."""
        return list(_reports())


def wanted(model: Any, data: Any, n: Any, seed: Any) -> Wanted:
    """The page's controls as a Wanted. WorkbenchError for what cannot be measured."""
    from workbench.noise import parse_seed

    if not data:
        raise WorkbenchError(
            "There is no data set to measure against: draw one, or bring your pictures (Dataset)."
        )
    if n not in COUNTS:
        raise WorkbenchError(
            f"The number of pictures is {str(n)[:40]}: choose {', '.join(map(str, COUNTS))}."
        )
    return Wanted(model=str(model or PAGE_MODEL), data=str(data), n=int(n), seed=parse_seed(str(seed)))


def report_name(wanted: Wanted, model: str, weight_hash: str) -> str:
    """The name of a report's folder: the same for the same weights and data, and for no others.

    model: what the model is called; weight_hash: of its `Pipeline`.
    """
    from workbench.pipeline.keeping import slug

    # The names alone tell few apart: a slug has no letters but ASCII, and a run is trained on.
    exact = sha256("\n".join((model, weight_hash, wanted.data)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug(model)}-on-{slug(wanted.data)}-{wanted.n}-seed-{wanted.seed}-{exact[:6]}"


def folder_of(name: str | None) -> Path:
    """The folder of a report by its name. WorkbenchError for none, and for one that is gone."""
    folder = _reports().get(str(name))
    if folder is None:
        raise WorkbenchError("Choose a report in the list; measure a model first where there is none.")
    return folder


def _reports() -> dict[str, Path]:
    """Name -> folder, in the order of `Bench.reports`."""
    own = sorted(REPORTS.glob("*/report.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    shipped = {f"{file.parent.name} (ships)": file.parent for file in sorted(SHIPPED.glob("*/report.json"))}
    return {file.parent.name: file.parent for file in own} | shipped


def page_html(folder: Path) -> str:
    """A report's page inside this one, in a frame of its own, so that neither's style reaches the other."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return (
        f'<iframe class="wb-report" title="report {html.escape(folder.name)}" sandbox="allow-popups" '
        f'srcdoc="{html.escape(text)}"></iframe>'
    )


def compared_html(first: str | None, second: str | None) -> str:
    """Two reports number by number. WorkbenchError where they were not measured alike, with what differs."""
    from workbench.evaluation.metrics.record import compare_files

    found = compare_files(*(folder_of(name) / "report.json" for name in (first, second)))
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(one.name)}</th><td>{one.first:.4g}</td><td>{one.second:.4g}</td>"
        f"<td>{html.escape(one.verdict)}</td></tr>"
        for one in found.comparisons
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("measure", "first", "second", "verdict"))
    return _table(head, rows)


def _may_be_gan(folder: Path) -> bool:
    """Whether a model folder is there that does not say it draws otherwise. Loading tells of damage."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        return folder.is_dir()
    return kind in (None, "gigagan-pipeline")


def figures_html() -> str:
    """Every figure that the project states: goal, value, whether it is met."""
    from workbench.evaluation import figures
    from workbench.evaluation.goals import GOALS, met

    entries, rows = figures.read(), []
    for id, goal in GOALS.items():
        entry = entries.get(id)
        cells = (goal.goal, "not measured yet", "", "")
        if entry is not None:
            n = f"{entry['n']:,}" if entry.get("n") else ""
            cells = (
                goal.goal,
                f"{entry['value']:.4g} {entry['unit']}",
                _MET[met(entry["value"], goal.goal)],
                n,
            )
        said = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f"<tr><th scope='row'><code>{html.escape(id)}</code></th>{said}</tr>")
    names = ("figure", "goal", "measured", "met", "pictures")
    return _table("".join(f'<th scope="col">{name}</th>' for name in names), "".join(rows))


def _table(head: str, rows: str) -> str:
    return f'<div class="wb-figures"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
