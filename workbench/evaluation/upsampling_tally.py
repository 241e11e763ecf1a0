"""What is kept of a method's pictures while they stream by: sums, whose size does not grow with the number.

Letters: F features, R rings of the spectrum.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from workbench.evaluation.distances import Moments
from workbench.images import write_whole

KINDS = ("tiles", "whole")  # of what the judge's features are taken


class Tally:
    """Sums over pictures 0 … done - 1, in float64.

    features: kind -> moments of the even and of the odd pictures; scores: name -> [number, sum, sum of
    squares]; power [R] and seen: of the spectra.
    """

    def __init__(self) -> None:
        self.done = 0
        self.features: dict[str, tuple[Moments, Moments]] = {}
        self.scores: dict[str, Tensor] = {}
        self.power, self.seen = torch.zeros(0, dtype=torch.float64), 0

    def add_features(self, kind: str, features: Tensor, first: int) -> None:
        """features [N, T, F], T of each picture, whose numbers begin at `first`."""
        if kind not in self.features:
            self.features[kind] = Moments(features.shape[-1]), Moments(features.shape[-1])
        odd = (torch.arange(len(features)) + first) % 2 == 1
        for half, rows in zip(self.features[kind], (~odd, odd), strict=True):
            half.add(features[rows].flatten(0, 1))

    def add_score(self, name: str, values: Tensor) -> None:
        """values [N] of as many pictures."""
        x = values.double().cpu()
        new = torch.stack([x.new_tensor(len(x)), x.sum(), x.square().sum()])
        self.scores[name] = self.scores[name] + new if name in self.scores else new

    def add_power(self, power: Tensor) -> None:
        """power [N, R]."""
        total = power.sum(dim=0)
        self.power = self.power + total if self.seen else total
        self.seen += len(power)

    def moments(self, kind: str) -> Moments:
        """Of all pictures."""
        even, odd = self.features[kind]
        return even + odd

    def mean(self, name: str) -> tuple[float, float]:
        """Mean of a score and its standard error (0 for one picture)."""
        count, total, squares = self.scores[name].tolist()
        mean = total / count
        spread = max(0.0, squares / count - mean**2) * count / max(1.0, count - 1)
        return mean, (spread / count) ** 0.5

    @property
    def spectrum(self) -> Tensor:
        """Mean power [R]."""
        return self.power / self.seen

    def save(self, path: Path, key: str) -> None:
        """Keep it. A full or read-only disk costs the next run some minutes, not this one."""
        tensors = {"power": self.power, **{f"score.{name}": value for name, value in self.scores.items()}}
        counts = {}
        for kind, halves in self.features.items():
            for half, moments in zip(("even", "odd"), halves, strict=True):
                tensors |= {f"{kind}.{half}.total": moments.total, f"{kind}.{half}.outer": moments.outer}
                counts[f"{kind}.{half}"] = moments.count
        facts = {"key": key, "done": self.done, "seen": self.seen, "counts": counts}
        data = save(tensors, metadata={"facts": json.dumps(facts)})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda handle: handle.write(data))
        except OSError as error:
            why = error.strerror or str(error)
            warnings.warn(f"{path} could not be kept ({why}); it is measured again next time.", stacklevel=2)

    @classmethod
    def load(cls, path: Path, key: str) -> Tally | None:
        """What was kept under this key; None where there is none, or it was cut short."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("facts", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, ValueError):
            return None  # it can always be measured again
        if facts.get("key") != key:
            return None
        tally = cls()
        tally.done, tally.seen, tally.power = facts["done"], facts["seen"], tensors["power"]
        for name, value in tensors.items():
            if name.startswith("score."):
                tally.scores[name.removeprefix("score.")] = value
        for kind in dict.fromkeys(name.partition(".")[0] for name in facts["counts"]):
            halves = []
            for half in ("even", "odd"):
                total = tensors[f"{kind}.{half}.total"]
                moments = Moments(len(total))
                moments.count, moments.total = facts["counts"][f"{kind}.{half}"], total
                moments.outer = tensors[f"{kind}.{half}.outer"]
                halves.append(moments)
            tally.features[kind] = (halves[0], halves[1])
        return tally
