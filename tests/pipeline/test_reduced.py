"""Factors between a model's powers: drawn larger, brought down by exact means, tile by tile, and said so."""

import pytest
import torch
from tiny_aura import save_tiny_aura
from tiny_upsampler import smooth_pictures, tiny_upsampler
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.errors import WorkbenchError
from workbench.images import from_uint8, read_recipe, save_png, to_uint8
from workbench.pipeline import Chain, Upscaler, passes, remake, upscale
from workbench.pipeline.loading import load_upscaler
from workbench.pipeline.reduced import Reduced
from workbench.pipeline.upscale_files import Job, upscale_file, upscale_folder

PROMPT = "white shepherd sitting snow"


def photo(height=12, width=20):
    return from_uint8(to_uint8(smooth_pictures(1, height, width)))


def mean64(pictures, cells):
    """[N, 3, H, W] -> the mean of each cell in float64, cell by cell."""
    n, c, h, w = pictures.shape
    return pictures.double().view(n, c, h // cells, cells, w // cells, cells).mean(dim=(3, 5))


@pytest.mark.parametrize(("factor", "larger", "cells"), [(8, 16, 2), (2, 4, 2)])
def test_it_is_the_mean_of_the_larger_picture(up, factor, larger, cells):
    low = photo()
    made = upscale(passes(up, factor), low, PROMPT, seed=3, noise=0.1)
    whole = upscale(passes(up, larger), low, PROMPT, seed=3, noise=0.1).images
    assert made.images.shape == (1, 3, 12 * factor, 20 * factor)
    torch.testing.assert_close(made.images.double(), mean64(whole, cells), atol=2e-7, rtol=0)


def test_a_chain_of_a_prompt_is_brought_down_too(pipe, up):
    made, whole = (Chain(pipe, passes(up, factor))(PROMPT, seed=3) for factor in (8, 16))
    assert [stage.shape[-1] for stage in made.stages] == [16, 64, 128]  # the picture of 256 px is nowhere
    torch.testing.assert_close(made.images.double(), mean64(whole.images, 2), atol=2e-7, rtol=0)


def test_exact_tiles_change_nothing(up):
    low = photo(40, 56)
    whole, tiled = (upscale(passes(up, 2), low, PROMPT, tile=tile).images for tile in (None, 16))
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_blended_tiles_are_the_mean_of_the_blended_picture(up):
    up.trunk_bytes = 32 * 32 * 8 * 8 * 4
    low = photo(40, 100)
    made, whole = (upscale(passes(up, factor), low, PROMPT) for factor in (2, 4))
    assert made.recipes[0]["tile"] == whole.recipes[0]["tile"] == 32
    torch.testing.assert_close(made.images.double(), mean64(whole.images, 2), atol=1e-6, rtol=0)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made inside holds."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, torch.Tensor):
                self.most = max(self.most, made.untyped_storage().nbytes() // made.element_size())
        return out


@pytest.mark.parametrize("blended", [False, True])
def test_the_larger_picture_is_never_held(up, blended):
    side = 96
    if blended:
        up.trunk_bytes = 32 * 32 * 8 * 8 * 4
    low = photo(side, side)
    with Largest() as seen:
        made = up(low, PROMPT, tile=16, cells=2)
    whole = 3 * (4 * side) ** 2
    assert made.images.numel() == whole // 4
    assert seen.most < whole / 1.5  # features at the input's own size: 8 channels; the larger picture: 48
    with Largest() as seen:
        up(low, PROMPT, tile=16)
    assert seen.most >= whole


def test_the_recipe_states_both_steps_and_makes_it_again(up, tmp_path):
    low = photo()
    made = upscale(passes(up, 8), low, PROMPT, seed=2)
    png = save_png(made.images, tmp_path / "a.png", made.recipes[0])
    recipe = read_recipe(png)
    assert (recipe["factor"], recipe["cells"], recipe["size"]) == (2, 2, [160, 96])
    assert recipe["input"]["factor"] == 4 and "cells" not in recipe["input"]
    assert remake(png, None, upscalers=[up], picture=low).verdict == "identical"
    with pytest.raises(WorkbenchError, match="was enlarged 4 times by an upscaler"):
        remake(png, None, upscalers=[Upscaler(tiny_upsampler(2), up.text_encoder)], picture=low)
    recipe["cells"] = 3
    forged = save_png(made.images, tmp_path / "b.png", recipe)
    with pytest.raises(WorkbenchError, match="brought down by 3: expected a whole number that divides 4"):
        remake(forged, None, upscalers=[up], picture=low)


def test_it_is_said(up):
    said = upscale(passes(up, 8), photo(), PROMPT).warnings
    assert said == [
        "tiny-up4 enlarges 4 times: the picture is drawn 2 times larger than asked for and brought down by "
        "the mean of each 2 × 2 pixels."
    ]
    assert upscale(passes(up, 16), photo(), PROMPT).warnings == []


@pytest.mark.parametrize("cells", [0, 3, 8, -2, 2.0, True, "2"])
def test_cells_that_do_not_divide_the_factor_are_refused(up, cells):
    with pytest.raises(WorkbenchError, match="divides 4, the model's factor"):
        Reduced(up, cells)
    if cells is not True:
        with pytest.raises(WorkbenchError, match="divides 4, the model's factor"):
            up(photo(), PROMPT, cells=cells)


def test_files_and_folders_take_it_and_know_it_again(up, tmp_path):
    (tmp_path / "in").mkdir()
    save_png(photo(), tmp_path / "in" / "a.png")
    path, _ = upscale_file(tmp_path / "in" / "a.png", tmp_path / "one", Job(upscalers=passes(up, 2)))
    assert read_recipe(path)["size"] == [40, 24]
    for factor, done, kept, other in ((2, 1, 0, 0), (2, 0, 1, 0), (4, 0, 0, 1)):
        found = upscale_folder(tmp_path / "in", tmp_path / "out", Job(upscalers=passes(up, factor)))
        assert (len(found.done), len(found.kept), len(found.other)) == (done, kept, other)


def test_aurasr_is_brought_down_as_well(tmp_path):
    aura = load_upscaler(save_tiny_aura(tmp_path / "tiny-aura"), device="cpu")
    low = photo(37, 50)
    made, whole = (upscale(passes(aura, factor), low, seed=1) for factor in (2, 4))
    torch.testing.assert_close(made.images.double(), mean64(whole.images, 2), atol=1e-6, rtol=0)
    assert made.recipes[0]["cells"] == 2
