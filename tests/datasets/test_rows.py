"""Rows of a data set folder: any imagefolder is read, and a mistake is named with its file or line."""

from pathlib import Path

import pytest
import shard_sets
from PIL import Image

from workbench.datasets.rows import read_folder
from workbench.errors import WorkbenchError


def own_folder(path: Path, lines: list[str], pictures=("a.png", "b.png")) -> Path:
    path.mkdir()
    for name in pictures:
        Image.new("RGB", (16, 16), "red").save(path / name)
    (path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_any_imagefolder_is_read_from_jsonl_and_csv(tmp_path):
    lines = [
        '{"file_name": "a.png", "text": "a dog", "who": "Rex"}',
        "",
        '{"file_name": "b.png", "text": "ä"}',
    ]
    folder = own_folder(tmp_path / "own", lines)
    rows = read_folder(folder)
    assert [(row.file_name, row.text, row.factors) for row in rows] == [
        ("a.png", "a dog", {"who": "Rex"}),
        ("b.png", "ä", {}),
    ]
    (folder / "metadata.jsonl").unlink()
    # As a spreadsheet writes it: byte-order mark, quotes, a line break within a cell.
    table = 'file_name,text,who\r\na.png,"a dog, sitting\r\nquietly",Rex\r\nb.png,a cat,Tom\r\n'
    (folder / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    assert [(row.text, row.factors) for row in read_folder(folder)] == [
        ("a dog, sitting\nquietly", {"who": "Rex"}),
        ("a cat", {"who": "Tom"}),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "names no picture"),
        (['{"file_name": "a.png"}'], r"line 1: `text` is nothing \(columns: file_name\)"),
        (
            ['{"file_name": "a.png", "text": "x"}', '{"file_name": "b.png", "text": "  "}'],
            "line 2: `text` is '  '",
        ),
        (['{"file_name": "a.png", "text": 3}'], "line 1: `text` is 3"),
        (['{"text": "a dog"}'], "line 1: `file_name` is nothing"),
        (['{"file_name": "a.png", "text": "a dog"'], "line 1 is not JSON"),
        (['["a.png", "a dog"]'], "line 1 is .* Expected one object"),
        (['{"file_name": "c.png", "text": "a dog"}'], r"c\.png is named in the metadata and is not there"),
        (['{"file_name": "../a.png", "text": "a dog"}'], "leads out of the folder"),
        (['{"file_name": "/etc/passwd", "text": "a dog"}'], "leads out of the folder"),
    ],
)
def test_mistakes_in_the_metadata_name_the_line(tmp_path, lines, message):
    with pytest.raises(WorkbenchError, match=message):
        read_folder(own_folder(tmp_path / "own", lines))


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="There is no folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match="is a file"):
        read_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="is empty"):
        read_folder(tmp_path / "empty")
    folder = own_folder(tmp_path / "own", [])
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(WorkbenchError, match=r"holds 2 pictures and no metadata\.jsonl"):
        read_folder(folder)
    (folder / "metadata.jsonl").write_bytes(b'{"file_name": "a.png", "text": "\xff"}')
    with pytest.raises(WorkbenchError, match="not UTF-8"):
        read_folder(folder)


def test_a_broken_picture_is_named(tmp_path):
    folder = own_folder(
        tmp_path / "own", ['{"file_name": "a.png", "text": "x"}', '{"file_name": "b.png", "text": "y"}']
    )
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:50])
    with pytest.raises(WorkbenchError, match=r"b\.png is broken"):
        read_folder(folder)
    (folder / "b.png").write_text("<html>404</html>")
    with pytest.raises(WorkbenchError, match=r"b\.png is broken or no picture"):
        read_folder(folder)


def test_a_folder_of_shards_is_sent_on(tmp_path):
    shard_sets.shards(tmp_path, [2])
    with pytest.raises(WorkbenchError, match=r"holds shards .* `workbench dataset shards unpack "):
        read_folder(tmp_path)
