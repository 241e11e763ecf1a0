"""Networks whose features carry a distance, by name: the judge, Inception, any CLIP, any model of timm."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from workbench.errors import WorkbenchError
from workbench.evaluation.features import Judge, load_judge
from workbench.evaluation.metrics.extractor import Extractor, state_hash
from workbench.evaluation.perceptual import CLIP_FOLDER
from workbench.models.clip_io import Clip

KINDS = ("judge", "inception", "clip", "timm")


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
