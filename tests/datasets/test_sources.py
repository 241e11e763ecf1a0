"""Shards as a table of decoded pictures, and the training that takes them from wherever they are."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import shard_sets
import torch
import web_folder
from PIL import Image
from safetensors.torch import load_file
from tiny_run import make_inputs, run_tiny

from workbench.cli import main
from workbench.datasets import decode
from workbench.datasets.loading import batches
from workbench.datasets.shards.files import public_name
from workbench.datasets.shards.packing import pack
from workbench.datasets.shards.report import ShardReport
from workbench.datasets.sources import home_of, means_shards, of_world, open_table
from workbench.datasets.splitting import write_split
from workbench.datasets.table import PictureTable
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("packed")
    shard_sets.folder(place / "set", 10)
    return pack(place / "set", place / "shards", per_shard=4, progress=False)


@pytest.fixture
def user_cache(tmp_path, monkeypatch) -> Path:
    """Where what is fetched is kept."""
    if shutil.which("curl") is None:
        pytest.skip("webdataset fetches through curl, which is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


def test_shards_train_like_the_folder_they_came_from(packed, tmp_path):
    wanted = PictureTable.from_folder(packed.parent / "set", 8, cache=False)
    places = (packed, f"{packed}/*.tar", packed / "000000.tar")
    assert all(means_shards(place) for place in places) and not means_shards(packed.parent / "set")
    cache = tmp_path / "cache"
    for _ in range(2):  # decoded, then from the cache
        table = open_table(f"{packed}/*.tar", 8, cache=cache)
        assert torch.equal(table.images, wanted.images) and table.texts == wanted.texts
        assert torch.equal(table.groups, wanted.groups) and torch.equal(table.partners, wanted.partners)
        assert table.known == wanted.known
    made = (cache / "cache-8.safetensors").stat().st_mtime_ns
    assert len(open_table(packed, 8, cache=cache)) == 10
    assert (cache / "cache-8.safetensors").stat().st_mtime_ns == made
    assert len(open_table(packed / "000000.tar", 8, cache=False)) == 4


def test_renders_are_known_in_every_form_and_nothing_else_passes_for_them(packed, tmp_path):
    drawn = write_world(tmp_path / "drawn", count=12, seed=0, resolution=16, workers=1, progress=False)
    write_split(drawn, tmp_path / "sides", 0.5)
    for source in (drawn, tmp_path / "sides" / "training", pack(drawn, tmp_path / "tars", progress=False)):
        for _ in range(2):  # decoded, then from the cache
            assert open_table(source, 8).of_world and of_world(source, 8)
    assert PictureTable.from_world(0, 2, 16).of_world
    assert not of_world(packed.parent / "set", 8) and not open_table(packed, 8, cache=False).of_world
    # photographs may be told by the same four words, as Flux's are, and a set of renders may grow by others
    lines = [json.loads(line) for line in (drawn / "metadata.jsonl").read_text().splitlines()]
    four = ("file_name", "text", "coat", "pose", "scene", "light")
    told = {name: lines[0][name] for name in four}
    for rows in ([{name: line[name] for name in four} for line in lines], [*lines[1:], told]):
        (drawn / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert not of_world(drawn, 8) and not open_table(drawn, 8).of_world


def test_a_table_of_shards_keeps_its_report(tmp_path):
    files = [*shard_sets.sample("a", 1), ("b.png", shard_sets.picture(2)), *shard_sets.sample("c", 3)]
    path = shard_sets.tar(tmp_path / "000000.tar", files)
    for _ in range(2):
        report = ShardReport()
        table = open_table(tmp_path, 8, report=report)
        assert table.texts == ["caption a", "caption c"] and report.kept == 2
        assert [(f.key, f.reason) for f in report.findings] == [("b", "a sample without a caption")]
    Image.new("RGB", (9, 9), "red").save(tmp_path / "b.png")
    shard_sets.tar(path, [*shard_sets.sample("d", 4), ("e.txt", b"x")])
    assert open_table(tmp_path, 8).texts == ["caption d"]  # the shard changed: decoded again


def test_what_another_decoder_made_is_not_used(packed, tmp_path, monkeypatch):
    for number, source in enumerate((packed.parent / "set", packed)):
        cache = tmp_path / str(number)

        def opened(source=source, cache=cache):
            open_table(source, 8, cache=cache)
            return (cache / "cache-8.safetensors").stat().st_mtime_ns

        made = opened()
        assert opened() == made
        with monkeypatch.context() as patch:
            patch.setattr(decode, "VERSION", decode.VERSION + 1)
            assert opened() > made


def test_shards_at_an_address_are_fetched_once(packed, user_cache):
    wanted = PictureTable.from_folder(packed.parent / "set", 8, cache=False)
    with web_folder.served(packed) as address:
        source = f"{address}/{{000000..000002}}.tar"
        assert means_shards(source) and home_of(source).parent == user_cache / "gigagan-workbench" / "shards"
        assert home_of(source) != home_of(f"{address}/000000.tar")
        first = open_table(source, 8)
    again = open_table(source, 8)  # nobody answers there now
    for table in (first, again):
        assert torch.equal(table.images, wanted.images) and table.texts == wanted.texts
    assert (home_of(source) / "cache-8.safetensors").is_file()
    with pytest.raises(WorkbenchError, match="refuses the connection"):
        open_table(source, 12)


def test_one_function_makes_batches_of_every_source(packed, user_cache):
    with web_folder.served(packed) as address:
        sources = (
            packed.parent / "set",
            packed,
            f"{packed}/*.tar",
            f"{packed}/{{000000..000002}}.tar",
            f"pipe:cat {packed}/*.tar",
            f"{address}/{{000000..000002}}.tar",
        )
        found = [list(islice(batches(source, 8, 4, seed=3, flip=True), 6)) for source in sources]
    for others in zip(*found, strict=True):
        images, texts, indices = others[0]
        assert images.shape == (4, 3, 8, 8) and images.min() >= -1 and images.max() <= 1
        assert texts == [f"picture {index}, größer" for index in indices.tolist()]
        for other in others[1:]:
            assert torch.equal(other[0], images) and other[1] == texts and torch.equal(other[2], indices)


def test_a_cache_that_cannot_be_kept_is_named(packed, user_cache):
    user_cache.write_text("a file where the folder would be")
    with pytest.raises(WorkbenchError, match=r"user-cache.* cannot be made"):
        open_table(f"pipe:cat {packed}/000000.tar", 8)


def test_the_same_training_takes_every_source(tmp_path, user_cache):
    data, clip = make_inputs(tmp_path)
    packed = pack(data, tmp_path / "packed", per_shard=15, progress=False)
    with web_folder.served(packed) as address:
        sources = {
            "folder": data,
            "shards": packed,
            "pattern": f"{packed}/*.tar",
            "address": f"{address.replace('//', '//me:secret@')}/{{000000..000002}}.tar",
        }
        for name, source in sources.items():
            run_tiny((source, clip), tmp_path / name, images=16)
    facts = {name: json.loads((tmp_path / name / "config.json").read_text()) for name in sources}
    weights = {name: load_file(tmp_path / name / "model/generator.safetensors") for name in sources}
    for name in sources:
        assert facts[name]["data"] | {"path": ""} == facts["folder"]["data"] | {"path": ""}, name
        assert facts[name]["grid"] == facts["folder"]["grid"], name
        assert all(torch.equal(weights[name][key], w) for key, w in weights["folder"].items()), name
    assert facts["address"]["data"]["path"] == f"{address}/{{000000..000002}}.tar"  # no password in a run
    assert list(home_of(sources["address"]).glob("captions/*"))  # and on they go without the network
    run_tiny((sources["address"], clip), tmp_path / "address", images=24, resume="extend")


def test_training_names_what_the_shards_lost(tmp_path, user_cache, capsys):
    data, clip = make_inputs(tmp_path)
    packed = pack(data, tmp_path / "packed", per_shard=15, progress=False)
    whole = (packed / "000001.tar").read_bytes()
    (packed / "000001.tar").write_bytes(whole[: len(whole) // 2])
    run_tiny((packed, clip), tmp_path / "run", images=8, progress=True)
    said = "".join(capsys.readouterr())
    assert "broken and left out" in said and "the tar ends early" in said and "000001.tar" in said


def test_the_command_line_takes_an_address_as_it_is(tmp_path, user_cache, capsys):
    with web_folder.served(tmp_path) as address:
        source = f"{address}/a.tar"
    line = ["train", "--data", source, "--out", str(tmp_path / "run"), "--preset", "shepherd-32"]
    assert main(line) == 2
    assert f"{source} could not be read to its end: the host refuses" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/mine", "data/mine"),
        ("a{0..1}.tar", "a{0..1}.tar"),
        ("what?.tar", "what?.tar"),
        ("https://me:secret@host.org/a/{000..099}.tar?sig=secret", "https://host.org/a/{000..099}.tar"),
        ("pipe:curl -H 'Authorization: secret' https://host.org/a.tar", "pipe:curl …"),
        ("pipe:", "pipe: …"),
    ],
)
def test_a_name_for_others_holds_no_key(source, name):
    assert public_name(source) == name
