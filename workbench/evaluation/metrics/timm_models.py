"""Features of any timm model, the last layer before its classes, from weights that are at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.extractor import Extractor, state_hash


def load_timm(name: str, weights: str | Path | None = None, *, device: str = "cpu") -> Extractor:
    """weights: a safetensors file; where it is left out, what the Hugging Face cache holds of that model.

    Raises WorkbenchError without timm, for a name that it does not know, and where no weights are at hand.
    """
    if importlib.util.find_spec("timm") is None:
        raise WorkbenchError(
            f"timm:{name} needs timm, which is not installed: `pip install timm`, or use other features."
        )
    import timm

    if not timm.is_model(name):
        raise WorkbenchError(f"timm knows no model {name!r}: see timm.list_models(), for example resnet18.")
    model = timm.create_model(name, pretrained=False, num_classes=0)
    path = _cached(model.pretrained_cfg, name) if weights is None else Path(weights)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WorkbenchError(
            f"{path} is no safetensors file that can be read ({error}): give the weights of timm's {name}."
        ) from error
    own = model.state_dict()
    lacking = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if lacking:
        raise WorkbenchError(
            f"{path} does not fit {name}: {lacking[0]} is missing or of another shape. Give that model's "
            "file."
        )
    model.load_state_dict({key: state[key] for key in own})
    model.to(device).eval().requires_grad_(False)
    facts = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(facts[part], device=device).view(1, 3, 1, 1) for part in ("mean", "std"))

    def embed(x: Tensor) -> Tensor:
        return model((x / 255 - mean) / std).flatten(1)

    return Extractor(
        name=f"timm {name}",
        version=state_hash({**own, "mean": mean, "std": std}),
        dims=model.num_features,
        side=facts["input_size"][-1],
        resizer="bicubic" if facts["interpolation"] == "bicubic" else "antialias",
        embed=embed,
        device=device,
    )


def _cached(facts: dict, name: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    repo = facts.get("hf_hub_id")
    found = try_to_load_from_cache(repo, "model.safetensors") if repo else None
    if not isinstance(found, str):
        raise WorkbenchError(
            f"The weights of timm:{name} are not in the Hugging Face cache, and an evaluation downloads "
            f"nothing: expected {repo or 'its repository'}/model.safetensors there. Get them with `hf "
            f"download {repo} model.safetensors`, or give a safetensors file as weights."
        )
    return Path(found)
