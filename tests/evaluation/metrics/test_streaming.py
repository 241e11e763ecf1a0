"""A pass goes on where it was stopped, and several processes measure what one does."""

import json
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import tiny_run
import torch
from measured_pair import measure_in_pair
from noise_pictures import noise, noise_folder, pixel_features

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.extractor import state_hash
from workbench.evaluation.metrics.extractors import local_clip
from workbench.evaluation.metrics.measuring import clip_score, distances
from workbench.evaluation.metrics.meters import ClipScoreMeter, FeatureMeter, kept_numbers
from workbench.evaluation.metrics.sources import Facts, Pictures, open_pictures
from workbench.evaluation.metrics.statistics import statistics_of
from workbench.evaluation.metrics.streaming import stream
from workbench.evaluation.perceptual import CLIP_FOLDER


def counted(pictures: torch.Tensor, read: list[int], stop_at: int | None = None, texts=()) -> Pictures:
    """A source that notes what was read and is broken off before picture `stop_at`."""

    def batch(first, stop):
        if stop_at is not None and stop > stop_at:
            raise KeyboardInterrupt
        read.extend(range(first, stop))
        return pictures[first:stop]

    facts = Facts(name="noise", key="k", cache_key="k", resolution=pictures.shape[-1])
    return Pictures(facts=facts, count=len(pictures), read=batch, texts=texts)


def test_an_interrupted_pass_goes_on_and_gives_the_same_numbers(tmp_path):
    pictures, extractor = noise(95), pixel_features(5)
    whole = FeatureMeter(extractor, 95, 8)
    stream(counted(pictures, []), [whole], batch_size=10, cache=None)
    read: list[int] = []
    settings = {"batch_size": 10, "cache": tmp_path, "save_every": 20}
    with pytest.raises(KeyboardInterrupt):
        stream(counted(pictures, read, stop_at=55), [FeatureMeter(extractor, 95, 8)], **settings)
    assert read == list(range(50))
    read.clear()
    again = FeatureMeter(extractor, 95, 8)
    stream(counted(pictures, read), [again], **settings)
    assert read == list(range(40, 95))  # what was not saved yet is measured again
    assert whole.state.keys() == again.state.keys()
    for name, value in whole.state.items():
        assert torch.equal(value, again.state[name]), name
    read.clear()
    stream(counted(pictures, read), [FeatureMeter(extractor, 95, 8)], **settings)
    assert read == []  # whole already
    stream(counted(pictures, read), [FeatureMeter(pixel_features(6), 95, 8)], **settings)
    assert len(read) == 95  # other features, other sums
    read.clear()
    stream(counted(pictures, read), [FeatureMeter(extractor, 95, 8)], **settings, fresh=True)
    assert len(read) == 95


def test_a_pass_that_is_stopped_by_whoever_is_told_loses_nothing(tmp_path):
    class Enough(Exception):
        pass

    def tell(done, n, what):
        if done >= 60:
            raise Enough

    pictures, extractor, read = noise(95), pixel_features(5), []
    whole, again = FeatureMeter(extractor, 95, 8), FeatureMeter(extractor, 95, 8)
    stream(counted(pictures, []), [whole], batch_size=10, cache=None)
    with pytest.raises(Enough):  # long before the first saving of its own
        stream(
            counted(pictures, []),
            [FeatureMeter(extractor, 95, 8)],
            batch_size=10,
            cache=tmp_path,
            progress=tell,
        )
    stream(counted(pictures, read), [again], batch_size=10, cache=tmp_path)
    assert read == list(range(60, 95))
    assert all(torch.equal(value, again.state[name]) for name, value in whole.state.items())


def test_damaged_sums_are_measured_again(tmp_path):
    pictures, extractor, read = noise(20), pixel_features(5), []
    stream(counted(pictures, read), [FeatureMeter(extractor, 20, 8)], cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    stream(counted(pictures, read), [FeatureMeter(extractor, 20, 8)], cache=tmp_path)
    assert len(read) == 40


def test_rows_are_kept_of_a_bounded_few_spread_by_chance():
    assert kept_numbers(5, 10).tolist() == [0, 1, 2, 3, 4]
    chosen = kept_numbers(1000, 50)
    assert len(set(chosen.tolist())) == 50 and chosen.tolist() == sorted(chosen.tolist())
    assert 300 < chosen.double().mean() < 700
    pictures = noise(200)
    meter = FeatureMeter(pixel_features(5), 200, 8, most=30)
    stream(counted(pictures, []), [meter], batch_size=7, cache=None)
    assert torch.equal(meter.state["rows"], pictures.flatten(1)[meter.kept, :5].float())


def test_memory_does_not_grow_with_the_number_of_pictures():
    """10 times as many pictures: the state is as large, and so is what the pass needs at its peak."""
    extractor, peaks, sizes = pixel_features(64), [], []
    for n in (1_000, 10_000):
        facts = Facts(name="noise", key="k", cache_key="k", resolution=8)
        one = noise(50)
        source = Pictures(facts=facts, count=n, read=lambda first, stop, one=one: one[: stop - first])
        meter = FeatureMeter(extractor, n, 8, most=500)
        tracemalloc.start()
        stream(source, [meter], cache=None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(sum(value.numel() for value in meter.state.values()))
    assert sizes[0] == sizes[1] and peaks[1] < 2 * peaks[0] + 100_000


def test_clip_scores_are_mean_cosines_with_their_error():
    clip = local_clip(str(CLIP_FOLDER))
    texts = ["a black dog in the snow", "a white dog at night", "a red shepherd lying down"]
    pictures = noise(3, 64)
    meter = ClipScoreMeter(clip, "v")
    stream(counted(pictures, [], texts=texts), [meter], batch_size=2, cache=None)
    one = clip.encode_image(pictures.float() / 127.5 - 1)
    cosines = (100 * (one * clip.encode_text(texts)).sum(1)).clamp_min(0).double()
    found = clip_score(meter, counted(pictures, []).facts)
    assert found.value == pytest.approx(cosines.mean().item(), rel=1e-4)
    assert found.spread == pytest.approx((cosines.std() / 3**0.5).item(), rel=1e-3)
    assert found.statement.n == 3 and found.statement.features == f"CLIP {clip.name}"
    with pytest.raises(WorkbenchError, match="Picture 0 has no caption"):
        stream(counted(pictures, []), [ClipScoreMeter(clip, "v")], cache=None)
    assert len(state_hash(clip.model.state_dict())) == 12


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_give_the_numbers_of_one(tmp_path):
    folders = (noise_folder(tmp_path / "a", 130), noise_folder(tmp_path / "b", 71, seed=1, mean=140))
    context, port = tiny_run.forkserver(), free_port()
    pair = [context.Process(target=measure_in_pair, args=(r, port, folders, tmp_path)) for r in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in pair] == [0, 0]
    extractor = pixel_features(5)
    alone = distances(*(statistics_of(open_pictures(x), extractor, cache=None) for x in folders), extractor)
    for rank in range(2):
        for again in range(2):
            lines = (tmp_path / f"{rank}-{again}.txt").read_text().splitlines()
            for line, one in zip(lines, alone.measurements, strict=True):
                name, value = line.split("\t")
                assert name == one.name and float(value) == pytest.approx(one.value, rel=1e-9)


def test_accelerate_launch_gives_the_numbers_of_one_process(tmp_path):
    """The commands of the README themselves, by two processes on a CPU and by one."""
    folders = (noise_folder(tmp_path / "a", 130, 32), noise_folder(tmp_path / "b", 71, 32, seed=1, mean=140))
    measure = ["-m", "workbench.cli", "evaluate", "distance", "--pictures", str(folders[0])]
    measure += ["--reference", str(folders[1]), "--device", "cpu", "--fresh"]
    accelerate = [str(Path(sys.executable).parent / "accelerate"), "launch", "--multi_gpu"]
    accelerate += ["--num_processes", "2", "--main_process_port", str(free_port())]
    found = {}
    for name, launcher in (("one", [sys.executable]), ("two", accelerate)):
        out = tmp_path / f"{name}.json"
        process = subprocess.run(
            [*launcher, *measure, "--out", str(out)], capture_output=True, text=True, timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        found[name] = json.loads(out.read_text())
    one, two = (found[name]["measurements"] for name in ("one", "two"))
    assert len(one) == len(two) >= 4
    for a, b in zip(one, two, strict=True):
        assert a["name"] == b["name"] and a["statement"] == b["statement"]
        assert b["value"] == pytest.approx(a["value"], rel=1e-6)
