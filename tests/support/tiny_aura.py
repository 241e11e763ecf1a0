"""A tiny random network of AuraSR's own class, saved as its weights are published."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

CONFIG = {
    "style_network": {"dim_in": 16, "dim_out": 16, "depth": 2, "lr_mul": 0.1, "dim_text_latent": 0},
    "dim": 8,
    "image_size": 64,
    "input_image_size": 16,
    "init_dim": 8,
    "up_dim_mults": [1, 1, 1, 2],
    "down_dim_mults": [1, 2],
    "channels": 3,
    "resnet_block_groups": 2,
    "full_attn": [False, False, False, True],
    "attn_depths": [1, 1, 1, 1],
    "mid_attn_depth": 1,
    "num_conv_kernels": 2,
    "self_attn_dim_head": 8,
    "self_attn_heads": 2,
    "unconditional": True,
}


def save_tiny_aura(folder: Path) -> Path:
    """Write config.json and model.safetensors into a new folder; skips the test without the package."""
    aura_sr = pytest.importorskip("aura_sr", reason="pip install 'aura-sr>=0.0.4,<0.1'")
    folder.mkdir()
    torch.manual_seed(0)
    network = aura_sr.UnetUpsampler(**CONFIG)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder
