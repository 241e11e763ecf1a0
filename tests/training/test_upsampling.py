"""An upsampler in training: what it is fed and learns, and that the trainer keeps its promises for it."""

import json
from dataclasses import replace

import pytest
import tiny_run
import torch
import torch.nn.functional as F
from PIL import Image

from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError
from workbench.evaluation import interpolation
from workbench.models.presets import preset
from workbench.pipeline.upscaler import Upscaler
from workbench.training import checkpoint, losses, steps
from workbench.training.crops import CropFeed, crop_shapes
from workbench.training.history import read_history
from workbench.training.players import build

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def table(inputs):
    return open_table(inputs[0], 16)


def feed(table, *, config=None, **about) -> CropFeed:
    config = config or tiny_run.tiny_config(**tiny_run.UPSAMPLING, matching_weight=0.0)
    return CropFeed(table, None, config, tiny_run.tiny_upsampler_preset(), CPU, **about)


def test_a_crop_comes_with_the_crop_of_its_small_picture(table):
    fed = feed(table)
    for step in range(3):
        batch = fed.at(step)
        assert batch.images.shape == (8, 3, 8, 8) and batch.low.images.shape == (8, 3, 4, 4)
        assert batch.low.noise.min() >= 0 and batch.low.noise.max() <= fed.noise_max
        added = batch.low.images - F.avg_pool2d(batch.images, 2)
        noisy = batch.low.noise > 0
        assert 0 < noisy.sum() < 8 and added[~noisy].abs().max() < 1e-6
        grain = added[noisy] / batch.low.noise[noisy][:, None, None, None]
        assert abs(grain.mean()) < 0.3 and abs(grain.std() - 1) < 0.2  # unit noise of the stated deviation
        whole = F.avg_pool2d(fed.pairs.batch_at(step).images, 2)
        for crop, picture in zip(F.avg_pool2d(batch.images, 2), whole, strict=True):
            places = [
                (crop - picture[:, y : y + 4, x : x + 4]).abs().max() for y in range(5) for x in range(5)
            ]
            assert min(places) < 1e-6


def test_crops_lie_everywhere(table):
    fed, seen = feed(table), set()
    picture = torch.arange(256.0).view(1, 16, 16).expand(3, -1, -1)
    for k in range(200):
        place = torch.rand(2, generator=torch.Generator().manual_seed(k))
        seen.add(int(fed._cut(picture, place, 8, 8)[0, 0, 0]))
    assert seen == {32 * row + 2 * column for row in range(5) for column in range(5)}


def test_shares_are_parts_of_the_whole_batch(table):
    whole, halves = feed(table).at(3), [feed(table, rank=rank, world=2).at(3) for rank in range(2)]
    for name in ("images", "noise"):
        parts = torch.cat([getattr(half.low, name) for half in halves])
        assert torch.equal(parts, getattr(whole.low, name))
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)


def test_aspects_change_the_shape_from_step_to_step_and_not_the_area(table):
    demo = preset("shepherd-up4").discriminator
    shapes = crop_shapes(demo, 4, True)
    assert len(shapes) >= 3 and shapes[0] == (128, 128)
    assert all(h % 64 == w % 64 == 0 and 0.6 < h * w / 128**2 < 1.6 for h, w in shapes)
    fed = feed(table, config=tiny_run.tiny_config(**tiny_run.UPSAMPLING, matching_weight=0.0, aspects=True))
    seen = {tuple(fed.at(step).images.shape[-2:]) for step in range(len(fed.shapes))}
    assert seen == set(fed.shapes) and len(seen) > 1


def test_a_d_for_squares_refuses_aspects_and_small_pictures_are_refused(table):
    dense = tiny_run.tiny_preset(8).discriminator
    with pytest.raises(WorkbenchError, match="judges squares alone"):
        crop_shapes(dense, 2, True)
    small = replace(table, images=table.images[..., :4, :4])
    with pytest.raises(WorkbenchError, match="pictures are 4 px: expected at least 8 px"):
        feed(small)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("up") / "run"
    result = tiny_run.run_tiny(inputs, out, upsamples=True)
    assert result.reason == "done"
    return out


def test_a_run_leaves_sheets_measures_and_a_model(whole, inputs):
    facts = json.loads((whole / "config.json").read_text())
    assert facts["generator"]["factor"] == 2 and len(facts["grid"]["rows"]) == 2
    sheets = sorted((whole / "samples").glob("*.png"))
    with Image.open(sheets[-1]) as sheet:
        assert sheet.width >= 4 * 16 and sheet.height >= 2 * 16  # small, bicubic, made, true
    loaded = Upscaler.from_pretrained(whole / "model")
    low = torch.rand(1, 3, 5, 7) * 2 - 1
    assert loaded(low, "a dog").images.shape == (1, 3, 10, 14)
    weights = checkpoint.newest(whole)[0].tensors()["G_ema"]
    for name, value in loaded.U.state_dict().items():
        torch.testing.assert_close(value, weights[name].half().float())


def test_an_interrupted_run_ends_as_the_whole_one(whole, inputs, same_run, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", upsamples=True, stop_after_nimg=80)
    tiny_run.run_tiny(inputs, tmp_path / "run", upsamples=True)
    same_run(whole, tmp_path / "run")


def test_by_pixels_alone_it_learns_and_d_stays_as_it_was(inputs, tmp_path):
    alone = {"adversarial_weight": 0.0, "matching_weight": 0.0, "range_weight": 0.0, "images": 960}
    tiny_run.run_tiny(inputs, tmp_path / "run", upsamples=True, lr_G=1e-2, **alone)
    assert not any(name.startswith("D.") for name in read_history(tmp_path / "run", "step")[-1])
    chosen, config = tiny_run.tiny_upsampler_preset(), tiny_run.tiny_config(**tiny_run.UPSAMPLING)
    fresh, learned = (build(chosen, config, inputs[1], CPU, "fp32") for _ in range(2))
    parts = checkpoint.newest(tmp_path / "run")[0].tensors()
    learned.G.load_state_dict(parts["G"])
    assert all(torch.equal(value, parts["D"][name]) for name, value in fresh.D.state_dict().items())
    fed = CropFeed(open_table(inputs[0], 16), fresh.captions, config, chosen, CPU)
    assert _error(learned, fed) < 0.95 * _error(fresh, fed)


@torch.no_grad()
def _error(players, fed) -> float:
    made = []
    for batch in map(fed.at, range(4)):
        fakes = steps.draw_fakes(players, batch, steps.pair_features(batch.text))[1]
        made.append(losses.pixel(fakes[0], batch.images).item())
    return sum(made)


def test_two_passes_give_the_weights_of_one(whole, inputs, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", upsamples=True, accumulate=2, images=48)
    tiny_run.run_tiny(inputs, tmp_path / "one", upsamples=True, images=48)
    a, b = (checkpoint.newest(tmp_path / name)[0].tensors() for name in ("run", "one"))
    for part in ("G", "D"):
        for name, value in a[part].items():
            torch.testing.assert_close(value, b[part][name], rtol=1e-3, atol=1e-4)


def test_the_perceptual_loss_reaches_the_upsampler_alone(inputs):
    """At the demo's crops: the frozen tower learns nothing, the gradient falls where pictures agree."""
    chosen = preset("shepherd-up4")
    config = tiny_run.tiny_config(perceptual_weight=1.0, perceptual="clip", pixel_weight=0.0)
    players = build(chosen, config, inputs[1], CPU, "fp32")
    assert players.perceptual.name.endswith("feature distance")
    true = torch.rand(2, 3, 128, 128) * 2 - 1
    made = true.clone().requires_grad_()
    assert players.perceptual.detail(made, true).max() < 1e-5
    made = (0.9 * true).requires_grad_()
    players.perceptual.detail(made, true).mean().backward()
    assert made.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in players.perceptual.tower.parameters())
    assert all("perceptual" not in name for name in players.modules())


def test_evaluations_compare_with_bicubic_at_the_pictures_own_size(inputs, tmp_path):
    """64 px tiles need pictures of 64 px: the world drawn at 64, doubled from 32."""
    from workbench.datasets.world.folder import write_world

    data = tmp_path / "data"
    write_world(data, count=6, seed=3, resolution=64, workers=1, progress=False)
    tiny_run.run_tiny(
        (data, inputs[1]), tmp_path / "run", upsamples=True, picture_size=64, images=16, batch_size=8,
        eval_every_nimg=16, eval_n=4,
    )  # fmt: skip
    (line,) = read_history(tmp_path / "run", "eval")
    assert line["n"] == 4 and line["distance_name"].endswith("feature distance")
    true = open_table(data, 64).images[:4].float() / 127.5 - 1
    plain = interpolation.bicubic(F.avg_pool2d(true, 2), 2).clamp(-1, 1)
    error = (plain - true).square().flatten(1).mean(1)
    assert line["psnr_bicubic"] == pytest.approx((10 * torch.log10(4 / error)).mean().item(), abs=1e-3)


def test_the_noise_level_reaches_the_step(inputs):
    chosen = tiny_run.tiny_upsampler_preset()
    config = tiny_run.tiny_config(**tiny_run.UPSAMPLING)
    players = build(chosen, config, inputs[1], CPU, "fp32")
    fed = CropFeed(open_table(inputs[0], 16), players.captions, config, chosen, CPU)
    batch = fed.at(0)
    captions = steps.pair_features(batch.text)
    with torch.no_grad():
        w, fakes = steps.draw_fakes(players, batch, captions)
        batch.low.noise = torch.zeros_like(batch.low.noise)
        still, _ = steps.draw_fakes(players, batch, captions)
    assert [x.shape[-1] for x in fakes] == [8, 4] and not torch.allclose(w, still)


def test_shards_train_it_as_a_folder_does(whole, inputs, tmp_path):
    from workbench.datasets.shards.packing import pack

    shards = pack(inputs[0], tmp_path / "shards", per_shard=16, progress=False)
    tiny_run.run_tiny((shards, inputs[1]), tmp_path / "run", upsamples=True)
    a, b = (checkpoint.newest(run)[0].tensors()["G_ema"] for run in (whole, tmp_path / "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)
