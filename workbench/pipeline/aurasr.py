"""AuraSR (github.com/fal-ai/aura-sr) as an upscaler: four times, without text, from safetensors alone.

Its network sees squares of one size only; larger pictures are cut into squares that overlap and are blended.
The package `aura-sr` holds the network (extra `aurasr`); its weights are read here, never as a pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.models.clip_io import check_shapes, load_strict, read_json, read_tensors
from workbench.noise import draw_z, generator_for
from workbench.pipeline import model_folder, tiles
from workbench.pipeline.core import choose_device
from workbench.pipeline.fingerprint import Fingerprint
from workbench.pipeline.inputs import Stop, check_noise, check_pictures, check_seeds, ticker
from workbench.pipeline.stage_recipes import picture_recipe, stage_recipes
from workbench.pipeline.upscaler import Upscaled

NAME = "aura-sr"
HUB_NAME = "fal/AuraSR-v2"
WEIGHTS = "model.safetensors"
UNREAD = "AuraSR reads no text: the prompt is ignored."
_Z_STREAM, _INNER_STREAM = 3, 4
_OVERLAP = 0.375  # of a square's side


class AuraSR:
    """AuraSR's network, called as an `Upscaler` is. Make one with `from_pretrained`."""

    noise_max = 0.0  # it is told of no noise
    neutral_prompt = ""

    def __init__(self, network: nn.Module, config: Mapping[str, Any], name: str = NAME):
        self.network, self.config, self.name = network.eval().requires_grad_(False), dict(config), name
        self.side = int(config["input_image_size"])
        self.factor = int(config["image_size"]) // self.side
        self._weights = Fingerprint(network)

    @classmethod
    def from_pretrained(cls, path_or_hub_name: str | Path = NAME, device: str | None = None) -> AuraSR:
        """Read a folder with config.json and model.safetensors, or by its name the weights from the Hub.

        A missing package or folder, a pickle and weights that don't fit are a WorkbenchError.
        """
        build = _network_class()
        target = choose_device(device)
        name = HUB_NAME if path_or_hub_name == NAME else path_or_hub_name
        folder = model_folder.find_folder(name)
        if not (folder / WEIGHTS).is_file():
            raise WorkbenchError(
                f"{folder} holds no {WEIGHTS}: a pickle (.ckpt, .bin) can run code and is never read. Get "
                "AuraSR's weights as safetensors."
            )
        config = read_json(folder / "config.json")
        try:
            with torch.device("meta"):
                shapes = build(**config).state_dict()
            state = read_tensors(folder / WEIGHTS)
            check_shapes(shapes, state, folder / WEIGHTS)
            with torch.random.fork_rng(devices=[]):
                network = build(**config)
        except WorkbenchError:
            raise
        except (TypeError, KeyError, ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
            why = " ".join(str(error).split())[:120]
            raise WorkbenchError(
                f"{folder}/config.json describes no network of AuraSR ({why}): copy the folder again."
            ) from error
        load_strict(network, state, str(folder / WEIGHTS))
        return cls(network.to(target), config, NAME if name == HUB_NAME else folder.resolve().name)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    @property
    def weight_hash(self) -> str:
        """SHA-256 of the weights."""
        return self._weights.hash

    @property
    def config_hash(self) -> str:
        """SHA-256 of the architecture."""
        return recipes.hash_json({"aura-sr": self.config})

    def read(self, prompt: str) -> str:
        """What is read of a prompt: nothing."""
        return ""

    @torch.inference_mode()
    def __call__(
        self,
        images: Tensor,
        prompts: str | Sequence[str] = "",
        *,
        seed: int | Sequence[int] = 0,
        noise: float = 0.0,
        tile: int | None = None,
        batch_size: int = 1,
        cells: int = 1,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> Upscaled:
        """Enlarge pictures [N, 3, H, W] in [-1, 1], as `Upscaler`; the squares are fixed, so tile and
        batch_size change nothing, and prompts are ignored, which `warnings` says.
        """
        times = self.factor // tiles.check_cells(cells, self.factor)
        count, (height, width) = check_pictures(images, times)
        seeds = check_seeds(seed, count)
        noise = check_noise(noise, self.noise_max)
        given = [prompts] if isinstance(prompts, str) else list(prompts)
        rows, columns = (self._squares(side) for side in (height, width))
        step = ticker(count * len(rows) * len(columns), progress, stop)
        z = draw_z(seeds, self.network.style_network.dim_in, stream=_Z_STREAM)
        with torch.inference_mode(False):
            out = torch.zeros(count, 3, height * times, width * times)
        for k in range(count):
            low = images[k : k + 1].float().cpu()
            self._draw(low, seeds[k], z[k : k + 1], out[k], (rows, columns), cells, step)
        several = len(rows) * len(columns) > 1
        recipe_list = stage_recipes(
            self, prompts=[""] * count, seeds=seeds, z=z,
            inputs=inputs or [picture_recipe(image) for image in images],
            size=(out.shape[3], out.shape[2]), noise=noise, tile=self.side if several else None, cells=cells,
            dtype=torch.float32, sampler="AuraSR", exact=True,
        )  # fmt: skip
        return Upscaled(out, [""] * count, seeds, recipe_list, [UNREAD] if any(given) else [])

    def _squares(self, length: int) -> list[tiles.Span]:
        """Spans of the network's side, the last at the end; one, to be padded, where a picture is smaller."""
        if length <= self.side:
            return [(0, self.side)]
        spans = tiles.overlapping(length, self.side, int(_OVERLAP * self.side), 1)
        starts = [min(start, length - self.side) for start, _ in spans]
        return [(start, start + self.side) for start in dict.fromkeys(starts)]

    def _draw(self, low, seed, z, out, squares, cells, step) -> None:
        """One picture into out [3, fH / cells, fW / cells]; squares: spans of rows and of columns."""
        rows, columns = squares
        high, wide = rows[-1][1], columns[-1][1]
        padded = F.pad(low, (0, wide - low.shape[3], 0, high - low.shape[2]), mode="replicate")
        overlap, f = int(_OVERLAP * self.side), self.factor
        down, across = (tiles.blend(spans, overlap, f) for spans in squares)
        styles = self.network.style_network(z.to(self.device))
        times = f // cells
        whole = torch.zeros(3, times * high, times * wide)
        for r, (top, bottom) in enumerate(rows):
            for c, (left, right) in enumerate(columns):
                square = (padded[..., top:bottom, left:right] + 1) / 2
                drawn = self._square(square.to(self.device), styles, generator_for(seed, _INNER_STREAM))
                place = whole[:, times * top : times * bottom, times * left : times * right]
                place += tiles.mean(drawn * down[r][:, None] * across[c], cells)
                step()
        out.copy_(whole[:, : out.shape[1], : out.shape[2]].clamp(-1, 1))

    def _square(self, square: Tensor, styles: Tensor, generator: torch.Generator) -> Tensor:
        """[1, 3, S, S] in [0, 1] -> [3, fS, fS] in [-1, 1] on the CPU. The network adds a trace of noise from
        torch's own generator, which is set for it and put back.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(generator.initial_seed())
            drawn = self.network(lowres_image=square, styles=styles)
        side = self.factor * self.side
        if drawn.shape != (1, 3, side, side):
            raise WorkbenchError(
                f"{self.name} gave {list(drawn.shape[1:])}: expected [3, {side}, {side}] by its config. "
                "Copy the folder again."
            )
        return (drawn[0].float().cpu() * 2 - 1).clamp(-1, 1)


def is_folder_of(folder: Path) -> bool:
    """Whether a folder holds AuraSR's config."""
    try:
        config = read_json(folder / "config.json")
    except (WorkbenchError, OSError):
        return False
    return isinstance(config, dict) and {"input_image_size", "style_network"} <= set(config)


def _network_class() -> Callable[..., nn.Module]:
    try:
        from aura_sr import UnetUpsampler
    except ImportError as error:
        raise WorkbenchError(
            "AuraSR needs the package aura-sr, which is not installed: pip install 'aura-sr>=0.0.4,<0.1'."
        ) from error
    return UnetUpsampler
