"""The file of decoded pictures: whole or not there, mapped and not read, one writer at a time."""

import multiprocessing as mp
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from workbench.datasets import picture_cache, writing
from workbench.errors import WorkbenchError


def chunk(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def rest() -> dict[str, torch.Tensor]:
    return {"partners": torch.arange(5) - 1, "rows": torch.tensor([7, 8, 9], dtype=torch.uint8)}


def made(file, *, side=3):
    chunks = [chunk(2, side, 1), chunk(3, side, 2)]
    held = picture_cache.load_or_make(file, "key", side, lambda: chunks, rest, count=5)
    return torch.from_numpy(np.concatenate(chunks)), held


def test_the_file_is_a_safetensors_file_whatever_the_number_of_bytes(tmp_path):
    for side in (1, 3, 4):  # 3, 27 and 48 bytes a picture: behind them int64 lies askew or not
        file = tmp_path / f"{side}.safetensors"
        images, held = made(file, side=side)
        by_the_library = load_file(file)
        assert by_the_library.keys() == held.keys() == {"images", "partners", "rows"}
        for name in held:
            assert torch.equal(held[name], by_the_library[name])
        assert torch.equal(held["images"], images) and torch.equal(held["partners"], rest()["partners"])
        assert picture_cache.read(file, "another key") is None


def test_a_file_that_the_library_wrote_is_read(tmp_path):
    tensors = {"images": torch.from_numpy(chunk(4, 5)), "partners": torch.arange(4)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"key": "k"})
    held = picture_cache.read(tmp_path / "a.safetensors", "k")
    assert all(torch.equal(held[name], tensors[name]) for name in tensors)


def test_pictures_beyond_memory_and_swap_are_mapped(tmp_path):
    file, side = tmp_path / "cache-64.safetensors", 64
    count = 3 * (psutil.virtual_memory().total + psutil.swap_memory().total) // (side**2 * 3)
    picture_cache.write(file, "key", [chunk(1, side)], dict)
    pixels = chunk(2, side, 5)
    with open(file, "r+b") as out:  # a sparse file: it takes no room on the disk
        picture_cache._write_header(out, "key", {"images": ((count, side, side, 3), "U8")})
        out.truncate(1024 + count * side**2 * 3)
        for row, picture in zip((count // 2, count - 1), pixels, strict=True):
            out.seek(1024 + row * side**2 * 3)
            out.write(picture.tobytes())
    images = picture_cache.read(file, "key")["images"]
    assert images.shape == (count, side, side, 3)
    assert torch.equal(images[torch.tensor([count // 2, count - 1])], torch.from_numpy(pixels))


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_file_is_made_again_with_a_word(tmp_path, tenth):
    file = tmp_path / "cache-3.safetensors"
    images, _ = made(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * tenth // 10])
    assert picture_cache.read(file, "key") is None
    with pytest.warns(UserWarning, match="made again"):
        made(file)
    assert file.read_bytes() == whole and torch.equal(picture_cache.read(file, "key")["images"], images)


def test_decoding_keeps_the_order_whatever_the_number_of_threads(monkeypatch):
    def picture(item: int) -> Image.Image | None:
        time.sleep(0.002 * (item % 3))  # later items finish first
        return None if item % 7 == 3 else Image.new("RGB", (4, 4), (item, 0, 0))

    results = []
    for workers in (1, 2, 9):
        pool = partial(ThreadPoolExecutor, max_workers=workers)
        monkeypatch.setattr(picture_cache, "ThreadPoolExecutor", pool)
        items, pixels = zip(*picture_cache.decode(iter(range(60)), picture, 4), strict=True)
        kept = [item for some in items for item in some]
        assert kept == [item for item in range(60) if item % 7 != 3]
        assert np.concatenate(pixels)[:, 0, 0, 0].tolist() == kept
        results.append(np.concatenate(pixels))
    assert all(np.array_equal(results[0], other) for other in results)


# ---------------------------------------------------------------- kills, crowds, full disks


def _write_and_die(file):
    def chunks():
        yield chunk(2, 64)
        os.kill(os.getpid(), signal.SIGKILL)

    picture_cache.load_or_make(file, "key", 64, chunks, rest)


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    file = tmp_path / "cache-3.safetensors"
    victim = mp.get_context("fork").Process(target=_write_and_die, args=(file,))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    assert not file.exists() and len(list(tmp_path.glob("*.part-*"))) == 1
    images, held = made(file)
    assert torch.equal(held["images"], images)
    assert {entry.name for entry in tmp_path.iterdir()} == {file.name, ".cache-3.lock"}


def test_a_failing_decoder_leaves_no_file(tmp_path):
    def chunks():
        yield chunk(2, 3)
        raise WorkbenchError("b.png is broken")

    with pytest.raises(WorkbenchError, match="broken"):
        picture_cache.load_or_make(tmp_path / "cache-3.safetensors", "key", 3, chunks, rest)
    assert [entry.name for entry in tmp_path.iterdir()] == [".cache-3.lock"]


def test_of_several_at_once_one_decodes(tmp_path):
    file, begun = tmp_path / "cache-3.safetensors", []

    def chunks():
        begun.append(1)
        time.sleep(0.2)
        yield chunk(5, 3)

    held = []

    def load():
        held.append(picture_cache.load_or_make(file, "key", 3, chunks, rest, count=5))

    threads = [threading.Thread(target=load) for _ in range(4)]  # flock holds between open files too
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1 and len(held) == 4
    assert all(torch.equal(one["images"], held[0]["images"]) for one in held)


def test_without_room_on_the_disk_pictures_are_held_in_memory(tmp_path, monkeypatch):
    file = tmp_path / "cache-3.safetensors"
    full = SimpleNamespace(total=10, used=10, free=0)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: full)
    with pytest.warns(UserWarning, match="do not fit on the disk.*held in memory"):
        images, held = made(file)
    assert torch.equal(held["images"], images) and not file.exists()


def test_room_neither_on_the_disk_nor_in_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: SimpleNamespace(total=10, used=10, free=0))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100, total=1000))
    place = tmp_path / "cache-3.safetensors"
    with (
        pytest.warns(UserWarning, match="could not be written"),
        pytest.raises(WorkbenchError, match="GiB of memory"),
    ):
        picture_cache.load_or_make(place, "key", 3, lambda: [chunk(5, 3)], rest, count=5)
    with pytest.raises(WorkbenchError, match="GiB of memory"):  # the number of shards' samples is not known
        picture_cache.load_or_make(None, "key", 3, lambda: [chunk(5, 3)], rest)


def test_a_write_that_fails_half_way_leaves_no_part(tmp_path):
    def chunks():
        yield chunk(2, 3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        picture_cache.write(tmp_path / "a.safetensors", "key", chunks(), rest)
    assert not list(tmp_path.iterdir())
