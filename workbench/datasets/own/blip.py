"""Captions by BLIP (Li et al. 2022, arXiv 2201.12086) through transformers: pictures in, a sentence each out.

Weights are safetensors and come from disk; only `download=True` lets the Hugging Face Hub be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.hardware import choose_device

MODEL = "Salesforce/blip-image-captioning-base"
_TOKENS = 40  # of a caption at most; BLIP was trained on captions of about ten


class BlipCaptioner:
    """A captioner for `own.import_folder`; call it with RGB pictures of any size."""

    def __init__(self, model: torch.nn.Module, processor, device: str, batch: int) -> None:
        self.model = model.to(device).eval()
        self.processor, self.device, self.batch = processor, device, batch

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> list[str]:
        """One caption a picture, in their order; beam search of 3, so the same picture gives the same
        words."""
        texts: list[str] = []
        for at in range(0, len(pictures), self.batch):
            inputs = self.processor(images=list(pictures[at : at + self.batch]), return_tensors="pt")
            tokens = self.model.generate(
                pixel_values=inputs["pixel_values"].to(self.device, self.model.dtype),
                max_new_tokens=_TOKENS,
                num_beams=3,
                do_sample=False,
            )
            texts += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


def load_captioner(
    model: str = MODEL, *, download: bool = False, device: str | None = None, batch: int = 8
) -> BlipCaptioner:
    """BLIP from a folder or by its name on the Hub; in bfloat16 on a GPU, float32 on a CPU.

    download: ask the Hub for what the disk lacks; without it nothing leaves this machine. Raises
    WorkbenchError with the command that brings the weights where they are missing.
    """
    from transformers import BlipForConditionalGeneration, BlipProcessor

    device = choose_device(device)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        processor = BlipProcessor.from_pretrained(model, local_files_only=not download)
        network = BlipForConditionalGeneration.from_pretrained(
            model, local_files_only=not download, use_safetensors=True, dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        if Path(model).is_dir() or download:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise WorkbenchError(f"{model} cannot be loaded as a BLIP captioner: {first}") from error
        raise WorkbenchError(
            f"The weights of {model} are not on this machine. Bring them once with `hf download {model}`, "
            "add --download to the command, or give --caption-model a folder that holds them."
        ) from error
    return BlipCaptioner(network, processor, device, batch)
