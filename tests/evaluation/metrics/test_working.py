"""The commands as a person types them: distance, questions, compare; what they refuse."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch
from noise_pictures import noise_folder, pixel_features
from safetensors.torch import save_file
from tiny_world_model import tiny_world_model
from true_renders import render_folder

from workbench import cli
from workbench.commands.common import CLIP, find_model
from workbench.datasets import decode
from workbench.datasets.shards.packing import pack
from workbench.errors import WorkbenchError
from workbench.evaluation.metrics import working
from workbench.evaluation.metrics.extractors import local_clip
from workbench.evaluation.metrics.meters import ClipScoreMeter
from workbench.evaluation.metrics.sources import open_pictures
from workbench.evaluation.metrics.statistics import statistics_of
from workbench.evaluation.metrics.streaming import stream


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the cache of a command lies
    return noise_folder(tmp_path / "a", 20, 16), noise_folder(tmp_path / "b", 24, 16, seed=1)


def test_distance_prints_statements_and_compare_reads_them(folders, capsys):
    words = ["evaluate", "distance", "--pictures", "a", "--reference", "b", "--subsets", "5"]
    assert cli.main([*words, "--out", "first.json"]) == 0
    said = capsys.readouterr()
    assert "Fréchet distance (features judge, mid-level)" in said.out and "n 20, against 24 of b" in said.out
    assert "warning: The reference holds 24 pictures for 448 features" in said.err
    assert cli.main([*words, "--out", "second.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measurements"][0]["statement"]["n"] == 20
    assert cli.main(["evaluate", "compare", "first.json", "second.json", "--json"]) == 0
    assert {one["verdict"] for one in json.loads(capsys.readouterr().out).values()} == {"equal"}
    assert cli.main([*words, "--n", "10", "--out", "fewer.json"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "compare", "first.json", "fewer.json"]) == 2
    assert "do not compare; they differ in n: 20 and 10" in capsys.readouterr().err
    assert cli.main(["evaluate", "compare", "first.json", "fewer.json", "--across", "n", "settings"]) == 0


def test_a_model_is_measured_with_the_worlds_prompts_and_a_file_of_statistics(tmp_path):
    data = render_folder(tmp_path / "data", count=30, side=16, seed=4)
    tiny_world_model().save_pretrained(tmp_path / "model")
    extractor = pixel_features(6, side=16)
    settings = {"model": str(tmp_path / "model"), "n": 20, "cache": None, "subsets": 3, "device": "cpu"}
    whole = working.measure(extractor, data, **settings)
    kept = statistics_of(open_pictures(data), extractor, cache=None).save(tmp_path / "data.safetensors")
    again = working.measure(extractor, kept, **settings)
    assert [one.value for one in whole.measurements] == [one.value for one in again.measurements]
    first = whole.measurements[0].statement
    assert (first.seed, first.truncation, first.n, first.n_reference) == (0, 1.0, 20, 30)
    with pytest.raises(WorkbenchError, match="has no captions to draw from"):
        working.measure(extractor, kept, **settings, prompts="captions")
    with pytest.raises(WorkbenchError, match="--resolution is 8: expected the same"):
        working.measure(extractor, data, **settings, resolution=8)
    with pytest.raises(WorkbenchError, match="either a model or a folder of pictures"):
        working.measure(extractor, data, pictures=data, **settings)


def test_shards_are_the_folder_that_they_were_packed_from(tmp_path):
    data = render_folder(tmp_path / "data", count=12, side=16, seed=4)
    pack(data, tmp_path / "shards", progress=False)
    with pytest.raises(WorkbenchError, match=r"is shards.*give --resolution"):
        open_pictures(tmp_path / "shards")
    packed, plain = open_pictures(tmp_path / "shards", resolution=16), open_pictures(data)
    order = [packed.texts.index(text) for text in plain.texts]
    assert len(packed) == 12 and torch.equal(packed.batch(0, 12).pictures[order], plain.batch(0, 12).pictures)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pictures", "a", "--reference", "nowhere"], "nowhere is not there"),
        (["--pictures", "a", "--reference", "empty"], "empty holds no picture"),
        (["--pictures", "a", "--reference", "b", "--features", "vgg"], "features 'vgg' are not known"),
        (["--pictures", "a", "--reference", "b", "--resizer", "spline"], "resizer 'spline' is not known"),
        (["--reference", "b"], "either a model or a folder"),
        (["--pictures", "a", "--reference", "x.safetensors"], "says kind None"),
        (["--pictures", "a", "--reference", "b", "--resolution", "-1"], "resolution is -1: expected a whole"),
        (["--pictures", "a", "--reference", "b", "--subsets", "0"], "subsets is 0: expected a whole number"),
        (["--pictures", "a", "--reference", "one"], "one holds 1 picture: a distance needs 2"),
        (["--pictures", "one", "--reference", "b"], "one holds 1 picture: a distance needs 2"),
    ],
)
def test_mistakes_are_one_line_before_the_work(folders, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    noise_folder(tmp_path / "one", 1, 16)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert cli.main(["evaluate", "distance", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_the_speed_of_a_pass_is_counted_and_its_memory_looked_at():
    found = working.time_features(pixel_features(6, side=16), resolution=16, count=400)
    assert found["features_per_s"] > 0 and found["n"] == 400 and found["memory_growth_mib"] < 50
    with pytest.raises(WorkbenchError, match="expected 200 pictures or more"):
        working.time_features(pixel_features(6), count=100)


def test_questions_of_a_set_that_says_its_factors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    render_folder(tmp_path / "data", count=8, side=64, seed=4)
    assert cli.main(["evaluate", "questions", "--pictures", "data"]) == 0
    assert "faithfulness by questions: scene" in capsys.readouterr().out
    noise_folder(tmp_path / "bare", 3, 64)
    assert cli.main(["evaluate", "questions", "--pictures", "bare"]) == 2
    assert "No caption of bare names an answer" in capsys.readouterr().err


def test_captions_that_were_edited_are_read_again(tmp_path, monkeypatch):
    """What was kept of a pass that reads captions holds for those captions alone."""
    monkeypatch.chdir(tmp_path)
    data = render_folder(tmp_path / "data", count=6, side=64, seed=4)
    clip = local_clip(find_model(CLIP))
    ask = functools.partial(working.ask, clip, data)
    before = {one.name: one.value for one in ask()}
    lines = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    others = [{**line, "text": "a white dog", "coat": "white"} for line in lines]
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in others))
    kept, anew = ({one.name: one.value for one in found} for found in (ask(), ask(cache=None)))
    assert kept == anew != before

    for text in ("a white dog", "a black dog in the snow"):
        (data / "metadata.jsonl").write_text(
            "".join(json.dumps({**line, "text": text}) + "\n" for line in others)
        )
        values = []
        for cache in (tmp_path / "kept", None):
            score = ClipScoreMeter(clip, "v")
            stream(open_pictures(data), [score], cache=cache)
            values.append(score.mean[0])
        assert values[0] == values[1]


def test_a_damaged_cache_is_measured_again_and_fresh_uses_none(folders, tmp_path):
    extractor, cache = pixel_features(6, side=16), tmp_path / "cache"
    source = open_pictures("b")
    whole = statistics_of(source, extractor, cache=cache)
    (file,) = cache.glob("statistics-*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:500])
    again = statistics_of(source, extractor, cache=cache)
    assert torch.equal(again.rows, whole.rows) and file.read_bytes() == content
    seen = []
    reading = dataclasses.replace(source, read=lambda a, b: seen.append(a) or source.read(a, b))
    statistics_of(reading, extractor, cache=cache)
    assert not seen
    statistics_of(reading, extractor, cache=cache, fresh=True)
    assert seen


@pytest.mark.parametrize("count", [0, -1])
def test_no_pictures_are_no_number_of_pictures(folders, count):
    with pytest.raises(WorkbenchError, match="expected 1 or more"):
        open_pictures("a", count=count)


def test_a_place_for_the_numbers_is_made_or_refused_before_the_work(folders, capsys):
    words = ["evaluate", "distance", "--pictures", "a", "--reference", "b", "--subsets", "5", "--out"]
    assert cli.main([*words, "new/place/x.json"]) == 0
    assert json.loads(Path("new/place/x.json").read_text())["measurements"]
    assert cli.main([*words, "new/place"]) == 2
    said = capsys.readouterr().err
    assert "new/place is a folder: give the name of a file" in said


def test_a_better_decoder_reads_again_and_leaves_reports_comparable(folders, monkeypatch):
    before = open_pictures("a").facts
    monkeypatch.setattr(decode, "VERSION", decode.VERSION + 1)
    after = open_pictures("a").facts
    assert after.key == before.key and after.cache_key != before.cache_key
