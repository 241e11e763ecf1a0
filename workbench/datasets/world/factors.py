"""What a picture of Shepherd World shows: its factors, and which ones picture i of seed s has."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from workbench.errors import WorkbenchError

COATS = ("black-and-tan", "sable", "black", "white", "red")
POSES = ("standing", "sitting", "lying")
SCENES = ("park", "city", "snow", "beach", "studio")
LIGHTS = ("day", "sunset", "night")
CHOICES = {"coat": COATS, "pose": POSES, "scene": SCENES, "light": LIGHTS}
RANGES = {
    "azimuth_deg": (-180.0, 180.0),
    "distance": (1.8, 4.5),
    "x": (-0.5, 0.5),
    "y": (-0.3, 0.3),
    "size": (0.7, 1.3),
    "head_yaw_deg": (-60.0, 60.0),
    "head_pitch_deg": (-30.0, 30.0),
    "tail_deg": (0.0, 60.0),
    "tongue": (0.0, 1.0),
    "stance": (-1.0, 1.0),
    "build": (0.85, 1.15),
    "light_deg": (-120.0, 120.0),
}
# Raise it whenever a picture or a caption of the same (seed, index) changes; a set is never grown with
# another world's.
WORLD_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Everything a picture shows; a bad value raises WorkbenchError.

    azimuth_deg: 0 looks at the viewer, 90 to the right of the picture, -90 to the left. distance: camera to
    dog, metres. x, y: shift in the frame, in half pictures (right, up). size: scale of the dog.
    stance: stride and side of the tail. build: depth of the chest. light_deg: where the light comes from
    (90: right). scenery: seed of the backdrop.
    """

    coat: str
    pose: str
    scene: str
    light: str
    azimuth_deg: float = 70.0
    distance: float = 2.6
    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    head_yaw_deg: float = 0.0
    head_pitch_deg: float = 0.0
    tail_deg: float = 15.0
    tongue: float = 0.0
    stance: float = 0.5
    build: float = 1.0
    light_deg: float = 45.0
    scenery: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise WorkbenchError(
                    f"{name} {getattr(self, name)!r} is not in Shepherd World; "
                    f"choose one of {', '.join(choices)}."
                )
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise WorkbenchError(f"{name} is {value!r}; give a number from {low:g} to {high:g}.")
        if (
            isinstance(self.scenery, bool)
            or not isinstance(self.scenery, int)
            or not 0 <= self.scenery < 2**31
        ):
            raise WorkbenchError(f"scenery is {self.scenery!r}; give a whole number from 0 to 2147483647.")


def is_render(columns: dict) -> bool:
    """Whether a row of metadata is that of a render: it says every factor, coat, pose, scene and light as the
    world has them. Photographs may be told by these four words too; the angles and sizes only a render has.
    """
    return all(field.name in columns for field in fields(Factors)) and all(
        columns[name] in choices for name, choices in CHOICES.items()
    )


def draw_factors(seed: int, index: int, **fixed) -> Factors:
    """Factors of picture `index` of `seed`. `fixed` fields leave the others as they are."""
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise WorkbenchError(f"{name} is {value!r}; give a whole number from 0 to 2**63 - 1.")
    unknown = sorted(set(fixed) - {field.name for field in fields(Factors)})
    if unknown:
        known = ", ".join(field.name for field in fields(Factors))
        raise WorkbenchError(f"Shepherd World has no factor {unknown[0]!r}; it has {known}.")
    u = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index]))).random(24).tolist()

    def between(k: int, low: float, high: float) -> float:
        return low + (high - low) * u[k]

    def bell(k: int, width: float) -> float:
        return width * (u[k] + u[k + 1] - 1)

    broad = between(4, 0, 180) if u[5] < 0.12 else 75 + 55 * (u[4] + u[23] - 1)
    drawn = {
        **{name: choices[int(u[k] * len(choices))] for k, (name, choices) in enumerate(CHOICES.items())},
        "azimuth_deg": broad * (1 if u[6] < 0.5 else -1),
        "distance": between(7, 2.35, 3.05),
        "x": bell(8, 0.16),
        "y": between(10, -0.06, 0.06),
        "size": between(11, 0.92, 1.08),
        "head_yaw_deg": bell(12, 40),
        "head_pitch_deg": between(14, -14, 14),
        "tail_deg": between(15, 0, 45),
        "tongue": 0.0 if u[16] < 0.5 else 2 * u[16] - 1,
        "stance": between(17, 0.45, 1) * (1 if u[22] < 0.5 else -1),
        "build": between(18, 0.94, 1.05),
        "light_deg": between(19, 35, 75) * (1 if u[20] < 0.5 else -1),
        "scenery": int(u[21] * 2**31),
    }
    return Factors(**{**drawn, **fixed})


def mirrored(factors: Factors) -> Factors:
    """The factors whose dog is the mirror image; the scenery stays as it is."""
    return replace(
        factors,
        azimuth_deg=-factors.azimuth_deg,
        x=-factors.x,
        head_yaw_deg=-factors.head_yaw_deg,
        stance=-factors.stance,
        light_deg=-factors.light_deg,
    )
