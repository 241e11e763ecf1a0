"""Own pictures as a data set folder: any tree of pictures, fitted, captioned, and nothing lost silently.

Beside what every set holds, the folder gets `skipped.jsonl` (each file that was not taken: source, reason,
do) and `import.jsonl`, the journal by which a stopped or grown import goes on; the journal may be deleted.
The source is only read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from workbench import hardware
from workbench.datasets import writing
from workbench.datasets.own.captions import Caption, CaptionFinder, Captions, is_caption_file, tidy
from workbench.datasets.own.taking import JOURNAL, TakeConfig, Taken, journal_line, read_journal, take
from workbench.datasets.tree import Entry, Stop, shown, stopped, walk
from workbench.errors import WorkbenchError

Captioner = Callable[[Sequence[Image.Image]], list[str]]

SKIPPED = "skipped.jsonl"
_KIND = "own-pictures"
_CHUNK = 64  # files between two looks at `stop`, and captioned together
_BYTES_PER_PIXEL = 2.2  # of a photograph as PNG, a little high
_REASONS = 6  # told on the terminal
_HOW = ("auto", "metadata", "txt", "filename", "folders", "blip")
_HOW_TO_CAPTION = "write a line in metadata.jsonl or a .txt beside it, or try --captions blip"
_KEPT = "Pictures taken so far are kept; the same command goes on."


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of metadata, that was not taken: where, why, what to do."""

    source: str
    reason: str
    do: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What `import_folder` did. pictures: in the set now; fresh: of them made by this call; sources: files
    they are from; stopped: whether it ended early, then without metadata."""

    folder: Path
    pictures: int
    fresh: int
    sources: int
    captions_from: dict[str, int] = field(default_factory=dict)
    upscaled: int = 0
    frames_left: int = 0
    skipped: tuple[Skipped, ...] = ()
    stopped: bool = False

    def text(self) -> str:
        """A few lines for a terminal."""
        folder = shown(str(self.folder))
        if self.stopped:
            return f"Stopped. {self.pictures} pictures are kept in {folder}; the same command goes on."
        ways = ", ".join(f"{way} ({count})" for way, count in self.captions_from.items())
        lines = [f"{self.pictures} pictures from {self.sources} files in {folder}, {self.fresh} of them new"]
        if not self.pictures:
            lines = [f"No picture was taken, so {folder} holds none."]
            if not self.skipped:
                lines[0] += " Check the path of the source: PNG, JPEG, WebP and the like, at any depth."
        lines += [f"captions from: {ways}"] if ways else []
        lines += [f"enlarged, as asked: {self.upscaled}"] if self.upscaled else []
        if self.frames_left:
            lines.append(
                f"animated files of which frames were left out: {self.frames_left} (--frames takes more)"
            )
        if self.skipped:
            lines.append(f"not taken: {len(self.skipped)}, each with its reason in {folder}/{SKIPPED}")
            reasons = Counter(_sort_of(each.reason) for each in self.skipped)
            for reason, count in reasons.most_common(_REASONS):
                first = next(each for each in self.skipped if _sort_of(each.reason) == reason)
                lines.append(f"  {count} × {reason} (e.g. {shown(first.source)}) → {first.do}")
            if len(reasons) > _REASONS:
                lines.append(f"  and for {len(reasons) - _REASONS} other reasons")
        return "\n".join(lines)


def import_folder(
    source: str | Path,
    out: str | Path,
    *,
    config: TakeConfig,
    captions: Captions = "auto",
    captioner: Captioner | None = None,
    workers: int | None = None,
    progress: writing.Progress = True,
    stop: Stop = None,
) -> Imported:
    """Makes a data set in `out` of all pictures below `source`.

    captions: where they are looked for; "auto" takes the first of metadata, txt, filename, folders that has
    one. captioner: needed for "blip", from pictures to texts (`blip.load_captioner`). workers: threads, None
    for one a core. stop: an Event, or a function that says True when the work is to end. The same call goes
    on where an earlier one ended, and takes up what changed in the source. Raises WorkbenchError for
    settings, places or an `out` that cannot be.
    """
    source, out = Path(source), Path(out)
    writing.check_whole_number("workers", hardware.usable_cores() if workers is None else workers, 1, 1024)
    _check(source, out, captions, captioner)
    recipe = {"schema": 1, "kind": _KIND, "source": source.resolve().name, "captions": captions} | asdict(
        config
    )
    with writing.clear_errors(_KEPT):
        _refuse_other(out, recipe)
        out.mkdir(parents=True, exist_ok=True)
        with writing.only_writer(out):
            work = _Import(source, out, config, captions, captioner)
            work.open(recipe)
            if work.take_all(workers or hardware.usable_cores(), progress, stop):
                work.close(recipe)
                return work.result()
            return work.result(stopped=True)


def _check(source: Path, out: Path, captions: str, captioner: Captioner | None) -> None:
    if not source.is_dir():
        what = "a file" if source.exists() else "not there"
        raise WorkbenchError(f"{source} is {what}. Expected a folder with pictures.")
    if captions not in _HOW:
        raise WorkbenchError(f"captions is {captions!r}: expected one of {', '.join(_HOW)}.")
    if (captions == "blip") != (captioner is not None):
        raise WorkbenchError("A captioner goes with captions='blip', and captions='blip' needs one.")
    inner, outer = out.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise WorkbenchError(
            f"{out} and {source} lie in each other. Choose a folder outside for the data set."
        )


def _refuse_other(out: Path, recipe: dict) -> None:
    """Lets pass no folder, an empty one, and a set of the same recipe."""
    if out.exists() and not out.is_dir():
        raise WorkbenchError(f"{out} is a file. Expected a folder to write the data set into.")
    if not out.exists() or writing.only_begun(out):
        return
    if not (out / "dataset.json").is_file():
        raise WorkbenchError(f"{out} holds something else. Nothing was written; choose another folder.")
    held = writing.read_recipe(out, name="own pictures")
    for key, value in recipe.items():
        if held.get(key) != value:
            raise WorkbenchError(
                f"{out} holds a set with {key} {held.get(key)!r}, not {value!r}. "
                "Nothing was written; choose another folder."
            )


class _Import:
    """One run: looks through the source, takes what is new, and writes what came of it."""

    def __init__(
        self, source: Path, out: Path, config: TakeConfig, captions: Captions, captioner: Captioner | None
    ) -> None:
        self.source, self.out, self.config, self.captioner = source, out, config, captioner
        self.skipped: list[Skipped] = []
        found = list(walk(source))
        self.finder = CaptionFinder(source, (each.name for each in found if not each.trouble), captions)
        self.entries = [each for each in found if self._may_be_a_picture(each)]
        self.captions = {each.name: self.finder.find(each.name) for each in self.entries}
        self._name_lost_captions(found)
        self.journal = read_journal(out)
        self.fresh = 0

    def _may_be_a_picture(self, entry: Entry) -> bool:
        if entry.trouble:
            self._skip(entry.name or ".", entry.trouble, entry.advice)
        elif entry.name.rpartition("/")[2].startswith("."):
            self._skip(entry.name, "a hidden file", "rename it if it is a picture of yours")
        else:
            return not is_caption_file(entry.name)
        return False

    def _name_lost_captions(self, found: Sequence[Entry]) -> None:
        for lost in (*self.finder.lost, *self.finder.unclaimed(set(self.captions))):
            self._skip(lost.where, lost.why, lost.advice)
        for each in found:
            if is_caption_file(each.name) and each.name not in self.finder.used and not each.trouble:
                self._skip(each.name, "no picture took its caption from it", "give it a picture's name")

    def _skip(self, source: str, reason: str, do: str) -> None:
        self.skipped.append(Skipped(source, reason, do))

    def open(self, recipe: dict) -> None:
        """Readies the folder: leftovers go, recipe and card come, and a journal of what still holds."""
        writing.clear_leftovers(self.out)
        (self.out / "metadata.jsonl").unlink(missing_ok=True)  # until the end, the set is an interrupted one
        known = {each.name: each for each in self.entries}
        for source, taken in list(self.journal.items()):
            entry = known.get(source)
            captioned = self.captioner is not None or self.captions.get(source)
            if entry is None or not captioned or not taken.still_true(entry, self.out):
                del self.journal[source]
                for facts in taken.pictures:
                    (self.out / facts["file_name"]).unlink(missing_ok=True)
        if not (self.out / "dataset.json").exists():
            writing.write_text(self.out / "dataset.json", writing.json_text(recipe | {"count": 0}))
        if not (self.out / "README.md").exists():
            writing.write_text(self.out / "README.md", _card())
        lines = (journal_line(taken) for taken in self.journal.values())
        writing.write_text(self.out / JOURNAL, "".join(lines))

    def take_all(self, workers: int, progress: writing.Progress, stop: Stop) -> bool:
        """Takes every file that the journal does not know; False when it was stopped before the end."""
        todo = [each for each in self.entries if each.name not in self.journal]
        writing.check_disk(self.out, len(todo) * self.config.resolution**2 * _BYTES_PER_PIXEL)
        with (
            open(self.out / JOURNAL, "a", encoding="utf-8") as journal,
            ThreadPoolExecutor(workers) as pool,
            writing.reporter(progress, len(self.entries), len(self.entries) - len(todo), "taking") as report,
        ):
            for at in range(0, len(todo), _CHUNK):
                if stopped(stop):
                    return False
                chunk = todo[at : at + _CHUNK]
                for taken in self._take_chunk(pool, chunk):
                    journal.write(journal_line(taken))
                journal.flush()
                report(len(chunk))
        return True

    def _take_chunk(self, pool: ThreadPoolExecutor, chunk: Sequence[Entry]) -> Iterator[Taken]:
        """What was taken of some files; the others are named as skipped."""
        done = list(pool.map(self._take, chunk))
        if self.captioner is not None:
            seen = [(taken, view) for taken, view in done if view is not None]
            texts = self.captioner([view for _, view in seen]) if seen else []
            for (taken, _), text in zip(seen, texts, strict=True):
                taken.text = tidy(text)
        for taken, _ in done:
            if taken.reason:
                self._skip(taken.source, taken.reason, taken.advice)
            elif not taken.text and not self.captions[taken.source]:
                self._skip(taken.source, "no caption was found for it", _HOW_TO_CAPTION)
            else:
                self.journal[taken.source] = taken
                self.fresh += len(taken.pictures)
                yield taken

    def _take(self, entry: Entry) -> tuple[Taken, Image.Image | None]:
        # Without a caption it is only looked at: whether it is broken is worth knowing all the same.
        view = self.captioner is not None
        out = self.out if view or self.captions[entry.name] else None
        return take(self.source, entry, out, self.config, view=view)

    def close(self, recipe: dict) -> None:
        """Writes the list of what was skipped, then what makes the set whole."""
        lines = (json.dumps(asdict(each)) + "\n" for each in self.skipped)
        writing.write_text(self.out / SKIPPED, "".join(lines))
        rows = list(self.rows())
        writing.close_set(self.out, recipe, rows, count=len({row["file_name"] for row in rows}))

    def rows(self) -> Iterator[dict]:
        """The metadata, in the order of the source: a row for each picture and caption."""
        for entry in self.entries:
            taken = self.journal.get(entry.name)
            if taken is None:
                continue
            captions = self.captions[entry.name] or [Caption(taken.text, "blip")]
            for facts in taken.pictures:
                own = {key: value for key, value in facts.items() if key not in ("file_name", "written")}
                own |= {"source": entry.name}
                for caption in captions:
                    kept = {f"{k}_before" if k in own else k: v for k, v in caption.columns.items()}
                    row = {"file_name": facts["file_name"], "text": caption.text, **kept, **own}
                    yield row | {"caption_from": caption.source}

    def result(self, *, stopped: bool = False) -> Imported:
        taken = [self.journal[each.name] for each in self.entries if each.name in self.journal]
        pictures = [facts for each in taken for facts in each.pictures]
        ways = Counter(
            self.captions[each.source][0].source if self.captions[each.source] else "blip" for each in taken
        )
        return Imported(
            folder=self.out,
            pictures=len(pictures),
            fresh=self.fresh,
            sources=len(taken),
            captions_from=dict(ways),
            upscaled=sum("upscaled" in facts for facts in pictures),
            frames_left=sum(each.pictures[0].get("frames_in_file", 1) > len(each.pictures) for each in taken),
            skipped=tuple(self.skipped),
            stopped=stopped,
        )


def _sort_of(reason: str) -> str:
    """A reason without its numbers, so that alike ones are counted together."""
    return re.sub(r"\d[\d.,]*", "…", reason)


def _card() -> str:
    return writing.data_card(
        title="Own pictures",
        tags=["own-pictures"],
        licence="other",
        licence_note="Not stated: whoever made the pictures holds the rights. Write here what is allowed "
        "before you pass the set on.",
        about="Pictures of a folder, brought to one size and captioned by the GigaGAN workbench.",
        source="`workbench dataset folder`; `dataset.json` holds its settings, each line of `metadata.jsonl` "
        "the file a picture is from, and `skipped.jsonl` the files that were not taken, with the reason.",
        limits="Captions are as good as where they are from (column `caption_from`). Look the set through "
        "with `workbench dataset check`.",
    )
