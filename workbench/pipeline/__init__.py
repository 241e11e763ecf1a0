"""From a prompt to a picture, to its file, and back: the pipeline, samples on disk, pictures made again."""

from workbench.pipeline.chain import Chain, Chained, passes, upscale
from workbench.pipeline.choosing import Chooser
from workbench.pipeline.core import (
    MAX_COUNT,
    MAX_TRUNCATION,
    Pipeline,
    Samples,
    check_count,
    check_truncation,
)
from workbench.pipeline.inputs import Stopped
from workbench.pipeline.keeping import Remade, SavedSamples, remake, sample_to_folder
from workbench.pipeline.prompts import CleanPrompt, clean_prompt
from workbench.pipeline.upscaler import Upscaled, Upscaler

__all__ = [
    "MAX_COUNT",
    "MAX_TRUNCATION",
    "Chain",
    "Chained",
    "Chooser",
    "CleanPrompt",
    "Pipeline",
    "Remade",
    "Samples",
    "SavedSamples",
    "Stopped",
    "Upscaled",
    "Upscaler",
    "check_count",
    "check_truncation",
    "clean_prompt",
    "passes",
    "remake",
    "sample_to_folder",
    "upscale",
]
