"""Bad shards: none crashes, none loses anything silently, each is named with what to do."""

import gzip
import io
import json
import shutil
import struct
import tarfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import shard_sets
from PIL import Image
from shard_sets import picture, sample, tar

from workbench.datasets.rows import read_folder
from workbench.datasets.shards import reading
from workbench.datasets.shards.packing import unpack
from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError

GOOD = [*sample("a", 1), *sample("z", 2)]


def unpacked(tmp_path, source=None):
    """(keys that were kept, [(key, reason)] of what was not) of the shard x.tar."""
    report = unpack(source or tmp_path / "x.tar", tmp_path / "out", progress=False)
    texts = [row.text.removeprefix("caption ") for row in read_folder(tmp_path / "out")]
    assert len(texts) == report.kept
    assert all(finding.advice and "x.tar" in finding.shard for finding in report.findings)
    for finding in report.findings:
        assert finding.reason in report.text() and finding.advice in report.text()
    return texts, [(finding.key, finding.reason) for finding in report.findings]


def between(*files: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    """Two good samples with files between them."""
    return [*sample("a", 1), *files, *sample("z", 2)]


def huge_png() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + head, b"IDAT" + zlib.compress(b"\0" * 99)):
        file += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return file


# name -> (files between two good samples, [(key, a part of the reason)])
BETWEEN = {
    "no caption": ([("m.png", picture(3))], [("m", "without a caption")]),
    "empty caption": ([("m.png", picture(3)), ("m.txt", b" \n")], [("m", "without a caption")]),
    "no picture": ([("m.txt", b"x")], [("m", "without a picture")]),
    "only JSON": ([("m.json", b"{}")], [("m", "without a picture")]),
    "empty picture": ([("m.png", b""), ("m.txt", b"x")], [("m", "broken picture")]),
    "text as picture": ([("m.png", b"hello"), ("m.txt", b"x")], [("m", "no picture format")]),
    "cut picture": ([("m.png", picture(3)[:200]), ("m.txt", b"x")], [("m", "broken picture")]),
    "bomb": ([("m.png", huge_png()), ("m.txt", b"x")], [("m", "claims")]),
    "key twice": ([*sample("m", 3), *sample("a", 9)], [("a", "a key that came before")]),
    "file twice": ([*sample("m", 3), ("m.txt", b"y")], [("m.txt", "the same file twice")]),
    "no key": ([(".png", picture(3))], [(".png", "without key and suffix")]),
    "no suffix": ([("README", b"x")], [("README", "without key and suffix")]),
    "absolute": ([("/etc/m.png", picture(3))], [("/etc/m.png", "leads out")]),
    "upwards": ([("../m.png", picture(3))], [("../m.png", "leads out")]),
    "upwards inside": ([("a/../../m.txt", b"x")], [("a/../../m.txt", "leads out")]),
    "upwards on Windows": ([("..\\m.txt", b"x")], [("..\\m.txt", "leads out")]),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_is_wrong_is_left_out_and_named(tmp_path, name):
    files, expected = BETWEEN[name]
    tar(tmp_path / "x.tar", between(*files))
    kept, found = unpacked(tmp_path)
    assert kept == (["a", "m", "z"] if name in ("file twice", "key twice") else ["a", "z"])
    assert len(found) == len(expected)
    for key, reason in expected:
        assert any(key == one and reason in why for one, why in found), found
    inside = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert inside == {"x.tar", "out"}  # nothing was written elsewhere


KEPT_WITHOUT_COLUMNS = {
    "broken JSON": (b'{"a": 1', "broken JSON"),
    "JSON of another kind": (b"[1, 2]", "JSON that is no object"),
    "JSON in Latin-1": ('{"a": "größer"}'.encode("latin-1"), "not UTF-8"),
    "JSON of brackets": (b"[" * 200_000, "broken JSON"),
    "empty JSON": (b"", "broken JSON"),
}


@pytest.mark.parametrize("name", KEPT_WITHOUT_COLUMNS)
def test_a_sample_with_bad_json_is_kept_without_its_columns(tmp_path, name):
    content, reason = KEPT_WITHOUT_COLUMNS[name]
    files = [("m.png", picture(3)), ("m.txt", b"caption m"), ("m.json", content)]
    tar(tmp_path / "x.tar", between(*files))
    kept, found = unpacked(tmp_path)
    assert kept == ["a", "m", "z"] and len(found) == 1
    assert found[0][0] == "m" and reason in found[0][1]
    assert read_folder(tmp_path / "out")[1].factors == {}


def test_odd_things_that_are_right_are_kept(tmp_path):
    columns = {"file_name": "../../x", "text": "no", "nan": float("nan"), "list": [{"deep": None}]}
    files = [
        ("folder/m.seg.v2.png", picture(8)),  # another kind of picture of the sample
        ("folder/m.PNG", picture(3)),
        ("folder/m.txt", "caption größer".encode("utf-16")),
        ("folder/m.json", json.dumps(columns).encode()),
        ("n 🐕\nx.jpg", picture(4, form="JPEG")),
        ("n 🐕\nx.txt", b"word " * 10_000),
        ("__meta__", b"webdataset's own"),
    ]
    tar(tmp_path / "x.tar", between(*files))
    kept, found = unpacked(tmp_path)
    assert [text.split(" ")[0] for text in kept] == ["a", "größer", "word", "z"]
    assert found == [("folder/m.txt", "a caption that is not UTF-8 text but UTF-16")]
    rows = read_folder(tmp_path / "out")
    assert rows[1].factors == {"nan": None, "list": [{"deep": None}]}
    assert [row.file_name for row in rows] == [
        "images/000000.png", "images/000001.png", "images/000002.jpg", "images/000003.png"
    ]  # fmt: skip


def test_pickles_are_neither_read_nor_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    evil = __import__("pickle").dumps(Evil())
    files = sample("m", 3)
    for suffix in ("pyd", "pkl", "pickle", "pt", "pth", "npy", "npz", "cls", "json.gz"):
        files.append((f"m.{suffix}", evil))
    tar(tmp_path / "x.tar", between(*files))
    report = unpack(tmp_path / "x.tar", tmp_path / "out", progress=False)
    assert report.kept == 3 and not (tmp_path / "ran").exists()
    assert set(report.unread) == {"pyd", "pkl", "pickle", "pt", "pth", "npy", "npz", "cls", "json.gz"}
    assert "1 × .pickle" in report.text()


def test_links_and_devices_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in GOOD[:3]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind in (
            ("m.txt", tarfile.SYMTYPE),
            ("n.txt", tarfile.LNKTYPE),
            ("o.txt", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret")
            archive.addfile(member)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)  # nothing to tell of
    kept, found = unpacked(tmp_path)
    assert kept == ["a"]
    assert found == [(f"{key}.txt", "a link or a device, not a file") for key in "mno"]


def test_huge_members_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", {"picture": 2000, "text": 100})
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    big = io.BytesIO()
    noise.save(big, format="PNG")
    files = [("m.png", big.getvalue()), ("m.txt", b"x"), ("n.png", picture(3)), ("n.txt", b"x" * 101)]
    tar(tmp_path / "x.tar", between(*files))
    kept, found = unpacked(tmp_path)
    assert kept == ["a", "z"]
    assert [(key, why.partition(" (")[0]) for key, why in found] == [
        ("m", "a sample without a picture"),
        ("m.png", "too large to be read"),
        ("n", "a sample without a caption"),
        ("n.txt", "too large to be read"),
    ]


def test_a_header_that_claims_gigabytes_is_refused(tmp_path):
    member = tarfile.TarInfo("m.txt")
    member.type, member.size = tarfile.XHDTYPE, 8**11 - 1
    whole = tar(tmp_path / "x.tar", sample("a", 1)).read_bytes().rstrip(b"\0")
    whole += b"\0" * (-len(whole) % 512)
    (tmp_path / "x.tar").write_bytes(whole + member.tobuf(tarfile.USTAR_FORMAT)[:512] + b"\0" * 4096)
    kept, found = unpacked(tmp_path)
    assert kept == ["a"] and len(found) == 1 and "damaged (a header of 8589934591 bytes)" in found[0][1]


# ---------------------------------------------------------------- tars that end early


@pytest.mark.parametrize("tenth", range(10))
def test_a_tar_cut_at_every_tenth(tmp_path, tenth):
    files = [file for number in range(6) for file in sample(str(number), number)]
    whole = tar(tmp_path / "x.tar", files).read_bytes().rstrip(b"\0")  # without the mark of the end
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) * tenth // 10])
    try:
        kept, found = unpacked(tmp_path)
    except WorkbenchError as error:
        assert tenth < 2 and "gave no picture" in str(error) and "samples before it are kept" in str(error)
        return
    assert kept == [str(number) for number in range(len(kept))] and len(kept) < 6
    assert any("ends early" in why for _, why in found)


def test_a_tar_cut_at_every_block_names_it(tmp_path):
    """Between two members nothing but the missing mark of the end tells that there was more."""
    files = [file for number in range(3) for file in sample(str(number), number)]
    whole = tar(tmp_path / "x.tar", files).read_bytes()
    used = len(whole.rstrip(b"\0")) // 512 + 1
    for blocks in range(1, used + 1):
        report = reading.ShardReport()
        (tmp_path / "x.tar").write_bytes(whole[: 512 * blocks])
        kept = [s.key for s in reading.read_samples(str(tmp_path / "x.tar"), report)]
        assert kept == [str(number) for number in range(len(kept))]
        assert any("ends early" in finding.reason for finding in report.findings)
    assert kept == ["0", "1", "2"]
    (tmp_path / "x.tar").write_bytes(whole[: 512 * (used + 1)])  # one block of zeros is a mark
    report = reading.ShardReport()
    assert len(list(reading.read_samples(str(tmp_path / "x.tar"), report))) == 3
    assert not report.findings


def test_a_damaged_header_does_not_pass_for_the_end(tmp_path):
    files = [file for number in range(3) for file in sample(str(number), number)]
    whole = bytearray(tar(tmp_path / "x.tar", files).read_bytes())
    at = whole.index(b"1.png\0")
    whole[at + 100 : at + 160] = b"x" * 60  # mode, owner, size, time, checksum
    (tmp_path / "x.tar").write_bytes(whole)
    kept, found = unpacked(tmp_path)
    assert kept == ["0"] and len(found) == 1 and "damaged" in found[0][1]


def test_any_byte_may_be_wrong(tmp_path):
    files = [file for number in range(2) for file in sample(str(number), number)]
    whole = tar(tmp_path / "x.tar", files).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(150):
        spoilt = bytearray(whole)
        for at in draw.integers(0, len(whole) // 2, 20):
            spoilt[at] = draw.integers(0, 256)
        (tmp_path / "x.tar").write_bytes(spoilt)
        report = reading.ShardReport()
        samples = list(reading.read_samples(str(tmp_path / "x.tar"), report))
        whole_ones = [s for s in samples if reading.picture_of(s, report) is not None]
        assert len(whole_ones) == 2 or report.findings or report.unread


@pytest.mark.parametrize("cut", [50, 400, 1500])
def test_compressed_shards_that_end_early_or_are_damaged(tmp_path, cut):
    whole = gzip.compress(tar(tmp_path / "a.tar", GOOD).read_bytes(), mtime=0)
    for name, content in (("x.tar.gz", whole[:-cut]), ("x.tgz", whole[:cut] + b"xxxx" + whole[cut + 4 :])):
        (tmp_path / name).write_bytes(content)
        report = reading.ShardReport()
        list(reading.read_samples(str(tmp_path / name), report))
        assert any("the tar" in finding.reason for finding in report.findings)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\x1f\x8b", b"{}" * 4000], ids=len)
def test_what_is_no_tar_is_named(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"gave no picture: 0 samples kept, 1 × the tar"):
        unpack(tmp_path / "x.tar", tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()


def test_one_bad_shard_among_good_ones(tmp_path):
    shard_sets.shards(tmp_path / "in", [3, 3, 3])
    whole = (tmp_path / "in/000001.tar").read_bytes()
    (tmp_path / "in/000001.tar").write_bytes(whole[:3000])
    (tmp_path / "in/000003.tar").write_bytes(b"")
    report = unpack(tmp_path / "in", tmp_path / "out", progress=False)
    assert 6 <= report.kept < 9
    assert {finding.shard[-10:] for finding in report.findings} == {"000001.tar", "000003.tar"}


@pytest.mark.parametrize("source", [".", "*.tar", "pipe:touch ran;.tar"])
def test_a_file_named_like_a_command_is_a_file(tmp_path, monkeypatch, source):
    place = tmp_path / "in"
    place.mkdir()
    monkeypatch.chdir(place)
    tar(place / "pipe:touch ran;.tar", GOOD)
    assert unpack(source, tmp_path / "out", progress=False).kept == 2
    assert [entry.name for entry in place.iterdir()] == ["pipe:touch ran;.tar"]


# ---------------------------------------------------------------- pipes and addresses that fail


def test_a_command_that_fails_is_the_reason(tmp_path):
    tar(tmp_path / "x.tar", GOOD)
    for command, kept, words in (
        ("cat {0}; exit 3", ["a", "z"], "status 3"),
        ("head -c 3000 {0}", ["a"], "ends early"),
        ("false # {0}", None, "status 1"),
        ("no-such-program {0}", None, "status 127"),
    ):
        report = reading.ShardReport()
        shard = "pipe:" + command.format(tmp_path / "x.tar")
        keys = [s.key for s in reading.read_samples(shard, report)]
        assert keys == (kept or [])
        assert [words in finding.reason for finding in report.findings] == [True]


class Failing(BaseHTTPRequestHandler):
    """Says no, or stops in the middle of a shard."""

    content = b""

    def do_GET(self):
        self.send_response(200 if self.path.startswith("/half") else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.path.startswith("/half"):
            self.wfile.write(self.content[:3000])

    def log_message(self, *args):
        """Keeps the tests' output clean."""


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset fetches through curl")
def test_addresses_that_fail_are_named(tmp_path):
    Failing.content = tar(tmp_path / "x.tar", GOOD).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        found = {}
        for name in ("half", "none"):
            report = reading.ShardReport()
            keys = [s.key for s in reading.read_samples(f"{address}/{name}/x.tar", report)]
            found[name] = keys, [finding.reason.partition(";")[0] for finding in report.findings]
        server.shutdown()
    assert found["half"] == (["a"], ["the transfer ended early"])
    assert found["none"] == ([], ["the server answers with an error, such as 404"])
    # A transfer that broke off is not taken for the whole: the next call goes on there.
    with pytest.raises(WorkbenchError, match=r"the host refuses the connection\. Shards before it are kept"):
        unpack([tmp_path / "x.tar", f"{address}/gone.tar"], tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    with pytest.raises(WorkbenchError, match="refuses the connection"):
        open_table(f"{address}/gone.tar", 8, cache=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*.safetensors*"))
