"""AuraSR beside ours: a tiny random network of its class, called as an Upscaler is."""

import json
import sys

import pytest
import torch
from tiny_aura import CONFIG, save_tiny_aura
from tiny_upsampler import smooth_pictures

from workbench.errors import WorkbenchError
from workbench.images import from_uint8, save_png, to_uint8
from workbench.pipeline import Chain, Stopped, passes, remake
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.loading import load_upscaler


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny_aura(tmp_path_factory.mktemp("aura") / "tiny-aura")


@pytest.fixture(scope="module")
def aura(saved):
    return load_upscaler(str(saved), device="cpu")


def test_it_is_called_as_ours_and_says_that_it_reads_no_text(aura):
    assert isinstance(aura, AuraSR) and (aura.factor, aura.name) == (4, "tiny-aura")
    low = smooth_pictures(2, 16, 16)
    made = aura(low, "a white dog", seed=3)
    assert made.images.shape == (2, 3, 64, 64) and made.images.abs().max() <= 1
    assert "reads no text" in made.warnings[0] and aura(low).warnings == []
    assert torch.equal(made.images[1:], aura(low[1:], seed=4).images)
    assert not torch.equal(made.images[:1], aura(low[:1], seed=4).images)


def test_torchs_own_generator_is_left_alone(aura):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    aura(smooth_pictures(1, 16, 16))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 17), (37, 50)])
def test_any_size_is_cut_into_squares(aura, size):
    told = []
    made = aura(smooth_pictures(1, *size), progress=lambda *at: told.append(at))
    assert made.images.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(made.images).all() and told[-1][0] == told[-1][1] == len(told)


def test_squares_are_blended_by_weights_that_sum_to_one(aura, monkeypatch):
    monkeypatch.setattr(aura, "_square", lambda square, styles, generator: torch.full((3, 64, 64), 0.5))
    made = aura(smooth_pictures(1, 37, 50)).images
    torch.testing.assert_close(made, torch.full_like(made, 0.5))


def test_it_stands_in_chains_and_recipes(aura, pipe, tmp_path):
    photo = from_uint8(to_uint8(smooth_pictures(1, 20, 24)))
    made = aura(photo, seed=2)
    png = save_png(made.images, tmp_path / "a.png", made.recipes[0])
    assert remake(png, None, upscalers=[aura], picture=photo).verdict == "identical"
    assert made.recipes[0]["sampler"] == "AuraSR" and made.recipes[0]["tile"] == 16
    assert Chain(pipe, passes(aura, 16))("white dog").images.shape[-1] == 256
    with pytest.raises(Stopped):
        aura(photo, stop=lambda: True)
    with pytest.raises(WorkbenchError, match=r"expected a deviation of 0"):
        aura(photo, noise=0.1)


def test_folders_that_do_not_fit_are_refused(saved, tmp_path):
    for name, change, words in (
        ("shape", {"dim": 16}, "does not fit its config.json"),
        ("unknown", {"no_such": 1}, "describes no network of AuraSR"),
        ("odd", {"image_size": 48}, "describes no network of AuraSR"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**CONFIG, **change}))
        (folder / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
        with pytest.raises(WorkbenchError, match=words):
            load_upscaler(folder, device="cpu")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps(CONFIG))
    (pickled / "model.ckpt").write_bytes(b"x")
    with pytest.raises(WorkbenchError, match=r"never read"):
        load_upscaler(pickled, device="cpu")


def test_a_network_of_another_factor_than_its_config_says_is_named(saved, tmp_path):
    folder = tmp_path / "lies"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "image_size": 128}))
    (folder / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    with pytest.raises(WorkbenchError, match=r"expected \[3, 128, 128\]"):
        load_upscaler(folder, device="cpu")(smooth_pictures(1, 16, 16))


def test_without_the_package_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aura_sr", None)
    with pytest.raises(WorkbenchError, match=r"pip install 'aura-sr"):
        load_upscaler("aura-sr", device="cpu")
