"""What is wrong with a data set folder, or could be, each with a suggestion: `check_folder(path).text()`.

Unlike `read_folder`, which stops at the first mistake, this reads on and finds all of them. What is looked
for is in `captions`, `pictures`, `copies` and `balance` beside this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from workbench.datasets.check import balance, captions, copies, pictures
from workbench.datasets.check.balance import Need, need_of
from workbench.datasets.check.captions import Tokenizer
from workbench.datasets.check.findings import LEVELS, Finding, Report
from workbench.datasets.check.looks import difference_hash, look_at_all
from workbench.datasets.rows import METADATA_NAMES, Line, Row, find_metadata, metadata_lines, row_from_entry
from workbench.datasets.tree import Entry, Stop, is_picture_name, walk
from workbench.datasets.writing import Progress, reporter
from workbench.errors import WorkbenchError

__all__ = ["Finding", "Need", "Report", "check_folder", "difference_hash", "need_of"]

_SIDE = 64  # px: a picture smaller than this is worth a word when no preset is named
# Files that a set of ours holds beside its pictures.
_OWN = re.compile(
    r"metadata\.(jsonl|csv)|dataset\.json|README\.md|LICENSE.*|(skipped|import|fixed)\.jsonl|\..*|"
    r"(captions/|cache-).*"
)


def check_folder(
    path: str | Path,
    *,
    need: Need | None = None,
    tokenizer: Tokenizer | None = None,
    progress: Progress = False,
    stop: Stop = None,
) -> Report:
    """Looks at every line of the metadata and every picture in the folder.

    need: what a preset asks for (`need_of`); tokenizer: the text encoder's, to look at the words too; stop:
    an Event, or a function that says True when the check is to end. Raises WorkbenchError only where there
    is nothing to check (no folder, a folder without any picture or metadata), and when it was stopped.
    """
    folder = Path(path)
    entries, lines = _what_is_there(folder)
    rows, bad = rows_of(lines or [], folder)
    found = [each.name for each in entries if not each.trouble and is_picture_name(each.name)]
    # Without metadata there are no captions, and the pictures can be looked at all the same.
    texts = dict.fromkeys(found, "") if lines is None else first_texts(rows)
    strays = [name for name in found if name not in texts]
    known = {*texts, *strays}
    names = [*texts, *strays]
    with reporter(progress, len(names), 0, "checking") as tell:
        looks = look_at_all(folder, names, tell=tell, stop=stop)
    whole = [look for look in looks if not look.trouble and look.name in texts]
    findings = [
        *_of_metadata(folder, lines),
        *captions.of_lines(lines or [], bad, str(folder)),
        *captions.of_texts(rows),
        *(captions.of_tokens(rows, tokenizer) if tokenizer else []),
        *pictures.of_files(looks, strays, [each for each in entries if each.name not in known]),
        *balance.of_count(len(whole), need),
        *pictures.of_sizes(whole, need.side if need else _SIDE),
        *pictures.of_outliers(whole),
        *copies.of_copies(whole),
        *balance.of_balance(rows),
    ]
    return Report(
        path=folder,
        count=len(whole),
        sizes=dict(Counter(look.size for look in whole)),
        modes=dict(Counter(look.mode for look in whole)),
        captions=len({row.text for row in rows}),
        texts=texts,
        kinds=balance.kinds(rows),
        looks=tuple(looks),
        findings=tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level))),
    )


def rows_of(lines: Sequence[Line], folder: Path) -> tuple[list[Row], list[str]]:
    """(rows, where a line is none) of what the metadata holds."""
    rows, bad = [], []
    for line in lines:
        if line.entry is not None:
            try:
                rows.append(row_from_entry(line.entry, line.where))
            except WorkbenchError:
                bad.append(line.where.removeprefix(f"{folder}/"))
    return rows, bad


def first_texts(rows: Sequence[Row]) -> dict[str, str]:
    """File name -> its first caption, in the order of the metadata."""
    texts: dict[str, str] = {}
    for row in rows:
        texts.setdefault(row.file_name, row.text)
    return texts


def _what_is_there(folder: Path) -> tuple[list[Entry], list[Line] | None]:
    """What lies in the folder beside the set's own files, and the lines of its metadata, None without any."""
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.exists() else f"There is no folder {folder}"
        raise WorkbenchError(f"{what}. Expected a data set: pictures and a metadata.jsonl.")
    entries = [each for each in walk(folder) if not _OWN.fullmatch(each.name)]
    if any((folder / name).is_file() for name in METADATA_NAMES):
        return entries, metadata_lines(find_metadata(folder))
    if not any(is_picture_name(each.name) for each in entries):
        find_metadata(folder)  # raises, with the reason
    return entries, None


def _of_metadata(folder: Path, lines: Sequence[Line] | None) -> list[Finding]:
    if lines is not None:
        return []
    if (folder / "dataset.json").is_file():
        advice = "the set is not whole yet: run the command that made it again, it goes on where it was"
    else:
        advice = "make a set of it with `workbench dataset folder`, or write a line for each picture"
    what = "no metadata.jsonl, so no picture has a caption"
    return [Finding(kind="no-metadata", level="problem", what=what, suggestion=advice)]
