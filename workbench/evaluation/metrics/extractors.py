"""Networks whose features carry a distance, by name and behind one small form.

Letters: N pictures of H x W pixels, S pixels that the network reads, F features. Pictures are uint8
[N, 3, H, W]. Only published Inception weights make a distance that is called FID.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.features import Judge, load_judge
from workbench.evaluation.metrics.resizing import check_resizer, described, resize
from workbench.evaluation.perceptual import CLIP_FOLDER
from workbench.models.clip_io import Clip

KINDS = ("judge", "inception", "clip", "timm")


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Pictures to features: resized to the network's side, then `embed`.

    name: how to quote it; version: fingerprint of its weights; dims: F; embed: float32 pictures
    [N, 3, side, side] in 0 … 255 -> [N, F] on any device; fid: whether its Fréchet distance is the one that
    others call FID.
    """

    name: str
    version: str
    dims: int
    side: int
    resizer: str
    embed: Callable[[Tensor], Tensor]
    fid: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_resizer(self.resizer)

    @property
    def distance_name(self) -> str:
        """What its Fréchet distance is called."""
        return "FID" if self.fid else f"Fréchet distance (features {self.name})"

    @property
    def kernel_name(self) -> str:
        """What its kernel distance is called."""
        return "KID" if self.fid else f"kernel distance (features {self.name})"

    def key(self, resolution: int) -> str:
        """All that features of pictures of that size depend on, beside the pictures."""
        return f"{self.name} {self.version} {described(resolution, self.side, self.resizer)}"

    def with_resizer(self, resizer: str) -> Extractor:
        """The same network behind another resizer."""
        return replace(self, resizer=check_resizer(resizer))

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] -> [N, F] float32 on the CPU.

        Raises WorkbenchError for another form of pictures, or features that are not finite.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3 or not len(pictures):
            raise WorkbenchError(
                f"Pictures are {pictures.dtype} {list(pictures.shape)}: expected uint8 [N, 3, H, W], N >= 1."
            )
        features = self.embed(resize(pictures.to(self.device), self.side, self.resizer)).float().cpu()
        if features.shape != (len(pictures), self.dims):
            raise WorkbenchError(
                f"{self.name} gave features {list(features.shape)} for {len(pictures)} pictures: expected "
                f"[{len(pictures)}, {self.dims}]."
            )
        if not torch.isfinite(features).all():
            raise WorkbenchError(
                f"{self.name} gave features that are not finite: expected finite numbers. Its weights are "
                "damaged; get them again."
            )
        return features


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Twelve hex digits over names and values of a network's state."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def from_judge(judge: Judge, resizer: str = "antialias") -> Extractor:
    """The judge's mid-level features, of which a Fréchet distance of Shepherd World is made."""
    device = str(judge.stem.weight.device)
    return Extractor(
        name="judge, mid-level",
        version=judge.version,
        dims=judge.feature_dim,
        side=judge.config.resolution,
        resizer=resizer,
        embed=lambda x: judge.features(x / 127.5 - 1),
        device=device,
    )


def from_clip(clip: Clip, resizer: str = "bicubic") -> Extractor:
    """The image embedding of a CLIP, of unit length."""
    state = {k: v for k, v in clip.model.state_dict().items() if k.startswith("visual.")}
    facts = hashlib.sha256(repr((clip.mean, clip.std)).encode()).hexdigest()
    return Extractor(
        name=f"CLIP {clip.name}",
        version=state_hash(state | {"norm": torch.tensor(bytearray(facts.encode()))}),
        dims=clip.model_cfg["embed_dim"],
        side=clip.image_size,
        resizer=resizer,
        embed=lambda x: clip.encode_image(x / 127.5 - 1),
        device=str(clip.device),
    )


def load_extractor(
    name: str, *, weights: str | Path | None = None, resizer: str | None = None, device: str = "cpu"
) -> Extractor:
    """Features by name: "judge" or "judge:FOLDER"; "inception"; "clip", the mini-CLIP, or "clip:NAME" with a
    name of open_clip or a CLIP folder; "timm:NAME".

    weights: a local file for inception and timm, open_clip's tag or a file for a CLIP; where it is left out
    the caches of torch and the Hugging Face Hub are looked at. Nothing is ever downloaded: what is not there
    is a WorkbenchError that says where to get it. resizer: another than the network's own.
    """
    kind, _, which = name.partition(":")
    if kind not in KINDS or (kind == "timm" and not which) or (kind == "inception" and which):
        raise WorkbenchError(
            f"The features {name!r} are not known: expected judge, inception, clip, clip:NAME or timm:NAME."
        )
    if kind == "judge":
        found = from_judge(load_judge(which or None, device))
    elif kind == "inception":
        from workbench.evaluation.metrics.inception import load_inception

        found = load_inception(weights, device=device)
    elif kind == "clip":
        found = from_clip(local_clip(which or str(CLIP_FOLDER), weights, device))
    else:
        from workbench.evaluation.metrics.timm_models import load_timm

        found = load_timm(which, weights, device=device)
    return found if resizer is None else found.with_resizer(resizer)


def local_clip(name: str, pretrained: str | Path | None = None, device: str = "cpu") -> Clip:
    """`load_clip` without any download: a folder, or a published CLIP whose weights are at hand.

    Raises WorkbenchError with the line that fetches them where they are not.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    from workbench.models.clip_io import load_clip

    tag = None if pretrained is None else str(pretrained)
    if name in open_clip.list_models() and not Path(name).is_dir() and not (tag and Path(tag).is_file()):
        repo, file = os.path.split(open_clip.get_pretrained_cfg(name, tag or "openai").get("hf_hub", ""))
        file = Path(file or "open_clip_model.safetensors").with_suffix(".safetensors").name
        if repo and not isinstance(try_to_load_from_cache(repo, file), str):
            raise WorkbenchError(
                f"The weights of {name} ({tag or 'openai'}) are not in the Hugging Face cache, and an "
                f"evaluation downloads nothing: expected {repo}/{file} there. Get them with `hf download "
                f"{repo} {file}`, or give a safetensors file as weights."
            )
    return load_clip(name, tag, device)
