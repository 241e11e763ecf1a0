"""Zero-shot accuracy: a picture's class is the one whose prompts, averaged, lie nearest to it (Radford et al.
2021, Sec. 3.1.4).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.datasets.world import captions
from workbench.models.clip_io import Clip

# Each takes every phrase of a class in turn.
TEMPLATES = {
    "coat": (
        "a {} German shepherd",
        "a {} dog",
        "a photo of a {} shepherd",
        "a German shepherd with a {} coat",
    ),
    "pose": ("a German shepherd {}", "a dog {}", "a photo of a shepherd {}", "a dog is {}"),
    "scene": ("a German shepherd {}", "a dog {}", "a photo of a shepherd {}", "{}, a dog"),
    "light": ("a German shepherd {}", "a dog {}", "a photo of a shepherd {}", "{}, a dog"),
}
PHRASES = {
    "coat": captions.COAT_WORDS,
    "pose": captions.POSE_WORDS,
    "scene": captions.SCENE_WORDS,
    "light": captions.LIGHT_WORDS,
}


def class_prompts(factor: str) -> dict[str, list[str]]:
    """All prompts of each class of a factor.

    >>> class_prompts("coat")["red"][0]
    'a red German shepherd'
    """
    return {
        name: [template.format(phrase) for template in TEMPLATES[factor] for phrase in phrases]
        for name, phrases in PHRASES[factor].items()
    }


@torch.no_grad()
def zero_shot(
    clip: Clip, pictures: Tensor, factors: Sequence[object], *, batch: int = 256, per_class: bool = False
) -> dict:
    """Share of pictures named rightly, by factor.

    pictures: [N, 3, H, W] in [-1, 1]; factors: N times Factors or a mapping with coat, pose, scene, light.
    per_class adds {"coat/red": recall, …}. The model is put into eval mode for it.
    """
    training = clip.model.training
    clip.model.eval()
    try:
        seen = torch.cat([clip.encode_image(part.to(clip.device)).cpu() for part in pictures.split(batch)])
        result: dict[str, float] = {}
        for factor in TEMPLATES:
            prompts = class_prompts(factor)
            means = torch.stack([clip.encode_text(texts).mean(dim=0) for texts in prompts.values()]).cpu()
            found = (seen @ F.normalize(means, dim=-1).T).argmax(dim=1)
            names = list(prompts)
            truth = torch.tensor([names.index(_value(f, factor)) for f in factors])
            result[factor] = (found == truth).double().mean().item()
            if per_class:
                for k, name in enumerate(names):
                    result[f"{factor}/{name}"] = (found[truth == k] == k).double().mean().item()
        return result
    finally:
        clip.model.train(training)


def _value(factors: object, name: str) -> str:
    return factors[name] if isinstance(factors, Mapping) else getattr(factors, name)
