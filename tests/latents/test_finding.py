"""Finding and scoring directions: on a device, without text, and with too few samples."""

import pytest
import torch
from tiny_world_model import tiny_world_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, RANGES, Measured
from workbench.latents import recovery, scores, supervised
from workbench.latents.finding import find_directions
from workbench.latents.points import Points
from workbench.latents.supervised import Sample, draw_sample
from workbench.models.inspect import Word
from workbench.models.mapping import Text


class Unasked:
    """A judge that fails when it is asked."""

    def measure(self, images):
        raise AssertionError("judged although the call cannot succeed")


@pytest.fixture(scope="module")
def world():
    return tiny_world_model()


# --- on a device --------------------------------------------------------------------------------------------


IDS = {name: torch.zeros(30, dtype=torch.long) for name in FACTOR_CLASSES}  # true numbers


@pytest.fixture
def elsewhere():
    """Inside, device "cuda" has shapes and no numbers: what mixes devices fails as on a real one."""
    with FakeTensorMode(
        shape_env=ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True),
        allow_non_fake_inputs=True,
    ):
        yield "cuda"


def sample_on(device: str, n: int = 30, rows: int = 6) -> Sample:
    """As `draw_sample` gives it of a model on that device: the classes are on the CPU."""
    text = Text(
        torch.randn(n, rows, 16, device=device),
        torch.randn(n, 16, device=device),
        torch.ones(n, rows, dtype=torch.bool, device=device),
    )
    at = Points(torch.randn(n, 3, 16, device=device))
    return Sample([], ["a dog"] * n, [[Word("a", (1,)), Word("dog", (2,))]] * n, IDS, text, at)


class OnCpu:
    """Reads pictures as the judge does, whose numbers are always on the CPU."""

    def measure(self, images):
        names = ["azimuth_deg", *RANGES]
        regression = {name: torch.randn(30) for name in names}
        return Measured(classes={}, regression=regression, mid=torch.zeros(30, 1), last=torch.zeros(30, 1))


class OneLook:
    """An optimiser that asks for the loss and its gradient once."""

    def __init__(self, weights, **settings):
        pass

    def zero_grad(self):
        pass

    def step(self, loss):
        loss()


def test_linear_models_are_fitted_where_the_points_are(elsewhere, monkeypatch):
    monkeypatch.setattr(Points, "__post_init__", lambda self: None)  # asks numbers whether they are finite
    sample = sample_on(elsewhere)
    monkeypatch.setattr(supervised, "rows_naming", lambda *args: (1, 2))
    own, classes, others = supervised._rows(None, sample, "coat")
    assert {x.device.type for x in (own, classes, others)} == {"cuda"}

    monkeypatch.setattr(torch.optim, "LBFGS", OneLook)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)  # the one thing that needs a real device
    gate = supervised._gate(torch.randn(9, 16, device="cuda"), torch.randn(20, 16, device="cuda"))
    assert gate.device.type == "cuda" and gate.shape == (17,)

    means, basis = torch.randn(5, 16, device="cuda"), torch.randn(4, 16, device="cuda")
    supervised.accuracy(sample.w, sample.ids["coat"], means, basis)


def test_turns_are_fitted_where_the_points_are(elsewhere, monkeypatch, world):
    monkeypatch.setattr(Points, "__post_init__", lambda self: None)
    means = {name: torch.randn(3, 16, device=elsewhere) for name in FACTOR_CLASSES}
    monkeypatch.setattr(supervised, "class_means", lambda x, ids: means)  # these two ask numbers
    monkeypatch.setattr(supervised, "_basis", lambda rows, rank: rows[:3])
    monkeypatch.setattr(supervised, "draw", lambda pipeline, at: None)
    (turn,) = supervised.fit_turns(world, OnCpu(), sample_on(elsewhere), sample_on(elsewhere), ["x"])
    assert turn.w.vector.device.type == "cuda"


# --- without text -------------------------------------------------------------------------------------------


def test_a_model_without_text_is_sampled_inverted_and_timed(unread):
    sample = draw_sample(unread, 3)
    assert sample.text is None and sample.words == [[], [], []] and sample.at.texts == ()
    found = recovery.measure_recovery(unread, n=1, steps=2)
    assert found["n"] == 1 and found["generated_steps"] == 2
    assert scores.time_edit(unread, [], count=2)["n"] == 2


def test_what_needs_captions_says_so(unread):
    with pytest.raises(WorkbenchError, match=r"tiny-0 reads no text: its directions are those of ganspace"):
        find_directions(unread, Unasked())
    with pytest.raises(WorkbenchError, match="reads no text: edits are scored by what its captions say"):
        scores.evaluate_edits(unread, Unasked(), [])
    sample = draw_sample(unread, 3)
    with pytest.raises(WorkbenchError, match="reads no text: directions of factors are learnt from captions"):
        supervised.fit_factors(unread, sample, sample)


# --- too few ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n is 0: expected a whole number of at least 1"),
        ({"n": 4, "pairs": 3}, "3 paths lead between 6 samples, and n is 4"),
        ({"pairs": 0}, "pairs is 0"),
        ({"frames": 1}, "frames is 1: expected a whole number of at least 2"),
        ({"n": 2.0}, "n is 2.0"),
    ],
)
def test_scores_of_too_few_are_refused_before_any_work(world, settings, message):
    with pytest.raises(WorkbenchError, match=message):
        scores.evaluate_edits(world, Unasked(), [], **settings)


def test_too_few_to_find_or_time_anything_are_refused(world):
    with pytest.raises(WorkbenchError, match=r"6 captions to learn from .* are too few to name every coat"):
        find_directions(world, Unasked(), fit=6, n=4)
    for settings in ({"fit": 1}, {"n": 1}, {"n": True}):
        with pytest.raises(WorkbenchError, match="expected a whole number of at least 2"):
            find_directions(world, Unasked(), **settings)
    with pytest.raises(WorkbenchError, match="count is 0"):
        scores.time_edit(world, [], count=0)
    with pytest.raises(WorkbenchError, match="n is 0"):
        draw_sample(world, 0)
    with pytest.raises(WorkbenchError, match=r"n is 1\.5"):
        recovery.measure_recovery(world, n=1.5)
