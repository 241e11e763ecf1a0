"""Questions to a CLIP: what captions name, counts by hand, and diversity between pictures of one caption."""

import json
from pathlib import Path

import pytest
import torch
from noise_pictures import noise
from true_renders import render_folder

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.diversity import diversity, groups_of
from workbench.evaluation.metrics.extractors import local_clip
from workbench.evaluation.metrics.questions import (
    WORLD,
    Question,
    QuestionMeter,
    answered,
    read_questions,
    truth_of,
)
from workbench.evaluation.metrics.record import share_error
from workbench.evaluation.metrics.sources import Facts, Pictures, open_pictures
from workbench.evaluation.metrics.streaming import stream
from workbench.evaluation.metrics.subjects import knows_the_world, prompts_for
from workbench.evaluation.perceptual import CLIP_FOLDER, FeatureDistance

COAT = WORLD[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return render_folder(tmp_path_factory.mktemp("set") / "data", count=40, side=64, seed=11)


@pytest.fixture(scope="module")
def clip():
    return local_clip(str(CLIP_FOLDER))


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("A black dog sitting", "black"),
        ("A black-and-tan shepherd", "black-and-tan"),
        ("a dog with a Snow-White coat in the snow", "white"),
        ("a dog", None),
        ("a black dog and a white dog", None),
        ("a blackish dog", None),
    ],
)
def test_the_answer_that_a_caption_names(caption, answer):
    assert COAT.named_in(caption) == (-1 if answer is None else list(COAT.answers).index(answer))


def test_metadata_goes_before_words():
    assert truth_of(COAT, "a white dog", {"coat": "black"}) == list(COAT.answers).index("black")
    assert truth_of(COAT, "a white dog", {}) == list(COAT.answers).index("white")


def test_the_clip_that_reads_the_world_answers_on_its_renders(data, clip):
    source = open_pictures(data)
    meter = QuestionMeter(clip, WORLD, "v")
    stream(source, [meter], batch_size=16, cache=None)
    found = {one.name.rpartition(" ")[2]: one for one in answered(meter, source.facts)}
    assert set(found) == {"coat", "pose", "scene", "light"}
    assert found["scene"].value > 0.8 and found["scene"].statement.n == 40
    assert meter.state["coat"].sum() == 40
    share = found["coat"].value
    assert share == (meter.state["coat"].diagonal().sum() / 40).item()
    assert found["coat"].spread == pytest.approx(share_error(share, 40))
    assert 0 < share_error(1.0, 40) < share_error(0.5, 40)
    assert share_error(1.0, 40) == pytest.approx(share_error(0.0, 40))
    assert share_error(0.3, 10**6) == pytest.approx((0.3 * 0.7 / 10**6) ** 0.5, rel=1e-3)


def test_captions_that_name_nothing_are_told(clip):
    pictures = noise(2, 64)
    facts = Facts(name="noise", key="k", cache_key="k", resolution=64)
    source = Pictures(facts=facts, count=2, read=lambda a, b: pictures[a:b], texts=["a boat", "a tree"])
    meter = QuestionMeter(clip, WORLD, "v")
    stream(source, [meter], cache=None)
    with pytest.raises(WorkbenchError, match="No caption of noise names an answer to coat, pose"):
        answered(meter, facts)


def test_questions_of_ones_own(tmp_path):
    said = {"animal": {"answers": {"cat": ["cat", "kitten"], "dog": ["dog"]}, "templates": ["a {}"]}}
    (tmp_path / "q.json").write_text(json.dumps(said))
    (question,) = read_questions(tmp_path / "q.json")
    assert question.prompts() == [["a cat", "a kitten"], ["a dog"]]
    for wrong, message in (("[]", "holds no questions"), ('{"x": {"answers": {"a": ["b"]}}}', "two or more")):
        (tmp_path / "q.json").write_text(wrong)
        with pytest.raises(WorkbenchError, match=message):
            read_questions(tmp_path / "q.json")
    with pytest.raises(WorkbenchError, match="where the phrase goes"):
        Question(name="x", answers={"a": ["a"], "b": ["b"]}, templates=["no place"])


def test_diversity_is_the_mean_over_pairs_of_one_caption():
    pictures = torch.cat([noise(3, 64), noise(2, 64, seed=1), noise(1, 64, seed=2)])
    facts = Facts(name="noise", key="k", cache_key="k", resolution=64)
    texts = ["a", "a", "a", "b", "b", "c"]
    source = Pictures(facts=facts, count=6, read=lambda first, stop: pictures[first:stop], texts=texts)
    distance = FeatureDistance()
    found = diversity(source, distance)
    x = pictures.float() / 127.5 - 1
    with torch.inference_mode():
        by_hand = [distance(x[[i]], x[[j]]).item() for i, j in ((0, 1), (0, 2), (1, 2), (3, 4))]
    a, b = sum(by_hand[:3]) / 3, by_hand[3]
    assert found.value == pytest.approx((a + b) / 2, rel=1e-4)
    assert found.spread == pytest.approx(abs(a - b) / 2, rel=1e-2)
    assert found.statement.n == 5 and found.name == "diversity (mini-clip feature distance)"
    same = Pictures(
        facts=facts, count=4, read=lambda a, b: noise(1, 64).expand(b - a, -1, -1, -1), texts=["a"] * 4
    )
    assert diversity(same, distance).value == pytest.approx(0, abs=1e-5)
    assert groups_of(["a"] * 9, [{}] * 9, groups=3, size=4) == [[0, 1, 2, 3]]
    alone = Pictures(facts=facts, count=2, read=source.read, texts=["a", "b"])
    with pytest.raises(WorkbenchError, match="No two of the 2 pictures of noise share a caption"):
        diversity(alone, distance)


def test_prompts_are_the_worlds_where_the_set_says_its_factors(data):
    source = open_pictures(data)
    assert knows_the_world(source)
    prompts, known = prompts_for(source, 5, 0)
    for prompt, factors in zip(prompts, known, strict=True):
        assert all(q.named_in(prompt) in (-1, list(q.answers).index(factors[q.name])) for q in WORLD[:1])
    assert prompts_for(source, 45, 0, "captions")[0][40:] == list(source.texts[:5])
    with pytest.raises(WorkbenchError, match="The prompts 'mine' are not known"):
        prompts_for(source, 5, 0, "mine")
    bare = Pictures(facts=source.facts, count=3, read=source.read)
    assert prompts_for(bare, 2, 0) == (["a picture"] * 2, [{}] * 2)
    with pytest.raises(WorkbenchError, match="has no captions to draw from"):
        prompts_for(bare, 2, 0, "captions")
