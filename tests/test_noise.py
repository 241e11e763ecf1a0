"""Noise: one seed, one row; refusals by message."""

import hashlib

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.noise import MAX_SEED, check_seed, draw_z, generator_for, parse_seed


def test_a_row_depends_on_its_own_seed_alone():
    alone = draw_z([7], 33)
    crowd = draw_z([1, 2, 7, 7, MAX_SEED], 33)
    assert torch.equal(alone[0], crowd[2]) and torch.equal(crowd[2], crowd[3])
    assert crowd.dtype == torch.float32 and crowd.shape == (5, 33)


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = draw_z([3], 8)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(draw_z([3], 8), first)


def test_z_is_standard_normal():
    z = draw_z(range(2000), 16).double()
    count = z.numel()
    assert abs(z.mean()) < 4 / count**0.5
    assert abs(z.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / count) ** 0.5  # kurtosis; its own variance is 96/n
    assert torch.isfinite(z).all() and z.abs().max() < 6.5


def test_neighbouring_seeds_and_streams_are_unrelated():
    z = draw_z(range(200), 64).double()
    neighbours = (z[:-1] * z[1:]).mean()
    streams = (z * draw_z(range(200), 64, stream=1).double()).mean()
    assert abs(neighbours) < 4 / (199 * 64) ** 0.5
    assert abs(streams) < 4 / (200 * 64) ** 0.5


def test_the_torch_seed_is_the_hash_of_seed_and_stream():
    digest = hashlib.sha256(b"(5, 2)").digest()[:8]
    assert generator_for(5, 2).initial_seed() % 2**64 == int.from_bytes(digest, "big")


def test_the_noise_of_a_seed_never_changes():
    # Written down once: pictures made by older versions have to come out again.
    digest = hashlib.sha256(draw_z([0, 1, MAX_SEED], 64).numpy().tobytes()).hexdigest()
    assert digest == "ea46a2efa95c0aba76d0fe4423aa479582aa647a4d311cfa2680d860665d8d16"


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED, np.int64(5), np.uint8(3), torch.tensor(4)])
def test_whole_numbers_are_accepted(seed):
    assert check_seed(seed) == int(seed) and type(check_seed(seed)) is int


@pytest.mark.parametrize(
    "seed", [1.0, 1.5, float("nan"), float("inf"), True, "7", None, [1], torch.tensor(1.5), 1j]
)
def test_anything_else_is_refused(seed):
    with pytest.raises(
        WorkbenchError, match=r"not a whole number.*Give a whole number from 0 to 9223372036854775807"
    ):
        check_seed(seed)


@pytest.mark.parametrize(
    ("seed", "word"),
    [(-1, "-1 is negative"), (MAX_SEED + 1, "too large"), (10**5000, "too large")],
    ids=["minus", "above", "huge"],
)
def test_numbers_out_of_range_are_refused(seed, word):
    with pytest.raises(WorkbenchError, match=word) as caught:
        generator_for(seed)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "seed"), [("42", 42), ("  7\n", 7), ("+3", 3), ("007", 7), ("0" * 9000 + "1", 1)], ids=range(5)
)
def test_parse_seed(text, seed):
    assert parse_seed(text) == seed


REFUSED = [
    ("", "empty"),
    ("  ", "empty"),
    ("4.0", "not a whole"),
    ("1e3", "not a whole"),
    ("seven", "not a whole"),
    ("nan", "not a whole"),
    ("1_000", "not a whole"),
    ("٤٢", "not a whole"),
    ("-", "not a whole"),
    ("--1", "not a whole"),
    ("-1", "negative"),
    ("9223372036854775808", "too large"),
    ("9" * 9000, "out of range"),
    ("x" * 9000, "not a whole"),
]


@pytest.mark.parametrize(("text", "word"), REFUSED, ids=range(len(REFUSED)))
def test_parse_seed_refuses_in_one_short_sentence(text, word):
    with pytest.raises(WorkbenchError, match=word) as caught:
        parse_seed(text)
    assert len(str(caught.value)) < 240


@pytest.mark.parametrize("z_dim", [0, -1, 1.5, True])
def test_a_bad_z_dim_is_refused(z_dim):
    with pytest.raises(WorkbenchError, match="z_dim is"):
        draw_z([1], z_dim)
