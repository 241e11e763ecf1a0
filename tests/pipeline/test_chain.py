"""Stages in series: sizes, the prompt passed along, nested recipes, pictures made again from their PNG."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_upsampler import smooth_pictures, tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.images import from_uint8, read_recipe, save_png, to_uint8
from workbench.pipeline import Chain, Pipeline, Stopped, Upscaler, passes, remake, upscale
from workbench.pipeline.chain import total_factor
from workbench.pipeline.reduced import Reduced

PROMPT = "white shepherd sitting snow"


@pytest.fixture
def up2(text_encoder):
    return Upscaler(tiny_upsampler(2, seed=5), text_encoder, {"name": "tiny-up2"})


# --- stages ---


def test_each_stage_is_what_its_model_makes_alone(pipe, up, up2):
    chained = Chain(pipe, [up, up2])(PROMPT, seed=3, noise=0.1, truncation=0.7)
    small = pipe(PROMPT, seed=3, truncation=0.7).images
    middle = up(small, PROMPT, seed=3, noise=0.1).images
    assert [stage.shape[-1] for stage in chained.stages] == [16, 64, 128]
    assert torch.equal(chained.stages[0], small) and torch.equal(chained.stages[1], middle)
    assert torch.equal(chained.images, up2(middle, PROMPT, seed=3).images)  # noise on the first input alone
    assert torch.equal(chained.images, chained.stages[-1])


def test_no_seeds_are_told_as_such(pipe, up):
    for drawn in (pipe, Chain(pipe, up)):
        with pytest.raises(WorkbenchError, match="0 seeds for 1 p"):
            drawn(PROMPT, seed=[])
        with pytest.raises(WorkbenchError, match="list of prompts is empty"):
            drawn([], seed=3)


def test_one_seed_one_picture_through_a_chain(pipe, up):
    chain = Chain(pipe, up)
    together = chain([PROMPT, "black dog"], seed=5, count=2)
    assert together.seeds == [5, 6, 7, 8] and len(together) == 4
    assert together.prompts == [PROMPT, PROMPT, "black dog", "black dog"]
    assert torch.equal(chain("black dog", seed=8).images[0], together.images[3])
    assert torch.equal(chain(PROMPT, seed=[6, 5]).images[1], together.images[0])


def test_eight_times_twice_is_64_times(text_encoder):
    up8 = Upscaler(tiny_upsampler(8), text_encoder)
    assert Chain(lambda prompt, seed: smooth_pictures(1, 4, 4, seed), [up8, up8])(PROMPT).images.shape == (
        1,
        3,
        256,
        256,
    )


def test_recipes_nest_and_warnings_are_said_once(pipe, up):
    chained = Chain(pipe, [up, up])("white zebra", seed=3)
    recipe = chained.recipes[0]
    kinds = [recipe["kind"], recipe["input"]["kind"], recipe["input"]["input"]["kind"]]
    assert kinds == ["upscaled", "upscaled", "gan"]
    assert recipe["size"] == [256, 256] and recipe["input"]["input"]["weight_hash"] == pipe.weight_hash
    assert len([warning for warning in chained.warnings if "zebra" in warning]) == 1


def test_a_source_without_text_hands_the_prompt_on(make_generator, up):
    wordless = Pipeline(make_generator(text_dim=None, cross_attention={}), None)
    chained = Chain(wordless, up)(PROMPT)
    assert chained.prompts == [PROMPT]


@pytest.mark.parametrize("form", ["tensor", "batch", "uint8", "picture"])
def test_anything_that_gives_a_picture_is_a_source(up, form):
    small = from_uint8(to_uint8(smooth_pictures(1, 12, 20)))
    forms = {
        "tensor": small[0],
        "batch": small,
        "uint8": to_uint8(small)[0],
        "picture": Image.fromarray(to_uint8(small)[0]),
    }
    asked = []

    def source(prompt, seed):
        asked.append((prompt, seed))
        return forms[form]

    chained = Chain(source, up)(PROMPT, seed=4)
    assert asked == [(PROMPT, 4)] and chained.recipes[0]["input"]["kind"] == "picture"
    assert torch.equal(chained.images, up(small, PROMPT, seed=4).images)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("picture.png", "gave str"),
        (None, "gave NoneType"),
        (torch.zeros(2, 3, 4, 4), "gave 2 pictures"),
        (torch.zeros(4, 4), "expected a tensor"),
        (np.zeros((4, 4)), "uint8"),
    ],
)
def test_a_source_that_gives_something_else_is_named(up, given, words):
    with pytest.raises(WorkbenchError, match=words):
        Chain(lambda prompt, seed: given, up)(PROMPT)


def test_chains_that_cannot_be_are_refused(pipe, up):
    with pytest.raises(WorkbenchError, match="no upscaler"):
        Chain(pipe, [])
    with pytest.raises(WorkbenchError, match="list of prompts is empty"):
        Chain(pipe, up)([])
    with pytest.raises(WorkbenchError, match="The prompt is empty"):
        Chain(pipe, up)("")
    with pytest.raises(
        WorkbenchError, match="65536 × 65536 px at factor 4096"
    ):  # before anything is enlarged
        Chain(pipe, [up] * 6)(PROMPT)
    with pytest.raises(WorkbenchError, match="different sizes"):
        Chain(lambda prompt, seed: smooth_pictures(1, 8, 8 + seed), up)(PROMPT, count=2)


def test_progress_counts_stages_and_stop_ends_inside_one(pipe, up):
    told = []
    Chain(pipe, [up, up])(PROMPT, count=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(k + 1, 6) for k in range(6)]
    with pytest.raises(Stopped):
        Chain(pipe, [up, up])(PROMPT, tile=16, stop=lambda: True)


@pytest.mark.parametrize(
    ("own", "can"),
    [  # factor: (passes, cells of the last)
        (2, {2: (1, 1), 4: (2, 1), 8: (3, 1), 16: (4, 1)}),
        (4, {2: (1, 2), 4: (1, 1), 8: (2, 2), 16: (2, 1)}),
        (8, {2: (1, 4), 4: (1, 2), 8: (1, 1)}),
        (16, {2: (1, 8), 4: (1, 4), 8: (1, 2), 16: (1, 1)}),
    ],
)
def test_a_factor_is_reached_exactly_or_refused(text_encoder, own, can):
    up = Upscaler(tiny_upsampler(own), text_encoder, {"name": "mine"})
    for factor in (1, 2, 3, 4, 6, 8, 16, 32, 0, -4, 2.5, True):
        if factor in can and factor is not True:
            count, cells = can[factor]
            stages = passes(up, factor)
            assert stages == [up] * (count - 1) + [up if cells == 1 else Reduced(up, cells)]
            assert total_factor(stages) == factor
        else:
            with pytest.raises(WorkbenchError, match=f"mine enlarges {own} times.*{list(can)[-1]}"):
                passes(up, factor)


def test_pictures_go_through_several_passes(up2):
    low = smooth_pictures(2, 10, 14)
    made = upscale(passes(up2, 4), low, ["white dog", ""], seed=4, noise=0.1)
    first = up2(low, ["white dog", ""], seed=4, noise=0.1)
    assert torch.equal(made.images, up2(first.images, ["white dog", "a dog"], seed=4).images)
    assert made.recipes[1]["input"]["input"]["kind"] == "picture"
    with pytest.raises(WorkbenchError, match="expected a tensor"):
        upscale([up2], torch.zeros(0, 3, 4, 4))


# --- made again from the PNG ---


def test_a_chained_picture_is_made_again_from_its_png(pipe, up, up2, tmp_path):
    chained = Chain(pipe, [up, up2])(PROMPT, seed=9, noise=0.2, truncation=0.8)
    png = save_png(chained.images, tmp_path / "a.png", chained.recipes[0])
    remade = remake(png, pipe, upscalers=[up2, up])
    assert remade.verdict == "identical" and not remade.reasons
    assert read_recipe(png)["input"]["input"]["truncation"] == 0.8
    with pytest.raises(WorkbenchError, match=r"a.png was enlarged 2 times by an upscaler \(tiny-up2"):
        remake(png, pipe, upscalers=[up])
    with pytest.raises(WorkbenchError, match="give the model that draws it"):
        remake(png, None, upscalers=[up, up2])


def test_other_weights_at_any_stage_are_told(pipe, up, make_generator, text_encoder, tmp_path):
    chained = Chain(pipe, up)(PROMPT, seed=9)
    png = save_png(chained.images, tmp_path / "a.png", chained.recipes[0])
    other = Upscaler(tiny_upsampler(seed=1), text_encoder, {"name": "other-up4"})
    remade = remake(png, pipe, upscalers=[other])
    assert remade.verdict == "different" and "other-up4" in remade.reasons[0]
    base = Pipeline(make_generator(seed=3), text_encoder, {"name": "other"})
    remade = remake(png, base, upscalers=[up])
    assert remade.verdict == "different" and "other" in remade.reasons[0]


def test_an_enlarged_photo_needs_the_photo(up, tmp_path):
    photo = from_uint8(to_uint8(smooth_pictures(1, 12, 20)))
    made = upscale([up], photo, PROMPT, seed=2)
    png = save_png(made.images, tmp_path / "a.png", made.recipes[0])
    with pytest.raises(WorkbenchError, match=r"nobody drew here .20 × 12 px.*give that picture"):
        remake(png, None, upscalers=[up])
    with pytest.raises(WorkbenchError, match="from another picture than the one given"):
        remake(png, None, upscalers=[up], picture=photo.flip(-1))
    assert remake(png, None, upscalers=[up], picture=photo).verdict == "identical"


def test_a_picture_of_tiles_is_made_again(up, tmp_path):
    up.trunk_bytes = 32 * 32 * 8 * 8 * 4
    photo = from_uint8(to_uint8(smooth_pictures(1, 40, 100)))
    made = upscale([up], photo, PROMPT)
    png = save_png(made.images, tmp_path / "a.png", made.recipes[0])
    assert remake(png, None, upscalers=[up], picture=photo).verdict == "identical"
    up.trunk_bytes *= 100
    again = remake(png, None, upscalers=[up], picture=photo)
    assert again.verdict != "identical" and "other tiles" in again.reasons[0]
