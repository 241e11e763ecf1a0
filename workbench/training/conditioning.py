"""What a run is conditioned on: nothing, a class or a text, by the captions of its data set.

Without text, G, D and the heads are built without their text parts, and the losses that compare captions are
off. Class names are captions like any other and go through the frozen text encoder.
"""

from collections.abc import Callable
from dataclasses import replace

from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.models.presets import Preset
from workbench.models.text import TextEncoder
from workbench.training.config import TrainConfig

MOST_CLASSES = 1000
PICTURES_A_CLASS = 8  # fewer pictures to a caption on average are captions, not classes
_TEXT_LOSSES = {"matching_weight": 0.0, "clip_weight": 0.0}


def by_captions(table: PictureTable) -> str:
    """ "none" where all captions are one, "class" where few come again and again, else "text"."""
    distinct = len(set(table.texts))
    if distinct == 1:
        return "none"
    few = distinct <= MOST_CLASSES and len(table) >= PICTURES_A_CLASS * distinct
    return "class" if few and not any(table.known) else "text"


def settle(config: TrainConfig, preset: Preset, table: PictureTable) -> tuple[TrainConfig, Preset]:
    """Settings and networks with `config.conditioning` decided: "none", "class" or "text".

    Raises WorkbenchError where classes are asked for and the set has one caption.
    """
    found = by_captions(table)
    chosen = found if config.conditioning == "auto" else config.conditioning
    if chosen == "class" and found == "none":
        raise WorkbenchError(
            "conditioning is 'class', but all pictures have one caption: give each picture the name of its "
            "class as its caption, or train with conditioning none."
        )
    if chosen != "none":
        return replace(config, conditioning=chosen), preset
    return replace(config, conditioning="none", **_TEXT_LOSSES), without_text(preset)


def recorded(config: TrainConfig, chosen: str, table: PictureTable) -> TrainConfig:
    """The settings as a run records them: a choice that "auto" makes too is "auto", however it was asked."""
    return replace(config, conditioning="auto" if chosen == by_captions(table) else chosen)


def without_text(preset: Preset) -> Preset:
    """The preset's networks without their text parts."""
    aided = preset.vision_aided
    return replace(
        preset,
        generator=replace(preset.generator, text_dim=None, cross_attention={}),
        discriminator=replace(preset.discriminator, text_dim=None),
        vision_aided=None if aided is None else replace(aided, embed_dim=None),
    )


def explain(
    chosen: str, table: PictureTable, encoder: TextEncoder | None, say: Callable[[str], None]
) -> None:
    """Say in a sentence what the run is conditioned on, where it is not on texts.

    Raises WorkbenchError where the encoder reads two classes alike: no network could tell them apart.
    """
    if chosen == "none":
        alike = "All captions are the same" if by_captions(table) == "none" else "Captions are left aside"
        say(f"{alike}: this run is unconditional, without text in G, D and heads, matching and CLIP losses.")
    elif chosen == "class":
        names = list(dict.fromkeys(table.texts))
        _check_distinct(names, encoder)
        say(f"{len(names)} captions come again and again: they are classes, read by the text encoder.")


def _check_distinct(names: list[str], encoder: TextEncoder) -> None:
    read: dict[tuple[int, ...], str] = {}
    for name, tokens in zip(names, encoder.tokenizer(names).tolist(), strict=True):
        if (other := read.setdefault(tuple(tokens), name)) != name:
            raise WorkbenchError(
                f"The text encoder reads the classes {other!r} and {name!r} alike, because it lacks their "
                "words: give a CLIP with the whole vocabulary, or train with conditioning none (or text)."
            )
