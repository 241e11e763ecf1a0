"""Samples on disk and pictures made again: nothing overwritten, every verdict with its reason."""

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.images import read_recipe, save_png, to_uint8
from workbench.pipeline import Pipeline, remake, sample_to_folder
from workbench.pipeline.keeping import save_beside, slug

PROMPT = "a white dog in snow"


def write(pipe, out, **changes):
    return sample_to_folder(pipe, PROMPT, **{"seed": 3, "count": 2, "truncation": 0.8, "out": out, **changes})


def change_recipe(path, **changes):
    """The same pixels with an edited recipe, as anybody could make it."""
    recipe = {**read_recipe(path), **changes}
    info = PngImagePlugin.PngInfo()
    info.add_itxt(recipes.RECIPE_KEY, recipes.encode({k: v for k, v in recipe.items() if v is not None}))
    with Image.open(path) as image:
        image.load()
        image.save(path, pnginfo=info)


def change_pixels(path, change):
    """Edited pixels with the recipe kept, as an honest picture editor would."""
    with Image.open(path) as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(recipes.RECIPE_KEY, image.text[recipes.RECIPE_KEY])
        edited = Image.fromarray(change(np.asarray(image)))
    edited.save(path, pnginfo=info)


# --- samples into a folder ---


def test_samples_are_the_pipelines_pictures(pipe, tmp_path):
    seen = []
    saved = write(pipe, tmp_path / "a" / "b", progress=lambda done, count: seen.append((done, count)))
    assert [p.name for p in saved.paths] == ["a-white-dog-in-snow-3.png", "a-white-dog-in-snow-4.png"]
    assert seen == [(1, 2), (2, 2)] and saved.warnings == []
    expected = to_uint8(pipe(PROMPT, seed=3, count=2, truncation=0.8).images)
    for k, path in enumerate(saved.paths):
        assert np.array_equal(np.asarray(Image.open(path)), expected[k])
        assert read_recipe(path)["seed"] == 3 + k and read_recipe(path)["index"] == k
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [p.name for p in saved.paths]


def test_the_recipe_can_be_left_out(pipe, tmp_path):
    (path,) = write(pipe, tmp_path, count=1, with_recipe=False).paths
    assert read_recipe(path) is None


def test_taken_names_get_a_number(pipe, tmp_path):
    (tmp_path / "a-white-dog-in-snow-3.png").write_text("mine")
    names = [p.name for run in range(2) for p in write(pipe, tmp_path).paths]
    assert names == [f"a-white-dog-in-snow-{n}.png" for n in ("3-2", "4", "3-3", "4-2")]
    assert (tmp_path / "a-white-dog-in-snow-3.png").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_a_name_that_is_taken(pipe, tmp_path):
    (tmp_path / "dog.png").symlink_to(tmp_path / "gone")
    image = pipe("white dog", seed=1).images
    path = save_beside(image, tmp_path, "dog", {}, with_recipe=False)
    assert path.name == "dog-2.png" and not (tmp_path / "gone").exists()


def test_two_writers_at_once_lose_nothing(pipe, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: write(pipe, tmp_path, count=4).paths, range(4)))
    paths = [path for run in runs for path in run]
    assert len(set(paths)) == 16 == len(os.listdir(tmp_path))
    assert all(read_recipe(path)["seed"] in range(3, 7) for path in paths)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A White dog, sitting!", "a-white-dog-sitting"),
        ("../../etc/passwd", "etc-passwd"),
        ("눈", "picture"),
        ("x" * 100, "x" * 60),
        ("dog " * 50, "-".join(["dog"] * 15)),
        ("con: aux", "con-aux"),
    ],
)
def test_slug(prompt, name):
    assert slug(prompt) == name and len(slug(prompt)) <= 60


def test_a_full_folder_is_refused(pipe, tmp_path):
    for k in range(9_999):
        os.close(os.open(tmp_path / str(k), os.O_CREAT))
    with pytest.raises(WorkbenchError, match=r"already holds 9,999 files and 2 more would exceed 10,000"):
        write(pipe, tmp_path)
    assert len(write(pipe, tmp_path, count=1).paths) == 1


def test_a_file_in_the_way_is_named(pipe, tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(OSError, match=r"Cannot write .*out.*; choose another folder"):
            write(pipe, out)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX users")
def test_a_folder_without_permission_is_named(pipe):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0  # root may write anywhere: become nobody for a moment
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(
                PermissionError, match="permission is denied; choose a folder you may write to"
            ):
                write(pipe, folder)
        finally:
            if root:
                os.seteuid(0)
        assert os.listdir(folder) == []


def test_a_full_disk_keeps_whole_pictures_only(pipe, tmp_path, largest_file):
    with largest_file(1 << 30) as _:

        def fill(done, count):
            if done == 2:
                import resource

                resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        with pytest.raises(OSError, match=r"Cannot write .*-5\.png: .*\. 2 of 4 pictures were written"):
            write(pipe, tmp_path, count=4, progress=fill)
    assert sorted(os.listdir(tmp_path)) == ["a-white-dog-in-snow-3.png", "a-white-dog-in-snow-4.png"]
    assert all(remake(path, pipe).verdict == "identical" for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"count": 10_000}, {"seed": -1}, {"seed": 1.5}, {"seed": 2**63 - 1}, {"truncation": 9}],
)
def test_mistakes_write_nothing(pipe, tmp_path, wrong):
    with pytest.raises(WorkbenchError):
        write(pipe, tmp_path, **wrong)
    with pytest.raises(WorkbenchError, match="empty"):
        sample_to_folder(pipe, "", seed=1, count=1, truncation=1.0, out=tmp_path)
    assert os.listdir(tmp_path) == []


# --- made again ---


def test_a_picture_comes_back_identical(pipe, tmp_path):
    for path in write(pipe, tmp_path, truncation=1.2).paths:
        again = remake(path, pipe)
        assert (again.verdict, again.db, again.reasons) == ("identical", math.inf, [])
        assert str(again) == "identical"
        assert np.array_equal(to_uint8(again.image), to_uint8(again.original))


def test_a_saved_and_loaded_model_makes_it_again(pipe, tmp_path):
    loaded = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "model"))
    (path,) = write(loaded, tmp_path / "out", count=1).paths
    assert remake(path, Pipeline.from_pretrained(tmp_path / "model")).verdict == "identical"


def test_pictures_made_in_a_batch_are_close_or_identical(pipe, tmp_path):
    for path in write(pipe, tmp_path, count=5, batch_size=5).paths:
        again = remake(path, pipe)
        assert again.verdict in ("identical", "close")
        assert again.verdict == "identical" or any("in a batch" in reason for reason in again.reasons)


def test_other_weights_are_told(pipe, text_encoder, make_generator, tmp_path):
    (path,) = write(pipe, tmp_path, count=1).paths
    again = remake(path, Pipeline(make_generator(seed=1), text_encoder, {"name": "another"}))
    assert again.verdict == "different" and again.db < 35
    assert again.reasons[0].startswith("Other weights: made by ") and "(tiny)" in again.reasons[0]
    assert str(again).startswith("different (")


def test_edited_pixels_are_told_with_exact_decibels(pipe, tmp_path):
    (path,) = write(pipe, tmp_path, count=1).paths
    change_pixels(path, lambda a: np.where(a > 127, a - 1, a + 1).astype(np.uint8))
    again = remake(path, pipe)
    assert again.verdict == "close" and again.db == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert again.reasons == [
        "The pixels of this file were changed after it was made, and as it was first saved it comes out "
        "again exactly."
    ]
    change_pixels(path, lambda a: 255 - a)
    assert remake(path, pipe).verdict == "different"


def test_another_size_is_told(pipe, tmp_path):
    (path,) = write(pipe, tmp_path, count=1).paths
    change_pixels(path, lambda a: a.repeat(2, 0).repeat(3, 1))
    again = remake(path, pipe)
    assert (again.verdict, again.db) == ("different", None)
    assert again.reasons[0] == "The file has 48×32 pixels, this model draws 16×16."


def test_edited_recipes_are_told(pipe, tmp_path):
    (path,) = write(pipe, tmp_path, count=1).paths
    change_recipe(path, seed=99, versions={"torch": "1.0"}, device="cuda", promise="close")
    again = remake(path, pipe)
    text = str(again)
    assert again.verdict == "different"
    for words in (
        "other noise",
        "version of torch: 1.0 then",
        "device: cuda then, cpu now",
        "in a batch, on a GPU",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "diffusion"}, "another kind of model"),
        ({"seed": None}, "lacks seed"),
        ({"prompt": None, "seed": None}, "lacks prompt and seed"),
        ({"seed": -1}, "is negative"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"truncation": 7}, "The truncation is 7"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(pipe, tmp_path, changes, message):
    (path,) = write(pipe, tmp_path, count=1).paths
    change_recipe(path, **changes)
    with pytest.raises(WorkbenchError, match=message):
        remake(path, pipe)


def test_a_picture_without_recipe_is_refused(pipe, tmp_path):
    save_png(torch.zeros(3, 16, 16), tmp_path / "a.png")
    with pytest.raises(WorkbenchError, match=r"a\.png carries no recipe"):
        remake(tmp_path / "a.png", pipe)
