"""From a prompt to a picture: one seed gives one picture, alone or among fifty.

Letters: N pictures of H x W pixels, z [N, z_dim], w [N, w_dim]. Pictures are float32 in [-1, 1] on the CPU.
"""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench import hub
from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.mapping import Text
from workbench.models.text import TextEncoder
from workbench.noise import MAX_SEED, check_seed, draw_z
from workbench.pipeline import model_folder
from workbench.pipeline.card import card_text
from workbench.pipeline.fingerprint import Fingerprint, State
from workbench.pipeline.prompts import clean_prompt

MAX_COUNT = 1_000  # pictures of one prompt in one call; the app sets its own, lower limit
MAX_TRUNCATION = 1.5
_TRUNCATION_STREAM = 1  # the 16 fixed z of the prompt's mean: never those of the seeds 0 to 15
_TRUNCATION_DRAWS = 16
_CACHED_PROMPTS = 128


@dataclass
class Samples:
    """images [N, 3, H, W] float32 in [-1, 1] on the CPU; prompt, seed and recipe of each; warnings of all."""

    images: Tensor
    prompts: list[str]
    seeds: list[int]
    recipes: list[dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass
class _Encoded:
    """A prompt after the frozen tower and G's T; w_mean [1, w_dim] is filled at the first truncation.

    text: None where G reads none.
    """

    text: Text | None
    w_mean: Tensor | None = None


class Pipeline:
    """Generator, frozen text encoder and card. Make one with `from_pretrained`, or of parts in memory."""

    def __init__(self, G: Generator, text_encoder: TextEncoder | None, card: dict[str, Any] | None = None):
        """text_encoder: None for a G without text, which ignores prompts."""
        given = None if text_encoder is None else text_encoder.text_dim
        if G.config.text_dim != given:
            raise WorkbenchError(
                f"The generator reads text features of width {G.config.text_dim}, the text encoder gives "
                f"{given}: they belong to different models."
            )
        self.G, self.text_encoder, self.card = G, text_encoder, dict(card or {})
        self._cache: OrderedDict[str, _Encoded] = OrderedDict()
        self._lock = threading.Lock()
        self._state_of_cache: State = ()
        self._weights = Fingerprint(G)

    @classmethod
    def from_pretrained(cls, path_or_hub_name: str | Path, device: str | None = None) -> "Pipeline":
        """Read a model folder, or `owner/name` from the Hugging Face Hub. device: "cuda" where there is one.

        A folder that is missing, half copied, of another version, misshapen or a pickle is a WorkbenchError.
        """
        target = choose_device(device)
        folder = model_folder.find_folder(path_or_hub_name)
        config = model_folder.read_config(folder)
        G, weight_hash = model_folder.load_network(folder, config)
        card = config.get("card")
        encoder = model_folder.load_text_encoder(folder).to(target) if G.config.text_dim else None
        pipeline = cls(G.to(target), encoder, card)
        pipeline.card.setdefault("name", folder.resolve().name)
        pipeline._weights.known(weight_hash)
        return pipeline

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder (float16 weights, config, text encoder, card), whole or not at all.

        A folder that holds files is refused; overwrite=True exchanges the model in it and keeps other files.
        """
        weights, _ = model_folder.pack(self.G.state_dict())
        card = {"name": Path(folder).expanduser().resolve().name, **self.card}
        config = {
            "schema": model_folder.SCHEMA,
            "kind": model_folder.GAN.name,
            "name": card["name"],
            "generator": self.G.config.to_json(),
            **self._encoder_config(),
            "card": card,
            "versions": recipes.library_versions(),
        }
        readme = card_text(
            card,
            parameters=sum(p.numel() for p in self.G.parameters()),
            resolution=self.G.config.resolution,
            text=self.text_encoder is not None,
        )
        return model_folder.write_folder(
            folder,
            config=config,
            weights=weights,
            text_encoder=self.text_encoder,
            readme=readme,
            overwrite=overwrite,
        )

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Publish the model folder as `owner/name` on the Hugging Face Hub; returns its address.

        Nothing is sent before the folder was written and read back. Needs `hf auth login` or a token.
        """
        hub.check_name(repo_id)
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.save_pretrained(Path(scratch) / repo_id.rpartition("/")[2])
            Pipeline.from_pretrained(folder, device="cpu")
            return model_folder.upload(folder, repo_id, private=private, token=token)

    # --- prompt -> picture ---

    @property
    def device(self) -> torch.device:
        """Where G lies."""
        return self.G.w_avg.device

    @property
    def name(self) -> str:
        """The model's name as recipes state it."""
        return str(self.card.get("name", "unnamed"))

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        count: int = 1,
        truncation: float = 1.0,
        batch_size: int = 1,
    ) -> Samples:
        """Draw pictures: `count` of each prompt, in the order of the prompts.

        Args:
            seed: picture k of the call has the seed `seed + k`; or a list, one for each picture (count stays
                1, and a single prompt is used for all).
            truncation: 0 to 1.5; w moves towards the mean w of its prompt (16 fixed z), 1 leaves it as it is.
            batch_size: 1 gives the same bits alone or in any company on a CPU; more is faster and close.

        Mistakes (empty prompt, seed, count or truncation out of range) raise WorkbenchError before any work.
        """
        samples, z = self._planned(prompts, seed, count, truncation, batch_size)
        truncation = float(truncation)
        side = self.G.config.resolution
        # made outside of inference mode: callers may differentiate
        samples.images = torch.empty(len(z), 3, side, side)
        for start in range(0, len(z), batch_size):
            part = slice(start, start + batch_size)
            with torch.inference_mode():
                samples.images[part] = self._draw(samples.prompts[part], z[part], truncation)
        return samples

    def undrawn(self, prompt: str, *, seed: int = 0, truncation: float = 1.0) -> Samples:
        """The picture of a call with its recipe and warnings, but not drawn: images [0, 3, H, W]. For what
        draws it itself, such as an edit.
        """
        return self._planned(prompt, seed, 1, truncation, 1)[0]

    def _planned(
        self,
        prompts: str | Sequence[str],
        seed: int | Sequence[int],
        count: int,
        truncation: float,
        batch_size: int,
    ) -> tuple[Samples, Tensor]:
        """(everything of a call but its pictures, z [N, z_dim])."""
        texts, seeds, warnings = plan_pictures(prompts, seed, count, self.text_encoder)
        truncation = check_truncation(truncation)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise WorkbenchError(f"batch_size is {batch_size!r}: expected a whole number of at least 1.")
        common = self._common_recipe(truncation, batch_size)
        z = draw_z(seeds, self.G.config.z_dim)
        recipe_list: list[dict[str, Any]] = []
        for k, row in enumerate(z):
            own = {"prompt": texts[k], "seed": seeds[k], "index": k}
            noise_hash = recipes.sha256(row.numpy().astype("<f4").tobytes())
            recipe_list.append({"kind": "gan", **own, **common, "noise_hash": noise_hash})
        side = self.G.config.resolution
        return Samples(torch.empty(0, 3, side, side), texts, seeds, recipe_list, warnings), z

    def text(self, prompt: str) -> Text | None:
        """The prompt after the frozen tower and G's own T, one row; remembered for the last 128 prompts.

        None where G reads no text.
        """
        return self._encoded(prompt).text

    def w_mean(self, prompt: str) -> Tensor:
        """Mean of M(z, t_global) over 16 fixed z, [1, w_dim]: where truncation 0 leads."""
        entry = self._encoded(prompt)
        if entry.w_mean is None:
            z = draw_z(range(_TRUNCATION_DRAWS), self.G.config.z_dim, stream=_TRUNCATION_STREAM).to(
                self.device
            )
            with torch.inference_mode(False), torch.no_grad():
                t_global = None if entry.text is None else entry.text.t_global.expand(len(z), -1)
                entry.w_mean = self.G.mapping(z, t_global).mean(0, keepdim=True)
        return entry.w_mean

    def _draw(self, texts: list[str], z: Tensor, truncation: float) -> Tensor:
        """One batch, [n, 3, H, W] on the CPU."""
        rows = [self.text(text) for text in texts]
        text = rows[0]
        if len(rows) > 1 and text is not None:
            text = Text.cat(rows)
        w = self.G.mapping(z.to(self.device), None if text is None else text.t_global)
        if truncation != 1.0:
            mean = torch.cat([self.w_mean(prompt) for prompt in texts])
            w = torch.lerp(mean, w, truncation)
        return self.G.synthesis(w, text)[0].float().clamp(-1, 1).cpu()

    def _encoded(self, prompt: str) -> _Encoded:
        """The prompt's entry in the cache. Each is encoded alone: its company never changes its bits."""
        state = self._weights.state
        with self._lock:
            if state != self._state_of_cache:  # G was trained or loaded since
                self._cache.clear()
                self._state_of_cache = state
            if prompt in self._cache:
                self._cache.move_to_end(prompt)
                return self._cache[prompt]
        with torch.inference_mode(False), torch.no_grad():
            frozen = None if self.text_encoder is None else self.text_encoder([prompt]).to(self.device)
            entry = _Encoded(self.G.encode_text(frozen))
        with self._lock:
            self._cache[prompt] = entry
            while len(self._cache) > _CACHED_PROMPTS:
                self._cache.popitem(last=False)
        return entry

    # --- recipes ---

    @property
    def weight_hash(self) -> str:
        """SHA-256 of generator.safetensors as `save_pretrained` writes it; of the exact weights where float16
        would round them.
        """
        return self._weights.hash

    @property
    def config_hash(self) -> str:
        """SHA-256 of the architecture of generator and text encoder."""
        return recipes.hash_json({"generator": self.G.config.to_json(), **self._encoder_config()})

    def _encoder_config(self) -> dict[str, Any]:
        """The text encoder's part of the config; nothing without text."""
        return {} if self.text_encoder is None else {"text_encoder": self.text_encoder.config}

    def _common_recipe(self, truncation: float, batch_size: int) -> dict[str, Any]:
        """What all pictures of a call share; the pixel hash is added when a picture is saved."""
        side = self.G.config.resolution
        dtype = str(self.G.compute_dtype).removeprefix("torch.")
        exact = self.device.type == "cpu" and batch_size == 1 and dtype == "float32"
        return {
            "truncation": truncation,
            "steps": 1,
            "sampler": "GigaGAN",
            "size": [side, side],
            "model": self.name,
            "weight_hash": self.weight_hash,
            "config_hash": self.config_hash,
            "dtype": dtype,
            "device": self.device.type,
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "versions": recipes.library_versions(),
            "promise": "identical" if exact else "close",
        }


# --- checks of what a person typed ---


def plan_pictures(
    prompts: str | Sequence[str],
    seed: int | Sequence[int],
    count: int,
    text_encoder: TextEncoder | None,
) -> tuple[list[str], list[int], list[str]]:
    """Prompt and seed of each picture, and warnings; every mistake is refused here, before any work."""
    count = check_count(count)
    listed = [prompts] if isinstance(prompts, str) or not isinstance(prompts, Sequence) else list(prompts)
    if not listed:
        raise WorkbenchError("The list of prompts is empty: give at least one prompt.")
    for prompt in listed:
        if not isinstance(prompt, str):  # before they become keys, which a list could not
            clean_prompt(prompt, text_encoder)
    cleaned = {prompt: clean_prompt(prompt, text_encoder) for prompt in dict.fromkeys(listed)}
    warnings = list(dict.fromkeys(w for clean in cleaned.values() for w in clean.warnings))
    texts = [cleaned[prompt].text for prompt in listed for _ in range(count)]
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        seeds = [check_seed(value) for value in seed]
        if count != 1 or len(texts) not in (1, len(seeds)) or not seeds:
            raise WorkbenchError(
                f"There are {len(seeds)} seeds for {len(listed)} prompts with count {count}: give one "
                "seed for each picture and leave count at 1, or give one number as the seed."
            )
        return texts * (len(seeds) if len(texts) == 1 else 1), seeds, warnings
    first = check_seed(seed)
    if first + len(texts) - 1 > MAX_SEED:
        raise WorkbenchError(
            f"Seed {first} and {len(texts)} pictures go beyond the largest seed {MAX_SEED}: start lower."
        )
    return texts, list(range(first, first + len(texts))), warnings


def check_count(count: object, limit: int = MAX_COUNT) -> int:
    """`count` as an int in [1, limit]; else a WorkbenchError. The app passes its own limit."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= limit:
        raise WorkbenchError(f"The count is {str(count)[:40]}: expected a whole number from 1 to {limit:,}.")
    return count


def check_truncation(truncation: object) -> float:
    """`truncation` as a float in [0, 1.5]; else a WorkbenchError."""
    number = isinstance(truncation, (int, float)) and not isinstance(truncation, bool)
    if not number or not 0 <= truncation <= MAX_TRUNCATION:
        raise WorkbenchError(
            f"The truncation is {str(truncation)[:40]}: expected 0 (typical) to {MAX_TRUNCATION} (wild); "
            "1 changes nothing."
        )
    return float(truncation)


def choose_device(device: str | None) -> torch.device:
    """A usable device, "cuda" by default where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise WorkbenchError(f"There is no device {device!r}: give cpu or cuda.") from error
    if target.type not in ("cpu", "cuda"):
        raise WorkbenchError(f"The device {device!r} is not supported: give cpu or cuda.")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise WorkbenchError(f"This machine has no CUDA device {device!r}: give cpu.")
    return target
