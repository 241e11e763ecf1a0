"""The parts of notebooks: sizes, small pictures, sliders that are driven from code, and the look at a run."""

import base64
import io

import pytest
import torch
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.images import grid, save_png
from workbench.training.history import History
from workbench.widgets.pictures import TEXT_PX, Film, Picture, plot, sheet, wrap
from workbench.widgets.profile import ASSETS, read_profile
from workbench.widgets.sliders import VIEW, Sliders
from workbench.widgets.watch import Watcher


def stored(picture) -> Image.Image:
    data, _ = picture._repr_mimebundle_()
    (mime,) = [name for name in data if name.startswith("image/")]
    return Image.open(io.BytesIO(base64.b64decode(data[mime])))


# --- profile ---


def test_the_profile_is_that_of_the_environment_and_class_without_one():
    assert read_profile({}).name == "class"
    assert read_profile({"WORKBENCH_PROFILE": ""}).name == "class"
    smoke = read_profile({"WORKBENCH_PROFILE": "smoke"})
    assert smoke.pick(smoke=1, lesson=2, full=3) == 1
    assert str(smoke).startswith("profile smoke: ")


def test_an_unknown_profile_is_refused_with_those_there_are():
    with pytest.raises(WorkbenchError, match="WORKBENCH_PROFILE is 'big': expected smoke, class, full"):
        read_profile({"WORKBENCH_PROFILE": "big"})


def test_the_assets_are_where_the_repository_keeps_them():
    assert (ASSETS / "models" / "mini-clip" / "config.json").is_file()


# --- pictures ---


def test_a_sheet_holds_every_picture_at_its_place():
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    shown = sheet(colours[:, :, None, None].expand(3, 3, 8, 8), 2, "three colours in a sheet", pad=4)
    assert shown.image.size == (8 + 4 + 8, 8 + 4 + 8)
    assert [shown.image.getpixel(at) for at in ((4, 4), (16, 4), (4, 16), (16, 16))] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]  # fmt: skip


def test_words_take_room_beside_the_pictures_and_never_on_them():
    images = torch.ones(4, 3, 16, 16) * -1
    words = {"titles": ["a", "b\nc", "d", "e"], "row_names": ["first", "second"], "column_names": ["x", "y"]}
    plain, worded = sheet(images, 2, "four black squares"), sheet(images, 2, "four black squares", **words)
    assert worded.image.width > plain.image.width + TEXT_PX
    assert worded.image.height > plain.image.height + 5 * TEXT_PX
    black = [sum(worded.image.crop((x, y, x + 16, y + 16)).getextrema()[0]) for x, y in corners(worded.image)]
    assert black == [0, 0, 0, 0]


def corners(image: Image.Image) -> list[tuple[int, int]]:
    """Places of the four squares, counted from the lower right corner."""
    right, low = image.width - 16, image.height - 16
    down = (image.height - (TEXT_PX + 4)) // 2 + 1
    return [(right - 18, low - down), (right, low - down), (right - 18, low), (right, low)]


def test_too_few_words_no_pictures_and_no_alt_are_refused():
    images = torch.zeros(3, 3, 8, 8)
    with pytest.raises(WorkbenchError, match="titles holds 2 texts for 3 places"):
        sheet(images, 3, "three", titles=["a", "b"])
    with pytest.raises(WorkbenchError, match="A sheet of 0 pictures"):
        sheet([], 3, "none")
    with pytest.raises(WorkbenchError, match="differ in size"):
        sheet([Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))], 2, "two")
    with pytest.raises(WorkbenchError, match="give alt"):
        Picture(Image.new("RGB", (4, 4)), " ")


def test_a_picture_is_stored_small_and_shown_large():
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(noise, 9, 1, 4)
    shown = sheet(smooth, 4, "eight smooth pictures", zoom=2)
    data, metadata = shown._repr_mimebundle_()
    assert set(data) == {"image/jpeg", "text/plain"}
    assert metadata["image/jpeg"] == {"width": 2 * shown.image.width, "height": 2 * shown.image.height,
                                      "alt": "eight smooth pictures"}  # fmt: skip
    assert stored(shown).size == shown.image.size
    assert len(shown.data()) < 8_000


def test_a_plot_becomes_one_small_drawing_and_is_closed():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    shown = plot(figure, "a line from corner to corner", colours=16)
    assert stored(shown).mode == "P"
    assert len(shown.data()) < 15_000
    assert figure.number not in plt.get_fignums()


def test_a_film_plays_live_and_has_words(tmp_path):
    file = tmp_path / "film.gif"
    file.write_bytes(b"GIF89a")
    assert Film(file, "a film of dogs")._repr_mimebundle_() == {
        "image/gif": base64.b64encode(b"GIF89a").decode(), "text/plain": "a film of dogs"}  # fmt: skip


def test_wrapped_lines_keep_every_word():
    text = "A picture of an Alsatian with an all-white coat, standing among snowy firs"
    assert " ".join(wrap(text, 120).split("\n")) == text
    assert len(wrap(text, 120).split("\n")) > 2
    assert wrap("unbreakableword", 10) == "unbreakableword"


# --- sliders ---


def level(value: float, tone: str) -> Picture:
    if value > 200:
        raise WorkbenchError(f"value is {value:.0f}: expected at most 200.")
    colour = (int(value),) * 3 if tone == "grey" else (int(value), 0, 0)
    return Picture(Image.new("RGB", (8, 8), colour), "one tone")


def test_moving_a_control_draws_again_and_a_refusal_is_said():
    still = Picture(Image.new("RGB", (8, 8)), "a still square")
    sliders = Sliders(level, still, value=(0, 255, 100), tone=["grey", "red"])

    def pixel() -> tuple[int, ...]:
        return Image.open(io.BytesIO(sliders.picture.value)).getpixel((0, 0))

    assert pixel() == (100, 100, 100)
    sliders.controls["value"].value = 170
    assert pixel() == (170, 170, 170)
    sliders.controls["tone"].value = "red"
    assert pixel() == (170, 0, 0)
    sliders.controls["value"].value = 255
    assert pixel() == (170, 0, 0)
    assert sliders.problem.value == "value is 255: expected at most 200."
    sliders.controls["value"].value = 85
    assert (pixel(), sliders.problem.value) == ((85, 0, 0), "")


def test_without_a_kernel_the_still_picture_stands():
    still = Picture(Image.new("RGB", (8, 8)), "a still square")
    data, _ = Sliders(level, still, value=(0, 200, 5), tone=["grey"])._repr_mimebundle_()
    assert data["text/plain"] == "a still square"
    assert VIEW in data
    assert data["image/jpeg"] == still._repr_mimebundle_()[0]["image/jpeg"]


def test_a_range_that_is_none_is_refused():
    still = Picture(Image.new("RGB", (8, 8)), "a still square")
    with pytest.raises(WorkbenchError, match="value runs from 0 to 1 and starts at 5"):
        Sliders(level, still, value=(0, 1, 5))
    with pytest.raises(WorkbenchError, match="at least one name"):
        Sliders(level, still)


# --- watching ---


def test_a_watcher_follows_the_newest_grid_of_a_run(tmp_path):
    run = tmp_path / "run"
    watcher = Watcher(run, 64, every_s=0.01)
    assert set(watcher._repr_mimebundle_()) == {"text/plain", VIEW}
    with watcher:
        assert watcher.bar.value == 0
        (run / "samples").mkdir(parents=True)
        history = History(run)
        for nimg in (0, 32):
            save_png(grid(torch.full((4, 3, 4, 4), nimg / 64), 2), run / "samples" / f"grid_{nimg:09d}.png")
            history.append({"kind": "sample", "cur_nimg": nimg})
    assert watcher.bar.value == 32
    assert watcher.label.value == "32 of 64 images"
    assert watcher.picture.value == (run / "samples" / "grid_000000032.png").read_bytes()


def test_a_watcher_stops_when_training_fails(tmp_path):
    watcher = Watcher(tmp_path / "run", 64)
    with pytest.raises(WorkbenchError, match="the data set is gone"), watcher:
        raise WorkbenchError("the data set is gone")
    assert not watcher.thread.is_alive()
    assert watcher.picture.value == b""
