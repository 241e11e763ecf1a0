"""Who takes part in the Race: the page's GAN, a diffusion model and its few-step student, if at hand."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.app.jobs import Studio
from workbench.diffusion import entrants
from workbench.diffusion.entrants import how_to_make
from workbench.errors import WorkbenchError

# Torch and diffusers come with the models: imported inside the functions, the page is up before that.

NAMES = {"gan": "GAN", "student": "few-step student", "diffusion": "diffusion model"}


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A lane's model. kind: a key of NAMES; parameters: numbers that one call uses; trained: the card's words
    on its training, or ""; model: a Pipeline or a DiffusionModel.
    """

    kind: str
    parameters: int
    trained: str
    model: Any

    @property
    def name(self) -> str:
        """What the page calls it."""
        return NAMES[self.kind]


class Track:
    """The models of the race; each is loaded when it is first asked for, and looked for again while missing.

    diffusion, student: folders; None looks at what ships, then at finished runs under runs/.
    """

    def __init__(self, studio: Studio, diffusion: str | None = None, student: str | None = None) -> None:
        self.studio = studio
        self._wanted = {"diffusion": diffusion, "student": student}
        self._loaded: dict[str, Runner] = {}
        self._loading = threading.Lock()

    def place(self, kind: str) -> Path | None:
        """The folder of a lane's model ("diffusion" or "student"); None where there is none."""
        named = self._wanted[kind]
        return entrants.find(kind) if named is None else Path(named)

    def lanes(self) -> tuple[str, ...]:
        """The kinds that can run, the GAN first."""
        return ("gan", *(kind for kind in ("student", "diffusion") if self.place(kind) is not None))

    def runner(self, kind: str) -> Runner:
        """A lane's model, loaded. WorkbenchError with what to do where it is missing or broken."""
        if kind == "gan":
            pipeline = self.studio.pipeline()
            return Runner(
                kind=kind, parameters=self.studio.facts().parameters, trained=_trained(pipeline.card),
                model=pipeline,
            )  # fmt: skip
        with self._loading:
            if kind not in self._loaded:
                self._loaded[kind] = self._load(kind)
            return self._loaded[kind]

    def _load(self, kind: str) -> Runner:
        folder = self.place(kind)
        if folder is None:
            raise WorkbenchError(f"There is no {NAMES[kind]} yet: {how_to_make(kind)}")
        from workbench.diffusion.model import DiffusionModel

        model = DiffusionModel.from_pretrained(folder)
        towers = (model.unet, model.text_encoder)
        count = sum(p.numel() for tower in towers for p in tower.parameters())
        return Runner(kind=kind, parameters=count, trained=_trained(model.card), model=model)


def _trained(card: dict[str, Any]) -> str:
    """What a card says of the training: pictures seen and minutes, its teacher's too, as far as it does. Of a
    GAN's later lap it knows that lap alone, and what that began from.
    """
    said = []
    for key, what in (("images", "{:,} images"), ("teacher_images", "its teacher's {:,}")):
        if isinstance(card.get(key), int):
            said.append(what.format(card[key]))
    seconds = [card[key] for key in ("seconds", "teacher_seconds") if isinstance(card.get(key), int | float)]
    if seconds:
        said.append(f"{sum(seconds) / 60:,.0f} minutes{'' if 'began_from' in card else ' in all'}")
    if "began_from" in card:
        said.append(f"begun from {card['began_from']}")
    return ", ".join(said)
