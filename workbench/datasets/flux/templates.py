"""Prompts from templates and factors: the world's German shepherds by default, anything from a user's file.

A plain text file holds one template a line: the world's factors in braces, and {a} or {A} for the article
that fits the next word. # starts a comment. No style is added:

    {A} {coat} German shepherd {pose} {scene} {light}

A TOML or JSON file brings factors of its own. A value is the words themselves, or a name with one or more
wordings; `style` goes at the end of the prompt and is left out of the caption:

    templates = ["{A} {breed} on {ground}", "{breed}, {coat} coat"]
    style = "photograph, sharp focus"
    [factors]
    breed = ["pug", "corgi"]
    ground = {grass = ["the grass", "a lawn"], sand = "the sand"}

A factor that the file does not define is the world's: coat, pose, scene, light.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workbench.datasets.world import captions
from workbench.errors import WorkbenchError
from workbench.noise import check_seed

WORLD_FACTORS = {
    "coat": {name: words[:2] for name, words in captions.COAT_WORDS.items()},
    "pose": {name: words[:2] for name, words in captions.POSE_WORDS.items()},
    "scene": {name: words[:2] for name, words in captions.SCENE_WORDS.items()},
    "light": {name: words[:2] for name, words in captions.LIGHT_WORDS.items()},
}
SHEPHERDS = (
    "{A} {coat} German shepherd {pose} {scene} {light}",
    "A German shepherd with {a} {coat} coat, {pose} {scene} {light}",
    "A photo of {a} {coat} German shepherd dog {pose} {scene}, {light}",
    "{A} {coat} German shepherd is {pose} {scene} {light}",
)
_ARTICLES = {"a": ("a", "an"), "A": ("A", "An")}
_TAKEN = (*_ARTICLES, "file_name", "text", "prompt", "seed", "model", "revision")  # columns of the metadata
_ARTICLE = re.compile(r"\{([aA])\}(?=\s*(\w?))")
_MOST_BYTES = 1_000_000
_MOST_LETTERS = 1_000  # of one template; Flux reads 256 tokens
_MOST_FACTORS = 64


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What picture `index` is made from. caption: the prompt without its style; factors: {name: value};
    seed: for the picture's noise, a whole number below 2**32."""

    prompt: str
    caption: str
    factors: dict[str, str]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Sentences with {factor} in them, and for each factor its values: {factor: {value: wordings}}.

    Raises WorkbenchError for a template that names an unknown factor, or holds anything else in braces.
    """

    templates: tuple[str, ...] = SHEPHERDS
    factors: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=lambda: dict(WORLD_FACTORS))
    style: str = "photograph, sharp focus"

    def __post_init__(self) -> None:
        if not self.templates:
            raise WorkbenchError("There is no template: expected at least one sentence such as a {coat} dog.")
        for number, template in enumerate(self.templates, start=1):
            _check_template(template, number, self.factors)

    def prompt(self, seed: int, index: int) -> Prompt:
        """Prompt `index` of `seed`, always the same; the world's factors are those of its own picture too."""
        entropy = np.random.SeedSequence([check_seed(seed), index])
        rng = np.random.Generator(np.random.PCG64(entropy))
        # The first numbers are the factors, in their order, as in world.draw_factors.
        drawn = rng.random(len(self.factors)).tolist()
        values = {
            name: list(values)[int(u * len(values))]
            for u, (name, values) in zip(drawn, self.factors.items(), strict=True)
        }
        words = {name: _pick(self.factors[name][value], rng) for name, value in values.items()}
        template = _pick(self.templates, rng)
        caption = _ARTICLE.sub(_article, template.format(**words, a="{a}", A="{A}"))
        named = _fields(template)
        return Prompt(
            prompt=f"{caption.rstrip('.')}, {self.style}" if self.style else caption,
            caption=caption,
            factors={name: value for name, value in values.items() if name in named},
            seed=int(entropy.generate_state(1)[0]),
        )

    def digest(self) -> str:
        """A short hash of everything a prompt depends on."""
        known = json.dumps([self.templates, self.factors, self.style], ensure_ascii=True)
        return hashlib.sha256(known.encode()).hexdigest()[:16]


def read_templates(path: str | Path) -> Templates:
    """The templates of a text, TOML or JSON file, as the module's text says.

    Raises WorkbenchError that names the file and what is wrong in it.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise WorkbenchError(f"{path} is larger than 1 MB: expected a short file of templates.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise WorkbenchError(f"There is no template file {path}: check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"{path} cannot be read as UTF-8 text ({error}).") from error
    if path.suffix.lower() not in (".json", ".toml"):
        lines = [line.strip() for line in text.splitlines()]
        templates = tuple(line for line in lines if line and not line.startswith("#"))
        return _named(path, templates=templates, style="")
    try:
        table = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise WorkbenchError(f"{path} is not {path.suffix[1:].upper()} ({error}).") from error
    return _from_table(path, table)


def _from_table(path: Path, table: object) -> Templates:
    known = {"templates", "factors", "style"}
    if not isinstance(table, dict) or set(table) - known:
        odd = sorted(set(table) - known)[0] if isinstance(table, dict) else type(table).__name__
        raise WorkbenchError(
            f"{path} holds {odd!r}: expected templates, factors and style, and nothing else."
        )
    templates, style = table.get("templates", list(SHEPHERDS)), table.get("style", "")
    if not isinstance(templates, list) or not all(isinstance(one, str) for one in templates):
        raise WorkbenchError(f"{path}: templates is no list of sentences.")
    if not isinstance(style, str):
        raise WorkbenchError(f"{path}: style is {style!r}: expected words such as 'photograph'.")
    own = table.get("factors", {})
    if not isinstance(own, dict) or len(own) > _MOST_FACTORS:
        raise WorkbenchError(
            f"{path}: factors is no table of at most {_MOST_FACTORS} names and their values."
        )
    factors = {name: _values(path, name, value) for name, value in own.items()}
    return _named(path, templates=tuple(templates), factors=WORLD_FACTORS | factors, style=style)


def _values(path: Path, name: str, given: object) -> dict[str, tuple[str, ...]]:
    """One factor's {value: wordings} from ["pug", …] or {"grass": ["the grass", …], "sand": "the sand"}."""
    if isinstance(given, list) and all(isinstance(value, str) for value in given):
        given = {value: [value] for value in given}
    if not name.isidentifier() or name in _TAKEN or not isinstance(given, dict) or not given:
        raise WorkbenchError(
            f"{path}: the factor {name!r} is {given!r}: expected a name in letters (but none of "
            f"{', '.join(_TAKEN)}) with a list of words, or a table of names and their words."
        )
    values = {}
    for value, words in given.items():
        words = [words] if isinstance(words, str) else words
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(w, str) and w.strip() for w in words)
        ):
            raise WorkbenchError(
                f"{path}: {name} {value!r} is {words!r}: expected words, or a list of words."
            )
        values[value] = tuple(words)
    return values


def _named(path: Path, **parts) -> Templates:
    try:
        return Templates(**parts)
    except WorkbenchError as error:
        raise WorkbenchError(f"{path}: {error}") from error


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.random() * len(choices))]


def _article(found: re.Match) -> str:
    return _ARTICLES[found[1]][found[2].lower() in tuple("aeiou")]


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _check_template(template: str, number: int, factors: dict) -> None:
    if len(template) > _MOST_LETTERS or not template.strip():
        raise WorkbenchError(
            f"Template {number} has {len(template)} letters: expected a sentence of 1 to {_MOST_LETTERS}."
        )
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:  # a lone brace
        raise WorkbenchError(
            f"Template {number} is {template[:80]!r} ({error}). Write {{coat}} for a factor."
        ) from error
    known = [*factors, *_ARTICLES]
    for _, name, form, conversion in parts:
        # A name alone: "{coat.x}" and "{coat[0]}" would look inside Python, "{coat:>9}" would format.
        if name is not None and (name not in known or form or conversion):
            raise WorkbenchError(
                f"Template {number} holds {{{name}}}: expected one of "
                + ", ".join(f"{{{one}}}" for one in known)
                + ". Own factors go into a TOML or JSON file."
            )
