"""The Upscale tab without the page: pictures of any kind, results with recipes, tiles, every refusal."""

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.app import create_back, create_large, magnifier, repeat, upscale, upscale_view, upscale_work
from workbench.app import upscale_given as givens
from workbench.app.jobs import Studio
from workbench.app.magnifier import Magnifier
from workbench.errors import WorkbenchError
from workbench.images import open_picture, pixel_hash, read_recipe, to_uint8
from workbench.pipeline import Chain, Pipeline, Upscaler

PROMPT = "a black dog in the snow"


@pytest.fixture(scope="module")
def glass(up_folder, model_folder, tmp_path_factory):
    studio = Studio(str(model_folder), tmp_path_factory.mktemp("work"))
    return Magnifier(str(up_folder), studio)


@pytest.fixture
def no_models(tmp_path):
    """A page whose two models are not there."""
    work = tmp_path / "work"
    return Magnifier(str(tmp_path / "no-up"), Studio(str(tmp_path / "none"), work))


@pytest.fixture
def photo(tmp_path):
    """A picture nobody drew here, 24 × 20."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def drawn(glass, seed=3):
    """A picture of the tiny model as the Create tab writes it."""
    (progress,) = glass.studio.generate(PROMPT, seed, 1, 1.0)
    return str(progress.files[0])


def ask(path, prompt=PROMPT, factor=4, noise=0.0, seed="1", tile=None, **more):
    return upscale_work.asked(path, prompt, factor, noise, seed, tile, **more)


def finished(steps):
    """(everything told on the way, the result)."""
    *told, (what, result) = list(steps)
    assert what == "done"
    return [sentence for _, sentence in told], result


# --- pictures ---


@pytest.mark.parametrize(
    ("mode", "note"),
    [("RGB", ""), ("RGBA", "transparency is kept"), ("P", "a palette"), ("L", "grey"), ("CMYK", "CMYK"),
     ("I;16", "16-bit grey"), ("1", "black and white")],
)  # fmt: skip
def test_any_kind_of_picture_is_taken_and_named(glass, tmp_path, mode, note):
    path = tmp_path / f"picture.{'tif' if mode == 'CMYK' else 'png'}"
    if mode == "I;16":
        Image.fromarray(np.full((9, 12), 40_000, np.uint16)).save(path)
    else:
        Image.new("RGBA", (12, 9), (200, 10, 10, 90)).convert(mode).save(path)
    given = givens.read(path, glass.studio, 4)
    assert (given.width, given.height) == (12, 9) and given.images.shape == (1, 3, 9, 12)
    assert note in " ".join(given.notes) and (given.alpha is not None) == (mode in ("RGBA", "P"))
    assert not given.drawn and "12 × 9 px" in upscale_view.given_html(given)


def test_an_animation_gives_its_first_frame_and_says_so(glass, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    given = givens.read(tmp_path / "moves.gif", glass.studio, 4)
    assert "moves.gif moves: the first of its 2 frames" in given.notes[0]
    assert given.images[0, 0].mean() > 0.9  # red


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.png", b"", "empty.png cannot be enlarged"),
        ("text.png", b"no picture at all", "text.png cannot be enlarged"),
        ("half.png", None, "half.png cannot be enlarged"),
    ],
)
def test_what_is_no_whole_picture_is_refused_without_its_folder(glass, tmp_path, photo, name, data, message):
    whole = (tmp_path / "photo.png").read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if data is None else data)
    with pytest.raises(WorkbenchError, match=message) as caught:
        givens.read(tmp_path / name, glass.studio, 4)
    assert str(tmp_path) not in str(caught.value)


def test_no_picture_a_lost_one_and_a_huge_one_are_refused(glass, tmp_path):
    with pytest.raises(WorkbenchError, match="no picture yet"):
        givens.read(None, glass.studio, 4)
    with pytest.raises(WorkbenchError, match=r"gone\.png is no longer kept here"):
        givens.read(tmp_path / "gone.png", glass.studio, 4)
    Image.new("L", (1200, 1000)).save(tmp_path / "large.png")
    with pytest.raises(WorkbenchError, match=r"16\.8 million pixels \(4096 × 4096\) are made on this page"):
        givens.read(tmp_path / "large.png", glass.studio, 4)
    _, preview, tiles, _ = upscale.shown(glass, str(_saved(tmp_path / "half.png", 600)), 16, None)
    assert "600 × 600 px" in preview and "at factor 16" in tiles  # told at once, and a smaller factor serves
    Image.new("1", (2_100, 2_000)).save(tmp_path / "huge.png")
    with pytest.raises(WorkbenchError, match="at most 64 million pixels"):
        givens.read(tmp_path / "huge.png", glass.studio, 4)


def _saved(path, side):
    Image.new("RGB", (side, side), "green").save(path)
    return path


def test_a_picture_of_the_model_is_drawn_again_and_an_edited_one_is_not(glass, tmp_path):
    path = drawn(glass)
    given = givens.read(path, glass.studio, 4)
    assert given.drawn and (given.prompt, given.recipe["seed"]) == (PROMPT, 3)
    assert torch.equal(given.images, glass.studio.pipeline()(PROMPT, seed=3).images)
    with open_picture(path) as file:
        edited, text = file.convert("RGB"), file.text
    edited.putpixel((0, 0), (1, 2, 3))
    from PIL.PngImagePlugin import PngInfo

    keys = PngInfo()
    for key, value in text.items():
        keys.add_itxt(key, value)
    edited.save(tmp_path / "edited.png", pnginfo=keys)
    again = givens.read(tmp_path / "edited.png", glass.studio, 4)
    assert not again.drawn and again.recipe["pixel_hash"] == pixel_hash(edited) and again.prompt == PROMPT


# --- enlarging ---


def test_a_drawn_picture_is_enlarged_with_its_whole_recipe_and_made_again(glass, model_folder, up_folder):
    told, made = finished(upscale_work.enlarge(glass, ask(drawn(glass), seed="3")))
    assert "Tile 1 of 1" in " ".join(told) and made.size == (128, 128)
    wanted = Chain(Pipeline.from_pretrained(model_folder), Upscaler.from_pretrained(up_folder))(
        PROMPT, seed=3
    )
    with open_picture(made.png) as file:
        assert np.array_equal(np.asarray(file), to_uint8(wanted.images)[0])
    recipe = read_recipe(made.png)
    assert (recipe["kind"], recipe["seed"], recipe["input"]["prompt"]) == ("upscaled", 3, PROMPT)
    assert made.pair[1] == made.png and made.pair[0].name == "bicubic.png"
    assert upscale_work.open_again(glass, made.png, None).verdict == "identical"
    remade, again = create_back.made_again(glass, made.png)
    assert remade.verdict == "identical" and again.is_file()
    said = upscale_view.made_html(made, "cpu")
    assert "32 × 32 → 128 × 128 px" in said and "on this CPU" in said and "memory plan" in said


def test_a_photo_needs_itself_to_be_made_again(glass, photo, tmp_path):
    _, made = finished(upscale_work.enlarge(glass, ask(photo, prompt="", noise=0.1)))
    assert made.size == (96, 80) and "No prompt was given: the upscaler reads" in made.notes[0]
    with pytest.raises(WorkbenchError, match="give that picture, too"):
        upscale_work.open_again(glass, made.png, None)
    with pytest.raises(WorkbenchError, match="another picture than the one given"):
        upscale_work.open_again(glass, made.png, str(_saved(tmp_path / "other.png", 16)))
    assert upscale_work.open_again(glass, made.png, photo).verdict == "identical"
    with pytest.raises(WorkbenchError, match="carries no recipe"):
        upscale_work.open_again(glass, photo, photo)
    with pytest.raises(WorkbenchError, match="the Create tab makes it again"):
        upscale_work.open_again(glass, drawn(glass), None)


def test_transparency_is_kept_and_the_slider_lies_on_white(glass, tmp_path):
    Image.new("RGBA", (10, 6), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    _, made = finished(upscale_work.enlarge(glass, ask(str(tmp_path / "clear.png"))))
    with Image.open(made.png) as file:
        assert file.mode == "RGBA" and file.getchannel("A").getextrema() == (0, 0)
    for path in made.pair:
        with Image.open(path) as file:
            assert file.convert("RGB").getextrema() == ((255, 255),) * 3


def test_a_large_picture_shows_its_middle_and_is_whole_in_the_file(glass, photo, monkeypatch):
    monkeypatch.setattr(upscale_work, "SHOWN_SIDE", 64)
    _, made = finished(upscale_work.enlarge(glass, ask(photo)))
    assert "the middle 64 × 64 px" in made.notes[-1]
    sizes = []
    for path in (*made.pair, made.png):
        with Image.open(path) as file:
            sizes.append(file.size)
    assert sizes == [(64, 64), (64, 64), (96, 80)]


def test_stop_ends_between_two_tiles_and_keeps_nothing(glass, tmp_path):
    path = str(_saved(tmp_path / "wide.png", 96))
    before = set(glass.studio.work.rglob("*.png"))
    seen = []
    for what, value in upscale_work.enlarge(glass, ask(path, tile="16"), "someone"):
        seen.append((what, value))
        if what == "told" and "Tile" in value:
            assert glass.stops.stop("someone")
    assert seen[-1] == ("stopped", None) and "of 36" in seen[-2][1]
    assert set(glass.studio.work.rglob("*.png")) == before and not glass.stops.stop("someone")


def test_a_factor_between_the_powers_is_drawn_larger_and_brought_down(glass, photo):
    assert glass.factors() == [2, 4, 8, 16]
    _, made = finished(upscale_work.enlarge(glass, ask(photo, factor=8)))
    assert made.size == (8 * made.given.width, 8 * made.given.height)
    assert [(one.factor, one.cells) for one in made.passes] == [(4, 1), (2, 2)]
    assert any("mean of each 2 × 2 pixels" in note for note in made.notes)
    tiles = upscale_view.tiles_html(made.given, made.passes)
    assert tiles.count("Of each 2 × 2 pixels that are drawn the mean is kept") == 2  # label and caption
    assert read_recipe(made.png)["cells"] == 2
    assert upscale_work.open_again(glass, made.png, photo).verdict == "identical"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 3}, "a factor of 3 cannot be made exactly. Choose one of 2, 4, 8, 16"),
        ({"noise": 3}, "The noise is 3"),
        ({"noise": None}, "The noise is None"),
        ({"tile": "8"}, "The tile is 8"),
        ({"path": None}, "There is no picture yet"),
    ],
)
def test_a_mistake_is_one_sentence(glass, photo, change, message):
    with pytest.raises(WorkbenchError, match=message):
        list(upscale_work.enlarge(glass, ask(**{"path": photo, **change})))


@pytest.mark.parametrize(
    ("seed", "tile", "message"),
    [("-1", None, "negative"), ("1", "big", "The tile is"), ("1", "²", "The tile is '²'")],
)
def test_a_field_that_is_no_number_is_one_sentence(photo, seed, tile, message):
    with pytest.raises(WorkbenchError, match=message):
        ask(photo, seed=seed, tile=tile)


def test_unknown_words_are_marked_before_and_named_after(glass, photo):
    glass.upscaler()
    assert "zebra" in upscale.reading(glass, "a zebra") and "unknown" in upscale.reading(glass, "a zebra")
    assert "Without a prompt the model reads “a dog”" in upscale.reading(glass, " ")
    _, made = finished(upscale_work.enlarge(glass, ask(photo, prompt="a white zebra")))
    assert any("zebra" in note for note in made.notes) and "zebra" in upscale_view.made_html(made, "cpu")


# --- tiles, prompts, AuraSR ---


def test_the_tile_view_says_what_is_exact_and_what_is_blended(glass, monkeypatch):
    (whole,) = upscale_work.plans(glass, 40, 48, ask("x"))
    assert whole.pieces == 1 and upscale_view.tiles_said(whole).startswith("Exact.")
    (cut,) = upscale_work.plans(glass, 40, 48, ask("x", tile="16"))
    assert cut.pieces == len(
        cut.boxes
    ) == 9 and "in 9 tiles: each to the last pixel" in upscale_view.tiles_said(cut)
    assert cut.drawn < whole.drawn and cut.seen == whole.seen
    assert len(upscale_work.plans(glass, 8, 8, ask("x", factor=16))) == 2
    monkeypatch.setattr(glass.upscaler(), "trunk_bytes", 100_000)
    (blended,) = upscale_work.plans(glass, 40, 100, ask("x"))
    assert blended.cut.network == 32 and "overlap by 8 px" in upscale_view.tiles_said(blended)
    assert min(box[0] for box in blended.boxes) == 0 and max(box[2] for box in blended.boxes) == 100


def test_tiles_are_drawn_over_the_picture(glass, photo):
    given = givens.read(photo, glass.studio, 4)
    page = upscale_view.tiles_html(given, upscale_work.plans(glass, 20, 24, ask("x", tile="16")))
    assert page.count("<rect") == 2 * 4 and 'viewBox="0 0 24 20"' in page and "<b>Exact.</b>" in page


def test_two_prompts_differ_and_the_same_two_are_refused(glass, photo):
    told, page = finished(upscale_work.two_prompts(glass, ask(photo), "a white dog at night"))
    assert "Prompt 2: Tile 1 of 1" in told[-1] and page.count("<img") == 3
    assert "only the words differ" in page and "a white dog at night" in page
    with pytest.raises(WorkbenchError, match="Both prompts are read as"):
        list(upscale_work.two_prompts(glass, ask(photo), f"  {PROMPT} "))


def test_two_prompts_take_the_middle_of_a_large_picture(glass, tmp_path, monkeypatch):
    monkeypatch.setattr(upscale_work, "PAIR_SIDE", 16)
    _, page = finished(
        upscale_work.two_prompts(glass, ask(str(_saved(tmp_path / "wide.png", 40))), "a white dog")
    )
    assert "The middle 16 × 16 px" in page


def test_aura_sr_is_asked_for_only_where_it_is_at_hand(glass, photo, monkeypatch):
    monkeypatch.setattr(magnifier, "aura_folder", lambda: None)
    _, made = finished(upscale_work.enlarge(glass, ask(photo, aura=True)))
    assert made.aura is None and magnifier.NO_AURA in made.notes
    monkeypatch.setattr(glass, "aura", glass.upscaler)  # anything that enlarges four times
    told, made = finished(upscale_work.enlarge(glass, ask(photo, aura=True)))
    assert made.aura[0].name == "photo-4x-aura-sr.png" and "AuraSR: Tile 1 of 1" in " ".join(told)
    assert read_recipe(made.aura[0])["kind"] == "upscaled" and "AuraSR" in upscale_view.made_html(made, "cpu")


# --- the second size of Create ---


def test_each_picture_of_create_is_enlarged_with_its_own_seed(glass, model_folder, up_folder):
    files = [drawn(glass, seed) for seed in (3, 4)]
    _, last = finished(create_large.enlarged(glass, files))
    assert len(last.files) == last.wanted == 2 and last.side == 128
    assert [path.name for path in last.files] == [f"a-black-dog-in-the-snow-{k}-128px.png" for k in (3, 4)]
    wanted = Chain(Pipeline.from_pretrained(model_folder), Upscaler.from_pretrained(up_folder))(
        PROMPT, seed=4
    )
    with open_picture(last.files[1]) as file:
        assert np.array_equal(np.asarray(file), to_uint8(wanted.images)[0])
    pictures = [(file, f"seed {seed}") for file, seed in zip(files, (3, 4), strict=True)]
    gallery, small, said, offered = create_large.Large(glass).shown(pictures, last, True)
    assert [path for path, _ in gallery] == [str(path) for path in last.files]
    assert small["value"] == pictures and "at 128 px" in said
    assert offered["label"] == "Download 128 px, seed 3"


# --- without models; lines that repeat ---


def test_a_missing_upscaler_is_one_sentence_and_hides_the_second_size(no_models):
    assert no_models.absent and "workbench app --upscaler DIR" in no_models.trouble()
    with pytest.raises(WorkbenchError, match="There is no upscaler at"):
        no_models.factors()
    assert "No upscaler yet" in upscale_view.missing_html(no_models.trouble())
    assert [part["visible"] for part in create_large.Large(no_models).opened()] == [False, False]
    assert upscale.reading(no_models, "a dog") == ""


def test_pictures_of_ones_own_need_no_model_that_draws(up_folder, tmp_path, photo):
    glass = Magnifier(str(up_folder), Studio(str(tmp_path / "none"), tmp_path / "work"))
    _, made = finished(upscale_work.enlarge(glass, ask(photo)))
    assert made.size == (96, 80)


def test_the_lines_that_repeat_it_make_the_same_picture(glass, up_folder, model_folder):
    path = drawn(glass)
    request = ask(path, seed="3", noise=0.1)
    _, made = finished(upscale_work.enlarge(glass, request))
    line = repeat.upscale_python(glass.model, glass.studio.model, request, made.given)
    room = {}
    exec(line, room)
    with open_picture(made.png) as file:
        assert np.array_equal(np.asarray(file), to_uint8(room["made"].images)[0])
    assert f"--from {model_folder}" in repeat.upscale_shell(
        glass.model, glass.studio.model, request, made.given
    )


def test_the_line_for_a_photo_reads_the_file(glass, photo):
    given = givens.read(photo, glass.studio, 4)
    request = ask(photo, tile="16")
    assert 'load_tensor(Path("photo.png"))' in repeat.upscale_python("up", "base", request, given)
    assert repeat.upscale_shell("up", "base", request, given).startswith(
        "workbench upscale photo.png --model up"
    )


def test_aura_sr_is_found_in_its_folder_with_its_package_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / magnifier.AURA_FOLDER
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"")
    for package, found in ((None, False), (object(), True)):
        monkeypatch.setattr(magnifier.importlib.util, "find_spec", lambda name, package=package: package)
        assert (magnifier.aura_folder() is not None) == found
