"""Distances against closed forms and float64 loops, the traps that have to be named, and the direction in
which each dishonest choice moves a distance.
"""

import io

import pytest
import torch
from noise_pictures import noise, noise_folder, pixel_features
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.kernel import kernel_distance, mmd2
from workbench.evaluation.metrics.measuring import distances
from workbench.evaluation.metrics.sources import Facts, Pictures, digest, open_pictures
from workbench.evaluation.metrics.statistics import Statistics, statistics_of

NO_CACHE = {"cache": None}


def source(pictures: torch.Tensor, name: str = "noise") -> Pictures:
    """Pictures that are at hand already."""
    key = digest(name, len(pictures), int(pictures.long().sum()))
    facts = Facts(name=name, key=key, cache_key=key, resolution=pictures.shape[-1])
    return Pictures(facts=facts, count=len(pictures), read=lambda first, stop: pictures[first:stop])


def test_two_gaussians_of_known_moments_give_the_closed_form():
    """Independent pixels: |m1 - m2|^2 + sum of (s1 - s2)^2 over dimensions."""
    features = pixel_features(6)
    a = statistics_of(source(noise(8000, mean=120, std=20)), features, **NO_CACHE)
    b = statistics_of(source(noise(8000, seed=1, mean=130, std=35)), features, **NO_CACHE)
    found = distances(a, b, features)
    assert found["Fréchet distance (features pixels)"].value == pytest.approx(6 * (10**2 + 15**2), rel=0.03)
    floor, far = (found[f"Fréchet distance (features pixels){end}"].value for end in (", floor", ""))
    assert 0 < floor < 0.02 * far
    assert found.warnings == []
    assert "FID" not in " ".join(one.name for one in found.measurements)


def test_moments_of_a_stream_are_those_of_all_at_once():
    pictures = noise(123)
    found = statistics_of(source(pictures), pixel_features(6), **NO_CACHE)
    x = pictures.flatten(1)[:, :6].double()
    mean, covariance = found.moments.mean_and_covariance()
    assert torch.allclose(mean, x.mean(0), rtol=1e-12)
    assert torch.allclose(covariance, x.T.cov(), rtol=1e-9)
    assert torch.equal(found.rows.double(), x)


def test_the_kernel_distance_is_its_double_sum():
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64) + 1

    def k(a, b):
        return (sum(float(p * q) for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (7 * 6)
    across = 2 * sum(k(x[i], y[j]) for i, j in pairs) / 49
    assert mmd2(x, y) == pytest.approx(within - across, rel=1e-9)


def test_the_kernel_distance_is_unbiased_and_has_an_error_bar():
    draw = torch.Generator().manual_seed(3)
    x, y = (torch.randn(2000, 8, generator=draw) for _ in range(2))
    same, far = kernel_distance(x, y, size=200), kernel_distance(x, y + 0.5, size=200)
    assert abs(same.mean) < 3 * same.std / 10 + 0.01 and same.std > 0
    assert far.mean > 20 * abs(same.mean) and (far.subsets, far.size) == (100, 200)
    whole = kernel_distance(x[:50], y[:50])
    assert (whole.subsets, whole.size, whole.std) == (1, 50, 0.0)
    with pytest.raises(WorkbenchError, match="expected \\[N, F\\] and \\[M, F\\]"):
        kernel_distance(x, y[:, :4])


def test_every_number_carries_its_statement():
    features = pixel_features(4)
    a = statistics_of(source(noise(60), "mine"), features, **NO_CACHE)
    b = statistics_of(source(noise(50, seed=1), "theirs"), features, **NO_CACHE)
    for one in distances(a, b, features, subset_size=20).measurements:
        s = one.statement
        assert (s.features, s.features_version, s.resolution) == ("pixels", "pixels-4", 8)
        assert s.resizer == "not resized, 8 px" and s.reference == "theirs" and s.reference_key == b.facts.key
        if "floor" in one.name:
            assert (s.n, s.n_reference) == (25, 25)
        else:
            assert (s.n, s.n_reference, s.pictures, s.model) == (60, 50, "mine", a.facts.key)


# --- traps ---


def test_a_reference_smaller_than_the_features_is_named_with_its_rank():
    features = pixel_features(100)
    a = statistics_of(source(noise(150)), features, **NO_CACHE)
    b = statistics_of(source(noise(40, seed=1)), features, **NO_CACHE)
    said = distances(a, b, features).warnings
    assert "The reference holds 40 pictures for 100 features: its covariance has rank 39" in said[0]
    assert "unreliable below 2,000 pictures (here 40)" in said[1]


def test_the_same_pictures_on_both_sides_are_named():
    features = pixel_features(4)
    a = statistics_of(source(noise(50)), features, **NO_CACHE)
    found = distances(a, a, features)
    assert found["Fréchet distance (features pixels)"].value == pytest.approx(0, abs=1e-6)
    assert any("Both sides are the same pictures" in one for one in found.warnings)


def test_statistics_of_other_features_are_refused(tmp_path):
    a = statistics_of(source(noise(50)), pixel_features(4), **NO_CACHE)
    path = a.save(tmp_path / "a.safetensors")
    back = Statistics.load(path, pixel_features(4))
    assert back.facts == a.facts and torch.equal(back.rows, a.rows)
    assert back.moments.distance(a.moments) == pytest.approx(0, abs=1e-9)
    assert (tmp_path / "a.json").is_file()
    for other in (pixel_features(5), pixel_features(4, name="others"), pixel_features(4, side=4)):
        with pytest.raises(WorkbenchError, match="holds statistics of other features"):
            Statistics.load(path, other)
    with pytest.raises(WorkbenchError, match="Measure both sides with the same"):
        distances(a, statistics_of(source(noise(50)), pixel_features(5), **NO_CACHE), pixel_features(4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WorkbenchError, match="is damaged"):
        Statistics.load(path, pixel_features(4))


def test_pictures_of_two_sizes_have_no_distance():
    features = pixel_features(4)
    a = statistics_of(source(noise(50)), features, **NO_CACHE)
    b = statistics_of(source(noise(50, 16)), features, **NO_CACHE)
    with pytest.raises(WorkbenchError, match=r"would measure the resizing.*--resolution 8"):
        distances(a, b, features)


# --- the direction of each effect ---


def value(own: torch.Tensor, reference: torch.Tensor, features) -> float:
    a, b = (statistics_of(source(x), features, **NO_CACHE) for x in (own, reference))
    return distances(a, b, features).measurements[0].value


def smooth(count: int, side: int, seed: int) -> torch.Tensor:
    """Noise with large shapes in it, so that resizing has something to alias."""
    fine = noise(count, side, seed=seed, std=40).float()
    coarse = torch.nn.functional.interpolate(
        noise(count, 4, seed=seed + 50).float(), size=side, mode="bicubic"
    )
    return (fine * 0.5 + coarse * 0.5).round().clamp(0, 255).to(torch.uint8)


def as_jpeg(pictures: torch.Tensor, quality: int) -> torch.Tensor:
    out = []
    for picture in pictures:
        coded = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(coded, "JPEG", quality=quality)
        out.append(torch.tensor(list(Image.open(coded).convert("RGB").tobytes()), dtype=torch.uint8))
    return torch.stack(out).unflatten(1, (*pictures.shape[2:], 3)).permute(0, 3, 1, 2).contiguous()


def test_a_jpeg_reference_moves_pictures_of_the_same_kind_away():
    features = pixel_features(48, side=32)
    own, reference = smooth(600, 32, 0), smooth(600, 32, 1)
    honest = value(own, reference, features)
    assert value(own, as_jpeg(reference, 30), features) > 1.3 * honest


def test_two_resizers_give_two_distances_for_the_same_pictures():
    """Both sides by one resizer stay near; one side by another measures the resizer."""
    own, reference = smooth(600, 32, 0), smooth(600, 32, 1)
    careful, careless = pixel_features(64, side=8), pixel_features(64, side=8, resizer="nearest")
    a = statistics_of(source(own), careful, **NO_CACHE)
    b = statistics_of(source(reference), careful, **NO_CACHE)
    c = statistics_of(source(own), careless, **NO_CACHE)
    assert c.moments.distance(b.moments) > 3 * a.moments.distance(b.moments)
    with pytest.raises(WorkbenchError, match="would measure the resizing"):
        distances(c, b, careful)


def test_fewer_pictures_look_worse_and_fifty_thousand_reach_the_truth():
    """Of the same two distributions the distance falls with n towards its limit, the kernel one stays."""
    features = pixel_features(48, side=4)
    a, b = noise(50_000, 4, seed=1), noise(50_000, 4, seed=2, mean=131)
    few, many = value(a[:1000], b[:1000], features), value(a, b, features)
    limit = 48 * 9
    assert few > many > limit and many - limit < 0.2 * (few - limit)
    x, y = (p.flatten(1)[:, :48].float() / 30 for p in (a, b))
    short, long = kernel_distance(x[:1000], y[:1000], size=500), kernel_distance(x, y, size=500)
    assert abs(short.mean - long.mean) < 3 * short.std


def test_the_training_set_as_reference_flatters_a_model_that_learnt_by_heart():
    features = pixel_features(48)
    training, held_out = noise(400, seed=1), noise(400, seed=2)
    memory = training[torch.randint(400, (400,), generator=torch.Generator().manual_seed(0))]
    assert value(memory, training, features) < 0.7 * value(memory, held_out, features)


# --- folders ---


def test_folders_are_read_by_number_and_named_by_content(tmp_path):
    a = open_pictures(noise_folder(tmp_path / "a", 12))
    assert (len(a), a.facts.resolution, a.facts.how) == (12, 8, "")
    assert torch.equal(a.batch(5, 20).pictures, noise(12)[5:])
    copy = open_pictures(noise_folder(tmp_path / "b", 12))
    assert copy.facts.key == a.facts.key and copy.facts.cache_key != a.facts.cache_key
    assert open_pictures(tmp_path / "a", count=11).facts.key != a.facts.key
    small = open_pictures(tmp_path / "a", resolution=4)
    assert small.batch(0, 2).pictures.shape == (2, 3, 4, 4) and "bicubic to 4 px" in small.facts.how


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="is not there"):
        open_pictures(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="holds no picture"):
        open_pictures(tmp_path / "empty")
    noise_folder(tmp_path / "mixed", 3)
    noise_folder(tmp_path / "mixed" / "more", 1, 16)
    with pytest.raises(WorkbenchError, match=r"mixed sizes: 3 of 8 x 8 px .* 1 of 16 x 16 px .*--resolution"):
        open_pictures(tmp_path / "mixed")
    assert open_pictures(tmp_path / "mixed", resolution=8).batch(0, 4).pictures.shape == (4, 3, 8, 8)
    with pytest.raises(WorkbenchError, match="holds 4 pictures, 9 are asked for"):
        open_pictures(tmp_path / "mixed", count=9, resolution=8)
    Image.new("RGB", (8, 4)).save(tmp_path / "empty" / "a.png")
    with pytest.raises(WorkbenchError, match="a size that is not square"):
        open_pictures(tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    with pytest.raises(WorkbenchError, match="is no picture that can be read"):
        open_pictures(tmp_path / "empty")
