"""A picture drawn again by its recipe, stage by stage, and what is otherwise than it was then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.pipeline.core import Pipeline, Samples
from workbench.pipeline.stage_recipes import picture_recipe
from workbench.pipeline.upscaler import Upscaler

Recipe = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What is at hand to draw the picture of a recipe again; name: of its file, for sentences.

    pipeline draws of prompts, replay in its place what was edited after that, upscalers enlarge; picture
    [1, 3, H, W] is what was enlarged where nobody drew it.
    """

    name: str
    pipeline: Pipeline | None = None
    replay: Callable[[Recipe], Samples] | None = None
    upscalers: Sequence[Upscaler] = ()
    picture: Tensor | None = None

    def check(self, recipe: Recipe) -> None:
        """WorkbenchError, before any work, where something that the recipe needs is not at hand."""
        kind = recipe.get("kind", "gan")
        if kind == "picture":
            return self._check_picture(recipe)
        if kind not in ("gan", "upscaled"):
            raise WorkbenchError(
                f"{self.name} was made by another kind of model ({kind[:40]}): open it there."
            )
        needed = ("prompt", "seed", "input") if kind == "upscaled" else ("prompt", "seed")
        lacking = [field for field in needed if field not in recipe]
        if lacking:
            raise WorkbenchError(
                f"The recipe in {self.name} lacks {' and '.join(lacking)}: the picture cannot be made again."
            )
        if kind == "upscaled":
            self._upscaler(recipe)
            return self.check(recipe["input"])
        if "edit" in recipe and self.replay is None:
            raise WorkbenchError(
                f"{self.name} was edited in the latent space after it was drawn: open it in the Edit tab of "
                "the app (`workbench app`), which repeats the edit and compares."
            )
        if self.pipeline is None and self.replay is None:
            raise WorkbenchError(f"{self.name} was drawn of a prompt: give the model that draws it, too.")

    def make(self, recipe: Recipe) -> Samples:
        """The picture of a recipe that `check` let through."""
        kind = recipe.get("kind", "gan")
        if kind == "picture":
            return Samples(self.picture, [""], [0], [picture_recipe(self.picture[0])])
        if kind == "upscaled":
            below = self.make(recipe["input"])
            return self._upscaler(recipe)(
                below.images,
                recipe["prompt"],
                seed=recipe["seed"],
                noise=recipe.get("noise", 0.0),
                cells=recipe.get("cells", 1),
                inputs=below.recipes,
            )
        if self.replay is not None:
            return self.replay(recipe)
        return self.pipeline(recipe["prompt"], seed=recipe["seed"], truncation=recipe.get("truncation", 1.0))

    def _upscaler(self, recipe: Recipe) -> Upscaler:
        """The one that made it; where that is not at hand, one of the same factor."""
        same = [up for up in self.upscalers if up.weight_hash == recipe.get("weight_hash")]
        factor = recipe.get("factor", 0) * recipe.get("cells", 1)
        near = [up for up in self.upscalers if up.factor == factor]
        if not same and not near:
            who = f"{str(recipe.get('model'))[:60]}, weights {str(recipe.get('weight_hash'))[:10]}"
            raise WorkbenchError(
                f"{self.name} was enlarged {str(factor)[:4]} times by an upscaler ({who}): "
                "give its model folder, too."
            )
        return (same or near)[0]

    def _check_picture(self, recipe: Recipe) -> None:
        width, height = recipe.get("size", ("?", "?"))
        which = f"{width} × {height} px, pixel hash {str(recipe.get('pixel_hash'))[:10]}"
        if self.picture is None:
            raise WorkbenchError(
                f"{self.name} was enlarged from a picture that nobody drew here ({which}): give that "
                "picture, too."
            )
        if picture_recipe(self.picture[0])["pixel_hash"] != recipe.get("pixel_hash"):
            raise WorkbenchError(
                f"{self.name} was enlarged from another picture than the one given ({which}): give that one."
            )


def differences(then: Recipe, now: Recipe) -> list[str]:
    """What was recorded then and is otherwise now, most telling first; of what was enlarged, too."""
    found = []
    if then.get("weight_hash") != now.get("weight_hash"):
        before, after = str(then.get("weight_hash"))[:10], str(now.get("weight_hash"))[:10]
        found.append(
            f"Other weights: made by {before} ({str(then.get('model'))[:60]}), here {after} "
            f"({now.get('model')})."
        )
    for field, words in (
        ("config_hash", "Another architecture: the config of the model differs."),
        ("noise_hash", "The same seed gave other noise, or the recipe was edited."),
        ("prompt", "The prompt is read differently here."),
        ("tile", "The network saw it in other tiles."),
        ("cells", "It was brought down from another size."),
    ):
        if then.get(field) != now.get(field):
            found.append(words)
    for library, version in now.get("versions", {}).items():
        before = str(then.get("versions", {}).get(library))[:30]
        if before != version:
            found.append(f"Another version of {library}: {before} then, {version} now.")
    for field, words in (("device", "device"), ("dtype", "number format"), ("cpu", "processor kind")):
        if then.get(field) != now.get(field):
            found.append(f"Another {words}: {str(then.get(field))[:30]} then, {now.get(field)} now.")
    if then.get("threads") != now.get("threads"):
        found.append(f"Another number of threads: {then.get('threads')} then, {now.get('threads')} now.")
    if then.get("promise") == "close":
        found.append(
            "It was made in a batch, on a GPU or in half precision, which promises a close picture only."
        )
    if isinstance(then.get("input"), dict) and isinstance(now.get("input"), dict):
        found += [reason for reason in differences(then["input"], now["input"]) if reason not in found]
    return found
