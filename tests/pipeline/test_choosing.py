"""Drawing again: of several seeds the picture that a CLIP finds nearest to the prompt."""

from pathlib import Path

import pytest
import torch

from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import draw_prompts
from workbench.evaluation.features import load_judge
from workbench.images import read_recipe
from workbench.models.clip_io import load_clip, save_clip
from workbench.models.mini_clip import new_mini_clip
from workbench.noise import MAX_SEED
from workbench.pipeline import Chooser, Pipeline, remake, sample_to_folder
from workbench.pipeline.choosing import STRIDE, clip_of

MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"
WORDS = ("white", "black", "shepherd", "dog", "sitting", "standing", "snow", "beach", "night", "day")
PROMPTS = ["a white dog in snow", "black shepherd sitting"]


@pytest.fixture(scope="module")
def clip():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        clip = new_mini_clip(("white", "black", "shepherd", "dog", "sitting", "snow"))
    clip.model.eval()
    return clip


def cosines(pipe, clip, prompt, seeds):
    """One picture at a time, in float64."""
    found = []
    for seed in seeds:
        with torch.no_grad():
            image, text = clip.encode_image(pipe(prompt, seed=seed).images), clip.encode_text([prompt])
        image, text = image[0].double(), text[0].double()
        found.append(float((image @ text) / (image.norm() * text.norm())))
    return found


def test_each_picture_is_the_best_of_its_own_candidates(pipe, clip):
    chosen = Chooser(pipe, clip, of=5)(PROMPTS, seed=10, count=3)
    assert chosen.prompts == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
    others = 0
    for k, (prompt, seed, recipe) in enumerate(
        zip(chosen.prompts, chosen.seeds, chosen.recipes, strict=True)
    ):
        candidates = [10 + k + j * STRIDE for j in range(5)]
        values = cosines(pipe, clip, prompt, candidates)
        assert seed == candidates[values.index(max(values))]
        assert torch.equal(chosen.images[k], pipe(prompt, seed=seed).images[0])
        told = recipe["chosen"]
        assert (told["of"], told["first_seed"], told["by"]) == (5, 10 + k, clip.name)
        assert told["agreement"] == pytest.approx(max(values), abs=1e-5)
        assert (recipe["seed"], recipe["index"]) == (seed, k)
        others += seed != 10 + k
    assert others > 0  # a choice that always keeps the first would be none


def test_of_equals_the_first_is_kept(pipe, clip):
    """At truncation 0 all seeds of a prompt give its one typical picture."""
    assert Chooser(pipe, clip, of=4)(PROMPTS[0], seed=8, truncation=0.0).seeds == [8]


def test_a_row_of_seeds_shares_no_candidate(pipe, clip):
    chooser = Chooser(pipe, clip, of=64)
    rows = [chooser.candidates(seed) for seed in range(1_000)]
    assert len({seed for row in rows for seed in row}) == 64_000


def test_the_file_is_made_again_by_the_plain_pipeline(pipe, clip, tmp_path):
    saved = sample_to_folder(
        Chooser(pipe, clip, of=4), PROMPTS[0], seed=2, count=3, truncation=0.9, out=tmp_path
    )
    for k, path in enumerate(saved.paths):
        recipe = read_recipe(path)
        assert path.name == f"a-white-dog-in-snow-{recipe['seed']}.png"
        assert recipe["chosen"]["first_seed"] == 2 + k
        assert remake(path, pipe).verdict == "identical"


def test_the_command_chooses_as_the_library_does(pipe, clip, tmp_path, capsys):
    pipe.save_pretrained(tmp_path / "model")
    save_clip(clip, tmp_path / "clip")
    line = [
        "sample",
        "--model",
        str(tmp_path / "model"),
        "--prompt",
        PROMPTS[1],
        "--seed",
        "4",
        "--count",
        "2",
    ]
    line += [
        "--best-of",
        "3",
        "--clip",
        str(tmp_path / "clip"),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(line) == 0
    loaded = Pipeline.from_pretrained(tmp_path / "model", device="cpu")
    own = Chooser(loaded, load_clip(tmp_path / "clip"), 3)(PROMPTS[1], seed=4, count=2)
    assert [read_recipe(p)["seed"] for p in capsys.readouterr().out.split()] == own.seeds


def test_the_clip_that_reads_as_the_model_does(text_encoder, pipe, clip, tmp_path):
    """A CLIP of other weights, a text tower alone and a folder that is not there are passed over."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = new_mini_clip(WORDS)
    own.model.eval()
    save_clip(clip, tmp_path / "other")
    save_clip(own, tmp_path / "own")
    text_encoder.save_pretrained(tmp_path / "tower")
    folders = [tmp_path / name for name in ("none", "tower", "other", "own")]
    found = clip_of(pipe, folders)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.allclose(found.encode_image(image), own.encode_image(image), atol=1e-4)
    with pytest.raises(WorkbenchError, match="No CLIP here reads prompts as tiny does"):
        clip_of(pipe, folders[:3])


@pytest.mark.parametrize("of", [1, 0, 65, True, 2.0, "4"])
def test_a_choice_of_so_many_is_refused(pipe, clip, of):
    with pytest.raises(WorkbenchError, match="from 2 to 64"):
        Chooser(pipe, clip, of)


def test_nothing_to_choose_by(clip, make_generator):
    with pytest.raises(WorkbenchError, match="reads no text"):
        Chooser(Pipeline(make_generator(text_dim=None, cross_attention={}), None), clip)


def test_the_mistakes_of_a_pipeline_are_refused_before_any_work(pipe, clip):
    chooser = Chooser(pipe, clip, of=4)
    pipe.G = None  # no picture can be drawn
    for mistake in ({"prompts": " "}, {"count": 0}, {"seed": -1}, {"seed": MAX_SEED - STRIDE}):
        with pytest.raises(WorkbenchError):
            chooser(**{"prompts": PROMPTS[0], **mistake})


def test_the_shipped_model_does_what_it_missed_at_first():
    """Of 300 prompts that name all factors, those whose first picture the judge finds wrong."""
    pipe, judge = Pipeline.from_pretrained(MODELS / "shepherd-64", device="cpu"), load_judge()
    prompts, truth = draw_prompts(300, 0)
    seeds = list(range(300))

    def right(drawn, rows):
        said = judge.measure(drawn.images).classes
        return torch.stack([said[name] == truth[name][rows] for name in truth]).all(dim=0)

    missed = [k for k, one in enumerate(right(pipe(prompts, seed=seeds, batch_size=25), seeds)) if not one]
    assert len(missed) > 3  # or the test says nothing
    chooser = Chooser(pipe, load_clip(MODELS / "mini-clip"), of=4)
    again = chooser([prompts[k] for k in missed], seed=missed, batch_size=4)
    assert right(again, missed).float().mean() >= 0.8
