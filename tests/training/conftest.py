"""One tiny data set, CLIP and reference run for all training tests."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_fixtures
import tiny_run
import torch

inputs = tiny_fixtures.inputs
one_thread = tiny_fixtures.one_thread


@pytest.fixture(scope="session")
def whole_run(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted tiny run: what every interrupted one has to equal."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "run"
    result = tiny_run.run_tiny(inputs, out)
    assert (result.reason, result.cur_nimg) == ("done", 192)
    return out


@pytest.fixture(scope="module")
def few_prompts() -> Iterator[None]:
    """Evaluations measure diversity on 4 prompts of 2 z each, 8 renders in place of 384, and ask once whether
    the world is what it was.
    """
    from workbench.evaluation import reference
    from workbench.evaluation.faithfulness import evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "fingerprint", functools.cache(reference.fingerprint))
        patch.setitem(evaluate.__kwdefaults__, "diversity_prompts", 4)
        patch.setitem(evaluate.__kwdefaults__, "diversity_samples", 2)
        yield


@pytest.fixture(scope="session")
def same_run():
    """Compare two runs: bits of the newest checkpoint, grids, and history lines apart from times."""
    from workbench.training.checkpoint import newest
    from workbench.training.history import TIMES

    def lines(run: Path) -> list[dict]:
        texts = (run / "history.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(text).items() if k not in TIMES} for text in texts]

    def compare(one: Path, other: Path) -> None:
        a, b = newest(one)[0], newest(other)[0]
        assert a.cur_nimg == b.cur_nimg
        parts_a, parts_b = a.tensors(), b.tensors()
        assert parts_a.keys() == parts_b.keys()
        for part, tensors in parts_a.items():
            assert tensors.keys() == parts_b[part].keys()
            for name, value in tensors.items():
                assert torch.equal(value, parts_b[part][name]), f"{part}.{name} differs"
        assert lines(one) == lines(other)
        grids = sorted(p.name for p in (one / "samples").glob("*.png"))
        assert grids == sorted(p.name for p in (other / "samples").glob("*.png"))
        for name in grids:
            assert (one / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes()

    return compare
