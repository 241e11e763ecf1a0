"""A trained diffusion model, called as a Pipeline is: one seed gives one picture, alone or among fifty.

Letters: N pictures [N, 3, S, S] float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench import recipe as recipes
from workbench.diffusion import folder, sampling
from workbench.diffusion.baseline import BaselineConfig
from workbench.diffusion.conditioning import NOTHING, Condition, guided, predict
from workbench.diffusion.lora import LoraConfig, parameters
from workbench.diffusion.sampling import GUIDANCE, MAX_GUIDANCE, STEPS, STUDENT_STEPS, OnStep, check_sampler
from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder
from workbench.pipeline.core import Samples, choose_device, plan_pictures
from workbench.pipeline.fingerprint import Fingerprint

_CACHED_PROMPTS = 128


class DiffusionModel:
    """U-Net, frozen text encoder and card. Make one with `from_pretrained`, or of parts in memory.

    lora: the adapters' shape, where this is a few-step student; its guidance is folded in.
    """

    def __init__(
        self, unet: nn.Module, config: BaselineConfig, text_encoder: TextEncoder,
        card: dict[str, Any] | None = None, *, lora: LoraConfig | None = None, teacher: dict | None = None,
        adapters: dict[str, Tensor] | None = None,
    ):  # fmt: skip
        """teacher: {"name", "weight_hash", "path"} of a student's teacher; adapters: those that were merged
        into the U-Net, None where it wears them.
        """
        if (config.text_dim, config.embed_dim) != (text_encoder.text_dim, text_encoder.embed_dim):
            raise WorkbenchError(
                f"The U-Net reads text of widths {config.text_dim} and {config.embed_dim}, the text encoder "
                f"gives {text_encoder.text_dim} and {text_encoder.embed_dim}: they are of different models."
            )
        # One layout for all: the last bits of a convolution depend on it.
        self.unet = unet.to(memory_format=torch.channels_last).eval()
        self.config, self.text_encoder = config, text_encoder
        self.card, self.lora, self.teacher, self.adapters = dict(card or {}), lora, teacher, adapters
        self._told: OrderedDict[str, Condition] = OrderedDict()
        self._lock = threading.Lock()
        self._weights = Fingerprint(unet)

    @classmethod
    def from_pretrained(cls, path_or_hub_name: str | Path, device: str | None = None) -> DiffusionModel:
        """Read a model folder, or `owner/name` from the Hugging Face Hub: a baseline's, or a student's, which
        looks for its teacher. What is missing, damaged or foreign is a WorkbenchError.
        """
        target = choose_device(device)
        parts = folder.read(path_or_hub_name)
        parts["unet"] = parts["unet"].to(target)
        weight_hash = parts.pop("weight_hash")
        model = cls(**{**parts, "text_encoder": parts["text_encoder"].to(target)})
        if weight_hash is not None:
            model._weights.known(weight_hash)
        return model

    def save_pretrained(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder in float16, whole or not at all; of a student its adapters alone."""
        card = {"name": Path(path).expanduser().resolve().name, **self.card}
        if self.lora is not None:
            own = self.adapters or parameters(self.unet)
            return folder.write_student(path, own, self.lora, self.teacher or {}, card, overwrite=overwrite)
        return folder.write_baseline(
            path, self.unet, self.config, self.text_encoder, card, overwrite=overwrite
        )

    @property
    def device(self) -> torch.device:
        """Where the U-Net lies."""
        return next(self.unet.parameters()).device

    @property
    def name(self) -> str:
        """The model's name as recipes state it."""
        return str(self.card.get("name", "unnamed"))

    @property
    def is_student(self) -> bool:
        return self.lora is not None

    @property
    def samplers(self) -> tuple[str, ...]:
        """How this model can be sampled; the first is what it takes when nothing is said."""
        return sampling.STUDENT if self.is_student else sampling.TEACHER

    @property
    def weight_hash(self) -> str:
        """SHA-256 of the weights as `save_pretrained` writes a baseline's; adapters included."""
        return self._weights.hash

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        count: int = 1,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        batch_size: int = 1,
        on_step: OnStep | None = None,
        noise: Tensor | None = None,
    ) -> Samples:
        """Draw pictures: `count` of each prompt, in the order of the prompts.

        Args:
            seed: picture k of the call has the seed `seed + k`; or a list, one for each picture.
            steps: of the sampler; 16, of a student 4, when None.
            guidance: 0 to 20, how far the caption counts; 1.5 when None. A student has its teacher's
                folded in and takes none.
            sampler: one of `samplers`.
            batch_size: 1 gives the same bits alone or in any company on a CPU; more is faster and close.
            on_step: called after each step of each batch with what the model sees; may raise to stop.
            noise: [N, 3, S, S] to start from instead of the seeds' own, to walk from one to another.

        Mistakes raise WorkbenchError before any work.
        """
        texts, seeds, warnings = plan_pictures(prompts, seed, count, self.text_encoder)
        chosen = check_sampler(sampler or self.samplers[0], self.samplers)
        steps = (STUDENT_STEPS if self.is_student else STEPS) if steps is None else steps
        sampling.schedule.ladder(steps)
        guidance = self.checked_guidance(guidance)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise WorkbenchError(f"batch_size is {batch_size!r}: expected a whole number of at least 1.")
        side = self.config.resolution
        if noise is not None and list(noise.shape) != [len(seeds), 3, side, side]:
            raise WorkbenchError(
                f"The noise is {list(noise.shape)}: expected [{len(seeds)}, 3, {side}, {side}] for "
                f"{len(seeds)} pictures."
            )
        images = torch.empty(len(seeds), 3, side, side)
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            with torch.inference_mode():
                start_at = None if noise is None else noise[part]
                images[part] = self._draw(
                    texts[part], seeds[part], guidance, chosen, steps, on_step, start_at
                )
        common = self._recipe(steps, guidance, chosen, batch_size)
        made = [
            {"kind": "diffusion", "prompt": text, "seed": one, "index": k, **common}
            for k, (text, one) in enumerate(zip(texts, seeds, strict=True))
        ]
        return Samples(images, texts, seeds, made, warnings)

    def condition(self, prompt: str) -> Condition:
        """The prompt as the U-Net reads it, one row; remembered for the last 128 prompts."""
        with self._lock:
            if prompt in self._told:
                self._told.move_to_end(prompt)
                return self._told[prompt]
        with torch.inference_mode(False), torch.no_grad():
            told = Condition.of(self.text_encoder([prompt]).to(self.device))
        with self._lock:
            self._told[prompt] = told
            while len(self._told) > _CACHED_PROMPTS:
                self._told.popitem(last=False)
        return told

    def _draw(
        self, texts: list[str], seeds: list[int], guidance: float, sampler: str, steps: int,
        on_step: OnStep | None, noise: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """One batch on the CPU."""
        told, nothing = Condition.cat([self.condition(text) for text in texts]), self.condition(NOTHING)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            x = x.contiguous(memory_format=torch.channels_last)
            if self.is_student:
                return predict(self.unet, x, t, told)
            return guided(self.unet, x, t, told, nothing, guidance)

        return sampling.draw(
            velocity, seeds, self.config.resolution, sampler=sampler, steps=steps, device=self.device,
            on_step=on_step, noise=noise,
        ).cpu()  # fmt: skip

    def checked_guidance(self, guidance: float | None) -> float:
        """What is drawn with where this is asked for; WorkbenchError where it cannot be."""
        if self.is_student:
            if guidance is not None:
                raise WorkbenchError(
                    f"guidance is {guidance!r}, and this student has its teacher's folded in: leave it out."
                )
            return 1.0
        if guidance is None:
            return GUIDANCE
        number = isinstance(guidance, (int, float)) and not isinstance(guidance, bool)
        if not number or not 0 <= guidance <= MAX_GUIDANCE:
            raise WorkbenchError(
                f"guidance is {str(guidance)[:40]}: expected 0 to {MAX_GUIDANCE:g}; 0 reads no caption, 1 "
                "adds nothing to it."
            )
        return float(guidance)

    def _recipe(self, steps: int, guidance: float, sampler: str, batch_size: int) -> dict[str, Any]:
        """What all pictures of a call share."""
        exact = self.device.type == "cpu" and batch_size == 1
        return {
            "steps": steps,
            "guidance": guidance,
            "sampler": sampler,
            "size": [self.config.resolution] * 2,
            "model": self.name,
            "weight_hash": self.weight_hash,
            "config_hash": recipes.hash_json(
                {"unet": self.config.to_json(), "text_encoder": self.text_encoder.config}
            ),
            "dtype": "float32",
            "device": self.device.type,
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "versions": recipes.library_versions(),
            "promise": "identical" if exact else "close",
        }
