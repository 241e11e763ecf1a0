"""The judge: targets, feature closed forms, round trips to the bit, refusals."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.datasets.world import draw_factors, render
from workbench.errors import WorkbenchError
from workbench.evaluation import features
from workbench.evaluation.features import Judge, JudgeConfig, class_ids, from_targets, load_judge, to_targets

needs_shipped = pytest.mark.skipif(
    not (features.JUDGE_FOLDER / "model.safetensors").is_file(), reason="assets/models/judge is not there"
)


@pytest.fixture(scope="module")
def small() -> Judge:
    torch.manual_seed(0)
    judge = Judge(JudgeConfig(resolution=32, channels=(8, 16, 24), place_channels=4))
    judge.train()(torch.randn(16, 3, 32, 32))  # gives the running statistics values of their own
    return judge.eval()


def pictures(n: int, size: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_targets_and_back():
    config = JudgeConfig()
    factors = [draw_factors(3, i) for i in range(50)]
    targets = to_targets(factors, config)
    assert (
        targets.shape == (50, len(config.targets)) and targets.abs().max() <= 1 + 1e-6
    )  # the stated ranges hold
    back = from_targets(targets, config)
    for name, values in back.items():
        torch.testing.assert_close(
            values, torch.tensor([getattr(f, name) for f in factors]), rtol=1e-4, atol=1e-3
        )


def test_azimuth_is_a_circle():
    config = JudgeConfig()
    a, b = (to_targets([draw_factors(0, 0, azimuth_deg=v)], config) for v in (180.0, -180.0))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_class_ids_follow_the_worlds_order():
    ids = class_ids([draw_factors(0, 0, coat="white", pose="lying", scene="park", light="night")])
    assert {k: v.item() for k, v in ids.items()} == {"coat": 3, "pose": 2, "scene": 0, "light": 2}


def test_features_are_mean_and_spread_of_each_channel(small):
    x = pictures(3)
    with torch.no_grad():
        _, _, maps = small(small.prepare(x))
    got = small.features(x)
    assert got.dtype == torch.float64 and got.shape == (3, small.feature_dim) == (3, 2 * (8 + 16))
    means = torch.cat([m.mean(dim=(2, 3)) for m in maps[:-1]], 1).double()
    spreads = torch.cat([m.flatten(2).std(dim=2, correction=0) for m in maps[:-1]], 1).double()
    torch.testing.assert_close(got, torch.cat([means, spreads], 1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        small.last_features(x), maps[-1].mean(dim=(2, 3)).double(), atol=1e-5, rtol=1e-4
    )


def test_the_default_feature_dimension_suits_some_hundreds_of_pictures():
    assert 200 <= Judge().feature_dim <= 500


def test_mean_features_are_blind_to_order_and_to_autocast(small):
    x = pictures(6)
    whole = small.features(x)
    assert torch.equal(whole, small.features(x))
    torch.testing.assert_close(small.features(x[[3, 0]]), whole[[3, 0]], atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small.features(x), whole)


def test_measuring_leaves_the_training_mode_and_the_statistics_alone(small):
    small.train()
    before = small.stem_norm.running_mean.clone()
    small.measure(pictures(4))
    assert small.training and torch.equal(before, small.stem_norm.running_mean)
    small.eval()


def test_other_sizes_are_brought_to_the_judges(small):
    x = torch.nn.functional.interpolate(pictures(2, 8), scale_factor=8, mode="nearest")  # 64 px, flat patches
    torch.testing.assert_close(small.prepare(x).mean(), x.mean(), atol=1e-3, rtol=0)
    assert small.predict(x)["coat"].shape == (2,)


def test_save_and_load_give_the_same_bits(small, tmp_path):
    small.save_pretrained(tmp_path / "a")
    once = load_judge(tmp_path / "a")
    once.save_pretrained(tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    twice = load_judge(tmp_path / "b")
    assert torch.equal(once.features(pictures(3)), twice.features(pictures(3)))
    assert small.version == once.version == twice.version
    assert not once.training and not any(p.requires_grad for p in once.parameters())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]


def test_a_full_disk_leaves_the_old_judge_and_no_scraps(small, tmp_path, largest_file):
    small.save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with largest_file(1_000), pytest.raises(OSError, match=r"Cannot write .*model\.safetensors: "):
        small.save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"Cannot write .*file/judge: a part of its path is a file"):
        small.save_pretrained(tmp_path / "file" / "judge")


def test_the_version_names_the_weights(small):
    before = small.version
    with torch.no_grad():
        small.heads["coat"].bias[0] += 1
        changed = small.version
        small.heads["coat"].bias[0] -= 1
    assert changed != before and len(before) == 12


def edit_config(folder, **changes):
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | changes))


def test_folders_that_do_not_fit_are_refused(small, tmp_path):
    good = small.save_pretrained(tmp_path / "good")

    def broken(name):
        return shutil.copytree(good, tmp_path / name)

    with pytest.raises(WorkbenchError, match=r"config.json is missing"):
        load_judge(tmp_path / "nowhere")
    folder = broken("half")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WorkbenchError, match=r"model.safetensors is missing"):
        load_judge(folder)
    folder = broken("cut")
    (folder / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(WorkbenchError, match="is damaged"):
        load_judge(folder)
    folder = broken("kind")
    edit_config(folder, kind="gigagan-pipeline")
    with pytest.raises(WorkbenchError, match="expected 'shepherd-judge'"):
        load_judge(folder)
    folder = broken("classes")
    edit_config(folder, classes={"coat": ["pink"], "pose": [], "scene": [], "light": []})
    with pytest.raises(WorkbenchError, match="other classes than this Shepherd World"):
        load_judge(folder)
    folder = broken("keys")
    edit_config(folder, dropout=0.1)
    with pytest.raises(WorkbenchError, match="not a judge's configuration"):
        load_judge(folder)
    folder = broken("shape")
    edit_config(folder, channels=[8, 16, 32])
    with pytest.raises(
        WorkbenchError, match=r"does not fit: heads.coat.weight should be \(5, 32\), the file holds \(5, 24\)"
    ):
        load_judge(folder)
    folder = broken("extra")
    save_file(
        load_file(good / "model.safetensors") | {"surplus": torch.zeros(1)}, folder / "model.safetensors"
    )
    with pytest.raises(WorkbenchError, match="surplus should be nothing"):
        load_judge(folder)


def test_bad_pictures_and_configurations_are_refused(small):
    with pytest.raises(WorkbenchError, match=r"expected \[N, 3, S, S\]"):
        small.features(torch.zeros(1, 3, 32, 16))
    with pytest.raises(WorkbenchError, match="not finite"):
        small.features(torch.full((1, 3, 32, 32), math.nan))
    with pytest.raises(WorkbenchError, match="resolution is 30"):
        JudgeConfig(resolution=30)
    with pytest.raises(WorkbenchError, match="expected low < high"):
        JudgeConfig(ranges={"x": (1.0, 0.0)})
    with pytest.raises(WorkbenchError, match="at least two counts"):
        JudgeConfig(channels=(8,))


@needs_shipped
def test_the_shipped_judge_reads_renders():
    assert sum(f.stat().st_size for f in features.JUDGE_FOLDER.iterdir()) < 6 * 2**20
    judge = load_judge()
    factors = [draw_factors(77_000_001, i) for i in range(60)]
    seen = judge.predict(render(factors))
    for name, truth in class_ids(factors).items():
        assert (seen[name] == truth).double().mean() >= 0.95, name
    turned = torch.tensor([f.azimuth_deg for f in factors])
    error = (seen["regression"]["azimuth_deg"] - turned + 180).remainder(360) - 180
    assert error.abs().median() < 15
    x_error = (seen["regression"]["x"] - torch.tensor([f.x for f in factors])).abs()
    assert x_error.median() < 0.03
