"""A data set folder on the Hugging Face Hub: its card brought up to date, its files, and nothing else.

What goes up is what metadata.jsonl names, or shards of it; caches, hidden files and strangers stay here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import hub
from workbench.datasets import writing
from workbench.datasets.rows import Row, find_metadata, read_folder, read_picture
from workbench.datasets.shards import packing
from workbench.errors import WorkbenchError

CARD = "README.md"
# Between the marks the card is ours and made anew each time; all else in it is its writer's.
_BEGIN, _END = "<!-- facts: begin -->", "<!-- facts: end -->"
_MOST_FILES = 10_000  # in one folder of a repository, says the Hub
_FILES_A_COMMIT = 1000
_LOOKED_AT = 50  # pictures opened to tell their sizes


@dataclass(frozen=True)
class Published:
    """What `publish` did, or would do. address: of the data set on the Hub, None for a dry run; files: names
    in the repository; size: bytes."""

    address: str | None
    files: list[str]
    size: int


def publish(
    path: str | Path,
    repo: str,
    *,
    private: bool = False,
    per_shard: int | None = None,
    dry_run: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = print,
) -> Published:
    """Brings the card of the data set folder up to date and uploads the set to the Hub as `repo`.

    repo: owner/name. per_shard: upload WebDataset shards of so many pictures, packed into the folder
    `<path>-shards`, in place of single files. dry_run: write and send nothing. token: of the Hub; the one of
    `hf auth login` when left out. Sent again, files that the Hub has already are not sent; files there that
    the set no longer has stay. Raises WorkbenchError for a folder, name or token that will not do and when
    the Hub cannot be reached.
    """
    folder = Path(path)
    hub.check_name(repo)
    rows = read_folder(folder)
    if per_shard is None and len(rows) > _MOST_FILES:
        raise WorkbenchError(
            f"{folder} holds {len(rows):,} pictures, and the Hub takes {_MOST_FILES:,} files in a folder: "
            "add --shards."
        )
    if dry_run:
        return _plan(folder, rows, per_shard)
    token = token or _token()
    text, news = card_text(folder, rows, per_shard)
    if news:
        say(news)
        with writing.clear_errors("Nothing was uploaded."):
            writing.write_text(folder / CARD, text)
    files = _files(folder, rows)
    if per_shard is not None:
        beside = folder.absolute().with_name(f"{folder.absolute().name}-shards")
        packed = packing.pack(folder, beside, per_shard=per_shard)
        files = {file.name: file for file in sorted(packed.iterdir()) if not file.name.startswith(".")}
    address = _upload(repo, files, private=private, token=token, say=say)
    return Published(address, list(files), _size(files))


# --- the card ---


def card_text(folder: Path, rows: Sequence[Row], per_shard: int | None = None) -> tuple[str, str]:
    """(text, what is new in it) of the folder's README.md with its facts up to date; "" when nothing is new.

    Where there is no card, one is written from what is known. In a card that is there only the facts between
    the two marks are replaced, or added at its end; every other line stays.
    """
    facts = f"{_BEGIN}\n{_facts(folder, rows, per_shard)}\n{_END}\n"
    file = folder / CARD
    if not file.is_file():
        news = f"{file} is new: look it through, and add the licence and the source."
        return f"{_new_card(folder)}\n{facts}", news
    text = file.read_text(encoding="utf-8", errors="replace")
    if _BEGIN in text and _END in text:
        head, rest = text.split(_BEGIN, 1)
        new = head + facts.removesuffix("\n") + rest.split(_END, 1)[1]
        return new, "" if new == text else f"{file}: the facts at its end are up to date now."
    return f"{text.rstrip()}\n\n{facts}", f"{file}: facts were added at its end; your text stays as it was."


def _new_card(folder: Path) -> str:
    name = folder.absolute().name
    return writing.data_card(
        title=name,
        tags=["text-to-image"],
        licence="unknown",
        licence_note="Say here what others may do with the pictures.",
        about=f"Pictures with captions: {name}.",
        source="say here where the pictures and captions come from.",
        limits="say here what the set does not show, and what it should not be used for.",
    )


def _facts(folder: Path, rows: Sequence[Row], per_shard: int | None) -> str:
    """Size, layout and columns, in Markdown."""
    step = max(1, len(rows) // _LOOKED_AT)
    sizes = Counter(read_picture(folder / row.file_name).size for row in rows[::step])
    (width, height), _ = sizes.most_common(1)[0]
    shape = f"{width} × {height} px" + ("" if len(sizes) == 1 else " most often, others too")
    files = _files(folder, rows)
    total = _size({name: file for name, file in files.items() if name != CARD})
    number = "" if per_shard is None else f"{-(-len(rows) // per_shard):,}"
    layout = (
        "`metadata.jsonl` and the pictures that it names (Hugging Face `imagefolder`)"
        if per_shard is None
        else f"{number} WebDataset shards of up to {per_shard:,} samples: `.png`, `.txt` and `.json` by key"
    )
    lines = ["## Facts", "", f"- **Size**: {len(rows):,} pictures, {writing.size_text(total)}, {shape}"]
    lines += [f"- **Files**: {layout}", "", "| column | filled | example |", "|---|---|---|"]
    for name, values in _columns(rows).items():
        example = " ".join(str(values[0]).split()).replace("|", "\\|")[:60]
        lines.append(f"| `{name}` | {len(values) / len(rows):.0%} | {example} |")
    return "\n".join(lines)


def _columns(rows: Sequence[Row]) -> dict[str, list]:
    """The values of each column that are not None, `text` first."""
    columns: dict[str, list] = {"text": [row.text for row in rows]}
    for row in rows:
        for name, value in row.factors.items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return columns


# --- the files ---


def _files(folder: Path, rows: Sequence[Row]) -> dict[str, Path]:
    """Place in the repository -> file: pictures first, then what describes them."""
    names = list(dict.fromkeys(row.file_name for row in rows))
    names += [find_metadata(folder).name]
    names += [name for name in ("dataset.json", CARD) if (folder / name).is_file()]
    return {Path(name).as_posix(): folder / name for name in names}


def _plan(folder: Path, rows: Sequence[Row], per_shard: int | None) -> Published:
    files = _files(folder, rows)
    names = [*files, *({CARD} - files.keys())]
    if per_shard is not None:
        writing.check_whole_number("per_shard", per_shard, 1, 1_000_000)
        count = -(-len(rows) // per_shard)
        names = [*(packing.shard_name(number) for number in range(count)), packing.FACTS, CARD]
    return Published(None, names, _size(files))


def _size(files: dict[str, Path]) -> int:
    return sum(file.stat().st_size for file in files.values())


# --- the Hub ---


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token is None:  # said before a card is written and shards are packed
        raise hub.nobody_is_logged_in()
    return token


def _upload(
    repo: str, files: dict[str, Path], *, private: bool, token: str, say: Callable[[str], None]
) -> str:
    """Creates the repository if need be and commits the files, the description last; returns the address."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token)
    names = list(files)
    done = 0
    try:
        with hub.clear_errors(repo, lambda: f"{done} of {len(names)} files of {repo} are there"):
            address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            for at in range(0, len(names), _FILES_A_COMMIT):
                some = names[at : at + _FILES_A_COMMIT]
                added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=files[name]) for name in some]
                message = f"Upload a data set, files {at + 1} to {at + len(some)} of {len(names)}"
                api.create_commit(repo, added, repo_type="dataset", commit_message=message)
                done = at + len(some)
                say(f"{done} of {len(names)} files")
    except WorkbenchError:
        raise  # a ValueError too
    except ValueError as error:  # how the client tells of a card that the Hub does not take
        why = " ".join(str(error).split())[:200]
        raise WorkbenchError(
            f"The Hugging Face Hub does not take the files ({why}): mend {CARD} if it is named, and run the "
            "same command again."
        ) from error
    return str(address)
