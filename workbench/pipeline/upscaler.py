"""From a small picture and its prompt to a large one: one seed gives one picture, alone or among fifty.

Letters: N pictures of H x W pixels, any; f the factor. Pictures are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench import hub
from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.models.mapping import Text
from workbench.models.text import TextEncoder
from workbench.models.upsampler import Upsampler
from workbench.noise import draw_z
from workbench.pipeline import model_folder, tiles
from workbench.pipeline.card import upscaler_card_text
from workbench.pipeline.core import Samples, choose_device
from workbench.pipeline.fingerprint import Fingerprint, State
from workbench.pipeline.inputs import (
    Stop,
    add_noise,
    check_noise,
    check_pictures,
    check_seeds,
    ticker,
)
from workbench.pipeline.prompts import clean_prompt
from workbench.pipeline.stage_recipes import picture_recipe, stage_recipes

NEUTRAL = "a dog"  # what is read where no prompt is given; a card's `neutral_prompt` says another
_Z_STREAM = 2
_CACHED_PROMPTS = 128


@dataclass
class Upscaled(Samples):
    """images [N, 3, fH, fW] float32 in [-1, 1] on the CPU; the prompt that was read, seed and recipe of each;
    warnings of all.
    """


class Upscaler:
    """Upsampler, frozen text encoder and card. Make one with `from_pretrained`, or of parts in memory.

    trunk_bytes: memory for what the network sees at once; larger inputs than it holds are cut into
    overlapping tiles (`tiles.py`).
    """

    def __init__(self, U: Upsampler, text_encoder: TextEncoder | None, card: dict[str, Any] | None = None):
        """text_encoder: None for a U without text, which ignores prompts."""
        given = None if text_encoder is None else text_encoder.text_dim
        if U.config.text_dim != given:
            raise WorkbenchError(
                f"The upsampler reads text features of width {U.config.text_dim}, the text encoder gives "
                f"{given}: they belong to different models."
            )
        self.U, self.text_encoder, self.card = U, text_encoder, dict(card or {})
        self.trunk_bytes = tiles.TRUNK_BYTES
        self._weights = Fingerprint(U)
        self._cache: OrderedDict[str, Text | None] = OrderedDict()
        self._state_of_cache: State = ()
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(cls, path_or_hub_name: str | Path, device: str | None = None) -> Upscaler:
        """Read a model folder, or `owner/name` from the Hugging Face Hub. device: "cuda" where there is one.

        A folder that is missing, half copied, of another kind or version, misshapen or a pickle is a
        WorkbenchError.
        """
        target = choose_device(device)
        folder = model_folder.find_folder(path_or_hub_name)
        config = model_folder.read_config(folder, model_folder.UPSCALER)
        U, weight_hash = model_folder.load_network(folder, config, model_folder.UPSCALER)
        encoder = model_folder.load_text_encoder(folder).to(target) if U.config.text_dim else None
        upscaler = cls(U.to(target), encoder, config.get("card"))
        upscaler.card.setdefault("name", folder.resolve().name)
        upscaler._weights.known(weight_hash)
        return upscaler

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder (float16 weights, config, text encoder, card), whole or not at all.

        A folder that holds files is refused; overwrite=True exchanges the model in it and keeps other files.
        """
        weights, _ = model_folder.pack(self.U.state_dict())
        card = {"name": Path(folder).expanduser().resolve().name, **self.card}
        if self.text_encoder is not None:
            card.setdefault("neutral_prompt", NEUTRAL)
        config = {
            "schema": model_folder.SCHEMA,
            "kind": model_folder.UPSCALER.name,
            "name": card["name"],
            "upsampler": self.U.config.to_json(),
            **self._encoder_config(),
            "card": card,
            "versions": recipes.library_versions(),
        }
        readme = upscaler_card_text(
            card,
            parameters=sum(p.numel() for p in self.U.parameters()),
            factor=self.factor,
            text=self.text_encoder is not None,
        )
        return model_folder.write_folder(
            folder,
            config=config,
            weights=weights,
            text_encoder=self.text_encoder,
            readme=readme,
            overwrite=overwrite,
            kind=model_folder.UPSCALER,
        )

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Publish the model folder as `owner/name` on the Hugging Face Hub; returns its address.

        Nothing is sent before the folder was written and read back. Needs `hf auth login` or a token.
        """
        hub.check_name(repo_id)
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.save_pretrained(Path(scratch) / repo_id.rpartition("/")[2])
            Upscaler.from_pretrained(folder, device="cpu")
            return model_folder.upload(folder, repo_id, private=private, token=token)

    # --- picture -> larger picture ---

    @property
    def device(self) -> torch.device:
        """Where U lies."""
        return self.U.w_avg.device

    @property
    def name(self) -> str:
        """The model's name as recipes state it."""
        return str(self.card.get("name", "unnamed"))

    @property
    def factor(self) -> int:
        """What one pass makes of a side."""
        return self.U.config.factor

    @property
    def noise_max(self) -> float:
        """The strongest noise on the input that the network knows."""
        return float(self.U.config.noise_max)

    @property
    def neutral_prompt(self) -> str:
        """What is read where no prompt is given; "" for a model without text."""
        return "" if self.text_encoder is None else str(self.card.get("neutral_prompt", NEUTRAL))

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
        """Enlarge pictures [N, 3, H, W] in [-1, 1], each side `factor / cells` times.

        Args:
            prompts: one for all, or one for each; an empty one reads `neutral_prompt`.
            seed: picture k has the seed `seed + k`; or a list, one for each picture.
            noise: deviation of the noise put onto the input, 0 … noise_max; the network is told of it and
                draws more of its own.
            tile: side in pixels of the input that is drawn at once; changes memory, not what is drawn (the
                last bits may differ).
            batch_size: 1 gives the same bits alone or in any company on a CPU; more is faster and close.
            cells: each piece is brought down by the mean of cells x cells pixels as it is drawn.
            inputs: the recipes of the pictures, where they were drawn by something that has one.
            progress: called with (done, total) after each piece of the pictures.
            stop: asked after each piece; Stopped is raised when it is set, or says True.

        Mistakes (shape, size, prompt, seed, noise, tile, cells) raise WorkbenchError before any work.
        """
        times = self.factor // tiles.check_cells(cells, self.factor)
        count, (height, width) = check_pictures(images, times)
        texts, warnings = self._texts(prompts, count)
        seeds = check_seeds(seed, count)
        noise = check_noise(noise, self.noise_max)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise WorkbenchError(f"batch_size is {batch_size!r}: expected a whole number of at least 1.")
        cut = tiles.plan(
            self.U.config, height, width, bytes_each=self.U.compute_dtype.itemsize,
            trunk_bytes=self.trunk_bytes, tile=tile,
        )  # fmt: skip
        batches = -(-count // batch_size)
        step = ticker(batches * tiles.count(height, width, cut, self.U.config.window), progress, stop)
        out = torch.empty(count, 3, height * times, width * times)
        z = draw_z(seeds, self.U.config.z_dim, stream=_Z_STREAM)
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            low = add_noise(images[part].detach().float().cpu(), seeds[part], noise)
            with torch.inference_mode():
                text = self._text_of(texts[part])
                w = self._w(z[part], text, noise)
                tiles.enlarge(self.U, low, w, text, out[part], cut, step, cells)
        drawn = inputs or [picture_recipe(image) for image in images]
        recipe_list = stage_recipes(
            self, prompts=texts, seeds=seeds, z=z, inputs=drawn, size=(out.shape[3], out.shape[2]),
            noise=noise, tile=cut.network, cells=cells, dtype=self.U.compute_dtype, sampler="GigaGAN",
            exact=tile is None and batch_size == 1,
        )  # fmt: skip
        return Upscaled(out, texts, seeds, recipe_list, warnings)

    def _w(self, z: Tensor, text: Text | None, noise: float) -> Tensor:
        """w [n, w_dim] of a batch, on U's device."""
        level = torch.full((len(z),), noise, device=self.device)
        return self.U.mapping(z.to(self.device), None if text is None else text.t_global, level)

    def _text_of(self, texts: Sequence[str]) -> Text | None:
        rows = [self.text(prompt) for prompt in texts]
        return rows[0] if len(rows) == 1 or rows[0] is None else Text.cat(rows)

    def text(self, prompt: str) -> Text | None:
        """The prompt after the frozen tower and U's own T, one row; remembered for the last 128 prompts.

        None where U reads no text.
        """
        if self.text_encoder is None:
            return None
        state = self._weights.state
        with self._lock:
            if state != self._state_of_cache:  # U was trained or loaded since
                self._cache.clear()
                self._state_of_cache = state
            if prompt in self._cache:
                self._cache.move_to_end(prompt)
                return self._cache[prompt]
        with torch.inference_mode(False), torch.no_grad():
            text = self.U.encode_text(self.text_encoder([prompt]).to(self.device))
        with self._lock:
            self._cache[prompt] = text
            while len(self._cache) > _CACHED_PROMPTS:
                self._cache.popitem(last=False)
        return text

    def read(self, prompt: str) -> str:
        """What is read of a prompt, as recipes state it."""
        return self._texts(prompt, 1)[0][0]

    def _texts(self, prompts: str | Sequence[str], count: int) -> tuple[list[str], list[str]]:
        """What is read for each picture, and warnings."""
        listed = [prompts] * count if isinstance(prompts, str) else list(prompts)
        if len(listed) != count:
            raise WorkbenchError(
                f"There are {len(listed)} prompts for {count} pictures: give one for all, or one for each."
            )
        read, warnings = {}, []
        for prompt in dict.fromkeys(listed):
            empty = isinstance(prompt, str) and not prompt.strip() and self.text_encoder is not None
            clean = clean_prompt(self.neutral_prompt if empty else prompt, self.text_encoder)
            read[prompt] = clean.text
            if empty:
                warnings.append(f"No prompt was given: the upscaler reads “{clean.text}”.")
            warnings += clean.warnings
        return [read[prompt] for prompt in listed], list(dict.fromkeys(warnings))

    # --- recipes ---

    @property
    def weight_hash(self) -> str:
        """SHA-256 of upsampler.safetensors as `save_pretrained` writes it; of the exact weights where float16
        would round them.
        """
        return self._weights.hash

    @property
    def config_hash(self) -> str:
        """SHA-256 of the architecture of upsampler and text encoder."""
        return recipes.hash_json({"upsampler": self.U.config.to_json(), **self._encoder_config()})

    def _encoder_config(self) -> dict[str, Any]:
        return {} if self.text_encoder is None else {"text_encoder": self.text_encoder.config}
