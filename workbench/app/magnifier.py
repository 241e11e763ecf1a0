"""What stands between the page and the upscalers: one folder, loaded when it is asked for; AuraSR if at hand.

A missing folder is not fatal: every use of it says the same sentence, and looks again.
"""

import importlib.util
import threading
from pathlib import Path
from typing import Any

from workbench.app.jobs import Studio, looks_local
from workbench.app.long_work import Stops
from workbench.errors import WorkbenchError

# Torch and the pipeline come with the model: imported inside the functions, the page is up before that.

AURA_FOLDER = "assets/models/aura-sr"
NO_AURA = (
    "AuraSR can stand beside ours: `pip install 'aura-sr>=0.0.4,<0.1'`, and its weights (model.safetensors "
    f"and config.json) in `{AURA_FOLDER}` or in the cache of the Hugging Face Hub."
)


class Magnifier:
    """The upscaler of one folder (or Hub name), and the Stop of everybody's long work with it."""

    def __init__(self, model: str, studio: Studio) -> None:
        self.model, self.studio = model, studio
        self.stops = Stops()
        self._upscaler: Any = None
        self._aura: Any = None
        self._loading = threading.Lock()

    @property
    def absent(self) -> bool:
        """Whether there is nothing to load: asked without loading anything."""
        return self._upscaler is None and looks_local(self.model) and not Path(self.model).exists()

    @property
    def ready(self) -> bool:
        """Whether the upscaler is in memory."""
        return self._upscaler is not None

    def upscaler(self) -> Any:
        """The loaded upscaler; waits for a load under way. A missing or broken one: WorkbenchError."""
        with self._loading:
            if self._upscaler is None:
                if self.absent:
                    raise WorkbenchError(missing_upscaler(self.model))
                from workbench.pipeline.loading import load_upscaler

                self._upscaler = load_upscaler(self.model)
            return self._upscaler

    def trouble(self) -> str | None:
        """Why nothing can be enlarged, in the sentence of its error; None when the upscaler is loaded."""
        try:
            self.upscaler()
        except (WorkbenchError, OSError) as error:
            return str(error)
        return None

    def factors(self) -> list[int]:
        """What a side can be multiplied by: in one pass, in several, or drawn larger and brought down."""
        from workbench.models.upsampler import FACTORS
        from workbench.pipeline import passes

        upscaler, can = self.upscaler(), []
        for factor in FACTORS:
            try:
                passes(upscaler, factor)
            except WorkbenchError:
                continue
            can.append(factor)
        return can

    def aura(self) -> Any:
        """AuraSR, loaded from this machine. WorkbenchError where it is not at hand."""
        with self._loading:
            if self._aura is None:
                folder = aura_folder()
                if folder is None:
                    raise WorkbenchError(NO_AURA)
                from workbench.pipeline.aurasr import AuraSR

                self._aura = AuraSR.from_pretrained(folder)
            return self._aura


def aura_folder() -> Path | None:
    """Where AuraSR's weights lie on this machine; None without them or without its package. Nothing is
    fetched.
    """
    if importlib.util.find_spec("aura_sr") is None:
        return None
    if (Path(AURA_FOLDER) / "model.safetensors").is_file():
        return Path(AURA_FOLDER)
    from huggingface_hub import try_to_load_from_cache

    from workbench.pipeline.aurasr import HUB_NAME, WEIGHTS

    found = try_to_load_from_cache(HUB_NAME, WEIGHTS)
    return Path(found).parent if isinstance(found, str) else None


def missing_upscaler(model: str) -> str:
    """The sentence for an upscaler's folder that is not there."""
    return (
        f"There is no upscaler at {model}. Make the shipped one with `make demo-models`, or start the app "
        "with another: `workbench app --upscaler DIR`."
    )
