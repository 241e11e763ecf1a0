"""One model, one job at a time, a stop that stops, and one sentence for what is missing."""

import gradio as gr
import numpy as np
import pytest

from workbench.app import create, create_back, repeat
from workbench.app.jobs import CHUNK, CLIP, KEPT_JOBS, Studio, check_best_of, check_count, in_words
from workbench.errors import WorkbenchError
from workbench.images import open_picture, read_recipe, save_png, to_uint8
from workbench.noise import MAX_SEED
from workbench.pipeline import Pipeline
from workbench.pipeline.choosing import STRIDE


@pytest.fixture
def studio(model_folder, tmp_path) -> Studio:
    return Studio(str(model_folder), tmp_path / "pictures")


def pixels(path) -> np.ndarray:
    with open_picture(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_pictures_are_those_of_the_pipeline(studio, model_folder):
    steps = list(studio.generate("a white dog", 5, CHUNK + 2, 0.5))
    assert [len(step.files) for step in steps] == [CHUNK, CHUNK + 2] and steps[-1].done
    expected = Pipeline.from_pretrained(model_folder)("a white dog", seed=5, count=CHUNK + 2, truncation=0.5)
    for path, array in zip(steps[-1].files, to_uint8(expected.images), strict=True):
        assert np.array_equal(pixels(path), array)
    assert [read_recipe(path)["seed"] for path in steps[-1].files] == list(steps[-1].seeds) == [*range(5, 11)]


def test_the_best_of_some_candidates(tmp_path):
    """With the model that ships: its CLIP is beside it. The page, Python and the shell agree."""
    shipped = Studio(str(CLIP.parent / "shepherd-64"), tmp_path)
    *_, last = shipped.generate("a white dog lying in the snow", 7, 2, 1.0, 3)
    assert last.done and last.of == 3 and len(last.files) == 2
    for k, (path, seed) in enumerate(zip(last.files, last.seeds, strict=True)):
        recipe = read_recipe(path)
        assert recipe["seed"] == seed and (seed - 7 - k) % STRIDE == 0
        assert (recipe["chosen"]["of"], recipe["chosen"]["first_seed"]) == (3, 7 + k)
        assert shipped.remake(path)[0].verdict == "identical"
    scope = {}
    exec(repeat.python_line(shipped.model, "a white dog lying in the snow", 7, 2, 1.0, 3), scope)
    assert scope["samples"].seeds == list(last.seeds)
    assert "each the best of 3," in create.progress_html(last, "cpu")
    assert "--best-of 3 " in repeat.shell_line("m", "a dog", 7, 2, 1.0, 3)


def test_a_model_whose_words_no_clip_here_knows(studio):
    with pytest.raises(WorkbenchError, match="No CLIP here reads prompts as"):
        list(studio.generate("a white dog", 0, 1, 1.0, 2))


@pytest.mark.parametrize("of", [0, 9, 2.5, True, "4", float("nan"), None])
def test_a_choice_that_the_page_cannot_make_is_refused(studio, of):
    with pytest.raises(WorkbenchError, match="expected a whole number from 1 to 8"):
        next(create.generate(studio, "a dog", 0, 1, 1.0, of))
    assert check_best_of(4.0) == 4


def test_a_stop_ends_the_job_between_pictures(studio):
    job = studio.generate("a white dog", 0, 16, 1.0, visitor="one")
    next(job)
    assert studio.stop("other") is False and studio.stop("one") is True
    (last,) = job
    assert last.stopped and last.done and len(last.files) == CHUNK  # said, not only done
    assert studio.stop("one") is False  # nothing is left running


def test_closing_the_page_ends_the_job(studio):
    job = studio.generate("a white dog", 0, 16, 1.0, visitor="one")
    next(job)
    job.close()
    assert studio.stop("one") is False


def test_old_pictures_are_cleared_away(studio):
    for k in range(KEPT_JOBS + 3):
        list(studio.generate("a dog", k, 1, 1.0))
    assert len(list(studio.work.iterdir())) == KEPT_JOBS


@pytest.mark.parametrize("count", [0, 17, 10_000, 2.5, -1, True, "4", float("nan"), float("inf"), None])
def test_a_count_that_the_page_cannot_show_is_refused(count):
    with pytest.raises(WorkbenchError, match="expected a whole number from 1 to 16"):
        check_count(count)
    assert check_count(4.0) == 4


def test_a_missing_model_says_what_to_do_and_is_found_when_it_comes(tmp_path, model_folder):
    studio = Studio(str(tmp_path / "later"), tmp_path / "pictures")
    assert "make demo-models" in studio.trouble() and not studio.ready
    Pipeline.from_pretrained(model_folder).save_pretrained(tmp_path / "later")
    assert studio.trouble() is None and studio.facts().name == "tiny"


def test_a_broken_model_is_told_in_the_pipelines_words(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    assert "half copied" in Studio(str(tmp_path / "half"), tmp_path / "pictures").trouble()


def test_mistakes_become_notices_and_bugs_do_not():
    @in_words
    def mistaken() -> None:
        raise WorkbenchError("Give a number.")

    @in_words
    def drawing():
        yield 1
        raise OSError("Disk full.")

    @in_words
    def broken() -> None:
        raise KeyError("bug")

    with pytest.raises(gr.Error, match="Give a number"):
        mistaken()
    steps = drawing()
    assert next(steps) == 1
    with pytest.raises(gr.Error, match="Disk full"):
        next(steps)
    with pytest.raises(KeyError):
        broken()


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "seven", str(2**63)])
def test_a_bad_seed_is_refused_before_any_work(studio, seed):
    with pytest.raises(WorkbenchError, match="seed"):
        next(create.generate(studio, "a dog", seed, 1, 1.0))
    assert not studio.ready


def test_a_job_that_would_pass_the_largest_seed_draws_nothing(studio):
    with pytest.raises(WorkbenchError, match="go beyond the largest seed"):
        next(studio.generate("a dog", MAX_SEED - CHUNK, CHUNK + 2, 1.0, visitor="one"))
    assert not studio.work.exists() and studio.stop("one") is False
    last = list(studio.generate("a dog", MAX_SEED - 1, 2, 1.0))[-1]
    assert last.seeds == (MAX_SEED - 1, MAX_SEED)


def test_a_dropped_picture_is_made_again(studio, tmp_path):
    (made,) = list(studio.generate("a black dog in the snow", 9, 1, 0.7))[-1].files
    remade, again = studio.remake(made)
    assert remade.verdict == "identical" and np.array_equal(pixels(made), pixels(again))
    assert "<b>Identical</b>. Every pixel is the same." in create_back.verdict_html(remade)
    edited = pixels(made).copy()
    edited[:8] = 255 - edited[:8]
    save_png(edited, tmp_path / "bare.png")
    with pytest.raises(WorkbenchError, match="no recipe"):
        studio.remake(tmp_path / "bare.png")


def test_the_lines_that_repeat_it_do_repeat_it(studio, model_folder):
    prompt, scope = 'a "white" dog\'s\nsnow $HOME', {}
    exec(repeat.python_line(str(model_folder), prompt, 3, 2, 0.5), scope)
    expected = studio.pipeline()(prompt, seed=3, count=2, truncation=0.5)
    assert np.array_equal(scope["samples"].images, expected.images)


def test_the_shell_line_reaches_the_command_unharmed():
    import shlex

    words = shlex.split(repeat.shell_line("m odel", "it's; rm -rf $HOME", 3, 2, 0.5))
    assert words[:2] == ["workbench", "sample"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--prompt"] == "it's; rm -rf $HOME" and options["--model"] == "m odel"
    assert options["--seed"] == "3" and options["--count"] == "2" and options["--truncation"] == "0.5"
