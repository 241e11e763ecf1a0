"""mini-CLIP: a small open_clip model of our own config, for 64-pixel pictures and a few hundred words."""

from collections.abc import Iterable

from workbench.models.clip_io import Clip, build_clip
from workbench.models.tokens import CompactTokenizer

NAME = "mini-clip"
IMAGE_SIZE = 64


def mini_clip_cfg(vocab_size: int, *, context_length: int = 32) -> dict:
    """open_clip's model_cfg: a ModifiedResNet of 5.7M parameters and a text tower of 0.5M (11.7 MiB in fp16).

    Every width of the residual layers is a multiple of 32 (bf16 convolutions on CPU are slow at others). The
    stem halves the picture, layer1 … layer4 work at 16, 8, 4 and 2 px; attention pooling ends it.
    """
    return {
        "embed_dim": 128,
        "vision_cfg": {"layers": [2, 2, 2, 1], "width": 32, "head_width": 64, "image_size": IMAGE_SIZE},
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 3,
            "mlp_ratio": 2.0,
        },
    }


def new_mini_clip(words: Iterable[str]) -> Clip:
    """A mini-CLIP with fresh weights (from torch's global generator) that knows `words` and common function
    words.
    """
    tokenizer = CompactTokenizer(words)
    cfg = mini_clip_cfg(tokenizer.vocab_size, context_length=tokenizer.context_length)
    return build_clip(cfg, tokenizer, name=NAME)
