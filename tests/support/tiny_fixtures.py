"""Fixtures of everything that trains tiny runs; a conftest imports those it gives."""

from pathlib import Path

import pytest
import tiny_run
import torch


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, clip) of tiny runs."""
    return tiny_run.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def one_thread():
    """Bits are compared: one thread, and the caller's number put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
