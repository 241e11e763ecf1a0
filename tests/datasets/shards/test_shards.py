"""A folder to shards and back: the same bytes, whole files, from local paths, pipes and addresses."""

import json
import multiprocessing as mp
import os
import shutil
import signal
import sys
import tarfile
from pathlib import Path

import pytest
import shard_sets
import torch
import web_folder
from folders import contents

from workbench.datasets import writing as set_writing
from workbench.datasets.rows import read_folder
from workbench.datasets.shards import files as shard_files
from workbench.datasets.shards import packing
from workbench.datasets.shards.files import find_shards
from workbench.datasets.shards.filters import Filters, score_of
from workbench.datasets.shards.packing import pack, unpack
from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    shard_sets.folder(place / "set", 10)
    return pack(place / "set", place / "shards", per_shard=4, progress=False)


@pytest.fixture
def address(packed):
    """The shards behind a web server of this machine."""
    if shutil.which("curl") is None:
        pytest.skip("webdataset fetches through curl, which is not installed")
    with web_folder.served(packed) as found:
        yield found


# ---------------------------------------------------------------- there and back


def test_a_folder_comes_back_to_the_byte(packed, tmp_path):
    report = unpack(packed, tmp_path / "back", progress=False)
    assert report.kept == 10 and not report.findings
    first, back = contents(packed.parent / "set"), contents(tmp_path / "back")
    facts = json.loads((tmp_path / "back" / "dataset.json").read_text())
    assert facts["count"] == 10 and facts["report"]["kept"] == 10
    assert first == {name: found for name, found in back.items() if name != "dataset.json"}


def test_shards_are_the_same_bytes_each_time(packed, tmp_path):
    again = pack(packed.parent / "set", tmp_path / "again", per_shard=4, progress=False)
    assert contents(again) == contents(packed)
    with tarfile.open(packed / "000001.tar") as archive:
        members = archive.getmembers()
    assert [m.name for m in members[:4]] == ["000004.png", "000004.txt", "000004.json", "000005.png"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert json.loads((packed / "shards.json").read_text())["shards"] == [
        "000000.tar",
        "000001.tar",
        "000002.tar",
    ]


def test_other_formats_and_odd_captions_survive(tmp_path):
    source = tmp_path / "set"
    source.mkdir()
    for name, suffix in (("BMP", "bmp"), ("JPEG", "JPG"), ("WEBP", "webp")):
        (source / f"a {name}\n🐕.{suffix}").write_bytes(shard_sets.picture(3, form=name))
    rows = [
        {"file_name": f.name, "text": "a \ud800 dog\nin two lines", "tags": ["x", None], "text2": 3}
        for f in sorted(source.iterdir())
    ]
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    unpack(pack(source, tmp_path / "shards", progress=False), tmp_path / "back", progress=False)
    back = read_folder(tmp_path / "back")
    assert [Path(row.file_name).suffix for row in back] == [".png", ".jpg", ".webp"]
    assert all(row.factors == {"tags": ["x", None], "text2": 3} for row in back)
    assert {row.text for row in back} == {"a \\ud800 dog\nin two lines"}
    was = PictureTable.from_folder(source, 12, cache=False)
    assert torch.equal(was.images, PictureTable.from_folder(tmp_path / "back", 12, cache=False).images)


def _die_on(module, name: str, call: int, task) -> None:
    """Runs `task` in a process that kills itself at the given call of module.name."""

    def run():
        original, calls = getattr(module, name), []

        def counted(*args, **options):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        setattr(module, name, counted)
        task()

    victim = mp.get_context("fork").Process(target=run)
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("call", [1, 5, 9])
def test_a_killed_packing_goes_on(packed, tmp_path, call):
    source, out = packed.parent / "set", tmp_path / "out"
    _die_on(packing, "_files_of", call, lambda: pack(source, out, per_shard=4, progress=False))
    whole = sorted(out.glob("*.tar"))
    assert len(whole) == (call - 1) // 4
    times = [file.stat().st_mtime_ns for file in whole]
    assert contents(pack(source, out, per_shard=4, progress=False)) == contents(packed)
    assert [file.stat().st_mtime_ns for file in whole] == times  # not written again


@pytest.mark.parametrize("call", [1, 3, 6, 10])
def test_a_killed_unpacking_goes_on(packed, tmp_path, call):
    out = tmp_path / "out"
    _die_on(set_writing, "write_bytes", call, lambda: unpack(packed, out, progress=False))
    assert not (out / "metadata.jsonl").exists()
    unpack(packed, out, progress=False)
    unpack(packed, tmp_path / "whole", progress=False)
    assert contents(out) == contents(tmp_path / "whole")
    assert unpack(packed, out, progress=False).kept == 10  # done: the report that is kept


def test_unpacking_that_died_before_its_last_file_goes_on(packed, tmp_path):
    out = tmp_path / "out"
    unpack(packed, tmp_path / "whole", progress=False)

    def dying(folder, recipe, rows, count):
        set_writing.write_rows(folder, rows)  # the metadata is there, the report is not
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(set_writing, "close_set", dying)
        with pytest.raises(KeyboardInterrupt):
            unpack(packed, out, progress=False)
    assert (out / "metadata.jsonl").is_file()
    assert unpack(packed, out, progress=False).kept == 10
    assert contents(out) == contents(tmp_path / "whole")


def test_an_edited_picture_is_packed_again(tmp_path):
    source = shard_sets.folder(tmp_path / "set", 4)
    out = pack(source, tmp_path / "out", per_shard=2, progress=False)
    before = contents(out)
    (source / "images/000003.png").write_bytes(shard_sets.picture(99))
    later = (out / "000001.tar").stat().st_mtime_ns + 10**9
    os.utime(source / "images/000003.png", ns=(later, later))
    after = contents(pack(source, out, per_shard=2, progress=False))
    assert [name for name in before if before[name] != after[name]] == ["000001.tar"]


def test_other_contents_stay_as_they_are(packed, tmp_path):
    source = packed.parent / "set"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for out, words in ((tmp_path / "mine", "something else"), (tmp_path / "file", "is a file")):
        for work in (lambda out=out: pack(source, out), lambda out=out: unpack(packed, out)):
            with pytest.raises(WorkbenchError, match=words):
                work()
    with pytest.raises(WorkbenchError, match="something else than shards of this data set"):
        pack(source, packed, per_shard=5)
    unpack(packed, tmp_path / "set", progress=False)
    with pytest.raises(WorkbenchError, match="its filters differ"):
        unpack(packed, tmp_path / "set", filters=Filters(min_size=3))
    with pytest.raises(WorkbenchError, match="per_shard is 0"):
        pack(source, tmp_path / "new", per_shard=0)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


# ---------------------------------------------------------------- where shards are


def test_patterns_pipes_and_addresses_give_the_same(packed, address, tmp_path):
    sources = {
        "braces": f"{packed}/{{000000..000002}}.tar",
        "stars": f"{packed}/*.tar",
        "list": [f"file://{packed}/000000.tar", packed / "000001.tar", f"{packed}/000002.tar"],
        "pipe": f"pipe:cat {packed}/{{000000..000002}}.tar",
        "one pipe": f"pipe:cat {packed}/*.tar",  # three archives one behind another
        "http": f"{address}/{{000000..000002}}.tar",
    }
    wanted = {name: found for name, found in contents(packed.parent / "set").items() if name != "README.md"}
    for name, source in sources.items():
        report = unpack(source, tmp_path / name, progress=False)
        assert not report.findings, report.text()
        back = contents(tmp_path / name)
        assert {key: found for key, found in back.items() if key in wanted} == wanted, name


def test_an_unpacked_set_tells_no_key_of_its_source(packed, address, tmp_path):
    (packed / "half.tar").write_bytes((packed / "000000.tar").read_bytes()[:-3000])
    signed = [f"{address.replace('//', '//me:sesame@')}/{name}.tar?sig=sesame" for name in ("000001", "half")]
    report = unpack([*signed, f"pipe:cat {packed}/000002.tar # sesame"], tmp_path / "out", progress=False)
    (packed / "half.tar").unlink()
    assert report.kept > 6 and any("sesame" in finding.shard for finding in report.findings)  # to its owner
    told = (tmp_path / "out" / "dataset.json").read_text() + (tmp_path / "out" / "README.md").read_text()
    assert "sesame" not in told and f"{address}/half.tar" in told and "pipe:cat" in told
    with pytest.raises(WorkbenchError, match="its shards differ"):
        unpack([signed[0].replace("sig", "other"), signed[1]], tmp_path / "out", progress=False)


def test_a_compressed_shard_is_read(tmp_path):
    files = shard_sets.sample("a", 1) + shard_sets.sample("b", 2)
    shard_sets.tar(tmp_path / "a.tar.gz", files, mode="w:gz")
    assert unpack(tmp_path, tmp_path / "out", progress=False).kept == 2


def test_what_is_not_there_is_named(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "_MOST_SHARDS", 1000)
    for source, words in (
        (tmp_path, "holds no shards"),
        (tmp_path / "no.tar", r"no shard .*no\.tar"),
        (f"{packed}/{{000000..000003}}.tar", r"no shard .*000003\.tar"),
        (f"{tmp_path}/*.tar", "There is no shard"),
        (f"{packed}/{{000000..000003.tar", "braces"),
        ("gopher://x/a.tar", "cannot be opened: expected a path or one of .*https"),
        ("s{1..2000}.tar", "more than 1,000 shards"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            find_shards(source)
    for module in ("webdataset", "webdataset.gopen", "braceexpand"):
        monkeypatch.setitem(sys.modules, module, None)
    for source in ("http://x/a.tar", "a{0..1}.tar"):
        with pytest.raises(WorkbenchError, match=r"pip install workbench\[cluster\]"):
            find_shards(source)
    assert len(find_shards(packed)) == 3  # local shards need nothing


# ---------------------------------------------------------------- filters


LAION = {
    "plain": {"punsafe": 0.01, "similarity": 0.33, "AESTHETIC_SCORE": 6.1, "width": 1},
    "words": {"NSFW": "UNLIKELY", "similarity": "0.31", "aesthetic": "5.5"},
    "ugly": {"punsafe": 0.01, "similarity": 0.33, "aesthetic": 3},
    "unlike": {"punsafe": 0.01, "similarity": 0.1, "aesthetic": 6},
    "unsafe": {"punsafe": 0.9, "similarity": 0.33, "aesthetic": 6},
    "unsure": {"NSFW": "UNSURE", "similarity": 0.33, "aesthetic": 6},
    "unknown": {"similarity": 0.33},
    "odd": {"punsafe": float("nan"), "similarity": 0.33, "aesthetic": True},
}


def laion(path: Path) -> Path:
    files = []
    for key, columns in LAION.items():
        files += shard_sets.sample(key, 1, form="JPEG", caption="not this one", **columns)
    files += [("small.webp", shard_sets.picture(2, size=(30, 8), form="WEBP"))]
    files += [("small.json", json.dumps(LAION["plain"] | {"caption": "from the JSON"}).encode())]
    return shard_sets.tar(path, files)


def test_filters_keep_what_was_asked_for_and_count_the_rest(tmp_path):
    asked = {"min_size": 10, "min_aesthetic": 5, "min_similarity": 0.3, "max_nsfw": 0.4}
    report = unpack(laion(tmp_path / "a.tar"), tmp_path / "out", filters=Filters(**asked), progress=False)
    texts = [row.text for row in read_folder(tmp_path / "out")]
    assert texts == ["caption plain", "caption words"] and report.kept == 2 and not report.findings
    assert report.filtered == {
        "aesthetic score below 5": 1,
        "similarity score below 0.3": 1,
        "nsfw score above 0.4": 2,
        "no aesthetic score": 2,
        "shorter side below 10 px": 1,
    }
    kept = unpack(
        tmp_path / "a.tar", tmp_path / "kept", filters=Filters(**asked, missing="keep"), progress=False
    )
    assert kept.kept == 4 and "no aesthetic score" not in kept.filtered
    everything = unpack(tmp_path / "a.tar", tmp_path / "all", progress=False)
    assert everything.kept == 9 and [row.text for row in read_folder(tmp_path / "all")][-1] == "from the JSON"


def test_scores_by_their_many_names():
    assert score_of({"Predicted Aesthetic": "4.5"}, "aesthetic") == 4.5
    assert score_of({"nsfw": True}, "nsfw") == 1 and score_of({"nsfw": "maybe"}, "nsfw") is None
    assert score_of({"similarity": float("inf")}, "similarity") is None
    assert score_of({"similarity": None, "clip_score": 0.2}, "similarity") == 0.2
    for wrong in ({"missing": "guess"}, {"min_size": 0}, {"max_nsfw": float("nan")}):
        with pytest.raises(WorkbenchError, match="expected"):
            Filters(**wrong)
