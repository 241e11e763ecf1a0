"""Files through upscalers: every kind of picture a person can have, folders that go on; refusals."""

import numpy as np
import pytest
import torch
from bad_files import coded, picture, png_of
from PIL import Image, ImageSequence
from tiny_upsampler import tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.images import from_uint8, read_recipe, save_png, to_uint8
from workbench.pipeline import Stopped, Upscaler, remake
from workbench.pipeline.picture_files import load_tensor
from workbench.pipeline.upscale_drawn import draw_to_folder
from workbench.pipeline.upscale_files import Job, upscale_file, upscale_folder


@pytest.fixture
def up(text_encoder):
    return Upscaler(tiny_upsampler(2), text_encoder, {"name": "tiny-up2"})


def put(path, image, kind="PNG", **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coded(image, kind, **settings))
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# --- one picture ---


def test_a_picture_becomes_a_png_that_can_be_made_again(tmp_path, up, job):
    source = put(tmp_path / "a.png", picture(1))
    path, warnings = upscale_file(source, tmp_path / "out", job)
    assert path == tmp_path / "out" / "a.png" and warnings == []
    expected = up(from_uint8(pixels(source)[None]), "white dog").images
    assert np.array_equal(pixels(path), to_uint8(expected)[0])
    assert remake(path, None, upscalers=[up], picture=load_tensor(source)).verdict == "identical"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.png"]


def test_every_colour_model_is_read_as_eight_bit_srgb(tmp_path, job):
    grey = picture(2).convert("L")
    sixteen = Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40))
    sources = {
        "grey.png": (grey, "PNG"),
        "bitmap.png": (grey.convert("1"), "PNG"),
        "palette.png": (picture(3).quantize(9), "PNG"),
        "inks.jpg": (picture(4).convert("CMYK"), "JPEG"),
        "sixteen.png": (sixteen, "PNG"),
        "photo.jpg": (picture(5), "JPEG"),
        "still.webp": (picture(6), "WEBP"),
        "still.gif": (picture(7), "GIF"),
        "one.png": (picture(8, 1, 1), "PNG"),
    }
    for name, (image, kind) in sources.items():
        path, _ = upscale_file(put(tmp_path / name, image, kind), tmp_path / "out" / f"{name}.png", job)
        with Image.open(path) as made:
            assert made.mode == "RGB" and made.size == (2 * image.width, 2 * image.height)


def test_transparency_is_kept(tmp_path, up, job):
    clear = picture(9).convert("RGBA")
    ramp = np.tile(np.linspace(0, 255, clear.width).astype(np.uint8), (clear.height, 1))
    clear.putalpha(Image.fromarray(ramp))
    path, _ = upscale_file(put(tmp_path / "clear.png", clear), tmp_path / "out", job)
    with Image.open(path) as made:
        assert made.mode == "RGBA"
        alpha = np.asarray(made.getchannel("A")).astype(int)
    assert alpha.shape == (2 * clear.height, 2 * clear.width)
    assert alpha[:, 0].max() < 8 and alpha[:, -1].min() > 247 and (np.diff(alpha, axis=1) >= 0).all()
    source = load_tensor(tmp_path / "clear.png")
    assert remake(path, None, upscalers=[up], picture=source).verdict == "identical"
    palette = picture(9).quantize(4)
    path, _ = upscale_file(put(tmp_path / "p.png", palette, transparency=1), tmp_path / "out", job)
    with Image.open(path) as made:
        assert made.mode == "RGBA"


def test_a_turned_photo_is_enlarged_upright(tmp_path, job):
    turned = Image.Exif()
    turned[0x0112] = 6
    path, _ = upscale_file(
        put(tmp_path / "t.jpg", picture(1, 60, 40), "JPEG", exif=turned), tmp_path / "out", job
    )
    with Image.open(path) as made:
        assert made.size == (80, 120)


@pytest.mark.parametrize(("suffix", "kind"), [("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG")])
def test_an_animation_stays_one(tmp_path, job, suffix, kind):
    frames = [picture(seed) for seed in (10, 11, 12)]
    source = put(
        tmp_path / f"m.{suffix}", frames[0], kind, save_all=True, append_images=frames[1:],
        duration=[50, 100, 200], **({"lossless": True} if kind == "WEBP" else {}),
    )  # fmt: skip
    told = []
    path, _ = upscale_file(source, tmp_path / "out", job, lambda *at: told.append(at))
    assert path.name == f"m.{suffix}" and told == [(1, 3), (2, 3), (3, 3)]
    with Image.open(path) as made:
        assert made.n_frames == 3 and made.size == (80, 80)
        times = []
        for frame in ImageSequence.Iterator(made):
            frame.load()  # WebP knows the time of a frame once it is decoded
            times.append(frame.info["duration"])
    assert times == [50, 100, 200]


def test_equal_frames_stay_equal(tmp_path, job):
    """One seed for every frame: what stands still does not flicker."""
    still, other = picture(1), picture(2)
    source = put(tmp_path / "m.png", still, save_all=True, append_images=[other, still], duration=100)
    path, _ = upscale_file(source, tmp_path / "out", job)
    with Image.open(path) as made:
        seen = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(made)]
    assert np.array_equal(seen[0], seen[2]) and not np.array_equal(seen[0], seen[1])


def test_pages_of_a_tiff_are_no_animation(tmp_path, job):
    source = put(tmp_path / "p.tif", picture(1), "TIFF", save_all=True, append_images=[picture(2)])
    path, warnings = upscale_file(source, tmp_path / "out", job)
    assert path.name == "p.png" and "holds 2 pictures: the first" in warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "cannot be enlarged .it is empty"),
        ("text.png", b"not a picture", "it is text"),
        ("half.png", coded(picture(), "PNG")[:60], "cannot be enlarged"),
        ("half.jpg", coded(picture(), "JPEG")[:300], "cannot be enlarged"),
        ("none.png", png_of(0, 40), "cannot be enlarged"),
        ("huge.png", png_of(9_000, 9_000, depth=1, colour=0), "18000 × 18000 px at factor 2, which take"),
        ("bomb.png", png_of(60_000, 60_000, depth=1, colour=0), "million pixels"),
    ],
)
def test_what_is_no_whole_picture_is_refused_and_nothing_written(tmp_path, job, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkbenchError, match=words):
        upscale_file(tmp_path / name, tmp_path / "out", job)
    assert not (tmp_path / "out").exists()


def test_a_long_animation_is_refused_before_it_is_decoded(tmp_path, job, monkeypatch):
    frames = [picture(seed) for seed in range(4)]
    source = put(tmp_path / "m.gif", frames[0], "GIF", save_all=True, append_images=frames[1:])
    monkeypatch.setattr("workbench.pipeline.picture_files.MOST_PIXELS", 4 * 80 * 80 - 1)
    with pytest.raises(WorkbenchError, match=r"4 frames become .* Make it a film"):
        upscale_file(source, tmp_path / "out", job)


def test_files_that_are_there_stay(tmp_path, up, job):
    source = put(tmp_path / "a.png", picture(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a.png is already there: add --overwrite"):
        upscale_file(source, tmp_path / "out", job)
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    again = Job(upscalers=[up], prompt="white dog", overwrite=True)
    assert pixels(upscale_file(source, tmp_path / "out", again)[0]).shape == (80, 80, 3)


def test_the_picture_itself_is_never_written_over(tmp_path, up):
    source = put(tmp_path / "p.png", picture(1))
    before = source.read_bytes()
    for out in (tmp_path, source):
        with pytest.raises(WorkbenchError, match="is the picture itself"):
            upscale_file(source, out, Job(upscalers=[up], overwrite=True))
    assert source.read_bytes() == before


def test_only_endings_that_are_written_are_taken(tmp_path, job):
    source = put(tmp_path / "a.png", picture(1))
    with pytest.raises(WorkbenchError, match=r"has the ending .jpg: a picture is written as .png"):
        upscale_file(source, tmp_path / "b.jpg", job)
    assert upscale_file(source, tmp_path / "deep" / "b.png", job)[0].is_file()


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, job, monkeypatch):
    source = put(tmp_path / "a.png", picture(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match=r"Cannot write into .*file"):
        upscale_file(source, tmp_path / "file" / "out", job)
    monkeypatch.setattr("os.access", lambda *at: False)
    with pytest.raises(WorkbenchError, match=r"may not be written to"):
        upscale_file(source, tmp_path / "out", job)


def test_a_full_disk_leaves_no_half_file(tmp_path, job, largest_file):
    source = put(tmp_path / "a.png", picture(1))
    with largest_file(500), pytest.raises(OSError, match=r"Cannot write"):
        upscale_file(source, tmp_path / "out", job)
    assert list((tmp_path / "out").iterdir()) == []


# --- prompts ---


def test_a_prompt_is_looked_for_beside_a_picture_and_in_it(tmp_path, up, job):
    drawn = {"kind": "gan", "prompt": "black shepherd", "seed": 1}
    plain, told, own = (tmp_path / name for name in ("plain.png", "told.png", "own.png"))
    for path, recipe in ((plain, None), (told, drawn), (own, drawn)):
        save_png(picture(1), path, recipe)
    (tmp_path / "told.txt").write_text("a dog on the beach\n")
    wordless = Job(upscalers=[up])
    prompts = {
        path: read_recipe(upscale_file(path, tmp_path / "out", wordless)[0])["prompt"]
        for path in (plain, told, own)
    }
    assert list(prompts.values()) == ["a dog", "a dog on the beach", "black shepherd"]
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "plain.png", "text": "snow dog"}\n')
    path, _ = upscale_file(plain, tmp_path / "out2", wordless)
    assert read_recipe(path)["prompt"] == "snow dog"
    assert read_recipe(upscale_file(own, tmp_path / "out3", job)[0])["prompt"] == "white dog"


# --- a folder ---


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "in"
    put(folder / "a.png", picture(1))
    put(folder / "sub" / "b.jpg", picture(2), "JPEG")
    put(folder / "sub" / "c.webp", picture(3), "WEBP")
    (folder / "sub" / "b.txt").write_text("black shepherd")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "snow"}\n')
    (folder / "notes.md").write_text("not a picture")
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_places_and_captions(tree, tmp_path, up):
    told = []
    report = upscale_folder(tree, tmp_path / "out", Job(upscalers=[up]), lambda *at: told.append(at))
    assert names(tmp_path / "out") == ["a.png", "sub/b.png", "sub/c.png"]
    assert len(report.done) == 3 and not report.failed and told[-1] == (3, 3, "")
    prompts = {path.stem: read_recipe(path)["prompt"] for path in report.done}
    assert prompts == {"a": "snow", "b": "black shepherd", "c": "a dog"}


def test_the_same_line_again_goes_on_with_the_rest(tree, tmp_path, up):
    job, out = Job(upscalers=[up, up]), tmp_path / "out"
    upscale_folder(tree, out, job)
    (out / "sub" / "b.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    report = upscale_folder(tree, out, job)
    assert [path.name for path in report.done] == ["b.png"] and len(report.kept) == 2 and not report.other
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize(
    "change", ["seed", "noise", "prompt", "passes", "model", "picture", "foreign", "broken"]
)
def test_what_was_made_otherwise_is_told_and_stays(tree, tmp_path, up, text_encoder, change):
    out, settings = tmp_path / "out", {"upscalers": [up], "prompt": "white dog"}
    upscale_folder(tree, out, Job(**settings))
    other = Upscaler(tiny_upsampler(2, seed=9), text_encoder)
    changes = {
        "seed": {"seed": 1},
        "noise": {"noise": 0.1},
        "prompt": {"prompt": "black dog"},
        "passes": {"upscalers": [up, up]},
        "model": {"upscalers": [other]},
    }
    if change == "picture":
        put(tree / "a.png", picture(77))
    elif change == "foreign":
        put(out / "a.png", picture(77))
    elif change == "broken":
        (out / "a.png").write_bytes(b"half")
    kept = (out / "a.png").read_bytes()
    report = upscale_folder(tree, out, Job(**(settings | changes.get(change, {}))))
    assert (out / "a.png") in report.other and not report.done
    assert (out / "a.png").read_bytes() == kept
    report = upscale_folder(tree, out, Job(**(settings | changes.get(change, {})), overwrite=True))
    assert len(report.done) == 3 and not report.other


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
@pytest.mark.parametrize("change", ["nothing", "seed", "later frame", "broken"])
def test_an_animation_that_is_there_counts_only_if_made_so(tmp_path, up, suffix, change):
    def source(last):
        frames, kind = [picture(1), picture(2), picture(last)], suffix.upper()
        lossless = {"lossless": True} if suffix == "webp" else {}
        put(
            tmp_path / "in" / f"m.{suffix}",
            frames[0],
            kind,
            save_all=True,
            append_images=frames[1:],
            **lossless,
        )

    source(3)
    made = tmp_path / "out" / f"m.{suffix}"
    assert upscale_folder(tmp_path / "in", tmp_path / "out", Job(upscalers=[up, up])).done == [made]
    if change == "later frame":
        source(4)
    elif change == "broken":
        made.write_bytes(b"half")
    job = Job(upscalers=[up, up], seed=int(change == "seed"))
    report = upscale_folder(tmp_path / "in", tmp_path / "out", job)
    assert not report.done and (report.kept, report.other)[change != "nothing"] == [made]
    assert read_recipe(made) is None if suffix == "png" and change != "broken" else True


def test_a_name_too_long_does_not_stop_the_rest(tree, tmp_path, up):
    put(tree / f"{'x' * 246}.png", picture(4))  # beside it no mark would fit, and none is needed
    put(tree / f"{'y' * 250}.jpg", picture(5), "JPEG")
    put(tree / f"{'y' * 250}.png", picture(6))  # two of one stem: both keep their endings, which is too long
    report = upscale_folder(tree, tmp_path / "out", Job(upscalers=[up]))
    assert len(report.done) == 4 and len(report.failed) == 2
    assert all("name is too long" in why or "File name too long" in why for why in report.failed.values())


def test_one_broken_picture_does_not_stop_the_rest(tree, tmp_path, job):
    (tree / "sub" / "broken.png").write_bytes(b"")
    (tree / "gone.png").symlink_to("nowhere")
    report = upscale_folder(tree, tmp_path / "out", job)
    assert len(report.done) == 3
    assert set(report.failed) == {"sub/broken.png", "gone.png"} and "empty" in report.failed["sub/broken.png"]


def test_pictures_of_one_name_do_not_write_over_each_other(tree, tmp_path, job):
    put(tree / "a.jpg", picture(5), "JPEG")
    report = upscale_folder(tree, tmp_path / "out", job)
    assert {"a.png.png", "a.jpg.png"} <= {path.name for path in report.done}
    assert len(upscale_folder(tree, tmp_path / "out", job).kept) == 4


def test_stop_and_ctrl_c_leave_whole_files(tree, tmp_path, up):
    out, calls = tmp_path / "out", []

    def interrupt():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return False

    put(tree / "sub" / "b.jpg", picture(2, 600, 20), "JPEG")
    job = Job(upscalers=[up], tile=32, stop=interrupt)
    with pytest.raises(KeyboardInterrupt):
        upscale_folder(tree, out, job)
    assert all(Image.open(out / name).load() for name in names(out))
    with pytest.raises(Stopped):
        upscale_folder(tree, out, Job(upscalers=[up], tile=32, stop=lambda: True, overwrite=True))
    report = upscale_folder(tree, out, Job(upscalers=[up], tile=32))
    assert len(report.done) + len(report.kept) == 3 and report.done


def test_folders_that_cannot_be_are_refused(tree, tmp_path, job):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match=r"holds no pictures"):
        upscale_folder(tmp_path / "empty", tmp_path / "out", job)
    with pytest.raises(WorkbenchError, match=r"is a file, and .* holds many"):
        upscale_folder(tree, tmp_path / "file", job)
    for inside in (tree, tree / "out"):
        with pytest.raises(WorkbenchError, match=r"lies inside"):
            upscale_folder(tree, inside, job)
    with pytest.raises(WorkbenchError, match=r"Cannot write into"):
        upscale_folder(tree, tmp_path / "file" / "out", job)


# --- drawn ---


def test_what_a_model_draws_is_enlarged_and_made_again(pipe, up, tmp_path):
    job = Job(upscalers=[up, up], prompt="white dog", seed=4, noise=0.1)
    saved = draw_to_folder(pipe, tmp_path / "out", job, 2)
    assert [path.name for path in saved.paths] == ["white-dog-4.png", "white-dog-5.png"]
    assert remake(saved.paths[1], pipe, upscalers=[up]).verdict == "identical"
    again = draw_to_folder(pipe, tmp_path / "out", job)
    assert again.paths[0].name == "white-dog-4-2.png"
    with pytest.raises(WorkbenchError, match=r"The prompt is empty"):
        draw_to_folder(pipe, tmp_path / "out", Job(upscalers=[up], prompt=""))
    assert torch.is_inference_mode_enabled() is False
