"""Who takes part in the Race: the page's GAN, a diffusion model and its few-step student, if at hand."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.app.jobs import Studio
from workbench.errors import WorkbenchError

# Torch and diffusers come with the models: imported inside the functions, the page is up before that.

DIFFUSION, STUDENT = "assets/models/shepherd-64-diffusion", "assets/models/shepherd-64-student"
KINDS = {"diffusion-baseline": "diffusion", "diffusion-student": "student"}
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
        if named is not None:
            return Path(named)
        shipped = Path({"diffusion": DIFFUSION, "student": STUDENT}[kind])
        found = [
            shipped,
            *sorted(Path("runs").glob("*/model"), key=lambda p: p.stat().st_mtime, reverse=True),
        ]
        return next((folder for folder in found if _kind(folder) == kind), None)

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


def how_to_make(kind: str) -> str:
    """The command that makes a lane's model."""
    if kind == "student":
        return (
            "`workbench diffusion distill --teacher runs/diffusion/model --data runs/world "
            "--out runs/student --minutes 60`"
        )
    return "`workbench diffusion train --data runs/world --out runs/diffusion --minutes 170`"


def _kind(folder: Path) -> str | None:
    """ "diffusion" or "student" for a model folder of the diffusion lane; None for any other."""
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return KINDS.get(facts.get("kind")) if isinstance(facts, dict) else None


def _trained(card: dict[str, Any]) -> str:
    """What a card says of the training: pictures seen and minutes, its teacher's too, as far as it does."""
    said = []
    for key, what in (("images", "{:,} images"), ("teacher_images", "its teacher's {:,}")):
        if isinstance(card.get(key), int):
            said.append(what.format(card[key]))
    seconds = [card[key] for key in ("seconds", "teacher_seconds") if isinstance(card.get(key), int | float)]
    if seconds:
        said.append(f"{sum(seconds) / 60:,.0f} minutes in all")
    return ", ".join(said)
