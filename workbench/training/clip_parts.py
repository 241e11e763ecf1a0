"""Parts of the mini-CLIP's training: which captions match, how they're worded, augmentation, loss, decoder.

Letters: B pictures of a batch, M captions.
"""

import random
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.datasets.world import captions
from workbench.models.tokens import FUNCTION_WORDS
from workbench.training.zero_shot import PHRASES


def multi_positive_contrast(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of the mean over their positives p of -log(exp l_p / (exp l_p + sum of negatives exp
    l_n)). -> []

    logits: [B, M] float32, higher = more alike; positive: [B, M] bool. Other positives are left out of the
    denominator: a caption that claims little and one that claims much may lie at different distances from
    their picture. With one positive a row it is the cross entropy of CLIP (Radford et al. 2021). Rows without
    a positive count as 0.
    """
    # A finite floor instead of -inf: a row without negatives would have no gradient but NaN.
    negatives = logits.masked_fill(positive, -1e4).logsumexp(dim=1, keepdim=True)
    each = F.softplus(negatives - logits) * positive
    return (each.sum(dim=1) / positive.sum(dim=1).clamp_min(1)).mean()


def positives(texts: Sequence[str], known: Sequence[Mapping[str, str]], groups: Tensor) -> Tensor:
    """[B, B] bool: whether caption i is true of picture j; caption i was written for picture i.

    known: factors of each picture, {} where the data set names none; then pictures of the same group (equal
    text) match.
    """
    claims = [captions.named_factors(text) if truth else {} for text, truth in zip(texts, known, strict=True)]
    match = groups[:, None] == groups[None, :]
    by_factors = torch.tensor([bool(truth) for truth in known])
    agree = torch.ones_like(match)
    for name in captions.FACTOR_NAMES:
        codes: dict[str, int] = {}
        truth = torch.tensor([codes.setdefault(k.get(name, ""), len(codes)) for k in known])
        claim = torch.tensor([codes.setdefault(c[name], len(codes)) if name in c else -1 for c in claims])
        agree &= (claim[:, None] < 0) | (claim[:, None] == truth[None, :])
    return torch.where(by_factors[:, None] & by_factors[None, :], agree, match)


def short_caption(known: Mapping[str, str], rng: random.Random) -> str:
    """A prompt that names one factor alone, as people write them: "white dog", "a shepherd by the sea"."""
    factor = rng.choice(captions.FACTOR_NAMES)
    phrase, breed = rng.choice(PHRASES[factor][known[factor]]), rng.choice(captions.BREEDS)
    words = (phrase, breed) if factor == "coat" else (breed, phrase)
    return " ".join([*rng.choice((["a"], [])), *words])


def reword(text: str, rng: random.Random) -> str:
    """A caption with function words added or left out, now and then: prompts by people are no captions."""
    words = text.split()
    if rng.random() < 0.2:
        words = [w for w in words if w.lower() not in FUNCTION_WORDS] or words
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 2)):
            words.insert(rng.randint(0, len(words)), rng.choice(FUNCTION_WORDS))
    return " ".join(words)


def augment(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 [B, 3, H, W] -> (input, target), both float32 in about [-1, 1], channels last; the target is
    without the noise.

    Mirrored with p = 1/2; brightness, contrast and the channels' balance within a few per cent (coat and
    light are told by colour); noise up to 0.06.
    """
    n = len(pixels)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.rand(n, channels, 1, 1, generator=generator) * (high - low) + low

    x = pixels.to(torch.float32).div_(127.5).sub_(1.0)
    x = torch.where(uniform(0, 1) < 0.5, x.flip(3), x)
    x = x * uniform(0.9, 1.1) * uniform(0.97, 1.03, channels=3) + uniform(-0.06, 0.06)
    noisy = x + torch.randn(x.shape, generator=generator) * uniform(-0.03, 0.06).clamp_min(0)
    return noisy.contiguous(memory_format=torch.channels_last), x


class Decoder(nn.Module):
    """Thrown away after training: layer3's map [B, C, 4, 4] -> a picture [B, 3, 32, 32]."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 256, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.GELU(),
            nn.PixelShuffle(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.GELU(),
            nn.PixelShuffle(2),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def image_forward(visual: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """open_clip's ModifiedResNet, watched after layer3: [B, 3, 64, 64] -> (embedding [B, e], map [B, C, 4,
    4]).
    """
    middle = visual.layer3(visual.layer2(visual.layer1(visual.stem(x))))
    return visual.attnpool(visual.layer4(middle)), middle
