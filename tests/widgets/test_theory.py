"""Pictures of the theory notebook by what they hold, exercises by their answers, judges by their batch."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.datasets.world.captions import named_factors
from workbench.errors import WorkbenchError
from workbench.models.critics import save_critics
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.glossary import ABLATION, TERMS
from workbench.pipeline import Pipeline
from workbench.training import ring
from workbench.widgets import exercises, judges, theory, toys
from workbench.widgets.pictures import Picture
from workbench.widgets.profile import ASSETS

# --- exercises ---

KEYS = ("1a", "1b", "2a", "2b", "3", "4a", "4b")  # of this notebook; other notebooks add theirs


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("1a", 15),
        ("1b", 6),
        ("2a", 1),
        ("2b", 8 * 64 * 64 * 9),
        ("3", "Itself "),
        ("4a", 1.386),
        ("4b", math.log(8)),
    ],
)
def test_right_answers_are_right_and_say_why(key, answer):
    verdict = exercises.check(key, answer)
    assert verdict.word == "right", verdict
    assert repr(verdict).startswith("Right. ")
    assert (
        exercises.check(key, torch.tensor(float(answer)) if not isinstance(answer, str) else answer).word
        == "right"
    )


@pytest.mark.parametrize(
    ("key", "answer", "reason"),
    [
        ("1a", 5, "one for each level"),
        ("1a", 25, "every level with every output"),
        ("2a", 8, "Eight are stored"),
        ("2b", 64 * 64 * 9, "one kernel"),
        ("4a", 0.69, "one kind of pair"),
        ("4b", 3, "base two"),
        ("4b", -2.08, "mind the sign"),
    ],
)
def test_a_near_miss_is_told_where_it_went_astray(key, answer, reason):
    verdict = exercises.check(key, answer)
    assert verdict.word == "nearly" and reason in verdict.text


@pytest.mark.parametrize("answer", [..., None, 7, "seven", float("nan"), float("inf"), True, [1], object()])
@pytest.mark.parametrize("key", KEYS)
def test_anything_else_gets_a_hint_and_never_an_error(key, answer):
    verdict = exercises.check(key, answer)
    assert verdict.word == "not yet"
    assert len(verdict.text) > 20


@pytest.mark.parametrize(
    "answer",
    [np.array([1, 2]), np.array([]), torch.tensor([1.0, 2.0]), [15], object(), True],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_of_another_kind_is_met_with_what_is_asked(answer):
    assert exercises.check("1a", answer).text.startswith("The answer is a number. ")
    assert exercises.check("3", answer).text.startswith("The answer is a word. ")


@pytest.mark.parametrize("answer", [10**400, -(10**400), float("inf")])
def test_a_number_too_large_is_a_wrong_number(answer):
    assert exercises.check("1a", answer).word == "not yet"


def test_every_exercise_asks_and_no_near_miss_is_right():
    for key, exercise in exercises.EXERCISES.items():
        assert "?" in exercises.ask(key)
        assert not [value for value in exercise.near() if exercises.check(key, value).word != "nearly"], key
    with pytest.raises(WorkbenchError, match="There is no exercise '9': choose one of 1a"):
        exercises.ask("9")


# --- cards and tables ---


def test_a_card_holds_sentences_formula_and_the_error_put_right():
    for term in TERMS:
        shown = theory.card(term.key)._repr_mimebundle_()["text/markdown"]
        assert term.plain in shown and f"$$ {term.formula} $$" in shown
        assert ("**Not so:**" in shown) == bool(term.not_so)


def test_the_papers_chain_is_a_row_for_each_step():
    page = theory.paper_chain()
    assert "| StyleGAN2 with text | 29.91 | 0.222 | 27.8 M |" in page.markdown
    assert len(page.markdown.splitlines()) == 2 + len(ABLATION)
    assert page._repr_mimebundle_()["text/plain"].startswith("A table of 12 rows: trained with")


def test_the_comparison_has_a_source_in_every_row_and_the_papers_numbers():
    page = theory.comparison([["ours", "6.9 M", "five", "one", "14 ms", "good", "measured here"]]).markdown
    lines = page.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| ours | 6.9 M |" in page and "FID-10k 9.18" in page and "2.9 s, A100" in page
    assert all("measured here" in line or "arXiv" in line for line in lines[2:])
    with pytest.raises(WorkbenchError, match="A row has 1 cells for 7 columns"):
        theory.comparison([["ours"]])


# --- attention and kernels ---


def test_every_word_has_a_picture_and_its_share():
    maps = torch.rand(3, 4, 4)
    shown = theory.word_sheet(torch.zeros(3, 16, 16), maps, ["a", "dog", "here"], "a dog in light", columns=4)
    assert shown.image.width == 4 * 48 + 3 * 18


def test_the_asking_place_is_framed_in_white():
    own = torch.full((16, 17), 1 / 17)
    shown = theory.pixel_sheet(torch.full((3, 16, 16), -1.0), own, [(0, 0), (3, 3)], "two places ask", size=4)
    assert shown.image.getpixel((0, 0)) == (255, 255, 255)
    assert shown.image.getpixel((96 + 6 + 95, 95)) == (255, 255, 255)
    assert shown.image.getpixel((64, 64)) == (0, 0, 0)


def test_every_kernel_of_the_widest_bank_has_a_name_and_a_colour_of_its_own(monkeypatch):
    drawn = []
    plot = theory.plot
    monkeypatch.setattr(
        theory,
        "plot",
        lambda figure, *args, **options: drawn.append(figure) or plot(figure, *args, **options),
    )
    selection = {"8 px": torch.full((2, 2), 1 / 2), "16 px": torch.full((2, 8), 1 / 8)}
    shown = theory.kernel_bars(selection, ["a dog", "a cat"], "two banks")
    legend = drawn[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [f"kernel {k}" for k in range(1, 9)]
    assert len({patch.get_facecolor() for patch in legend.get_patches()}) == 8
    assert isinstance(shown, Picture)


def test_a_model_without_banks_gets_a_sentence():
    assert "nothing to choose" in theory.kernel_bars({}, ["a dog"], "no bank").plain


def test_plots_are_small_drawings():
    selection = {"8 px, block 1, conv 1": torch.tensor([[0.2, 0.8], [0.5, 0.5]])}
    table = torch.tensor([[1.0, 2.0], [float("nan"), 0.5]])
    rungs = {"layer1": {"real": 1.0, "made": -0.5}, "layer2": {"real": 0.5, "made": -2.0}}
    drawn = [
        theory.kernel_bars(selection, ["a dog", "a cat"], "two prompts and their kernels"),
        theory.verdict_tables({"real": table}, (64, 16), (16, 1), "logits by entry and exit"),
        theory.matrix(torch.rand(2, 3), ["a", "b"], ["x", "y", "z"], "a table of numbers"),
        theory.paired_bars(rungs, "bars by layer", label="logit"),
    ]
    for picture in drawn:
        assert isinstance(picture, Picture) and picture.drawing
        assert 1_000 < len(picture.data()) < 15_000


# --- the recorded chain ---


def test_a_chain_is_read_shown_and_tabled(tmp_path):
    (tmp_path / "grids").mkdir()
    rows = []
    for k, paper in enumerate(({"fid": 29.91, "clip": 0.222, "params_M": 27.8}, None)):
        Image.new("RGB", (192, 192), (40 * k, 90, 90)).save(tmp_path / "grids" / f"{k}.png")
        rows.append(
            {"name": f"row {k}", "grid": f"grids/{k}.png", "frechet_ratio": 9.0, "all": 0.5, "diversity": 0.9,
             "paper": paper}
        )  # fmt: skip
    for data in (rows, {"rows": rows}):
        (tmp_path / "ablation.json").write_text(json.dumps(data))
        assert theory.read_ablation(tmp_path / "ablation.json") == rows
    shown = theory.ablation_sheet(rows, tmp_path, "two rows of a chain")
    assert shown.image.height == 2 * 32 + 2
    assert "| row 0 | 9.00 | 0.50 | 0.90 | 29.91 | 0.222 |" in theory.ablation_table(rows).markdown
    assert "| row 1 | 9.00 | 0.50 | 0.90 | – | – |" in theory.ablation_table(rows).markdown
    assert theory.read_ablation(tmp_path / "none.json") == []
    (tmp_path / "ablation.json").write_text("[{}]")
    with pytest.raises(WorkbenchError, match="holds no rows with a name"):
        theory.read_ablation(tmp_path / "ablation.json")


def test_training_without_a_piece_is_the_row_before_it():
    rows = [
        {"name": name, "frechet_ratio": k + 1.0, "all": k / 10, "paper": {"fid": 30.0 - k} if k < 3 else None}
        for k, name in enumerate(("plain", "real", "both", "last"))
    ]
    told = theory.trained_without(rows, "real", "both").markdown
    assert "| without it (plain) | 1.00 | 0.00 | 30.00 |\n| with it (both) | 3.00 | 0.20 | 28.00 |" in told
    assert "| without it (both) | 3.00 | 0.20 | 28.00 |\n| with it (last) | 4.00 | 0.30 | – |" in (
        theory.trained_without(rows, "last").markdown
    )
    for missing in (theory.trained_without([], "real"), theory.trained_without(rows, "plain")):
        assert "`workbench ablate` makes it" in missing.markdown


def test_the_notebook_shows_every_piece_whole_and_broken():
    """Each of the eight terms has its card, a picture and a way to break it; each exercise its question."""
    cells = json.loads((ASSETS.parent / "notebooks" / "01_theory.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    whole = "\n".join(sources)
    starts = {entry.key: whole.index(f'theory.card("{entry.key}")') for entry in TERMS}
    end = whole.index("## Trained without")
    draws = ("sheet(", "kernel_bars(", "matrix(", "_tables(", "_bars(")
    for key, start in starts.items():
        section = whole[start : min([at for at in [*starts.values(), end] if at > start])]
        assert "**Break it.**" in section, key
        assert any(call in section for call in draws), key
        if key in ("matching", "contrastive", "vision-aided"):  # what only training shows is a recorded run
            assert "theory.trained_without(chain," in section, key
    printed = "".join("".join(output.get("text", ())) for cell in cells for output in cell.get("outputs", ()))
    for key in KEYS:
        assert exercises.ask(key) in printed, key


# --- the ring ---


def test_the_rings_pictures_show_what_was_filmed():
    data = ring.Ring()
    gan = ring.train_gan(data, steps=2, film=(0, 2))
    diffusion = ring.train_diffusion(data, steps=2, film=(0, 2))
    path = diffusion.sample(20, torch.Generator().manual_seed(0), path=True)
    drawn = [
        toys.films(data, gan, diffusion, "two films of two moments"),
        toys.one_film(data, gan, "one film of two moments"),
        toys.ways(data, torch.randn(20, 2), gan.film[2], path, "a jump and a walk"),
        toys.landscape(data, gan, "what the judge says"),
        toys.quality(data, {1: 0.1, 50: 0.9}, 0.8, "share against calls"),
    ]
    assert all(1_000 < len(picture.data()) < 20_000 for picture in drawn)
    assert toys.microseconds(lambda n: sum(range(n)), n=1000, tries=2) > 0


# --- judges ---


@pytest.fixture(scope="module")
def jury() -> judges.Judges:
    """The judges that ship, before the model that ships."""
    shipped = Pipeline.from_pretrained(ASSETS / "models" / "shepherd-64", device="cpu")
    return judges.load(ASSETS / "models" / "critics-64", ASSETS / "models" / "mini-clip", shipped)


def test_the_shipped_judges_know_real_pictures_and_true_captions(jury):
    assert "on 40,000 pictures beside the model above, which stood still" in jury.story
    bench = judges.bench(jury, pictures=48, seed=3)
    t, wrong = jury.D.encode_text(bench.text), jury.D.encode_text(bench.text)[bench.wrong]
    with torch.no_grad():
        told, false = (torch.stack(jury.D(bench.real, captions)[0]) for captions in (t, wrong))
    assert (told > false).float().mean() > 0.8
    assert len(jury.heads.heads) == len(jury.tower.taps)


def test_judges_of_another_size_are_given_the_pictures_at_theirs(jury, tmp_path):
    config = DiscriminatorConfig(
        resolution=32, channels={4: 8, 8: 8, 16: 8, 32: 8}, entries=(32, 16, 8, 4), exits=(4, 1), attention={}
    )
    folder = save_critics(tmp_path / "small", Discriminator(config), jury.heads, {"images": 7})
    small = judges.load(folder, ASSETS / "models" / "mini-clip", jury.pipe)
    assert "trained at 32 px on 7 pictures" in small.story
    made = judges.bench(small, pictures=4, seed=0).made
    assert [x.shape[-1] for x in made] == [32, 16, 8, 4] and made[0].std() > 0.1


def test_judges_that_are_not_there_are_missed_in_words(jury, tmp_path):
    with pytest.raises(WorkbenchError, match="nowhere"):
        judges.load(tmp_path / "nowhere", ASSETS / "models" / "mini-clip", jury.pipe)


def test_the_bench_pairs_pictures_under_one_caption_and_false_ones_are_false(jury):
    bench = judges.bench(jury, pictures=8, seed=0)
    assert (
        [x.shape[-1] for x in bench.real] == list(jury.D.config.entries) == [x.shape[-1] for x in bench.made]
    )
    assert bench.captions[0::2] == bench.captions[1::2]
    assert not torch.equal(bench.real[0][0], bench.real[0][1])
    for k, other in enumerate(bench.wrong.tolist()):
        assert named_factors(bench.captions[k]) != named_factors(bench.captions[other])


def test_damage_is_what_it_says():
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    hurt = judges.damaged(pictures)
    assert torch.equal(hurt["colours\nexchanged"].flip(1), pictures)
    assert torch.equal(hurt["quarters\nexchanged"].roll((4, 4), (2, 3)), pictures)
    assert hurt["blurred"].std() < pictures.std() and hurt["noisy"].abs().max() <= 1
