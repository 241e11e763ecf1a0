"""Frozen text towers: captions become penultimate hidden states, the EOT position and the CLIP embedding.

One class for the mini-CLIP and for ViT-L/14 alike. Letters: N captions, T tokens (context length), d width of
the tower, e of the joint embedding. GigaGAN (arXiv 2303.05511, Sec. 3.2) takes the frozen CLIP features of
the penultimate layer; that the layer is the penultimate one and how EOT is found follow OpenAI's CLIP code.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg
from open_clip.transformer import QuickGELU, TextTransformer, text_global_pool
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.clip_io import (
    SCHEMA,
    Clip,
    build_clip,
    check_folder,
    load_clip,
    load_strict,
    read_json,
    read_tensors,
    save_clip,
    write_folder,
    write_json,
    write_tensors,
)
from workbench.models.tokens import Tokenizer, check_captions, tokenizer_from_json

__all__ = ["Clip", "TextEncoder", "TextFeatures", "TwoEncoders", "build_clip", "load_clip", "save_clip"]

_CHUNK = 256  # captions encoded at once: bounds the memory of a whole data set


@dataclass
class TextFeatures:
    """eps_txt: [N, T, d] penultimate hidden states; eot: [N] int64 position of EOT; embedding: [N, e], unit
    length.
    """

    eps_txt: Tensor
    eot: Tensor
    embedding: Tensor

    def __len__(self) -> int:
        return len(self.eot)

    def to(self, device: str | torch.device) -> "TextFeatures":
        return TextFeatures(self.eps_txt.to(device), self.eot.to(device), self.embedding.to(device))

    def index_select(self, rows: Tensor) -> "TextFeatures":
        """The features of some captions; rows: [M] int64."""
        rows = rows.to(self.eot.device)
        return TextFeatures(self.eps_txt[rows], self.eot[rows], self.embedding[rows])

    @staticmethod
    def cat(parts: "list[TextFeatures]") -> "TextFeatures":
        """Features of several lists of captions, one after the other."""
        return TextFeatures(
            torch.cat([p.eps_txt for p in parts]),
            torch.cat([p.eot for p in parts]),
            torch.cat([p.embedding for p in parts]),
        )


def _text_tower(model: nn.Module) -> nn.Module:
    """Where open_clip keeps the text tower: the classic CLIP in itself, CustomTextCLIP in .text."""
    return model.text if hasattr(model, "text") else model


def _new_tower(config: dict) -> TextTransformer:
    """An open_clip TextTransformer of a TextEncoder's config; refuses towers whose features aren't CLIP's."""
    try:
        cfg = CLIPTextCfg(**config["text_cfg"])
    except TypeError as error:
        raise WorkbenchError(
            f"text_cfg is none that open_clip {open_clip.__version__} knows ({error}): update the workbench."
        ) from error
    if cfg.hf_model_name or cfg.pool_type != "argmax" or cfg.embed_cls:
        raise WorkbenchError(
            f"The text tower pools by {cfg.pool_type!r}: expected CLIP's own kind, which takes the EOT token "
            "(argmax). Choose another model, as ViT-L-14."
        )
    passed = (
        "context_length",
        "vocab_size",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "ls_init_value",
        "pad_id",
    )
    passed += (
        "no_causal_mask",
        "pool_type",
        "proj_type",
        "proj_bias",
        "block_type",
        "qk_norm",
        "scaled_cosine_attn",
    )
    passed += ("scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
    act_layer = QuickGELU if config["quick_gelu"] else nn.GELU
    options = {name: getattr(cfg, name) for name in passed}
    try:
        return TextTransformer(output_dim=config["embed_dim"], act_layer=act_layer, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise WorkbenchError(
            f"text_cfg or embed_dim is none that a text tower can have ({str(error)[:120]}): get the folder "
            "again."
        ) from error


class TextEncoder(nn.Module):
    """A text tower with its tokenizer: frozen, in eval mode, without gradients.

    config: JSON facts {"embed_dim", "quick_gelu", "text_cfg", "name"}; `text_dim` is d, `embed_dim` e.
    """

    def __init__(self, config: dict, tokenizer: Tokenizer):
        super().__init__()
        missing = {"embed_dim", "quick_gelu", "text_cfg", "name"} - set(config)
        if missing:
            raise WorkbenchError(
                f"The text encoder's config lacks {', '.join(sorted(missing))}: get the folder again."
            )
        self.config = dict(config)
        self.tokenizer = tokenizer
        self.tower = _new_tower(config)
        if self.tower.vocab_size != tokenizer.vocab_size:
            raise WorkbenchError(
                f"The text tower has {self.tower.vocab_size} tokens, its vocabulary {tokenizer.vocab_size}: "
                "they belong to different models. Get the folder again."
            )
        self.text_dim = self.tower.width
        self.embed_dim = config["embed_dim"]
        self.context_length = self.tower.context_length
        self.eval().requires_grad_(False)

    @classmethod
    def from_clip(cls, clip: Clip) -> "TextEncoder":
        """A frozen copy of a CLIP's text tower; training the CLIP further doesn't change it."""
        tower = _text_tower(clip.model)
        config = {
            "embed_dim": clip.model_cfg["embed_dim"],
            "quick_gelu": any(isinstance(m, QuickGELU) for m in tower.transformer.modules()),
            "text_cfg": dict(clip.model_cfg["text_cfg"]),
            "name": clip.name,
        }
        encoder = cls(config, clip.tokenizer)
        state = tower.state_dict()
        own = encoder.tower.state_dict()
        # The classic CLIP's state holds the image tower too: ours alone is taken, and taken strictly.
        load_strict(
            encoder.tower, {key: state[key] for key in own if key in state}, f"The text tower of {clip.name}"
        )
        return encoder.to(clip.device)

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path, device: str | torch.device = "cpu") -> "TextEncoder":
        """From a folder of save_pretrained, a CLIP folder, or an open_clip name (see load_clip)."""
        folder = Path(folder_or_name)
        if not (folder / "config.json").is_file() or read_json(folder / "config.json").get("kind") == "clip":
            if folder.is_dir() and not (folder / "config.json").is_file():
                check_folder(folder, "text-encoder", ("config.json", "model.safetensors", "vocabulary.json"))
            return cls.from_clip(load_clip(folder_or_name, device=device))
        config = check_folder(folder, "text-encoder", ("config.json", "model.safetensors", "vocabulary.json"))
        config = {key: value for key, value in config.items() if key not in ("schema", "kind")}
        words = folder / "vocabulary.json"
        encoder = cls(config, tokenizer_from_json(read_json(words), str(words)))
        load_strict(
            encoder.tower, read_tensors(folder / "model.safetensors"), str(folder / "model.safetensors")
        )
        return encoder.to(device)

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the text tower alone: config.json, model.safetensors (fp16 where exact), vocabulary.json."""

        def write(path: Path) -> None:
            write_tensors(path / "model.safetensors", self.tower.state_dict())
            write_json(path / "vocabulary.json", self.tokenizer.to_json())
            write_json(path / "config.json", {"schema": SCHEMA, "kind": "text-encoder", **self.config})

        return write_folder(folder, write, overwrite=overwrite)

    def train(self, mode: bool = True) -> "TextEncoder":
        """Stays in eval mode whatever the module around it does: the tower is frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return self.tower.positional_embedding.device

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor) -> TextFeatures:
        """Token ids [N, T] -> TextFeatures. The tower's own forward, watched before its last block."""
        tower = self.tower
        x = tower.token_embedding(tokens) + tower.positional_embedding[: tokens.shape[1]]
        mask = None if tower.attn_mask is None else tower.attn_mask[: tokens.shape[1], : tokens.shape[1]]
        for block in tower.transformer.resblocks[:-1]:
            x = block(x, attn_mask=mask)
        eps_txt = x
        x = tower.ln_final(tower.transformer.resblocks[-1](x, attn_mask=mask))
        x = text_global_pool(x, tokens, "argmax")
        if isinstance(tower.text_projection, nn.Linear):
            x = tower.text_projection(x)
        elif tower.text_projection is not None:
            x = x @ tower.text_projection
        # EOT has the largest id; padding follows it, so "the last token" would be wrong.
        return TextFeatures(eps_txt, tokens.argmax(dim=-1), F.normalize(x, dim=-1))

    def forward(self, captions: list[str]) -> TextFeatures:
        """N > 0 captions (empty ones too) -> TextFeatures on the encoder's device, always in float32.

        Words beyond the context are left out; `truncated_words` names them. Raises WorkbenchError for one
        text instead of a list, a list without any, or one of other things.
        """
        check_captions(captions)
        tokens = self.tokenizer(captions).to(self.device)
        with torch.autocast(
            self.device.type, enabled=False
        ):  # features are the same inside and outside of training
            parts = [self.encode_tokens(chunk) for chunk in tokens.split(_CHUNK)]
        return parts[0] if len(parts) == 1 else TextFeatures.cat(parts)

    def fingerprint(self) -> str:
        """SHA-256 of what decides a caption's features: the tower's weights and the tokenizer."""
        digest = hashlib.sha256(json.dumps(self.tokenizer.to_json(), sort_keys=True).encode())
        for name, tensor in sorted(self.tower.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def unknown_words(self, caption: str) -> list[str]:
        """Words that the model never saw, in the user's spelling; [] for models with the whole vocabulary."""
        return self.tokenizer.unknown_words(caption)

    def truncated_words(self, caption: str) -> list[str]:
        """Words lost because the caption is longer than the context."""
        return self.tokenizer.truncated_words(caption)


class TwoEncoders:
    """Tokens of one CLIP, the embedding of another: what a training needs whose networks read the first and
    whose vision-aided heads and contrastive loss see by the second (the paper: ViT-L/14 and ViT-B/32).

    Called as a TextEncoder is: captions -> TextFeatures with eps_txt and eot of `reader`, embedding of
    `seer`.
    """

    def __init__(self, reader: TextEncoder, seer: TextEncoder) -> None:
        self.reader, self.seer = reader, seer
        self.text_dim, self.context_length = reader.text_dim, reader.context_length

    def __call__(self, captions: list[str]) -> TextFeatures:
        read = self.reader(captions)
        return TextFeatures(read.eps_txt, read.eot, self.seer(captions).embedding)

    def truncated_words(self, caption: str) -> list[str]:
        """Words lost to the networks because the caption is longer than the reader's context."""
        return self.reader.truncated_words(caption)

    def fingerprint(self) -> str:
        """SHA-256 of what decides the features: both encoders."""
        both = self.reader.fingerprint() + self.seer.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()
