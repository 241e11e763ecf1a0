"""Faithfulness on real renders: the world itself as the picture source, one that ignores z, one that ignores
the prompt.
"""

import itertools
import math

import pytest
import torch
from safetensors.torch import load_file

from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import named_factors
from workbench.errors import WorkbenchError
from workbench.evaluation import faithfulness, features, reference
from workbench.evaluation.features import Judge, JudgeConfig, load_judge

needs_shipped = pytest.mark.skipif(
    not (features.JUDGE_FOLDER / "model.safetensors").is_file(), reason="assets/models/judge is not there"
)
N, SMALL = 60, {"diversity_prompts": 4, "diversity_samples": 5}


def world_source(prompts: list[str], seeds: list[int]) -> torch.Tensor:
    """The perfect generator: draws what the prompt names; the seed gives all the rest."""
    return render([draw_factors(s, 0, **named_factors(p)) for p, s in zip(prompts, seeds, strict=True)])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("reference-cache")


@pytest.fixture(scope="module")
def tiny() -> Judge:
    torch.manual_seed(1)
    return Judge(JudgeConfig(resolution=16, channels=(4, 8, 8), place_channels=2)).eval()


def test_prompts_name_all_four_factors_and_say_the_truth():
    prompts, truth = faithfulness.draw_prompts(40, 0)
    for i, prompt in enumerate(prompts):
        named = named_factors(prompt)
        assert {k: features.FACTOR_CLASSES[k].index(v) for k, v in named.items()} == {
            k: v[i] for k, v in truth.items()
        }
    assert len(set(prompts)) > 30
    assert prompts[:10] == faithfulness.draw_prompts(10, 0)[0] != faithfulness.draw_prompts(10, 1)[0]


@needs_shipped
def test_the_world_as_generator_is_faithful_at_the_floor_and_diverse(cache):
    judge = load_judge()
    told = []
    result = faithfulness.evaluate(
        world_source, judge, n=N, seed=3, cache=cache, progress=lambda *args: told.append(args), **SMALL
    )
    for name in ("coat", "pose", "scene", "light"):
        assert result[name] >= 0.95, (name, result)
    assert 0.88 <= result["all"] <= min(result[k] for k in ("coat", "pose", "scene", "light"))
    assert 0.6 < result["ratio"] < 1.6 and math.isclose(result["ratio"], result["frechet"] / result["floor"])
    assert 0.75 < result["diversity"] < 1.3
    assert (
        result["n"] == N and result["feature_dim"] == judge.feature_dim and result["judge"] == judge.version
    )
    assert {"frechet_last", "floor_last", "seconds"} <= set(result)
    assert (N, N, "generating and judging") in told

    def blobs(prompts, seeds):  # the colours and nothing else
        small = torch.nn.functional.interpolate(world_source(prompts, seeds), size=(6, 6), mode="area")
        return torch.nn.functional.interpolate(small, size=(64, 64), mode="bicubic")

    worse = faithfulness.evaluate(blobs, judge, n=N, seed=3, cache=cache, **SMALL)
    assert worse["floor"] == result["floor"] and worse["ratio"] > 3 * result["ratio"]
    assert worse["pose"] < result["pose"]


@needs_shipped
def test_a_source_that_ignores_z_has_no_diversity(cache):
    still = faithfulness.evaluate(
        lambda prompts, seeds: world_source(prompts, [5] * len(seeds)),
        load_judge(),
        n=4,
        seed=3,
        cache=cache,
        **SMALL,
    )
    assert still["diversity"] == 0.0


def noise_source(prompts: list[str], seeds: list[int]) -> torch.Tensor:
    return torch.stack(
        [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in seeds]
    )


def test_small_pictures_are_held_against_renders_of_their_own_size(tiny, cache):
    result = faithfulness.evaluate(
        noise_source, tiny, n=12, seed=1, cache=cache, diversity_prompts=2, diversity_samples=3
    )
    assert result["frechet"] > result["floor"] > 0 and result["diversity"] > 0
    assert any("-16px" in file.name for file in cache.iterdir())


def test_evaluating_twice_gives_the_same_figures(tiny, cache, tmp_path):
    settings = {"n": 10, "seed": 2, "diversity_prompts": 2, "diversity_samples": 2}
    first = faithfulness.evaluate(noise_source, tiny, cache=cache, **settings)
    kept = faithfulness.evaluate(noise_source, tiny, cache=cache, **settings)
    fresh = faithfulness.evaluate(noise_source, tiny, cache=None, **settings)
    for result in (first, kept, fresh):
        del result["seconds"]
    assert first == kept == fresh


def test_a_smaller_n_reads_the_first_rows_of_a_larger_one(tiny, tmp_path, monkeypatch):
    big = reference.load_reference(tiny, n=12, seed=0, resolution=16, cache=tmp_path)
    calls = []
    real_render = reference.render
    monkeypatch.setattr(reference, "render", lambda f, r, **k: calls.append(len(f)) or real_render(f, r, **k))
    small = reference.load_reference(tiny, n=6, seed=0, resolution=16, cache=tmp_path)
    assert calls == [25]  # the fingerprint alone
    again = reference.load_reference(tiny, n=6, seed=0, resolution=16, cache=None)
    assert torch.equal(small.mean, again.mean) and small.floor == again.floor != big.floor
    more = reference.load_reference(tiny, n=14, seed=0, resolution=16, cache=tmp_path)
    assert sorted(calls)[:2] == [2, 2] and more.n == 14  # only what was missing


def test_a_cache_that_cannot_be_written_costs_no_figure(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    settings = {"n": 4, "seed": 0, "resolution": 16}
    with pytest.warns(UserWarning, match="could not be kept .*; it is made again next time"):
        found = reference.load_reference(tiny, cache=tmp_path / "thesis.tex" / "cache", **settings)
    assert found.floor == reference.load_reference(tiny, cache=None, **settings).floor
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_what_was_kept_of_another_world_or_cut_short_is_made_again(tiny, tmp_path):
    honest = reference.load_reference(tiny, n=6, seed=0, resolution=16, cache=tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        held = load_file(file)
        held["mid"] += 1
        held["fingerprint"] = 255 - held["fingerprint"]
        reference._write(file, held, {})
    assert torch.equal(
        reference.load_reference(tiny, n=6, seed=0, resolution=16, cache=tmp_path).mean, honest.mean
    )
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(
        reference.load_reference(tiny, n=6, seed=0, resolution=16, cache=tmp_path).mean, honest.mean
    )


def test_shipped_statistics_round_trip_and_belong_to_one_judge(tiny, tmp_path):
    made = reference.load_reference(tiny, n=8, seed=0, resolution=16, cache=tmp_path / "c", shipped=None)
    path = reference.save_reference(tiny, tmp_path / "ship", n=8, resolution=16, cache=tmp_path / "c")
    assert path.stat().st_size < 3 * 2**20
    read = reference.load_reference(tiny, n=8, seed=0, resolution=16, cache=None, shipped=tmp_path / "ship")
    assert read.floor == made.floor and read.accuracy == made.accuracy
    for name in ("mean", "cov", "mean_last", "cov_last"):
        assert torch.equal(getattr(read, name), getattr(made, name)), name
    torch.manual_seed(2)
    other = Judge(tiny.config).eval()
    theirs = reference.load_reference(
        other, n=8, seed=0, resolution=16, cache=None, shipped=tmp_path / "ship"
    )
    assert not torch.equal(theirs.mean, made.mean)


def test_the_sets_share_no_picture():
    seeds = [reference.PROMPT_SEED, reference.REFERENCE_SEED, reference.FLOOR_SEED, reference.SPREAD_SEED]
    assert all(b - a > reference.MAX_SEED for a, b in itertools.pairwise(seeds))


def test_spread_has_a_closed_form():
    values = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1, 1).expand(2, 3, 3, 4, 4)
    assert math.isclose(reference.spread(values), 1.0)
    _, rows = reference.spread_factors(3, 4, 0)
    for row in rows:
        assert (
            len({(f.coat, f.pose, f.scene, f.light) for f in row}) == 1
            and len({f.azimuth_deg for f in row}) == 4
        )


def test_a_pipeline_is_a_source():
    class Samples:
        images = torch.zeros(2, 3, 16, 16)

    def pipeline(prompts, *, seed, truncation, batch_size):
        assert (prompts, seed, truncation, batch_size) == (["a", "b"], [1, 2], 0.8, 4)
        return Samples()

    source = faithfulness.from_pipeline(pipeline, batch_size=4, truncation=0.8)
    assert source(["a", "b"], [1, 2]) is Samples.images


def test_refusals(tiny):
    with pytest.raises(WorkbenchError, match="n is 1"):
        faithfulness.evaluate(noise_source, tiny, n=1)
    with pytest.raises(WorkbenchError, match="seed is -1"):
        faithfulness.evaluate(noise_source, tiny, n=4, seed=-1)
    with pytest.raises(WorkbenchError, match="expected at least 1 and 2"):
        faithfulness.evaluate(noise_source, tiny, n=4, diversity_samples=1)
    with pytest.raises(WorkbenchError, match=r"gave \(4, 1, 16, 16\) for 4 prompts"):
        faithfulness.evaluate(lambda p, s: torch.zeros(4, 1, 16, 16), tiny, n=4)
    with pytest.raises(WorkbenchError, match=r"not finite: .* earlier checkpoint"):
        faithfulness.evaluate(lambda p, s: torch.full((4, 3, 16, 16), math.nan), tiny, n=4)
