"""Prompts: the world's factors by default, a user's own from a file, always the same, mistakes named."""

import json
import re
from collections import Counter

import pytest

from workbench.datasets import world
from workbench.datasets.flux.templates import SHEPHERDS, WORLD_FACTORS, Templates, read_templates
from workbench.datasets.world import captions
from workbench.errors import WorkbenchError


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_prompt_has_the_factors_of_the_world_s_picture_of_that_number():
    templates = Templates()
    for index in range(60):
        prompt, factors = templates.prompt(3, index), world.draw_factors(3, index)
        assert prompt.factors == {name: getattr(factors, name) for name in world.CHOICES}
        # The words say so too, read back by the captions' own reader.
        assert captions.named_factors(prompt.caption) == prompt.factors
        assert prompt.prompt == f"{prompt.caption}, photograph, sharp focus"


def test_a_prompt_depends_on_seed_and_number_alone():
    templates = Templates()
    first = [templates.prompt(0, index) for index in range(300)]
    assert first == [Templates().prompt(0, index) for index in range(300)]
    assert len({prompt.seed for prompt in first}) == 300 and all(0 <= p.seed < 2**32 for p in first)
    assert templates.prompt(1, 0).seed != first[0].seed
    forms = Counter(re.match(r"A[n]? (German|photo|\S+)", prompt.caption)[1] for prompt in first)
    assert len(forms) > 4


def test_articles_fit_the_next_word():
    templates = Templates(
        templates=("{A} {kind} dog and {a} {kind} cat",),
        factors={"kind": {"x": ("old",), "y": ("young",)}},
        style="",
    )
    told = {templates.prompt(0, index).caption for index in range(20)}
    assert told == {"An old dog and an old cat", "A young dog and a young cat"}


def test_a_text_file_is_one_template_a_line(tmp_path):
    file = written(tmp_path / "cats.txt", "# cats\n\n  A {coat} cat {scene} \na cat at noon\n")
    templates = read_templates(file)
    assert templates.templates == ("A {coat} cat {scene}", "a cat at noon")
    prompts = [templates.prompt(0, index) for index in range(40)]
    assert {tuple(prompt.factors) for prompt in prompts} == {("coat", "scene"), ()}
    assert all(prompt.prompt == prompt.caption for prompt in prompts)  # a watercolour is no photograph


TABLE = {
    "templates": ["{A} {breed} on {ground}", "{breed}, {coat} coat."],
    "style": "oil painting",
    "factors": {"breed": ["pug", "akita"], "ground": {"grass": ["the grass", "a lawn"], "sand": "the sand"}},
}
TOML = """\
templates = ["{A} {breed} on {ground}", "{breed}, {coat} coat."]
style = "oil painting"
[factors]
breed = ["pug", "akita"]
ground = {grass = ["the grass", "a lawn"], sand = "the sand"}
"""


def test_toml_and_json_bring_factors_of_their_own(tmp_path):
    templates = read_templates(written(tmp_path / "pets.json", json.dumps(TABLE)))
    assert read_templates(written(tmp_path / "pets.toml", TOML)) == templates
    assert templates.factors["coat"] == WORLD_FACTORS["coat"]
    grounds = {"the grass": "grass", "a lawn": "grass", "the sand": "sand"}
    seen = set()
    for index in range(80):
        prompt = templates.prompt(0, index)
        if "ground" in prompt.factors:
            article, breed, ground = re.fullmatch(r"(An?) (\w+) on (.*)", prompt.caption).groups()
            assert prompt.factors == {"breed": breed, "ground": grounds[ground]}
            assert article == {"pug": "A", "akita": "An"}[breed]
            assert prompt.prompt == f"{prompt.caption}, oil painting"
            seen.add(ground)
        else:
            assert list(prompt.factors) == ["coat", "breed"] and prompt.prompt.endswith("coat, oil painting")
    assert seen == set(grounds)


def test_the_digest_tells_sets_apart():
    digests = [Templates(), Templates(style="x"), Templates(templates=SHEPHERDS[:1])]
    assert len({templates.digest() for templates in digests}) == 3
    assert Templates().digest() == Templates().digest()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "There is no template"),
        ("a.txt", "A {cot} dog", r"Template 1 holds \{cot\}: expected one of \{coat\}, \{pose\}"),
        ("a.txt", "x\nA {coat.__class__} dog", r"Template 2 holds \{coat\.__class__\}"),
        ("a.txt", "A {coat:>99999999} dog", r"holds \{coat\}: expected one of"),
        ("a.txt", "A {coat!r} dog", r"holds \{coat\}: expected one of"),
        ("a.txt", "A {} dog", r"holds \{\}: expected one of"),
        ("a.txt", "A {coat dog", "Write {coat} for a factor"),
        ("a.txt", "x" * 1001, "Template 1 has 1001 letters"),
        ("a.txt", "x" * 1_000_001, "larger than 1 MB"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.toml", "a = ", "is not TOML"),
        ("a.json", "[]", "holds 'list': expected templates, factors and style"),
        ("a.json", '{"prompts": []}', "holds 'prompts': expected templates"),
        ("a.json", '{"templates": [1]}', "templates is no list of sentences"),
        ("a.json", '{"style": 3}', "style is 3"),
        ("a.json", '{"factors": []}', "factors is no table"),
        ("a.json", '{"factors": {"breed": []}}', "the factor 'breed' is"),
        ("a.json", '{"factors": {"seed": ["x"]}}', "the factor 'seed' is"),
        ("a.json", '{"factors": {"a b": ["x"]}}', "the factor 'a b' is"),
        ("a.json", '{"factors": {"breed": {"pug": []}}}', r"breed 'pug' is \[\]"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, name, text, message):
    with pytest.raises(WorkbenchError, match=message) as caught:
        read_templates(written(tmp_path / name, text))
    assert name in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(WorkbenchError, match="There is no template file"):
        read_templates(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"sch\xe4fer")
    with pytest.raises(WorkbenchError, match=r"latin\.txt cannot be read as UTF-8"):
        read_templates(tmp_path / "latin.txt")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        read_templates(tmp_path)
