"""The stream of samples: every one once an epoch over all readers, and on exactly where it was."""

import gc
import json
import random
from collections import Counter
from itertools import islice, pairwise

import pytest
import shard_sets
import torch
from torch.utils.data import DataLoader

from workbench.datasets.rows import read_folder
from workbench.datasets.shards.filters import Filters
from workbench.datasets.shards.packing import unpack
from workbench.datasets.shards.stream import ShardStream
from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError

SIZES = [7, 3, 9, 1, 6, 8]
TOTAL = sum(SIZES)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return shard_sets.shards(tmp_path_factory.mktemp("stream"), SIZES)


def keys(stream, epochs: int = 1) -> list[str]:
    return [sample.key for _ in range(epochs) for sample in stream]


def test_every_sample_comes_once_an_epoch_in_another_order(shards):
    stream = ShardStream(shards, seed=1, shuffle=5)
    orders = [keys(stream) for _ in range(4)]
    assert all(sorted(order) == [f"{number:06d}" for number in range(TOTAL)] for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert stream.report.kept == 4 * TOTAL and not stream.report.findings


def test_the_order_is_a_function_of_seed_and_epoch(shards):
    wanted = keys(ShardStream(shards, seed=1, shuffle=5), epochs=3)
    assert keys(ShardStream(shards, seed=1, shuffle=5), epochs=3) == wanted
    assert keys(ShardStream(shards, seed=2, shuffle=5), epochs=3) != wanted
    third = ShardStream(shards, seed=1, shuffle=5)
    third.set_epoch(2)
    assert keys(third) == wanted[2 * TOTAL :]
    plain = ShardStream(shards, seed=1, shuffle=0)
    assert keys(plain) == keys(plain) == [f"{number:06d}" for number in range(TOTAL)]


def test_a_shuffle_mixes_shards_and_neighbours(shards):
    order = [int(key) for key in keys(ShardStream(shards, seed=3, shuffle=20))]
    steps = [abs(a - b) for a, b in pairwise(order)]
    assert sum(step == 1 for step in steps) < TOTAL / 4


@pytest.mark.parametrize("shuffle", [0, 1, 4, 16, 1000])
def test_it_goes_on_exactly_where_it_was(shards, shuffle):
    options = {"seed": 7, "shuffle": shuffle, "filters": Filters(min_size=2)}
    wanted = keys(ShardStream(shards, **options), epochs=3)
    draw = random.Random(shuffle)
    for stop in [0, TOTAL - 1, TOTAL, TOTAL + 1, *draw.sample(range(3 * TOTAL), 12)]:
        stream, got = ShardStream(shards, **options), []
        while len(got) < stop:  # leave the loop in the middle of an epoch
            got += [sample.key for sample in islice(stream, stop - len(got))]
        state = json.loads(json.dumps(stream.state_dict()))
        other = ShardStream(shards, **options)
        other.load_state_dict(state)
        assert other.position.number == stop
        while len(got) < 3 * TOTAL:
            got += [sample.key for sample in other]
        assert got == wanted, stop


def test_readers_share_the_shards(shards):
    for world in (2, 3, 6):
        for epoch in (0, 1):
            parts = []
            for rank in range(world):
                stream = ShardStream(shards, seed=5, shuffle=4, rank=rank, world=world)
                stream.set_epoch(epoch)
                parts.append(keys(stream))
            seen = [key for part in parts for key in part]
            assert all(parts) and sorted(seen) == [f"{number:06d}" for number in range(TOTAL)]
    stream = ShardStream(shards, world=7)
    with pytest.raises(WorkbenchError, match="7 readers share 6 shards"):
        next(iter(stream))
    with pytest.raises(WorkbenchError, match="rank is 2"):
        ShardStream(shards, rank=2, world=2)


def test_workers_of_a_loader_share_the_part(shards, monkeypatch):
    seen = []
    for rank in range(2):
        stream = ShardStream(shards, seed=5, shuffle=4, rank=rank, world=2)
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
        read = [sample.key for sample in loader]
        split = [ShardStream(shards, seed=5, shuffle=4, rank=2 * rank + w, world=4) for w in (0, 1)]
        assert Counter(read) == Counter(keys(split[0]) + keys(split[1]))
        seen += read
    assert sorted(seen) == [f"{number:06d}" for number in range(TOTAL)]
    next(iter(stream))
    # Behind an error torch waits so long for each worker, ten seconds in all.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    with pytest.raises(WorkbenchError, match="does not split into workers"):
        list(loader)
    gc.collect()


def test_a_position_of_another_stream_is_refused(shards):
    state = ShardStream(shards, seed=1).state_dict()
    for other in ({"seed": 2}, {"shuffle": 3}, {"filters": Filters(min_size=1)}, {"rank": 1, "world": 2}):
        with pytest.raises(WorkbenchError, match="other shards, seed"):
            ShardStream(shards, **{"seed": 1} | other).load_state_dict(state)
    with pytest.raises(WorkbenchError, match="other shards, seed"):
        ShardStream(shards, seed=1).load_state_dict({})


def test_filtered_and_broken_samples_do_not_disturb_the_position(tmp_path):
    files = []
    for number in range(40):
        files += shard_sets.sample(f"{number:02d}", number, aesthetic=number % 5)
        if number % 7 == 0:
            files.append((f"x{number}.txt", b"no picture"))
    for at in range(4):
        shard_sets.tar(tmp_path / f"{at}.tar", files[at * 30 : at * 30 + 30])
    options = {"seed": 3, "shuffle": 6, "filters": Filters(min_aesthetic=2)}
    wanted = keys(ShardStream(tmp_path, **options), epochs=2)
    assert 0 < len(wanted) < 80
    for stop in (5, 6, 13, len(wanted) // 2, len(wanted) - 1):
        stream, got = ShardStream(tmp_path, **options), []
        while len(got) < stop:
            got += [sample.key for sample in islice(stream, stop - len(got))]
        other = ShardStream(tmp_path, **options)
        other.load_state_dict(stream.state_dict())
        while len(got) < len(wanted):
            got += [sample.key for sample in other]
        assert got == wanted


def test_a_stream_that_gives_nothing_says_so(shards, tmp_path):
    with pytest.raises(WorkbenchError, match=r"gave no sample: 0 samples kept, 34 left out for shorter side"):
        list(ShardStream(shards, filters=Filters(min_size=100)))
    shard_sets.tar(tmp_path / "a.tar", [("a.png", shard_sets.picture(1)[:90]), ("a.txt", b"x")])
    with pytest.raises(WorkbenchError, match="No picture of the shards can be decoded"):
        next(ShardStream(tmp_path).batches(8, 2))


# ---------------------------------------------------------------- batches


def test_batches_hold_the_pictures_and_captions_of_the_samples(shards, tmp_path):
    unpack(shards, tmp_path / "set", progress=False)
    captions = [row.text for row in read_folder(tmp_path / "set")]
    table = open_table(tmp_path / "set", 8, cache=False)
    stream = ShardStream(shards, seed=2, shuffle=10)
    seen = []
    for images, texts, numbers in islice(stream.batches(8, 5), 3 * TOTAL // 5):
        rows = [captions.index(text) for text in texts]
        assert images.shape == (5, 3, 8, 8) and images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(((images + 1) * 127.5).round().to(torch.uint8), table.images[rows])
        seen += numbers.tolist()
    assert seen == list(range(len(seen)))


def test_batches_go_on_exactly_where_they_were(shards):
    wanted = list(islice(ShardStream(shards, seed=2, shuffle=6).batches(8, 4, flip=True), 25))
    for stop in (1, 8, 9, 20):
        stream = ShardStream(shards, seed=2, shuffle=6)
        list(islice(stream.batches(8, 4, flip=True), stop))
        other = ShardStream(shards, seed=2, shuffle=6)
        other.load_state_dict(stream.state_dict())
        for was, now in zip(wanted[stop:], other.batches(8, 4, flip=True), strict=False):
            assert torch.equal(was[0], now[0]) and was[1] == now[1] and torch.equal(was[2], now[2])


def test_flips_leave_captions_true(tmp_path):
    files = []
    for number in range(40):
        picture, _, columns = shard_sets.sample(f"{number:02d}", number)
        side = "on the left" if number % 2 else "in the park"
        files += [picture, (f"{number:02d}.txt", f"{number} {side}".encode()), columns]
    shard_sets.tar(tmp_path / "a.tar", files)
    table = open_table(tmp_path, 12, cache=False)
    turned = Counter()
    for images, texts, _ in islice(ShardStream(tmp_path, seed=1).batches(12, 8, flip=True), 50):
        for image, text in zip(images, texts, strict=True):
            straight = torch.equal(((image + 1) * 127.5).round().byte(), table.images[int(text.split()[0])])
            turned["left" in text, not straight] += 1
    assert turned[True, True] == 0 and turned[True, False] > 150
    assert 0.35 < turned[False, True] / (turned[False, True] + turned[False, False]) < 0.65
