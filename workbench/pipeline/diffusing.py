"""A text-to-image pipeline of diffusers as the source in front of upscalers: its thumbnails, then our detail.

Only safetensors are read, from this machine's disk, and no code that lies beside weights is ever run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.images import from_uint8
from workbench.models.clip_io import read_json
from workbench.noise import check_seed
from workbench.pipeline.core import Samples, choose_device

_FILES = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt"]
_LIBRARIES = ("diffusers", "transformers")


class DiffusersSource:
    """Called with (prompt, seed=…), gives Samples of one picture, as a `Chain` wants its source.

    settings: given to every call of the pipeline, as height, width, num_inference_steps, guidance_scale.
    """

    def __init__(self, pipe: Any, name: str = "diffusers", **settings: Any):
        self.pipe, self.name, self.settings = pipe, name, settings

    @classmethod
    def from_pretrained(
        cls, model: str | Path, device: str | None = None, **settings: Any
    ) -> DiffusersSource:
        """A folder that diffusers saved, or a name on the Hub whose files are in its cache.

        bfloat16 on a GPU, float32 on a CPU. Raises WorkbenchError where it is missing, not whole, holds its
        weights as pickles, or names classes that are not of diffusers or transformers.
        """
        target = choose_device(device)
        folder = _find(model)
        _check_index(folder)
        import diffusers

        dtype = torch.float32 if target.type == "cpu" else torch.bfloat16
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise WorkbenchError(f"{model} cannot be loaded as a pipeline of diffusers: {cause}") from error
        pipe.set_progress_bar_config(disable=True)
        return cls(pipe.to(target), str(model).rstrip("/").rpartition("/")[2], **settings)

    @torch.inference_mode()
    def __call__(self, prompt: str, *, seed: int = 0, **settings: Any) -> Samples:
        """One picture; settings go to the pipeline, over those of the source."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise WorkbenchError("The prompt is empty. Describe a picture.")
        given = {**self.settings, **settings}
        generator = torch.Generator("cpu").manual_seed(check_seed(seed))
        try:
            drawn = self.pipe(prompt, generator=generator, output_type="np", **given).images
        except (TypeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise WorkbenchError(f"{self.name} cannot draw a picture of a prompt so ({why}).") from error
        drawn = np.asarray(drawn)
        if drawn.ndim != 4 or drawn.shape[0] != 1 or drawn.shape[3] != 3 or not np.isfinite(drawn).all():
            raise WorkbenchError(
                f"{self.name} gave {list(drawn.shape)}, or numbers that are none: expected one RGB picture."
            )
        with torch.inference_mode(False):
            images = from_uint8((drawn.clip(0, 1) * 255).round().astype(np.uint8))
        return Samples(images, [prompt], [seed], [self._recipe(prompt, seed, given, images)])

    def _recipe(self, prompt: str, seed: int, given: dict[str, Any], images: torch.Tensor) -> dict[str, Any]:
        numbers = {"steps": given.get("num_inference_steps"), "guidance": given.get("guidance_scale")}
        return {
            "kind": "diffusers",
            "prompt": prompt,
            "seed": seed,
            "index": 0,
            **{key: value for key, value in numbers.items() if value is not None},
            "sampler": type(getattr(self.pipe, "scheduler", self.pipe)).__name__,
            "size": [images.shape[3], images.shape[2]],
            "model": self.name,
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "device": self.pipe.device.type,
            "versions": recipes.library_versions(),
            "promise": "close",
        }


def _find(model: str | Path) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(model), allow_patterns=_FILES, local_files_only=True))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"{model} is no folder here, and no pipeline of that name was downloaded: check the path, or "
            f"bring it once with `hf download {model}`."
        ) from error


def _check_index(folder: Path) -> None:
    """WorkbenchError unless model_index.json names classes of the two libraries alone."""
    if not (folder / "model_index.json").is_file():
        raise WorkbenchError(f"{folder} holds no model_index.json: expected a pipeline saved by diffusers.")
    index = read_json(folder / "model_index.json")
    import diffusers

    kind = index.get("_class_name")
    if not isinstance(kind, str) or not hasattr(diffusers, kind):
        raise WorkbenchError(
            f"{folder} is of the class {str(kind)[:60]!r}, which diffusers {diffusers.__version__} does not "
            "have: code beside weights is never run."
        )
    for name, part in index.items():
        if isinstance(part, list) and part and part[0] is not None and part[0] not in _LIBRARIES:
            raise WorkbenchError(
                f"{folder} takes its {name} from {str(part[0])[:60]!r}: only parts of diffusers and "
                "transformers are loaded; code beside weights is never run."
            )
