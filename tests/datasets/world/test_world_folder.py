"""World folders: what is written comes back, an interruption changes nothing, a mistake is named."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from folders import contents
from PIL import Image
from stopped_drawing import kill_while_drawing

from workbench.datasets import world, writing
from workbench.datasets.rows import read_folder
from workbench.datasets.world import captions
from workbench.datasets.world.folder import Ray, write_world
from workbench.errors import WorkbenchError
from workbench.images import to_uint8

SIDE = 16


def draw(path, count, seed=5, **options):
    return write_world(path, count=count, seed=seed, resolution=SIDE, workers=1, progress=False, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("set") / "whole", 40)


# ---------------------------------------------------------------- what is written comes back


def test_a_written_set_holds_the_world_s_pictures_captions_and_factors(whole):
    rows = read_folder(whole)
    assert len(rows) == 40
    factors = world.draw_factors(5, 7)
    row = rows[7]
    assert row.file_name == "images/000007.png" and row.text == captions.caption(factors, 5, 7)
    assert world.Factors(**row.factors) == factors
    picture = np.asarray(Image.open(whole / row.file_name))
    assert (picture == to_uint8(world.render([factors], SIDE))[0]).all()
    facts = json.loads((whole / "dataset.json").read_text())
    assert (facts["seed"], facts["count"], facts["resolution"]) == (5, 40, SIDE)
    card = (whole / "README.md").read_text()
    assert "Source" in card and "Licence" in card and card.startswith("---\nlicense: ")


def test_the_batch_changes_nothing(whole, tmp_path):
    assert contents(draw(tmp_path / "other", 40, batch=7)) == contents(whole)


def test_a_set_grows_and_keeps_what_it_has(whole, tmp_path):
    small = draw(tmp_path / "grown", 12)
    kept = (small / "images/000011.png").stat().st_ino
    assert contents(draw(small, 40)) == contents(whole)
    assert (small / "images/000011.png").stat().st_ino == kept  # not drawn again


def test_progress_is_told_from_where_the_run_goes_on(tmp_path):
    draw(tmp_path / "set", 4)
    told = []
    write_world(
        tmp_path / "set",
        count=10,
        seed=5,
        resolution=SIDE,
        workers=1,
        batch=3,
        progress=lambda *a: told.append(a),
    )
    assert told == [(4, 10), (7, 10), (10, 10)]


def test_a_longer_work_tells_its_time_and_disk_first(tmp_path, monkeypatch):
    told = []
    draw(tmp_path / "set", 40, say=told.append)
    (sentence,) = told
    assert re.fullmatch(r"35 pictures of 16 px to draw: about \d+ s on 1 core, 1 MB on disk\.", sentence)
    draw(tmp_path / "few", 8, say=told.append)
    assert told == [sentence]
    monkeypatch.setattr(writing, "_KEEP_FREE", 10**16)
    with pytest.raises(WorkbenchError, match="needs about 1 MB more and its disk has"):
        draw(tmp_path / "too much", 40)
    assert len(list((tmp_path / "too much/images").iterdir())) == 5


@pytest.mark.gpu
def test_a_gpu_draws_the_same_within_its_rounding(whole, tmp_path):
    other = write_world(tmp_path / "set", count=40, seed=5, resolution=SIDE, device="cuda", progress=False)
    for row in read_folder(other):
        one, two = (np.asarray(Image.open(f / row.file_name), dtype=np.int16) for f in (whole, other))
        assert np.abs(one - two).mean() <= 1


# ---------------------------------------------------------------- Ray


@pytest.mark.long
def test_ray_draws_the_same_files(whole, tmp_path):
    pytest.importorskip("ray", reason="no ray here; to run it: pip install workbench[cluster]")
    script = (
        "from workbench.datasets.world.folder import Ray, write_world\n"
        f"write_world({str(tmp_path / 'set')!r}, count=40, seed=5, resolution={SIDE}, workers=2, batch=4,\n"
        "            ray=Ray(), progress=False)\n"
    )
    # A process of its own: Ray looks up this machine's address, which tests may not. Niceness 0: its workers
    # would else wait for all else on this machine.
    environment = os.environ | {"OMP_NUM_THREADS": "2", "RAY_worker_niceness": "0"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=600)
    assert contents(tmp_path / "set") == contents(whole)


def test_without_ray_the_command_that_brings_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(
        WorkbenchError, match=r"Ray is not installed here: run `pip install workbench\[cluster\]`"
    ):
        draw(tmp_path / "set", 2, ray=Ray())


def test_a_ray_cluster_that_is_not_there_is_told_at_once(tmp_path):
    pytest.importorskip("ray", reason="no ray here; to run it: pip install workbench[cluster]")
    with pytest.raises(WorkbenchError, match=r"Ray does not answer at ray://127\.0\.0\.1:1 \(.*refused\)"):
        draw(tmp_path / "set", 2, ray=Ray(address="ray://127.0.0.1:1"))


# ---------------------------------------------------------------- interruptions


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see the worker processes")
def test_a_killed_run_goes_on_to_the_same_bytes_and_leaves_no_process(whole, tmp_path):
    target = tmp_path / "killed"
    request = f"count=400, seed=5, resolution={SIDE}, workers=2, batch=4, progress=False"
    script = (
        "from workbench.datasets.world.folder import write_world\n"
        f"if __name__ == '__main__':\n    write_world({str(target)!r}, {request})\n"
    )
    helpers = kill_while_drawing(script, target, look=children)
    assert len(helpers) >= 2
    until = time.monotonic() + 60
    while any(alive(pid) for pid in helpers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in helpers)
    drawn = sorted(target.glob("images/*.png"))
    assert 6 <= len(drawn) < 400
    with pytest.raises(WorkbenchError, match="interrupted"):
        read_folder(target)
    # The rest at once would be slow here: keep what lies within the first 40, and have one of them cut short.
    for file in drawn:
        if int(file.stem) >= 40:
            file.unlink()
    drawn[0].write_bytes(drawn[0].read_bytes()[:60])
    (target / "images/000039.png.tmp-77").write_bytes(b"half a picture")
    assert contents(draw(target, 40)) == contents(whole)


def test_killed_before_the_last_files_a_run_still_ends_alike(whole, tmp_path):
    target = tmp_path / "late"
    shutil.copytree(whole, target)
    (target / "metadata.jsonl").unlink()
    facts = json.loads((target / "dataset.json").read_text())
    (target / "dataset.json").write_text(json.dumps(facts | {"count": 0}))
    assert contents(draw(target, 40)) == contents(whole)


def test_killed_on_its_first_write_a_run_still_starts(tmp_path):
    (tmp_path / "dataset.json.tmp-0a1b2c3d").write_text("{")
    draw(tmp_path, 2)
    assert sorted(contents(tmp_path)) == [
        "README.md",
        "dataset.json",
        "images/000000.png",
        "images/000001.png",
        "metadata.jsonl",
    ]


def test_a_picture_that_the_disk_refuses_is_named(tmp_path, largest_file):
    one = {"count": 1, "seed": 3, "resolution": 64, "workers": 1, "progress": False}
    with (
        largest_file(2_000),
        pytest.raises(
            WorkbenchError,
            match=r"Cannot write .*000000\.png: the file would be larger .* drawn so far are kept",
        ),
    ):
        write_world(tmp_path / "set", **one)
    assert not list((tmp_path / "set" / "images").iterdir())
    assert len(read_folder(write_world(tmp_path / "set", **one))) == 1


def test_a_full_disk_is_one_sentence_and_keeps_what_is_drawn(tmp_path):
    # A limit on file size fails the long metadata file as a full disk would, after the pictures.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(
            WorkbenchError, match=r"Cannot write .*metadata\.jsonl: .*Pictures drawn so far are kept"
        ):
            draw(tmp_path / "set", 12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, was)
    assert len(list((tmp_path / "set/images").glob("*.png"))) == 12
    assert not list((tmp_path / "set").rglob("*.tmp-*"))
    assert len(read_folder(draw(tmp_path / "set", 12))) == 12


# ---------------------------------------------------------------- refusals of the writer


def test_another_set_is_refused_and_stays(whole, tmp_path):
    target = tmp_path / "set"
    shutil.copytree(whole, target)
    before = contents(target)
    for options, message in (
        ({"seed": 6}, "seed 5, not 6"),
        ({"resolution": 32}, "resolution 16, not 32"),
        ({"count": 39}, "40 pictures already, more than the 39"),
    ):
        request = {"count": 40, "seed": 5, "resolution": SIDE} | options
        with pytest.raises(WorkbenchError, match=message):
            write_world(target, **request, workers=1, progress=False)
    (target / "images/cat.png").write_bytes(b"mine")
    with pytest.raises(WorkbenchError, match=r"images/cat\.png, which is not the set's"):
        draw(target, 50)
    (target / "images/cat.png").unlink()
    Image.new("RGB", (SIDE, SIDE)).save(target / "images/000000.png")
    with pytest.raises(WorkbenchError, match="not what this version of the world draws"):
        draw(target, 50)
    (target / "images/000000.png").write_bytes(before["images/000000.png"])
    assert contents(target) == before


def test_foreign_files_and_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("years")
    with pytest.raises(WorkbenchError, match=r"already holds thesis\.tex"):
        draw(tmp_path / "full", 2)
    assert contents(tmp_path / "full") == {"thesis.tex": b"years"}
    with pytest.raises(WorkbenchError, match="is a file"):
        draw(tmp_path / "full/thesis.tex", 2)
    with pytest.raises(WorkbenchError, match="Cannot write"):
        draw(tmp_path / "full/thesis.tex/inside", 2)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/dataset.json").write_text("[]")
    with pytest.raises(WorkbenchError, match="not the recipe of a set of Shepherd World"):
        draw(tmp_path / "odd", 2)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2.0}, r"count is 2\.0"),
        ({"seed": -1}, "negative"),
        ({"resolution": 8}, "resolution is 8"),
        ({"workers": 0}, "workers is 0"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_senseless_requests_are_refused_before_anything_is_made(tmp_path, request_, message):
    with pytest.raises(WorkbenchError, match=message):
        write_world(tmp_path / "set", **({"count": 2, "seed": 0, "progress": False} | request_))
    assert not (tmp_path / "set").exists()


def test_two_writers_are_kept_apart(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(WorkbenchError, match="Another process is writing"):
            draw(tmp_path, 2)
    finally:
        os.close(handle)
