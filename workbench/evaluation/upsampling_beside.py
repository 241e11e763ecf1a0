"""Another upscaler as one more way in a measurement, such as AuraSR: its name, its factor, what it was given.

It stands there under its own name, and a note says what it lacks beside ours: text, and training on such
pictures.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.evaluation.upsampling import TRUTH, Method, Precision, from_upscaler, load_upscaler
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.keeping import slug
from workbench.pipeline.upscaler import Upscaler

WORDLESS = "gets no text"
UNTAUGHT = "saw no such pictures in training"
_TAKEN = (TRUTH, "input", "bicubic", "lanczos", "upsampler", "l1")


def load_beside(
    path_or_name: str | Path, *, factor: int, device: str | None = None, precision: Precision = "auto"
) -> Method:
    """What `pipeline.loading.load_upscaler` finds under a name or in a folder, as a method.

    Raises WorkbenchError as that does, and for a model of another factor than is measured.
    """
    upscaler = load_upscaler(path_or_name, device=device, precision=precision)
    if upscaler.factor != factor:
        raise WorkbenchError(
            f"{upscaler.name} enlarges {upscaler.factor} times, and {factor} times is measured: give one of "
            f"factor {factor}, or leave --beside out."
        )
    name = slug(upscaler.name)
    return from_upscaler(f"beside-{name}" if name in _TAKEN else name, upscaler, note=note_on(upscaler))


def load_methods(
    model: str | None,
    baseline: str | None = None,
    beside: str | None = None,
    *,
    device: str | None = None,
    precision: Precision = "auto",
) -> tuple[list[Method], int]:
    """(the model as "upsampler", the one trained without an adversary as "l1", another beside them; the
    factor, 4 where none of ours says it). Raises WorkbenchError as `load_beside`.
    """
    how = {"device": device, "precision": precision}
    named = {"upsampler": model, "l1": baseline}
    ours = {name: load_upscaler(folder, **how) for name, folder in named.items() if folder}
    factor = next((one.factor for one in ours.values()), 4)
    methods = [from_upscaler(name, one) for name, one in ours.items()]
    if beside:
        methods.append(load_beside(beside, factor=factor, **how))
    return methods, factor


def note_on(upscaler: Upscaler | AuraSR) -> str:
    """What it goes without beside ours, in words; "" for one of ours that reads text."""
    if isinstance(upscaler, AuraSR):
        return f"{UNTAUGHT} and {WORDLESS}"
    return WORDLESS if upscaler.text_encoder is None else ""
