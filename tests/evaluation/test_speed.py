"""workbench.evaluation.speed: what is timed is what is reported."""

import time
from types import SimpleNamespace

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.evaluation.speed import time_sample, time_world


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


def test_nothing_to_time_is_refused():
    with pytest.raises(WorkbenchError, match="count is 0: expected 1 picture or more"):
        time_world(count=0)
    with pytest.raises(WorkbenchError, match="1 pictures after 0 cannot be timed"):
        time_sample(lambda prompt, seed: None, count=1, warm_up=0)
