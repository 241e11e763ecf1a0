"""A batch in shares: several passes or processes compute what one does at once."""

from dataclasses import replace

import pytest
import tiny_run
import torch

from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError
from workbench.training.accumulation import accumulated_step, take_step
from workbench.training.augment import augment
from workbench.training.batches import Feed
from workbench.training.players import NormGuard, build
from workbench.training.shares import Share, check_shares
from workbench.training.steps import train_step

EVERYTHING = {
    "vision_weight": 1.0, "clip_weight": 0.3, "r1_every": 2, "diffaugment": "color,translation,cutout",
    "matching_G": "cooperative", "batch_size": 8,
}  # fmt: skip


def test_shares_lie_side_by_side_and_halve_again():
    whole = torch.arange(12)
    parts = [Share(index, 3) for index in range(3)]
    assert torch.equal(torch.cat([part.own(whole) for part in parts]), whole)
    assert [part.rows(12) for part in parts] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    assert Share(1, 2).parts(2) == [Share(2, 4), Share(3, 4)]
    assert Share(1, 3).own(whole.view(2, 6), dim=1).tolist() == [[2, 3], [8, 9]]


def test_a_share_that_would_tear_a_group_apart_is_refused():
    check_shares(16, 2, 2, (2, 4, 0))
    with pytest.raises(WorkbenchError, match=r"batch_size is 12 .* accumulate 2: expected a multiple of 8"):
        check_shares(12, 2, 2, ())
    with pytest.raises(WorkbenchError, match="expected a multiple of 16, whole groups of 4"):
        check_shares(24, 2, 2, (4,))


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
def test_each_picture_is_augmented_as_in_the_whole_batch(policy):
    x = torch.rand(8, 3, 16, 16) * 2 - 1
    whole = augment(x, policy, torch.Generator().manual_seed(3))
    shares = [Share(index, 4) for index in range(4)]
    parts = [augment(s.own(x), policy, torch.Generator().manual_seed(3), s) for s in shares]
    assert torch.equal(torch.cat(parts), whole)
    often = {"probability": torch.tensor(0.5)}
    whole = augment(x, policy, torch.Generator().manual_seed(3), **often)
    parts = [augment(s.own(x), policy, torch.Generator().manual_seed(3), s, **often) for s in shares]
    assert torch.equal(torch.cat(parts), whole)


def made(inputs, precise: bool = False, **changes):
    """(config, players, feed of one process) of a tiny run with every loss on; precise: in float64."""
    data, clip = inputs
    config = tiny_run.tiny_config(**{**EVERYTHING, **changes})
    preset = tiny_run.tiny_preset(heads=True)
    players = build(preset, config, clip, "cpu", "fp32")
    if precise:
        for module in (players.G, players.D, players.heads, players.tower, players.guard):
            module.double()
        players.G.compute_dtype = players.D.compute_dtype = players.tower.dtype = torch.float64
    table = open_table(data, preset.generator.resolution)
    feed = Feed(table, players.captions, config, preset.generator.z_dim, torch.device("cpu"))
    return config, players, feed


def shared(feed: Feed, step: int, count: int) -> list:
    """The batch of a step in `count` parts."""
    return [feed._part(step, part) for part in feed.share.parts(count)]


def test_shares_of_a_batch_are_its_rows(inputs):
    _, _, feed = made(inputs)
    for step in range(4):
        whole, parts = feed.at(step), shared(feed, step, 2)
        for name in ("images", "z"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
        told = [p.known_embeddings[at] for p in parts for at in p.mismatch if at >= 0]
        expected = [whole.embedding[at] for at in whole.mismatch if at >= 0]
        assert told and torch.equal(torch.stack(told), torch.stack(expected))  # the same wrong captions
        assert all(torch.equal(p.rivals, whole.embedding[::2]) for p in parts)
        counted = [p.matching * (p.mismatch >= 0).float().mean() for p in parts]
        assert torch.isclose(sum(counted) / 2, (whole.mismatch >= 0).float().mean()) or sum(counted) > 0


@pytest.fixture
def in_float64(monkeypatch):
    """What the step computes in float32 is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def in_double(batch):
    """A StepBatch in float64."""
    rivals = None if batch.rivals is None else batch.rivals.double()
    return replace(batch, images=batch.images.double(), z=batch.z.double(), rivals=rivals)


def gradients(inputs, monkeypatch, count: int, uneven: bool, **changes) -> tuple[dict, dict]:
    """Gradients of D and G in the first steps with the batch in `count` parts, and the last statistics."""
    config, players, feed = made(inputs, precise=True, **changes)
    found: dict[str, list] = {}
    clip = NormGuard.clip

    def record(guard, name, parameters, multiple):
        found.setdefault(name, []).append(
            torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        )
        return clip(guard, name, parameters, multiple)

    monkeypatch.setattr(NormGuard, "clip", record)
    if uneven:  # the second pair alone has a wrong caption: the first part has one, the second none
        alone = torch.tensor([-1, -1, 6, 7, -1, -1, -1, -1])
        monkeypatch.setattr(feed.pairs, "mismatched", lambda batch: (alone.clamp_min(0), alone >= 0))
    for step in range(3):
        parts = [in_double(part) for part in shared(feed, step, count)]
        stats = take_step(players, parts, cur_nimg=0, step=step, config=config)
    monkeypatch.setattr(NormGuard, "clip", clip)
    return found, {**stats, "w_avg": players.G.w_avg.norm(), "u": players.heads.heads[0].conv0.weight.norm()}


@pytest.mark.parametrize(
    "changes",
    [
        {"ada_target": 0.6, "ada_kimg": 0.02},
        {"adversarial": "relativistic", "matching_generated": False},
        {"penalty": "finite-difference"},
    ],
    ids=["adaptive", "relativistic", "finite-difference"],
)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_the_parts_gradients_add_up_to_the_whole_batchs(inputs, monkeypatch, in_float64, changes, uneven):
    """In float64 nothing but a wrong sum is left: a mean over a part that is none of the batch is off by far
    more than 1e-9, and rounding by far less. Three steps: both penalties, and weights that have moved."""
    whole, expected = gradients(inputs, monkeypatch, 1, uneven, **changes)
    for count in (2, 4):
        parts, stats = gradients(inputs, monkeypatch, count, uneven, **changes)
        for name in ("D", "G"):
            for ours, theirs in zip(parts[name], whole[name], strict=True):
                assert ours.shape == theirs.shape
                assert (ours - theirs).norm() < 1e-9 * theirs.norm(), (name, count)
        assert stats.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.isclose(stats[name].double(), value.double(), rtol=1e-5, atol=1e-7), name


def test_a_part_that_is_poisoned_holds_the_whole_step_back(inputs):
    config, players, feed = made(inputs)
    take_step(players, shared(feed, 0, 2), cur_nimg=0, step=0, config=config)
    before = [p.clone() for module in (players.G, players.D, players.heads) for p in module.parameters()]
    parts = shared(feed, 1, 2)
    parts[1].images[0] = float("nan")
    stats = accumulated_step(players, parts, cur_nimg=8, step=1, config=config)
    assert not stats["finite"]
    after = [p for module in (players.G, players.D, players.heads) for p in module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_one_part_is_the_plain_step(inputs):
    weights = []
    for step_of in (lambda p, b, **a: train_step(p, b[0], **a), take_step):
        config, players, feed = made(inputs)
        step_of(players, feed.parts_at(0), cur_nimg=0, step=0, config=config)
        weights.append(torch.cat([p.detach().flatten() for p in players.G.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("count", [1, 2])
def test_a_generator_at_rate_0_stands_still_and_its_judges_learn(inputs, count):
    config, players, feed = made(inputs, lr_G=0.0)
    before = {n: {k: v.clone() for k, v in getattr(players, n).state_dict().items()} for n in ("G", "D")}
    for step in range(3):
        stats = take_step(players, shared(feed, step, count), cur_nimg=0, step=step, config=config)
    assert stats["finite"] and stats["D.norm"] > 0 and "G.norm" not in stats
    assert not players.opt_G.state
    for key, value in players.G.state_dict().items():
        assert torch.equal(value, before["G"][key]), key  # the mean of w too
    moved = [key for key, value in players.D.state_dict().items() if not torch.equal(value, before["D"][key])]
    assert len(moved) == len(list(players.D.parameters()))


def test_judges_learn_the_same_whether_or_not_their_generator_does(inputs):
    """D's first step comes before G's: a G that stands still changes nothing of it."""
    learnt = []
    for rate in (0.0, 1e-3):
        config, players, feed = made(inputs, lr_G=rate)
        take_step(players, feed.parts_at(0), cur_nimg=0, step=0, config=config)
        learnt.append(torch.cat([p.detach().flatten() for p in players.D.parameters()]))
    assert torch.equal(*learnt)
