"""What the Edit tab does, without the page: draw an edit, mix styles, change one control, roll a new one."""

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.app import edit_view
from workbench.app.jobs import Studio
from workbench.app.long_work import Stops
from workbench.errors import WorkbenchError

# Torch and the latents come with the model: imported inside the functions, the page is up before that.

FIRST = ("a black-and-tan shepherd sitting on the beach by day", 2)
SECOND = ("a red shepherd lying in the snow at sunset", 6)
ROWS, COLUMNS = 3, 4  # of the table of styles: what a telephone can show
_KEPT_WAYS, _KEPT_PICTURES = 16, 64
_NEW_SEEDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that was drawn: sources and styles (`latents.paths.Key` each), which layers were mixed."""

    which: str
    sources: tuple[Any, ...]
    styles: tuple[Any, ...]
    truncation: float
    negative: str


class Memory:
    """What was made for the keys that were asked for last, for several visitors at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gave for this key, now or before."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()  # outside of the lock: it may take long, and two making the same do no harm
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return made


class Lab:
    """The model for edits. It keeps the way between two pictures, so that a slider only draws."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.stops = Stops()
        self._ways, self._pictures = Memory(_KEPT_WAYS), Memory(_KEPT_PICTURES)
        self._directions: tuple[Any, list[Any], str] | None = None
        self._encoder: tuple[Any, Any] | None = None
        self._folder: Path | None = None

    def directions(self) -> tuple[list[Any], str]:
        """(directions of this model, why there are none). Files that arrive later are found."""
        from workbench.latents import store

        pipeline, folder = self.studio.pipeline(), self._beside()
        stamp = self._stamp()
        if self._directions is None or self._directions[0] != stamp:
            found, trouble = [], ""
            if stamp is None:
                trouble = (
                    f"There are no directions for this model in {folder}: find some with `workbench "
                    "directions`, and they appear here."
                )
            else:
                try:
                    found = store.load_directions(folder, pipeline)
                except WorkbenchError as error:
                    trouble = str(error)
            self._directions = (stamp, found, trouble)
        return self._directions[1:]

    def _stamp(self) -> int | None:
        """When the directions beside the model were written; None where there are none."""
        from workbench.latents import store

        facts = self._beside() / store.FACTS
        return facts.stat().st_mtime_ns if facts.is_file() else None

    def encoder(self) -> Any:
        """What a picture's way back starts from, None where none lies beside the model. Raises WorkbenchError
        for one that does not belong here.
        """
        from workbench.latents import encoder

        folder = self._beside()
        facts = folder / encoder.FACTS
        stamp = facts.stat().st_mtime_ns if facts.is_file() else None
        if self._encoder is None or self._encoder[0] != stamp:
            found = None if stamp is None else encoder.load_encoder(folder, self.studio.pipeline())
            self._encoder = (stamp, found)
        return self._encoder[1]

    def _beside(self) -> Path:
        """The folder beside the model where directions and encoder lie."""
        from workbench.latents import store
        from workbench.pipeline.model_folder import find_folder

        self._folder = self._folder or store.folder_of(find_folder(self.studio.model))
        return self._folder

    def draw(self, edit: Any) -> Any:
        """The picture of an edit, [3, S, S]. Raises WorkbenchError for one that cannot be drawn."""
        import torch

        from workbench.latents import session
        from workbench.latents.points import draw

        pipeline = self.studio.pipeline()
        with self.studio.alone():
            at = self._way(edit)(torch.tensor([edit.t]))
            at = session.finish(pipeline, self.directions()[0], edit, at)
            return draw(pipeline, at, batch_size=1)[0]

    def picture(self, edit: Any) -> str:
        """The picture of an edit as the page shows it; those that come again are kept."""
        # Directions found anew have the names of those before, and other pictures.
        key = (self._stamp() if edit.directions else None, edit)
        return self._pictures.get(key, lambda: edit_view.data_uri(self.draw(edit)))

    def _way(self, edit: Any) -> Any:
        from workbench.latents import session

        bare = edit.before
        return self._ways.get(bare, lambda: session.path(self.studio.pipeline(), bare))

    # --- the table of styles ---

    def table(self, edit: Any, which: str) -> tuple[Table, str]:
        """Mix `which` layers of pictures of the second prompt into those of the first: (table, HTML)."""
        from workbench.latents.edits import Mixed

        spec = Table(
            which=which,
            sources=tuple(replace(edit.first, seed=edit.first.seed + k) for k in range(ROWS)),
            styles=tuple(replace(edit.second, seed=edit.second.seed + k) for k in range(COLUMNS)),
            truncation=edit.truncation,
            negative=edit.negative,
        )
        Mixed(which=which, key=edit.first)  # refuses a range that is none before any work
        cells = [[self.picture(cell(edit, spec, k, j)) for j in range(COLUMNS)] for k in range(ROWS)]
        bare = replace(edit.before, start="")
        sources = [self.picture(replace(bare, first=key)) for key in spec.sources]
        styles = [self.picture(replace(bare, first=key)) for key in spec.styles]
        return spec, edit_view.table_html(styles, sources, cells, spec)


def cell(edit: Any, spec: Table | None, row: Any, column: Any) -> Any:
    """The edit that a cell of a table shows; WorkbenchError for a cell that is not there."""
    from workbench.latents.edits import Mixed

    places = isinstance(row, int) and isinstance(column, int)
    if spec is None or not places or not (0 <= row < len(spec.sources) and 0 <= column < len(spec.styles)):
        raise WorkbenchError("There is no such cell: draw the table again.")
    return replace(
        edit.before,
        first=spec.sources[row],
        truncation=spec.truncation,
        negative=spec.negative,
        mixing=(Mixed(which=spec.which, key=spec.styles[column]),),
        start="",
    )


# --- from controls to edits ---


def beginning() -> Any:
    """The edit that the tab opens with."""
    from workbench.latents.edits import Edit
    from workbench.latents.paths import Key

    return Edit(first=Key(*FIRST), second=Key(*SECOND))


def with_field(lab: Lab, edit: Any, field: str, value: Any) -> Any:
    """`edit` with one control changed. Raises WorkbenchError for an empty prompt, a bad seed or number.

    field: "first.prompt", "first.seed", "second.prompt", "second.seed", or a plain field of Edit.
    """
    from workbench.noise import parse_seed

    which, _, part = field.partition(".")
    if not part:
        if field in ("t", "truncation") and not isinstance(value, (int, float)):
            raise WorkbenchError(f"The slider stands at {value!r:.40}: expected a number. Move it back.")
        return replace(edit, **{field: value})
    if part == "seed":
        value = parse_seed(str(value))
    else:
        check_prompt(lab, value)
    key = replace(getattr(edit, which), **{part: value})
    start = edit.start
    if key != edit.first and field == "first.seed":
        start = ""  # a seed asks for another picture than the uploaded one
    elif key != edit.first and field == "first.prompt":
        start = start.partition(".")[0]  # new words over the styles that were found
    return replace(edit, **{which: key, "start": start})


def check_prompt(lab: Lab, prompt: Any) -> None:
    """WorkbenchError for a prompt without words, or with marks that are none."""
    from workbench.latents.captions import parse_marks
    from workbench.pipeline import clean_prompt

    text = parse_marks(prompt).text if isinstance(prompt, str) else prompt
    clean_prompt(text, lab.studio.pipeline().text_encoder)


def with_strengths(edit: Any, values: Any) -> Any:
    """`edit` with the strengths of all directions: name -> strength, as the page sends them."""
    if not isinstance(values, Mapping):
        raise WorkbenchError("The strengths of the directions did not arrive: move the slider again.")
    before = {name: k for k, (name, _) in enumerate(edit.directions)}
    named = sorted(values.items(), key=lambda item: before.get(item[0], len(before)))  # in the order of use
    return replace(edit, directions=tuple((str(name), strength) for name, strength in named))


def rolled(edit: Any, which: str, lock_seed: bool, lock_prompt: bool) -> Any:
    """Another picture in the place "first" or "second": a new seed, a new prompt, or both."""
    from workbench.app.prompts import random_caption

    if lock_seed and lock_prompt:
        raise WorkbenchError("Seed and prompt are both locked: unlock one of them to roll a new picture.")
    key, start = getattr(edit, which), edit.start
    if not lock_seed:
        key = replace(key, seed=random.randrange(_NEW_SEEDS))
    if not lock_prompt:
        key = replace(key, prompt=random_caption())
    if which == "first":  # new words over the styles that were found; a new seed is another picture
        start = start.partition(".")[0] if lock_seed else ""
    return replace(edit, **{which: key}, start=start)
