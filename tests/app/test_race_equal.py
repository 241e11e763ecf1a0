"""Equal quality: the fewest measured steps that reach the GAN in both, or one sentence that says why not."""

import json

import pytest
from tiny_diffusion import tiny_diffusion

from workbench.app.jobs import Studio
from workbench.app.race_equal import needed, of_result
from workbench.app.race_lanes import Track
from workbench.app.race_run import MOST_STEPS
from workbench.diffusion.entrants import RESULTS
from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline


def row(kind, steps=1, *, ratio=2.0, right=0.9, weights="x", **settings):
    settings = settings or {"sampler": "dpm++", "guidance": 2.0}
    return {
        "kind": kind, "steps": steps, "ms": 10.0 * steps, "ratio": ratio, "all": right, "weights": weights,
        "settings": settings if kind == "diffusion" else {},
    }  # fmt: skip


def result(*rows):
    return {"n": 2000, "lanes": list(rows)}


def test_the_fewest_steps_that_reach_both_with_the_settings_that_they_were_measured_at():
    rows = [
        row("diffusion", 4, ratio=1.5, right=0.85), row("diffusion", 16, ratio=1.2, right=0.97),
        row("diffusion", 8, ratio=1.9, right=0.95, sampler="ddim", guidance=3.0),
    ]  # fmt: skip
    found = of_result(result(row("gan"), *rows))
    assert (found.steps, found.sampler, found.guidance) == (8, "ddim", 3.0)
    assert found.said == (
        "At 8 steps the diffusion model is as good as the GAN or better, as far as can be told: 1.90 times "
        "the floor away from renders against 2.00, all four factors right in 95.0% against 90.0%, by 2,000 "
        "pictures of each."
    )


def test_the_quicker_of_two_guidances_counts():
    plain = row("diffusion", 8, ratio=1.4, right=0.92, sampler="dpm++", guidance=1.0) | {"ms": 40.0}
    rows = [row("diffusion", 8, ratio=1.5, right=0.95), plain]
    found = of_result(result(row("gan"), *rows))
    assert (found.steps, found.guidance) == (8, 1.0)
    assert found.said.startswith("At 8 steps without guidance the diffusion model")
    assert "numbers of steps (8) is" in of_result(result(row("gan", right=1.0), *rows)).said


def test_nothing_is_set_where_no_number_of_steps_is_enough():
    rows = [row("diffusion", 8, ratio=1.5, right=0.8), row("diffusion", 2, ratio=3.0, right=0.99)]
    found = of_result(result(row("gan"), *rows))
    assert found.steps is None and "At none of the measured numbers of steps (2, 8)" in found.said
    assert "diffusion comes to 1.50 and to 99.0% at its best" in found.said


def test_more_steps_than_the_slider_has_are_told_and_not_set():
    found = of_result(result(row("gan"), row("diffusion", MOST_STEPS + 1)))
    assert found.steps is None and found.said.startswith(f"At {MOST_STEPS + 1} steps")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.diffusion.entrants.ROOT", tmp_path)  # what ships is not here
    return tmp_path


def write(place, *rows):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(result(*rows)))


def test_only_a_race_of_these_very_models_counts(here, model_folder):
    studio = Studio(str(model_folder), here)
    assert "workbench diffusion train" in needed(Track(studio)).said
    teacher = tiny_diffusion()
    teacher.save_pretrained(here / "teacher")
    track = Track(studio, str(here / "teacher"))
    assert (
        "has not been measured" in needed(track).said
        and f"--diffusion {here / 'teacher'}" in needed(track).said
    )
    gan = Pipeline.from_pretrained(model_folder).weight_hash
    shipped, own = RESULTS
    write(shipped, row("gan", weights=gan), row("diffusion", 2, weights="another"))
    found = needed(track)
    assert found.steps is None and f"{shipped} measured other models" in found.said
    write(own, row("gan", weights=gan), row("diffusion", 4, weights=teacher.weight_hash))
    assert needed(track).steps == 4
    shipped.write_text("{}")
    with pytest.raises(WorkbenchError, match="no result of a race"):
        needed(track)
