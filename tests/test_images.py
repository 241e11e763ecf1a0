"""Pictures: exact round trips, recipes in PNG, whole-or-nothing files, GIF."""

import json
import os
import resource
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence, PngImagePlugin

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.images import (
    from_uint8,
    grid,
    pixel_hash,
    read_recipe,
    save_gif,
    save_png,
    to_uint8,
)

RECIPE = {
    "kind": "gan",
    "prompt": "a white shepherd, sitting: “눈” in the snow",
    "seed": 2**63 - 1,
    "index": 3,
    "truncation": 0.8,
    "steps": 1,
    "sampler": "GigaGAN",
    "model": "shepherd-64",
    "weight_hash": "ab12cd34ef" * 6,
    "config_hash": "0" * 64,
    "noise_hash": "1" * 64,
    "versions": {"workbench": "0.1.0", "torch": "2"},
    "promise": "identical",
}


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)


def put_key(path, text, key=recipes.RECIPE_KEY):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def schema(version=1, **fields):
    return json.dumps({"schema": {"name": recipes.SCHEMA_NAME, "version": version}, **fields})


# --- tensors and arrays ---


def test_all_levels_go_round_exactly():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = from_uint8(levels)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert np.array_equal(to_uint8(x), levels)


def test_layout_and_rounding(noise):
    x = from_uint8(noise)
    assert x.shape == (5, 3, 8, 12)
    assert np.array_equal(to_uint8(x), noise)
    assert np.array_equal(to_uint8(x.to(memory_format=torch.channels_last)), noise)
    edges = torch.tensor([-5.0, -1.0, 0.0, 1.0, 5.0]).expand(1, 3, 1, 5)
    assert to_uint8(edges)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_nan_and_wrong_shapes_are_refused():
    with pytest.raises(WorkbenchError, match="NaN"):
        to_uint8(torch.full((1, 3, 2, 2), float("nan")))
    with pytest.raises(WorkbenchError, match=r"\[3, 2, 2\]: expected \[N, 3, H, W\]"):
        to_uint8(torch.zeros(3, 2, 2))
    with pytest.raises(WorkbenchError, match="Expected uint8"):
        from_uint8(np.zeros((1, 2, 2, 3)))


def test_grid_puts_each_picture_in_its_place(noise):
    sheet = np.asarray(grid(from_uint8(noise), 2, scale=3, pad=1))
    assert sheet.shape == (3 * 25 - 1, 2 * 37 - 1, 3)
    for k, picture in enumerate(noise):
        top, left = (k // 2) * 25, (k % 2) * 37
        assert np.array_equal(sheet[top : top + 24 : 3, left : left + 36 : 3], picture)
        assert np.array_equal(sheet[top + 2 : top + 24 : 3, left + 2 : left + 36 : 3], picture)
    assert (sheet[50:, 37:] == 255).all() and (sheet[24] == 255).all()


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"columns": 1, "scale": 0}, {"columns": 1, "pad": -1}])
def test_grid_refuses(wrong):
    with pytest.raises(WorkbenchError, match="contact sheet"):
        grid(torch.zeros(1, 3, 2, 2), **wrong)
    with pytest.raises(WorkbenchError, match="of 0 pictures"):
        grid(torch.zeros(0, 3, 2, 2), 1)


# --- PNG and recipe ---


def test_png_keeps_pixels_and_recipe(tmp_path, noise):
    path = save_png(noise[0], tmp_path / "a.png", RECIPE)
    assert np.array_equal(np.asarray(Image.open(path)), noise[0])
    found = read_recipe(path)
    assert found == {**RECIPE, "size": [12, 8], "pixel_hash": recipes.sha256(noise[0].tobytes())}
    assert os.listdir(tmp_path) == ["a.png"]


def test_the_three_forms_of_a_picture_give_one_file(tmp_path, noise):
    forms = [noise[0], Image.fromarray(noise[0]), from_uint8(noise[:1]), from_uint8(noise[:1])[0]]
    files = [save_png(form, tmp_path / f"{k}.png", RECIPE).read_bytes() for k, form in enumerate(forms)]
    assert len(set(files)) == 1


def test_the_plain_line_is_what_other_programs_read(tmp_path, noise):
    path = save_png(noise[0], tmp_path / "a.png", {**RECIPE, "model": "a, b"})
    prompt, settings = Image.open(path).text["parameters"].split("\n")
    assert prompt == RECIPE["prompt"]
    assert settings == (
        "Steps: 1, Sampler: GigaGAN, CFG scale: 1, Seed: 9223372036854775807, Size: 12x8, "
        'Model hash: ab12cd34ef, Model: "a, b", Truncation: 0.8, Version: gigagan-workbench 0.1.0'
    )


def test_our_key_is_utf8_itxt_with_the_schema_first(tmp_path, noise):
    path = save_png(noise[0], tmp_path / "a.png", RECIPE)
    data = path.read_bytes()
    assert (
        b'iTXtworkbench\0\0\0\0\0{"schema": {"name": "gigagan-workbench-picture", "version": 1}, "kind"'
        in data
    )
    assert "“눈”".encode() in data


def test_the_switch_leaves_both_keys_out(tmp_path, noise):
    path = save_png(noise[0], tmp_path / "a.png", RECIPE, with_recipe=False)
    assert Image.open(path).text == {} and read_recipe(path) is None


def test_the_pixel_hash_tells_pixels_not_files(tmp_path, noise):
    image = Image.fromarray(noise[0])
    image.save(tmp_path / "b.png", compress_level=1)
    assert pixel_hash(Image.open(tmp_path / "b.png")) == pixel_hash(image)
    assert pixel_hash(Image.fromarray(255 - noise[0])) != pixel_hash(image)


def test_pictures_without_a_recipe_give_none(tmp_path, noise):
    image = Image.fromarray(noise[0])
    image.save(tmp_path / "a.jpg")
    image.save(tmp_path / "a.png")
    assert read_recipe(tmp_path / "a.jpg") is None and read_recipe(tmp_path / "a.png") is None


def test_unknown_fields_are_ignored(tmp_path):
    path = put_key(tmp_path / "a.png", schema(seed=1, prompt="x", later={"deep": [1]}))
    assert read_recipe(path) == {"prompt": "x", "seed": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (schema(version=2), r"newer version \(schema 2; this one reads up to 1\): update"),
        (schema(version="2"), "expected a whole number"),
        (schema(version=True), "expected a whole number"),
        (schema(seed="1"), "'1' as seed, expected int"),
        (schema(seed=True), "as seed"),
        (schema(prompt=7), "as prompt, expected str"),
        (schema(size=[64]), "as size"),
        (schema(size=[64, -1]), "as size"),
        (schema(truncation=1)[:-1] + ', "guidance": NaN}', "damaged"),
        (schema(seed=1)[:-1] + ', "truncation": 1e999}', "as truncation"),
        ("__import__('os').abort()", "damaged"),
        ("[" * 60_000, "damaged"),
        ("[]", "not of the kind"),
        ('{"schema": {"name": "other", "version": 1}}', "not of the kind"),
        (schema(prompt="x" * 65_536), "at most 65536 are read"),
        (schema(seed=1)[:-1] + ', "index": ' + "9" * 5000 + "}", "damaged"),
    ],
    ids=range(16),
)
def test_bad_recipes_are_refused_by_message(tmp_path, text, message):
    path = put_key(tmp_path / "a.png", text)
    with pytest.raises(WorkbenchError, match=message) as caught:
        read_recipe(path)
    assert len(str(caught.value)) < 250 and "a.png" in str(caught.value)


def test_a_text_bomb_is_refused(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(recipes.RECIPE_KEY, "x" * 80_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert (tmp_path / "a.png").stat().st_size < 200_000
    with pytest.raises(WorkbenchError, match=r"a\.png is broken"):
        read_recipe(tmp_path / "a.png")


@pytest.mark.parametrize("side", [200_000, 9_000])
def test_a_pixel_bomb_is_refused(tmp_path, side):
    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = chunk(b"IHDR", side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(WorkbenchError, match="far too many pixels"):
        read_recipe(tmp_path / "a.png")


def test_missing_foreign_and_cut_files_are_named(tmp_path, noise):
    with pytest.raises(WorkbenchError, match="no picture at"):
        read_recipe(tmp_path / "none.png")
    with pytest.raises(WorkbenchError, match="is a folder"):
        read_recipe(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(WorkbenchError, match=r"text\.png is not a picture"):
        read_recipe(tmp_path / "text.png")
    whole = save_png(noise[0], tmp_path / "a.png", RECIPE).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-150])
    with pytest.raises(WorkbenchError, match=r"cut\.png is broken"):
        read_recipe(tmp_path / "cut.png")


def test_what_we_write_we_could_read(tmp_path, noise):
    for wrong, message in [
        ({"foo": 1}, "unknown field 'foo'"),
        ({"seed": "x"}, "as seed"),
        ({"prompt": "x" * 70_000}, "shorten the prompt"),
        ({"truncation": float("nan")}, "as truncation"),
    ]:
        with pytest.raises(WorkbenchError, match=message):
            save_png(noise[0], tmp_path / "a.png", {**RECIPE, **wrong})
    assert os.listdir(tmp_path) == []


# --- files appear whole or not at all ---


def test_overwrite_false_keeps_what_is_there(tmp_path, noise):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"a\.png is already there and is not overwritten"):
        save_png(noise[0], path, overwrite=False)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["a.png"]
    save_png(noise[0], path)
    assert np.array_equal(np.asarray(Image.open(path)), noise[0])


def test_a_write_that_fails_midway_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "old.png").write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the kernel stops the write after 4 kB
    try:
        with pytest.raises(OSError, match=r"Cannot write .*old\.png: the file would be larger"):
            save_png(noise, tmp_path / "old.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["old.png"] and (tmp_path / "old.png").read_text() == "mine"


def test_missing_folder_and_file_in_the_way(tmp_path, noise):
    with pytest.raises(FileNotFoundError, match="its folder does not exist; create the folder first"):
        save_png(noise[0], tmp_path / "none" / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        save_png(noise[0], tmp_path / "file" / "a.png")


# --- GIF ---


def frames_of(path):
    with Image.open(path) as gif:
        found = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(gif)]
        return found, gif.info.get("loop")


def test_gif_frames_times_and_loop(tmp_path):
    colours = [(255, 0, 0), (0, 200, 0), (0, 0, 90)]
    frames = [np.full((6, 9, 3), colour, np.uint8) for colour in colours]
    path = save_gif(frames, tmp_path / "a.gif", seconds_per_frame=[0.1, 0.25, 0.5], hold_last=1.0)
    found, loop = frames_of(path)
    assert [time for _, time in found] == [100, 250, 1500] and loop == 0
    for (pixels, _), colour in zip(found, colours, strict=True):
        assert (pixels == colour).all()  # up to 256 colours in all frames together: exact


def test_gif_is_close_and_still_where_nothing_moves(tmp_path):
    row = torch.linspace(-1, 1, 64)
    still = torch.stack([row.expand(64, 64), row.expand(64, 64).T, -row.expand(64, 64)])
    frames = []
    for k in range(6):
        frame = still.clone()
        frame[:, 8:16, 8 * k : 8 * k + 8] = torch.tensor([1.0, -1.0, 0.2])[:, None, None]
        frames.append(frame)
    found, _ = frames_of(save_gif(frames, tmp_path / "a.gif", seconds_per_frame=0.1))
    assert len(found) == 6
    wanted = to_uint8(torch.stack(frames)).astype(float)
    for (pixels, _), want in zip(found, wanted, strict=True):
        assert 10 * np.log10(255**2 / ((pixels - want) ** 2).mean()) > 30
    unmoved = np.stack([pixels[20:] for pixels, _ in found])
    assert (unmoved == unmoved[0]).all()


def test_a_large_noisy_gif_takes_seconds_not_minutes(tmp_path):
    """Noise after pictures once held a k-means for ever."""
    smooth = np.linspace(0, 255, 256 * 256 * 3).reshape(256, 256, 3).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3), dtype=np.uint8)
    start = time.process_time()
    path = save_gif([*noise, smooth], tmp_path / "a.gif", seconds_per_frame=0.1)
    assert time.process_time() - start < 30
    found, _ = frames_of(path)
    assert len(found) == 21
    assert 10 * np.log10(255**2 / ((found[-1][0].astype(float) - smooth) ** 2).mean()) > 35


def test_gif_refuses(tmp_path):
    one = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(WorkbenchError, match="at least one frame"):
        save_gif([], tmp_path / "a.gif", seconds_per_frame=0.1)
    with pytest.raises(WorkbenchError, match="differ in size"):
        save_gif([one, np.zeros((4, 5, 3), np.uint8)], tmp_path / "a.gif", seconds_per_frame=0.1)
    for seconds in ([0.1], 0, -1, float("nan"), [0.1, 1e9]):
        with pytest.raises(WorkbenchError, match=r"a time of 0\.02 to 600 s for each"):
            save_gif([one, one], tmp_path / "a.gif", seconds_per_frame=seconds)
    with pytest.raises(WorkbenchError, match="hold_last"):
        save_gif([one], tmp_path / "a.gif", seconds_per_frame=0.1, hold_last=-1)
    assert os.listdir(tmp_path) == []
