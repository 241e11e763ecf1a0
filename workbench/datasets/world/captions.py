"""Captions of Shepherd World: written from a picture's factors, and read back to exactly what they claim."""

from __future__ import annotations

import re
from itertools import product

import numpy as np

from workbench.errors import WorkbenchError

FACTOR_NAMES = ("coat", "pose", "scene", "light")
BREEDS = ("German shepherd", "shepherd", "Alsatian", "dog")

# Adjectives before the dog's name; each names one coat.
COAT_WORDS = {
    "black-and-tan": ("black-and-tan", "black and tan", "tan and black", "saddle-backed"),
    "sable": ("sable", "wolf-gray", "grey sable"),
    "black": ("black", "all-black", "jet-black"),
    "white": ("white", "snow-white", "all-white"),
    "red": ("red", "reddish-brown", "rust-red"),
}
# Participles after the dog, and the same in a sentence with "is".
POSE_WORDS = {
    "standing": ("standing", "standing up", "on its feet", "standing on all fours"),
    "sitting": ("sitting", "seated", "sitting down", "sitting upright"),
    "lying": ("lying down", "lying", "resting", "stretched out"),
}
# Places with their preposition, and as a tag.
SCENE_WORDS = {
    "park": ("in a park", "in the park", "on a meadow", "on the grass", "among green trees"),
    "city": ("in the city", "in a city street", "on the pavement", "in front of houses", "in town"),
    "snow": ("in the snow", "on snow", "in a winter forest", "among snowy firs", "in falling snow"),
    "beach": ("on the beach", "at the beach", "by the sea", "on the shore", "on the sand"),
    "studio": ("in a studio", "in the studio", "before a plain backdrop", "against a plain background"),
}
SCENE_TAGS = {
    "park": ("park", "meadow"),
    "city": ("city", "street"),
    "snow": ("snow", "winter"),
    "beach": ("beach", "seaside", "shore"),
    "studio": ("studio", "plain backdrop"),
}
LIGHT_WORDS = {
    "day": ("by day", "in daylight", "at noon", "in the daytime", "in bright daylight"),
    "sunset": ("at sunset", "at dusk", "at golden hour", "in the evening glow", "in evening light"),
    "night": ("at night", "after dark", "by moonlight", "in the moonlight", "in the dark of night"),
}
LIGHT_TAGS = {
    "day": ("day", "daylight", "noon"),
    "sunset": ("sunset", "dusk", "golden hour"),
    "night": ("night", "moonlight", "after dark"),
}

# {a} is the article that fits the next word, {A} the same as a sentence's start.
FULL_FORMS = (
    "{A} {coat} {breed} {pose} {scene} {light}",
    "{A} {coat} {breed} {pose} {scene}, {light}",
    "{A} {coat} {breed} is {pose} {scene} {light}.",
    "{Light}, {a} {coat} {breed} is {pose} {scene}.",
    "{Scene}, {a} {coat} {breed} is {pose} {light}.",
    "A photo of {a} {coat} {breed} {pose} {scene} {light}",
    "A picture of {a} {breed} with {a} {coat} coat, {pose} {scene} {light}",
    "{A} {breed} with {a} {coat} coat is {pose} {scene} {light}.",
    "{Pose} {scene} {light}: {a} {coat} {breed}",
    "{Scene} {light}, {a} {coat} {breed} {pose}",
    "{A} {breed} {pose} {scene} {light}, its coat {coat}",
    "{Light} {scene}: {a} {coat} {breed}, {pose}",
    "{coat} {breed} {pose} {scene_tag} {light_tag}",
    "{coat} {breed}, {pose}, {scene_tag}, {light_tag}",
    "{light_tag}, {scene_tag}, {coat} {breed}, {pose}",
    "{scene_tag} at {light_tag}, {pose} {coat} {breed}",
)
# Each names two or three factors only.
PART_FORMS = (
    "{A} {coat} {breed} {pose} {scene}",
    "{A} {coat} {breed} {pose} {light}",
    "{A} {coat} {breed} {scene} {light}",
    "{A} {breed} {pose} {scene} {light}",
    "{A} {coat} {breed} {pose}",
    "{A} {coat} {breed} {scene}",
    "{A} {breed} is {pose} {scene}.",
    "A photo of {a} {coat} {breed} {light}",
    "{coat} {breed}, {scene_tag}",
    "{breed}, {pose}, {light_tag}",
    "{Scene} {light}: {a} {breed}",
    "{coat} {breed} {pose}, {light_tag}",
)
PART_SHARE = 0.25

# Free wording that a user may type beside the words above; a longer phrase wins over a shorter one inside it.
EXTRA_WORDS = {
    "coat": {
        "black-and-tan": (
            "black & tan",
            "tan-and-black",
            "black tan",
            "black-tan",
            "bicolor",
            "bicolour",
            "saddleback",
            "saddle back",
            "black saddle",
            "black and brown",
            "brown and black",
            "tan",
        ),
        "sable": ("wolf-grey", "wolf gray", "wolf grey", "gray sable", "grey", "gray", "agouti"),
        "black": ("solid black", "pure black", "jet black", "all black", "pitch-black coat", "dark coat"),
        "white": (
            "snow white",
            "pure white",
            "solid white",
            "all white",
            "snowy-white",
            "pale coat",
            "cream",
        ),
        "red": (
            "rust red",
            "reddish brown",
            "reddish",
            "rusty",
            "ginger",
            "russet",
            "auburn",
            "chestnut",
            "brown",
            "liver",
        ),
    },
    "pose": {
        "standing": (
            "stands up",
            "stands",
            "stand",
            "stood",
            "upright on four legs",
            "walking",
            "on all fours",
        ),
        "sitting": ("sits down", "sits", "sit", "sat"),
        "lying": (
            "lies down",
            "lying on the ground",
            "laying down",
            "laying",
            "lies",
            "lie",
            "rests",
            "reclining",
            "stretches out",
            "sphinx",
        ),
    },
    "scene": {
        "park": ("park", "meadow", "grass", "lawn", "green trees", "garden"),
        "city": (
            "city",
            "street",
            "town",
            "pavement",
            "sidewalk",
            "houses",
            "buildings",
            "urban",
            "downtown",
        ),
        "snow": ("snow", "snowy", "snowfall", "winter forest", "winter", "wintry", "firs", "snowing"),
        "beach": ("beach", "sea", "seaside", "shore", "sand", "sandy", "ocean", "coast", "seashore"),
        "studio": ("studio", "plain backdrop", "plain background", "backdrop", "blank background"),
    },
    "light": {
        "day": (
            "day",
            "daylight",
            "daytime",
            "noon",
            "midday",
            "sunny",
            "sunlight",
            "bright sunshine",
            "sunshine",
            "in the sun",
        ),
        "sunset": (
            "sunset",
            "dusk",
            "golden hour",
            "evening glow",
            "evening light",
            "evening",
            "sundown",
            "twilight",
        ),
        "night": (
            "night",
            "after dark",
            "moonlight",
            "moonlit",
            "nighttime",
            "midnight",
            "moon",
            "dark of night",
            "in the dark",
            "dark night",
        ),
    },
}


def _phrases() -> list[tuple[str, str, str]]:
    """(phrase, factor, value), longest first, for the pattern takes the first that fits."""
    tables = {
        "coat": (COAT_WORDS,),
        "pose": (POSE_WORDS,),
        "scene": (SCENE_WORDS, SCENE_TAGS),
        "light": (LIGHT_WORDS, LIGHT_TAGS),
    }
    found = {}
    for factor, parts in tables.items():
        for table in (*parts, EXTRA_WORDS[factor]):
            for value, phrases in table.items():
                for phrase in phrases:
                    if found.setdefault(phrase.lower(), (factor, value)) != (factor, value):
                        raise AssertionError(f"{phrase!r} names two values")
    return sorted(((p, f, v) for p, (f, v) in found.items()), key=lambda row: (-len(row[0]), row[0]))


_PHRASES = {phrase: (factor, value) for phrase, factor, value in _phrases()}
_PATTERN = re.compile(
    r"(?<![\w-])(?:" + "|".join(re.escape(p).replace(r"\ ", r"\s+") for p in _PHRASES) + r")(?![\w-])"
)

# "white sand", "a red sunset", "a black sky": the colour of something else.
_NOT_THE_DOG = re.compile(
    r"\s+(?:snow|sand|beach|sky|night|sea|sunset|dusk|sun|moon|backdrop|background|houses|buildings|"
    r"street|pavement|grass|studio)\b"
)


def named_factors(text: str) -> dict[str, str]:
    """What a text claims, as {factor: value}, only the factors it names; the first claim counts."""
    if not isinstance(text, str):
        raise WorkbenchError(
            f"a prompt is a text, not {type(text).__name__}; give words such as 'a white dog in the snow'."
        )
    claims: dict[str, str] = {}
    text = text.lower().replace("\u2019", "'")
    for match in _PATTERN.finditer(text):
        factor, value = _PHRASES[re.sub(r"\s+", " ", match.group())]
        if factor == "coat" and _NOT_THE_DOG.match(text, match.end()):
            continue
        claims.setdefault(factor, value)
    return {name: claims[name] for name in FACTOR_NAMES if name in claims}


def _write(form: str, factors, pick) -> str:
    """Fill one form; pick(words) chooses a synonym. Articles and the first capital follow from the words."""
    words = {
        "breed": pick(BREEDS),
        "coat": pick(COAT_WORDS[factors.coat]),
        "pose": pick(POSE_WORDS[factors.pose]),
        "scene": pick(SCENE_WORDS[factors.scene]),
        "light": pick(LIGHT_WORDS[factors.light]),
        "scene_tag": pick(SCENE_TAGS[factors.scene]),
        "light_tag": pick(LIGHT_TAGS[factors.light]),
        "a": "a",
        "A": "A",
    }
    for name in ("light", "scene", "pose"):
        words[name.capitalize()] = words[name][0].upper() + words[name][1:]
    text = form.format(**words)
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)


def _picker(seed: int, index: int, stream: int):
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise WorkbenchError(f"{name} is {value!r}; give a whole number from 0 to 2**63 - 1.")
    numbers = iter(
        np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, stream])))
        .random(16)
        .tolist()
    )
    return lambda words: words[int(next(numbers) * len(words))]


def caption(factors, seed: int, index: int) -> str:
    """A caption of these factors, fixed by (factors, seed, index); a quarter name two or three only."""
    pick = _picker(seed, index, 1)
    partial = pick(range(1000)) < 1000 * PART_SHARE
    return _write(pick(PART_FORMS if partial else FULL_FORMS), factors, pick)


def full_caption(factors, seed: int, index: int) -> str:
    """A caption that names all four factors, fixed by (factors, seed, index)."""
    pick = _picker(seed, index, 2)
    return _write(pick(FULL_FORMS), factors, pick)


def vocabulary() -> tuple[str, ...]:
    """Every word a caption can hold, sorted, lower case; hyphenated words whole and in their parts."""
    texts = [re.sub(r"\{\w+\}", " ", form) for form in FULL_FORMS + PART_FORMS] + list(BREEDS) + ["a an"]
    for table in (COAT_WORDS, POSE_WORDS, SCENE_WORDS, SCENE_TAGS, LIGHT_WORDS, LIGHT_TAGS):
        texts += [phrase for phrases in table.values() for phrase in phrases]
    words = {word for text in texts for word in re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())}
    return tuple(sorted(words | {part for word in words for part in word.split("-")}))


def all_claims() -> list[tuple[str, str, str, str]]:
    """The 225 combinations of coat, pose, scene and light."""
    return list(product(COAT_WORDS, POSE_WORDS, SCENE_WORDS, LIGHT_WORDS))
