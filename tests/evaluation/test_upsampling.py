"""Upsampling measured: streaming equals one pass, the blurred is farther than the true, clear refusals."""

import json
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure
from true_renders import render_folder

from workbench.datasets.world import draw_factors
from workbench.errors import WorkbenchError
from workbench.evaluation import upsampling
from workbench.evaluation.distances import frechet_from_features
from workbench.evaluation.features import Judge, JudgeConfig, class_ids
from workbench.evaluation.interpolation import bicubic, box_mean, lanczos, psnr
from workbench.evaluation.perceptual import FeatureDistance
from workbench.evaluation.true_pictures import TruePictures
from workbench.evaluation.upsampling import Method, Ruler, evaluate_upsampling, places, tallies
from workbench.evaluation.upsampling_tally import Tally
from workbench.images import save_png

SIDE, COUNT, SEED = 128, 12, 31  # 128 px: four tiles of 64 px, all of which are seen


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return render_folder(tmp_path_factory.mktemp("renders") / "world", count=COUNT, side=SIDE, seed=SEED)


@pytest.fixture(scope="module")
def ruler():
    """A judge of random weights will do: that it sees is what is tested, not what it says."""
    torch.manual_seed(0)
    judge = Judge(JudgeConfig(channels=(8, 16))).eval().requires_grad_(False)
    return Ruler(judge=judge, distance=FeatureDistance(taps=("layer1",)), close=6)


def opened(world, count=COUNT):
    return TruePictures.open(world, count=count, factor=4, tile=64)


def method(how, name="own", version=None):
    return Method(name=name, enlarge=lambda low, prompts, seeds: how(low), version=version)


def nearest(low):
    return F.interpolate(low, scale_factor=4, mode="nearest")


def measured(world, ruler, *methods, **settings):
    settings = {"n": COUNT, "cache": None, "close": ruler.close, **settings}
    return evaluate_upsampling(methods, world, ruler.judge, ruler.distance, factor=4, **settings)


def test_places_are_different_tiles_two_of_them_in_the_middle_and_all_come():
    drawn = [places(k, 4) for k in range(3000)]
    assert all(len(set(own)) == 4 and sum(p in (5, 6, 9, 10) for p in own) == 2 for own in drawn)
    often = Counter(p for own in drawn for p in own)
    assert set(often) == set(range(16))
    assert all(abs(often[p] - 1500) < 150 for p in (5, 6, 9, 10)) and abs(often[0] - 500) < 80
    assert places(7, 4) == places(7, 4)
    assert sorted(places(3, 2)) == [0, 1, 2, 3] and places(3, 1) == [0]
    assert len(set(places(3, 3))) == 4 and 4 in places(3, 3)


def test_sums_of_a_stream_are_the_measures_of_all_at_once(world, ruler):
    batch = opened(world).batch(0, COUNT)
    found = tallies([method(nearest)], opened(world), ruler, factor=4, cache=None, batch_size=5)
    images = upsampling.enlarged(method(nearest), batch, 4, 0)
    own, truth = found["own"], found["truth"]
    assert own.done == truth.done == COUNT
    features = {
        name: ruler.judge.features(
            x.unflatten(2, (2, 64)).unflatten(4, (2, 64)).movedim(4, 1).movedim(3, 1).flatten(0, 2)
        )
        for name, x in (("own", images), ("truth", batch.images))
    }
    expected = frechet_from_features(features["own"], features["truth"])
    assert own.moments("tiles").distance(truth.moments("tiles")) == pytest.approx(expected, rel=1e-5)
    whole = frechet_from_features(ruler.judge.features(images), ruler.judge.features(batch.images))
    assert own.moments("whole").distance(truth.moments("whole")) == pytest.approx(whole, rel=1e-5)
    assert own.mean("psnr")[0] == pytest.approx(psnr(images, batch.images).mean().item())
    first = (images[:6] + 1) / 2, (batch.images[:6] + 1) / 2
    assert own.mean("ssim")[0] == pytest.approx(
        structural_similarity_index_measure(*first, data_range=1.0).item(), rel=1e-5
    )
    distances = ruler.distance.detail(images[:6], batch.images[:6])
    assert own.mean("distance") == pytest.approx((distances.mean().item(), (distances.std() / 6**0.5).item()))
    classes = ruler.judge.predict(images)
    right = torch.stack([classes[name] == batch.truth[name] for name in classes if name != "regression"])
    assert own.mean("all")[0] == right.all(0).double().mean().item()
    assert own.seen == 6 and "psnr" not in truth.scores


def test_batches_of_another_size_give_the_same(world, ruler):
    one, other = (
        tallies([method(nearest)], opened(world), ruler, factor=4, cache=None, batch_size=size)["own"]
        for size in (4, 12)
    )
    torch.testing.assert_close(one.moments("tiles").outer, other.moments("tiles").outer, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.spectrum, other.spectrum)
    for name in one.scores:
        assert one.mean(name) == pytest.approx(other.mean(name), rel=1e-5)


def test_the_truth_is_at_distance_zero_and_the_blurred_farther(world, ruler):
    truth = opened(world).batch(0, COUNT).images
    perfect = Method(name="perfect", enlarge=lambda low, prompts, seeds: truth[seeds[0] :][: len(low)])
    blurred = Method(
        name="blurred",
        enlarge=lambda low, prompts, seeds: F.avg_pool2d(perfect.enlarge(low, prompts, seeds), 9, 1, 4),
    )
    found = measured(world, ruler, perfect, blurred)
    own, soft, plain = (found["methods"][name] for name in ("perfect", "blurred", "bicubic"))
    assert own["frechet"] < 1e-6 and own["frechet_whole"] < 1e-6 and own["distance"] == 0
    assert (
        own["psnr"] == 100
        and own["ssim"] == pytest.approx(1, abs=1e-4)
        and own["power_kept"] == pytest.approx(1)
    )
    assert own["frechet_others"] == pytest.approx(found["floor"]) and found["floor"] > 0
    assert soft["frechet"] > plain["frechet"] > own["frechet"]
    assert soft["psnr"] < plain["psnr"] and soft["distance"] > plain["distance"]
    assert soft["power_kept"] < plain["power_kept"] < 1
    assert found["frechet_ratio_bicubic"] < 1e-3 and found["distance_ratio_blurred"] == 0


def test_what_a_method_is_given(world, ruler):
    seen = []

    def enlarge(low, prompts, seeds):
        seen.append((low, prompts, seeds))
        return lanczos(low, 4)

    found = measured(world, ruler, Method(name="own", enlarge=enlarge), seed=100)
    batch = opened(world).batch(0, COUNT)
    assert torch.equal(torch.cat([low for low, _, _ in seen]), box_mean(batch.images, 4))
    assert [p for _, prompts, _ in seen for p in prompts] == batch.texts
    assert [s for _, _, seeds in seen for s in seeds] == list(range(100, 100 + COUNT))
    own, plain = found["methods"]["own"], found["methods"]["lanczos"]
    assert own == pytest.approx(plain, rel=1e-6)
    assert found["n"] == COUNT and found["n_close"] == 6 and found["tiles"] == 4 * COUNT
    assert found["features"] == "Fréchet distance on the judge's features, 64 px tiles at 128 px"
    assert len(found["spectrum"]["own"]) == len(found["spectrum"]["cycles_a_pixel"]) == SIDE // 2


def test_the_pictures_truth(world):
    batch = opened(world).batch(3, 7)
    expected = class_ids([draw_factors(SEED, k) for k in range(3, 7)])
    assert all(torch.equal(batch.truth[name], ids) for name, ids in expected.items())
    rest = batch.after(5)
    assert rest.first == 5 and rest.texts == batch.texts[2:] and torch.equal(rest.images, batch.images[2:])
    assert batch.after(0).first == 3 and len(batch.after(0)) == 4


def test_an_interrupted_measurement_goes_on_where_it_was(world, ruler, tmp_path, monkeypatch):
    monkeypatch.setattr(upsampling, "_SAVE_EVERY", 4)
    calls = []

    def stopped(low):
        calls.append(len(low))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return nearest(low)

    settings = {"factor": 4, "batch_size": 2, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        tallies([method(stopped, version="1")], opened(world), ruler, **settings)
    found = tallies([method(stopped, version="1")], opened(world), ruler, **settings)
    assert sum(calls) == 2 + COUNT  # the third call came to nothing; the first two were kept
    whole = tallies([method(nearest)], opened(world), ruler, factor=4, cache=None, batch_size=2)
    for name in ("own", "truth"):
        assert found[name].done == COUNT
        torch.testing.assert_close(found[name].moments("tiles").outer, whole[name].moments("tiles").outer)
        assert {k: v.tolist() for k, v in found[name].scores.items()} == {
            k: pytest.approx(v.tolist()) for k, v in whole[name].scores.items()
        }


def test_what_was_measured_is_not_measured_again_but_what_changed_is(world, ruler, tmp_path):
    calls = Counter()

    def counted(name, version):
        def how(low):
            calls[f"{name} {version}"] += len(low)
            return nearest(low)

        return method(how, name, version)

    def run(*methods, **more):
        return tallies(methods, opened(world, 8), ruler, factor=4, cache=tmp_path, **more)

    run(counted("a", "1"))
    run(counted("a", "1"), counted("b", "1"))
    assert calls == {"a 1": 8, "b 1": 8}
    run(counted("a", "2"), counted("c", None))
    run(counted("c", None))
    assert calls == {"a 1": 8, "b 1": 8, "a 2": 8, "c None": 16}
    run(counted("a", "1"), seed=5)
    assert calls["a 1"] == 16
    run(counted("a", "1"), fresh=True)
    assert calls["a 1"] == 24
    more = tallies([counted("a", "1")], opened(world, 12), ruler, factor=4, cache=tmp_path)
    assert calls["a 1"] == 28 and more["a"].done == 12  # four more pictures of the same set
    fewer = tallies([counted("a", "1")], opened(world, 6), ruler, factor=4, cache=tmp_path)
    assert calls["a 1"] == 34 and fewer["a"].done == 6


def test_a_file_of_sums_that_was_cut_short_or_is_anothers_is_not_read(tmp_path):
    tally = Tally()
    tally.add_score("psnr", torch.tensor([1.0, 2.0]))
    tally.add_features("tiles", torch.randn(2, 3, 5), 0)
    tally.add_power(torch.rand(2, 9))
    tally.done = 2
    path = tmp_path / "deep" / "sums.safetensors"
    tally.save(path, "key")
    again = Tally.load(path, "key")
    assert again.done == 2 and again.seen == 2 and again.mean("psnr") == tally.mean("psnr") == (1.5, 0.5)
    assert torch.equal(again.spectrum, tally.spectrum)
    assert torch.equal(again.features["tiles"][1].outer, tally.features["tiles"][1].outer)
    assert Tally.load(path, "another") is None and Tally.load(tmp_path / "none", "key") is None
    path.write_bytes(path.read_bytes()[:-9])
    assert Tally.load(path, "key") is None


def test_sums_that_cannot_be_kept_are_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        Tally().save(tmp_path / "file" / "sums.safetensors", "key")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_an_error_and_no_number(world, ruler, tmp_path, value):
    def broken(low):
        images = nearest(low)
        images[0, 0, 0, 0] = value
        return images

    with pytest.raises(WorkbenchError, match=r"'own' gave values that are not finite for pictures 0 to 9"):
        measured(world, ruler, method(broken, version="1"), cache=tmp_path)
    assert not list(tmp_path.glob("own-*"))


def test_refusals(world, ruler, tmp_path):
    with pytest.raises(WorkbenchError, match=r"'own' gave \[10, 3, 64, 64\].*expected \[10, 3, 128, 128\]"):
        measured(world, ruler, method(lambda low: bicubic(low, 2)))
    with pytest.raises(WorkbenchError, match="holds 12 pictures, 50 are asked for"):
        measured(world, ruler, n=50)
    with pytest.raises(WorkbenchError, match="n is 3: expected"):
        measured(world, ruler, n=3)
    with pytest.raises(WorkbenchError, match="There is no folder"):
        measured(tmp_path / "none", ruler)
    with pytest.raises(WorkbenchError, match="is empty"):
        measured(tmp_path, ruler)
    (tmp_path / "images").mkdir()
    save_png(torch.zeros(3, 128, 128), tmp_path / "images" / "a.png")
    with pytest.raises(WorkbenchError, match="so no captions"):
        measured(tmp_path, ruler)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(96, 96)] * 4, r"96 x 96 px: expected a square .* multiple of 4, the factor, and of 64"),
        ([(128, 64)] * 4, r"64 x 128 px: expected a square"),
        (
            [(128, 128), (128, 128), (64, 64), (128, 128)],
            r"000002.png has 64 x 64 px, the pictures before it",
        ),
    ],
)
def test_pictures_of_a_wrong_size_are_named(ruler, tmp_path, sizes, message):
    lines = []
    for k, size in enumerate(sizes):
        save_png(torch.zeros(3, *size), tmp_path / f"{k:06d}.png")
        lines.append(json.dumps({"file_name": f"{k:06d}.png", "text": "a dog"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(WorkbenchError, match=message):
        measured(tmp_path, ruler, n=4)


def test_pictures_whose_factors_are_not_known_are_measured_without_them(ruler, tmp_path):
    lines = []
    for k in range(4):
        save_png(torch.rand(3, 128, 128) * 2 - 1, tmp_path / f"{k}.png")
        lines.append(json.dumps({"file_name": f"{k}.png", "text": "a dog", "coat": "black"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found = measured(tmp_path, ruler, n=4)["methods"]["bicubic"]
    assert "coat" not in found and found["frechet"] > 0
