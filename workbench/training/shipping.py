"""What ships of a run: its model, config, history, few grids as WebP, a small film. A run keeps PNG."""

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.images import open_picture, write_whole
from workbench.models.clip_io import write_json
from workbench.models.text import TextEncoder
from workbench.training.gif import write_gif
from workbench.training.grids import EXPECTED, FOLDER, find_grids
from workbench.training.history import NAME as HISTORY
from workbench.training.history import read_history
from workbench.training.laps import numbers_of

QUALITY = 90  # of 100; below it, edges of 64 px pictures begin to ring at twice their size
_DIGITS = 5  # significant ones: more than a curve shows
_MOST_STEPS = 500  # lines of losses: a curve has as many pixels
FILM_BYTES, FILM_COLOURS, FILM_SECONDS = 430_000, 96, 7.0


def to_webp(picture: str | Path, folder: str | Path) -> Path:
    """The picture as lossy WebP in `folder`, under its own name; returns its path.

    Raises as `webp_of`, and OSError in one sentence for a folder that cannot be written.
    """
    data = webp_of(picture)
    return write_whole(Path(folder) / f"{Path(picture).stem}.webp", lambda handle: handle.write(data))


def webp_of(picture: str | Path) -> bytes:
    """The bytes of the picture as lossy WebP, without alpha and recipe.

    What is WebP already is copied to the bit: no loss is added to a loss. Raises WorkbenchError for what is
    no picture.
    """
    picture = Path(picture)
    with open_picture(picture) as image:
        if image.format == "WEBP":
            return picture.read_bytes()
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="WEBP", quality=QUALITY, method=6)
        return buffer.getvalue()


def ship_run(run: str | Path, out: str | Path, *, grids: int = 11) -> Path:
    """A copy of a finished run that is small enough to ship, in the new folder `out`; returns it.

    grids: how many, evenly by their order, first and last among them. Their lines of the history name the
    files that ship; its numbers keep five digits, and of a long one neighbouring step lines are told as one.
    The film is drawn from all grids of `run`, as many as fit into 430 kB. Raises WorkbenchError when `out`
    exists, or `run` is no run with grids.
    """
    run, out = Path(run), Path(out)
    if grids < 2:
        raise WorkbenchError(f"grids is {grids}: expected at least 2, the first and the last.")
    if out.exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: move it away first.")
    missing = [name for name in ("config.json", HISTORY) if not (run / name).is_file()]
    found = find_grids(run)
    if missing or not found:
        what = " and ".join(missing) or f"grids ({EXPECTED})"
        raise WorkbenchError(f"{run} has no {what}: give the folder of a run that has ended.")
    (out / FOLDER).mkdir(parents=True)
    names = {}
    for nimg in _evenly(list(found), grids):
        shipped = to_webp(found[nimg], out / FOLDER)
        names[nimg] = f"{FOLDER}/{shipped.name}"
    history = _shipped(read_history(run), names)
    for name, data in (("config.json", (run / "config.json").read_bytes()), (HISTORY, history)):
        write_whole(out / name, lambda handle, data=data: handle.write(data))
    write_gif(run, out / "training.gif", seconds=FILM_SECONDS, most_bytes=FILM_BYTES, colours=FILM_COLOURS)
    return out


def ship_history(laps: Sequence[str | Path], out: str | Path) -> Path:
    """The numbers of runs that followed one another, in `out`; returns the file. No grid ships."""
    data, out = _shipped(numbers_of(laps), {}), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return write_whole(out / HISTORY, lambda handle: handle.write(data))


def ship_model(model: str | Path, out: str | Path, *, encoder: str | Path) -> Path:
    """A copy of a model folder in the new folder `out`, its text tower a link to `encoder`; returns `out`.

    encoder: a CLIP folder that ships, too: many models read by one tower, which then ships once. A student
    has no tower; its teacher is looked for beside it, by name. Raises WorkbenchError when `out` exists, and
    when the model reads by another tower.
    """
    model, out = Path(model), Path(out)
    if out.exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: move it away first.")
    tower = model / "text_encoder"
    if tower.exists():
        towers = (TextEncoder.from_pretrained(folder) for folder in (tower, encoder))
        if len({each.fingerprint() for each in towers}) > 1:
            raise WorkbenchError(f"{model} reads by another text tower than that of {encoder}: ship its own.")
    shutil.copytree(model, out, ignore=lambda folder, names: {"text_encoder"} & set(names))
    if tower.exists():
        (out / "text_encoder").symlink_to(os.path.relpath(encoder, out), target_is_directory=True)
    facts = json.loads((out / "config.json").read_text(encoding="utf-8"))
    if "teacher" in facts:
        facts["teacher"]["path"] = f"../{facts['teacher']['name']}"
        write_json(out / "config.json", facts)
    return out


def _evenly(counts: list[int], wanted: int) -> list[int]:
    """`wanted` of the sorted counts, or all of fewer; halfway between two places is rounded up."""
    if len(counts) <= wanted:
        return counts
    step = (len(counts) - 1) / (wanted - 1)
    return [counts[int(k * step + 0.5)] for k in range(wanted)]


def _shipped(history: list[dict], names: dict[int, str]) -> bytes:
    """The lines of a history: the new file of each sample whose count is in `names`, numbers in `_DIGITS`."""
    lines = []
    for record in _thinned(history):
        if record["kind"] == "sample":
            record["file"] = names.get(record["cur_nimg"], record["file"])
        lines.append(json.dumps(_rounded(record)))
    return "".join(f"{line}\n" for line in lines).encode()


def _thinned(records: list[dict]) -> list[dict]:
    """With at most `_MOST_STEPS` step lines, or few more: neighbours become one, at the count of the last."""
    together = -(-sum(record["kind"] == "step" for record in records) // _MOST_STEPS)
    kept: list[dict] = []
    group: list[dict] = []
    for k, record in enumerate(records):
        if together < 2 or record["kind"] != "step":
            kept.append(record)
            continue
        group.append(record)
        after = next((later for later in records[k + 1 :] if later["kind"] == "step"), {})
        if len(group) == together or after.keys() != record.keys():
            kept.append(_mean(group))
            group = []
    return kept


def _mean(steps: list[dict]) -> dict:
    """One step line for several, whose statistics are means already; counts and clock are the last one's."""
    as_last = ("kind", "cur_nimg", "step", "seconds", "lr")
    return {
        name: value if name in as_last or not isinstance(value, int | float)
        else sum(step[name] for step in steps) / len(steps)
        for name, value in steps[-1].items()
    }  # fmt: skip


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
