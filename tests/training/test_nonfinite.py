"""A poisoned batch, weight, loss or gradient: nothing is applied, and where it began is said."""

import pytest
import tiny_run
import torch

from workbench.errors import WorkbenchError
from workbench.training import checkpoint, losses
from workbench.training.batches import Feed
from workbench.training.history import read_history
from workbench.training.trainer import Trainer

NAN = float("nan")


def events(run, kind: str) -> list[dict]:
    return [line for line in read_history(run, "event") if line["event"] == kind]


def in_step(monkeypatch, steps_hit: set[int], poison) -> None:
    """Call poison(trainer) before each of these steps, the first time that it is met."""
    original, met = Trainer._round, set()

    def round(self, bar):
        if self.step in steps_hit - met:
            met.add(self.step)
            poison(self)
        original(self, bar)

    monkeypatch.setattr(Trainer, "_round", round)


def test_a_poisoned_batch(inputs, tmp_path, monkeypatch):
    original = Feed.at

    def at(self, step):
        batch = original(self, step)
        if step == 4:
            batch.z = batch.z * NAN
        return batch

    monkeypatch.setattr(Feed, "at", at)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=48)
    (event,) = events(tmp_path / "run", "nonfinite")
    assert (event["at_step"], event["module"], event["steps"]) == (4, "", 1)
    assert "at step 4 in D.adversarial: the batch itself is not finite (z)" in event["text"]


def test_a_poisoned_weight_is_named_and_rolled_back(inputs, tmp_path, monkeypatch):
    def poison(trainer):
        with torch.no_grad():
            weight = next(trainer.players.D.stages.parameters())
            weight[(0,) * weight.dim()] = NAN

    in_step(monkeypatch, {13}, poison)
    result = tiny_run.run_tiny(inputs, tmp_path / "run")
    (event,) = events(tmp_path / "run", "rollback")
    assert result.cur_nimg == 192 and (event["back_to_nimg"], event["at_step"]) == (96, 13)
    assert event["module"].startswith("D.stages.") and f"the weight {event['module']}." in event["text"]
    last = checkpoint.newest(tmp_path / "run")[0]
    assert last.state["lr_multiplier"] == 0.5
    assert checkpoint.all_finite(t for part in last.tensors().values() for t in part.values())


def test_a_poisoned_loss(inputs, tmp_path, monkeypatch):
    original, calls = losses.d_nonsaturating, iter(range(100))

    def loss(real, fake):
        return original(real, fake) * (NAN if next(calls) in (2, 3) else 1.0)  # the second: looked at again

    monkeypatch.setattr(losses, "d_nonsaturating", loss)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=48)
    (event,) = events(tmp_path / "run", "nonfinite")
    assert (event["at_step"], event["loss"], event["module"]) == (2, "D.adversarial", "")
    assert "every weight and output is finite, so it began in the loss itself" in event["text"]


def test_a_poisoned_output_names_the_module_that_made_it(inputs, tmp_path, monkeypatch):
    """The module's own arithmetic fails on finite input, as an overflow does."""

    def poison(trainer):
        def overflow(module, args, output):
            return output * NAN if trainer.step == 4 else output

        trainer.players.G.to_rgb["8"].register_forward_hook(overflow)

    in_step(monkeypatch, {4}, poison)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=48)
    (event,) = events(tmp_path / "run", "nonfinite")
    assert (event["at_step"], event["module"]) == (4, "G.to_rgb.8")
    assert "the output of G.to_rgb.8 is the first that is not finite" in event["text"]


def test_a_poisoned_gradient_names_its_weight(inputs, tmp_path, monkeypatch):
    hooked = []

    def poison(trainer):
        hooked.append(trainer.players.G.constant.register_hook(lambda gradient: gradient * NAN))

    in_step(monkeypatch, {1}, poison)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=16, log_every_nimg=8)
    (event,) = events(tmp_path / "run", "nonfinite")
    assert (event["at_step"], event["loss"]) == (1, "the gradient of G.loss")
    assert "every output is finite, the gradient of G.constant is not" in event["text"]
    weights = checkpoint.newest(tmp_path / "run")[0].tensors()
    assert checkpoint.all_finite(weights["G"].values())


def test_giving_up_says_where_it_began(inputs, tmp_path, monkeypatch):
    original = losses.g_nonsaturating
    monkeypatch.setattr(losses, "g_nonsaturating", lambda fake: original(fake) * NAN)
    with pytest.raises(
        WorkbenchError, match=r"went back 6 times.*at step \d+ in G\.adversarial: every weight"
    ):
        tiny_run.run_tiny(inputs, tmp_path / "run", images=64)
