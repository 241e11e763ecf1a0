"""Three small CLIPs: with the compact vocabulary, and of either kind that open_clip builds."""

import pytest
import torch
from tiny_towers import VIT_CFG, WORDS

from workbench.models.fp16 import round_to_fp16
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import build_clip
from workbench.models.tokens import BpeTokenizer


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    clip = new_mini_clip(WORDS)
    round_to_fp16(clip.model)
    clip.model.eval().requires_grad_(False)  # as loaded: on some CPUs another kernel serves what may learn
    return clip


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(1)
    clip = build_clip(VIT_CFG, BpeTokenizer(), name="tiny-vit")
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def custom():
    torch.manual_seed(2)
    return build_clip({**VIT_CFG, "custom_text": True}, BpeTokenizer(), name="tiny-custom")
