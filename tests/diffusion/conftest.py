"""One tiny data set, CLIP and finished baseline for all tests of diffusion runs."""

from pathlib import Path

import pytest
import tiny_diffusion_run
import tiny_fixtures
import torch

inputs = tiny_fixtures.inputs
one_thread = tiny_fixtures.one_thread


@pytest.fixture(scope="session")
def whole(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted baseline: what every interrupted one has to equal."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "run"
    result = tiny_diffusion_run.run_baseline(inputs, out)
    assert (result.reason, result.cur_nimg) == ("done", 96)
    return out


@pytest.fixture(scope="session")
def teacher(whole: Path) -> Path:
    return whole / "model"
