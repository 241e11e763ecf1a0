"""One step: gradients reach everything, nothing unsound is applied, each side moves the right way."""

import copy

import pytest
import torch
from tiny_run import tiny_preset

from workbench.models.discriminator import pyramid_for
from workbench.models.mini_clip import new_mini_clip
from workbench.models.ops import box_pyramid
from workbench.models.text import TextEncoder, save_clip
from workbench.training import losses, steps
from workbench.training.config import TrainConfig
from workbench.training.players import NormGuard, build
from workbench.training.step_batch import StepBatch, mismatched_rows, pair_features

CAPTIONS = ["a black dog in the snow", "a white dog at night", "a red dog on the beach", "a sable dog by day"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    torch.manual_seed(0)
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    return save_clip(new_mini_clip(words), tmp_path_factory.mktemp("clip") / "mini")


@pytest.fixture(scope="module")
def small_preset():
    return tiny_preset(heads=True)


@pytest.fixture
def config():
    return TrainConfig(batch_size=8, images=1000, clip_weight=0.1, lr_G=2e-3, lr_D=2e-3)


@pytest.fixture
def players(small_preset, config, clip_folder):
    return build(small_preset, config, clip_folder, "cpu", "fp32")


@pytest.fixture
def batch(players, small_preset):
    encoder: TextEncoder = players.text_encoder
    text = encoder(CAPTIONS).index_select(torch.arange(8) // 2)
    size = small_preset.generator.resolution
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = torch.randn(8, small_preset.generator.z_dim, generator=torch.Generator().manual_seed(1))
    mismatch = torch.arange(8).roll(2)
    return StepBatch(
        images=images, text=text, mismatch=mismatch, z=z, generator=torch.Generator().manual_seed(2)
    )


def test_a_gradient_reaches_every_parameter(players, batch, config, monkeypatch):
    seen = {}
    clip = NormGuard.clip

    def record(guard, name, parameters, multiple):
        seen[name] = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]
        return clip(guard, name, parameters, multiple)

    monkeypatch.setattr(NormGuard, "clip", record)
    # logits start where hinge and softplus both have slope; a second step reaches what a zero bias hid in the
    # first
    for step in range(2):
        steps.train_step(players, batch, cur_nimg=0, step=step, config=config)
    names_G = [n for n, _ in players.G.named_parameters()]
    names_D = [n for n, _ in players.D.named_parameters()] + [
        f"heads.{n}" for n, _ in players.heads.named_parameters()
    ]
    assert [n for n, reached in zip(names_G, seen["G"], strict=True) if not reached] == []
    assert [n for n, reached in zip(names_D, seen["D"], strict=True) if not reached] == []


def test_statistics_are_scalars_and_the_step_is_applied(players, batch, config):
    before = [p.clone() for p in players.G.parameters()]
    stats = steps.train_step(players, batch, cur_nimg=0, step=0, config=config)
    assert stats["finite"] and all(v.dim() == 0 and not v.requires_grad for v in stats.values())
    assert {
        "D.adversarial",
        "D.matching",
        "D.vision",
        "D.r1",
        "G.adversarial",
        "G.vision",
        "G.clip",
        "G.mode_seeking",
    } <= set(stats)
    assert any(not torch.equal(a, b) for a, b in zip(before, players.G.parameters(), strict=True))
    assert players.G.w_avg.abs().sum() > 0


def test_penalties_take_turns(players, batch, config):
    found = [
        steps.train_step(players, batch, cur_nimg=0, step=s, config=config)
        for s in (0, 1, config.r1_every // 2)
    ]
    assert ["D.r1" in s for s in found] == [True, False, False]
    assert ["D.r2" in s for s in found] == [False, False, True]


def test_nothing_is_applied_when_a_picture_is_poisoned(players, batch, config):
    steps.train_step(players, batch, cur_nimg=0, step=0, config=config)
    before = {
        name: copy.deepcopy(m.state_dict())
        for name, m in (("G", players.G), ("D", players.D), ("guard", players.guard))
    }
    batch.images[3, 0, 0, 0] = float("nan")
    stats = steps.train_step(players, batch, cur_nimg=8, step=1, config=config)
    assert not stats["finite"]
    for name, state in before.items():
        for key, value in getattr(players, name).state_dict().items():
            assert torch.equal(value, state[key]), f"{name}.{key} moved"


def test_d_learns_to_tell_and_g_to_please(players, batch, config):
    """On a fixed batch D's loss falls when D alone moves, and G's falls when G alone moves."""

    def d_loss():
        with torch.no_grad():
            captions = pair_features(batch.text)
            text = players.G.encode_text(captions).repeat_interleave(2)
            fakes = players.G.synthesis(players.G.mapping(batch.z, text.t_global), text)
            entries = players.D.config.entries
            t = players.D.encode_text(captions).repeat_interleave(2, dim=0)
            real = players.D(box_pyramid(batch.images, entries), t)[0]
            fake = players.D(pyramid_for(fakes, entries), t)[0]
        return losses.d_nonsaturating(real, fake).item(), losses.g_nonsaturating(fake).item()

    plain = TrainConfig(
        batch_size=8,
        images=1000,
        r1_gamma=0,
        r2_gamma=0,
        matching_weight=0,
        mode_seeking_weight=0,
        vision_weight=0,
        lr_G=2e-3,
        lr_D=2e-3,
    )
    players.heads = None
    before = d_loss()
    g_step = steps.g_step
    try:
        steps.g_step = lambda *args, **kwargs: ({}, True)
        for step in range(8):
            steps.train_step(players, batch, cur_nimg=0, step=step, config=plain)
    finally:
        steps.g_step = g_step
    told = d_loss()
    assert told[0] < before[0]
    d_step = steps.d_step
    try:
        steps.d_step = lambda *args, **kwargs: ({}, True)
        for step in range(8):
            steps.train_step(players, batch, cur_nimg=0, step=step, config=plain)
    finally:
        steps.d_step = d_step
    assert d_loss()[1] < told[1]


def test_the_guard_clips_a_spike_to_twice_the_running_norm():
    guard = NormGuard()
    p = torch.nn.Parameter(torch.zeros(4))
    for _ in range(3):
        p.grad = torch.full((4,), 0.5)  # norm 1
        guard.clip("G", [p], 2.0)
    p.grad = torch.full((4,), 50.0)  # norm 100
    norm, finite = guard.clip("G", [p], 2.0)
    assert finite and norm == 100 and torch.isclose(p.grad.norm(), torch.tensor(2.0))
    assert guard.G < 1.1
    p.grad = torch.full((4,), float("inf"))
    assert not guard.clip("G", [p], 2.0)[1]
    assert guard.G < 1.1


def test_relativistic_pairing_runs(players, batch):
    config = TrainConfig(batch_size=8, images=1000, adversarial="relativistic", vision_weight=0)
    stats = steps.train_step(players, batch, cur_nimg=0, step=1, config=config)
    assert stats["finite"] and stats["G.adversarial"] > 0


def test_one_clip_is_read_and_another_one_sees(small_preset, config, clip_folder, tmp_path):
    torch.manual_seed(5)
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    other = save_clip(new_mini_clip(words), tmp_path / "other")
    players = build(small_preset, config, clip_folder, "cpu", "fp32", other)
    found = players.captions(CAPTIONS)
    read, seen = (TextEncoder.from_pretrained(folder)(CAPTIONS) for folder in (clip_folder, other))
    assert torch.equal(found.eps_txt, read.eps_txt) and torch.equal(found.embedding, seen.embedding)
    assert not torch.equal(read.embedding, seen.embedding)
    alone = {TextEncoder.from_pretrained(folder).fingerprint() for folder in (clip_folder, other)}
    assert len(alone | {players.captions.fingerprint()}) == 3
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    expected = players.clip.encode_image(pictures)
    assert torch.allclose(players.tower(pictures)[1], expected, atol=1e-4)  # the seeing CLIP's tower
    text = found.index_select(torch.arange(8) // 2)
    size = small_preset.generator.resolution
    batch = StepBatch(
        images=torch.rand(8, 3, size, size) * 2 - 1, text=text, mismatch=torch.arange(8).roll(2),
        z=torch.randn(8, small_preset.generator.z_dim), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert steps.train_step(players, batch, cur_nimg=0, step=0, config=config)["finite"]


def test_a_picture_without_a_false_caption_takes_no_part_in_the_matching_loss(players, batch, config):
    """Rows marked -1 count as if they were not there; generated ones only where the switch says so."""
    every = TrainConfig(batch_size=8, images=1000, vision_weight=0, r1_gamma=0, r2_gamma=0)
    real_only = TrainConfig(
        batch_size=8, images=1000, vision_weight=0, r1_gamma=0, r2_gamma=0, matching_generated=False
    )
    mismatch = torch.tensor([2, 3, -1, -1, 6, 7, 0, 1])
    assert mismatched_rows(mismatch, every).tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15]
    assert mismatched_rows(mismatch, real_only).tolist() == [0, 1, 4, 5, 6, 7]
    off = TrainConfig(batch_size=8, images=1000, matching_weight=0)
    assert mismatched_rows(mismatch, off).tolist() == []
    with torch.no_grad():
        captions = pair_features(batch.text)
        text = players.G.encode_text(captions).repeat_interleave(2)
        fakes = players.G.synthesis(players.G.mapping(batch.z, text.t_global), text)
        entries = players.D.config.entries
        t = players.D.encode_text(captions).repeat_interleave(2, dim=0)
        rows = mismatch >= 0
        judged = [box_pyramid(batch.images, entries), pyramid_for(fakes, entries)]
        wrong = [[x[rows] for x in players.D(levels, t[mismatch])[0]] for levels in judged]
        expected = sum(losses.d_matching(logits) for logits in wrong) / 2
    players.heads = players.tower = None
    batch.mismatch = mismatch
    stats = steps.train_step(players, batch, cur_nimg=0, step=1, config=every)
    assert torch.isclose(stats["D.matching"], expected, rtol=1e-4)


@pytest.mark.parametrize(("side", "direction"), [("cooperative", -1), ("adversarial", 1)])
def test_gs_own_side_of_the_matching_loss_has_both_signs(players, batch, side, direction):
    """G alone moves: under wrong captions its pictures look more wrong to D, or more right."""
    off = {"mode_seeking_weight": 0, "vision_weight": 0, "range_weight": 0, "clip_weight": 0}
    config = TrainConfig(batch_size=8, images=1000, matching_G=side, matching_weight=50.0, lr_G=5e-4, **off)
    players.heads = players.tower = None

    def wrong_logit():
        with torch.no_grad():
            captions = pair_features(batch.text)
            text = players.G.encode_text(captions).repeat_interleave(2)
            fakes = players.G.synthesis(players.G.mapping(batch.z, text.t_global), text)
            t = players.D.encode_text(captions).repeat_interleave(2, dim=0)[batch.mismatch]
            (logits,) = players.D(pyramid_for(fakes, players.D.config.entries), t)
            return torch.stack(logits).mean().item()

    before = wrong_logit()
    for _ in range(3):
        captions = pair_features(batch.text)
        text = players.G.encode_text(captions).repeat_interleave(2)
        fakes = players.G.synthesis(players.G.mapping(batch.z, text.t_global), text)
        stats, applied = steps.g_step(players, batch, captions, fakes, [], [], None, config=config)
        assert applied and "G.matching" in stats
    assert (wrong_logit() - before) * direction > 0
