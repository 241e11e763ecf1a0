"""How many parameters each part of a preset has, beside the paper's totals; nothing is allocated for it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator
from workbench.models.presets import Preset
from workbench.models.vision_aided import VisionHead

# Kang et al. 2023, Sec. 4 and App. A: frozen CLIP towers are not counted
PAPER = {
    "gigagan-64": {"G": 652_500_000, "D": 381_400_000},
    "upsampler-64-512": {"G": 359_100_000},
    "upsampler-128-1024": {"G": 693_000_000},
}

# the first pattern found in a parameter's name says which part it belongs to; shown in this order
PARTS = {
    "G": {
        "text encoder T": r"^text\.",
        "mapping network M": r"^mapping_network\.",
        "style affines": r"\.style\.",
        "filter affines": r"\.select\.",
        "self-attention": r"\.attention\.",
        "cross-attention": r"\.cross\.",
        "RGB outputs": r"^(to_rgb\.|rgb_bias$)",
        "skip-layer excitation": r"^excitation\.",
        "constant": r"^constant$",
        "noise level": r"^noise_level\.",
        "input's encoder": r"^(from_rgb|down|skips)\.",
        "convolutions (banks)": r"^blocks\.",
    },
    "D": {
        "text encoder T": r"^text\.",
        "RGB inputs": r"^from_rgb\.",
        "self-attention": r"\.attention\.",
        "heads": r"^heads\.",
        "decoder": r"^decoder\.",
        "convolutions": r"^stages\.",
    },
    "vision-aided": {"convolutions": r"\.conv[01]\.", "heads": r"\.head\."},
}


def count_parts(network: nn.Module, kind: str) -> dict[str, int]:
    """Parameters of each part of a network, kind a key of PARTS; parts it lacks are left out.

    Raises WorkbenchError for a parameter that no part claims, so that none goes uncounted.
    """
    counts: Counter[str] = Counter()
    for name, parameter in network.named_parameters():
        part = next((part for part, pattern in PARTS[kind].items() if re.search(pattern, name)), None)
        if part is None:
            raise WorkbenchError(
                f"{kind} has a parameter {name}, which belongs to none of {list(PARTS[kind])}: add its part "
                "to workbench/models/params.py."
            )
        counts[part] += parameter.numel()
    return {part: counts[part] for part in PARTS[kind] if counts[part]}


@dataclass(frozen=True, kw_only=True)
class ParameterTable:
    """Parameters of a preset: network ("G", "D", "vision-aided") -> part -> count; paper: its totals."""

    preset: str
    networks: dict[str, dict[str, int]]
    paper: dict[str, int]

    def total(self, network: str) -> int:
        """Parameters of one network."""
        return sum(self.networks[network].values())

    def deviation(self, network: str) -> float | None:
        """(counted - paper) / paper; None where the paper states no number."""
        stated = self.paper.get(network)
        return None if stated is None else self.total(network) / stated - 1

    def to_json(self) -> dict:
        """Plain values for `--json`."""
        return {
            "preset": self.preset,
            **{
                network: {
                    "total": self.total(network),
                    "total_M": self.total(network) / 1e6,
                    "paper": self.paper.get(network),
                    "deviation": self.deviation(network),
                    "parts": parts,
                }
                for network, parts in self.networks.items()
            },
        }

    def __rich__(self) -> Table:
        """One section a network, parts in the order of the data's way, totals beside the paper's."""
        table = Table(title=f"parameters of {self.preset}")
        table.add_column("network")
        table.add_column("part")
        for heading in ("parameters", "share", "paper"):
            table.add_column(heading, justify="right")
        for network, parts in self.networks.items():
            total, stated = self.total(network), self.paper.get(network)
            for part, count in parts.items():
                table.add_row(network, part, f"{count:,}", f"{count / total:.1%}", "")
            beside = "" if stated is None else f"{stated / 1e6:.1f} M ({self.deviation(network):+.2%})"
            table.add_row(network, "total", f"{total:,}", "", beside, style="bold", end_section=True)
        return table


def count(preset: Preset) -> ParameterTable:
    """Count a preset's parameters on the meta device: shapes without numbers, whatever the size.

    The frozen CLIP towers are not counted, as in the paper; the fixed random projection has none.
    """
    with torch.device("meta"):
        networks = {
            "G": count_parts(preset.network(), "G"),
            "D": count_parts(Discriminator(preset.discriminator), "D"),
        }
        if (aided := preset.vision_aided) is not None:
            heads = nn.ModuleList(VisionHead(aided) for _ in aided.taps)
            networks["vision-aided"] = count_parts(heads, "vision-aided")
    return ParameterTable(preset=preset.name, networks=networks, paper=PAPER.get(preset.name, {}))
