"""workbench.evaluation.speed: what is timed is what is reported."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from workbench.datasets import world
from workbench.errors import WorkbenchError
from workbench.evaluation.speed import SET, stratified, time_sample, time_world, time_world_set


def test_sample_time_is_that_of_one_picture_and_every_prompt_is_another():
    asked = []

    def pipeline(prompt: str, seed: int):
        asked.append((prompt, seed))
        time.sleep(0.2 if len(asked) <= 2 else 0.02)  # a slow start is not counted
        return SimpleNamespace(images=torch.zeros(1, 3, 4, 4))

    result = time_sample(pipeline, count=7, warm_up=2)
    assert result["n"] == 7
    assert 20 <= result["ms"] < 150
    assert result["ms"] <= result["ms_90"]
    assert len({prompt for prompt, _ in asked}) > 6
    assert [seed for _, seed in asked] == list(range(9))


def test_world_time_is_processor_time_of_one_core():
    threads = torch.get_num_threads()
    start = time.process_time()
    result = time_world(resolution=16, count=3)
    spent = time.process_time() - start
    assert (result["n"], result["resolution"]) == (3, 16)
    assert 0 < 3 * result["core_s"] <= spent
    assert torch.get_num_threads() == threads


def named(index: int) -> tuple[str, ...]:
    factors = world.draw_factors(3, index)
    return tuple(getattr(factors, name) for name in world.CHOICES)


def test_a_sample_goes_evenly_through_all_combinations():
    for count, at_most in ((7, 1), (225, 1), (450, 2)):
        sample = stratified(3, count)
        assert len(set(sample)) == count
        times = Counter(named(index) for index in sample)
        assert max(times.values()) == at_most and len(times) == min(count, 225)
    # Few of them differ in every factor.
    assert all(len(set(column)) >= 3 for column in zip(*map(named, stratified(3, 15)), strict=True))


def test_the_minutes_of_a_set_are_those_of_its_sample_drawn_by_all_workers():
    start = time.perf_counter()
    result = time_world_set(resolution=16, count=9, workers=2)
    wall_s = time.perf_counter() - start
    assert (result["extrapolated_from"], result["combinations"], result["pool"]) == (9, 9, 2)
    # Faster than the sample again and again, for the processes start but once.
    assert 0 < result["minutes_5000"] * 60 < wall_s * SET / 8


def test_nothing_to_time_is_refused():
    with pytest.raises(WorkbenchError, match="count is 0: expected 1 picture or more"):
        time_world_set(count=0)
    with pytest.raises(WorkbenchError, match="count is 0: expected 1 picture or more"):
        time_world(count=0)
    with pytest.raises(WorkbenchError, match="1 pictures after 0 cannot be timed"):
        time_sample(lambda prompt, seed: None, count=1, warm_up=0)
