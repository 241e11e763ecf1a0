"""A BLIP of some thousand random weights with its processor: the real classes, built from configs."""

from pathlib import Path

import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

WORDS = ("a", "the", "dog", "cat", "snow", "park", "black", "white", "sits", "stands", "in", "on", "and")
SIDE = 32


def write_tiny_blip(folder: Path) -> Path:
    """Saves model and processor as the Hub has them; returns the folder."""
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), bos_token="[DEC]")
    images = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["initializer_range"] = 1.0  # large enough that other pixels give other words
    config = BlipConfig(
        text_config=BlipTextConfig(
            **sizes, vocab_size=len(vocabulary), encoder_hidden_size=16, pad_token_id=0, bos_token_id=5,
            eos_token_id=3, sep_token_id=3, max_position_embeddings=64,
        ).to_dict(),
        vision_config=BlipVisionConfig(**sizes, image_size=SIDE, patch_size=16).to_dict(),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder
