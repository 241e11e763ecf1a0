"""How different two pictures look: a distance in the features of a frozen image network.

LPIPS needs weights that cannot ship here; `FeatureDistance` is its form (unit-normalised features of several
layers, compared place by place) without its trained weights, on our mini-CLIP. It is named so wherever it is
quoted. Letters: N pictures, H x W pixels, F features, T tiles of a picture, S pixels of a tile's side.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.text import load_clip
from workbench.models.vision_aided import ImageTower, VisionAidedConfig

CLIP_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "mini-clip"
LPIPS_NETS = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights"}  # the first whose weights are at hand
Kind = Literal["auto", "lpips", "clip"]


class DetailDistance(Protocol):
    """What `perceptual_distance` gives. name: how to quote it."""

    name: str

    def detail(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of [N, 3, H, W] in [-1, 1] at the pictures' own resolution, [N]."""


def tiles(images: Tensor, side: int) -> Tensor:
    """[N, 3, H, W] -> [N, T, 3, side, side]: the tiles that cover each picture without overlap, row by row.

    Raises WorkbenchError where they would not cover it.
    """
    if (
        images.ndim != 4
        or min(images.shape[-2:]) < side
        or images.shape[-2] % side
        or images.shape[-1] % side
    ):
        raise WorkbenchError(
            f"Pictures of shape {list(images.shape)} cannot be cut into tiles of {side} px: expected "
            f"[N, 3, H, W] with sides that are multiples of {side}. Crop or pad them first."
        )
    cut = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # [N, 3, rows, side, columns, side]
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


class FeatureDistance:
    """sqrt(sum over layers of mean over places of |f_a - f_b|^2), f the unit-length features of a place.

    A norm, so that lengths of paths add up; differentiable in the pictures. name: how to quote it.
    """

    def __init__(
        self,
        clip: str | Path | None = None,
        *,
        taps: tuple[str, ...] | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """clip: CLIP folder or open_clip name, the shipped mini-CLIP when None; taps: layers to compare;
        dtype: in which the tower computes (what follows it is float32)."""
        loaded = load_clip(CLIP_FOLDER if clip is None else clip)
        self.name = f"{loaded.name} feature distance"
        self.tower = ImageTower(loaded, taps or VisionAidedConfig().taps, dtype).to(device)
        self.side = loaded.image_size

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, F]; the distance of two pictures is the norm of the difference.

        Pictures of another size than the CLIP's are resized to it.
        """
        maps, _ = self.tower(images.float())
        flat = []
        for layer in maps:
            unit = layer.float() / layer.float().norm(dim=1, keepdim=True).clamp_min(1e-8)
            flat.append(unit.flatten(1) / (layer.shape[-1] * layer.shape[-2]) ** 0.5)
        return torch.cat(flat, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """The tower's CLIP embedding of pictures, [N, e], of unit length."""
        return self.tower(images)[1]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair, [N]."""
        return (self.features(a) - self.features(b)).norm(dim=1)

    def detail(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair [N, 3, H, W] without any resizing: root mean square over tiles of the CLIP's
        own size, [N]. Raises WorkbenchError where H or W is no multiple of it.

        For one tile the same as calling it. The root mean square is the norm of all tiles' features at once,
        so its gradient where a = b is 0 and not NaN, as that of a root would be.
        """
        n = len(a)
        one, other = (self.features(tiles(x, self.side).flatten(0, 1)) for x in (a, b))
        difference = (one - other).unflatten(0, (n, -1))  # [N, T, F]
        return difference.flatten(1).norm(dim=1) / difference.shape[1] ** 0.5

    @torch.no_grad()
    def steps(self, frames: Tensor, *, batch_size: int = 32) -> Tensor:
        """Distance of each frame to the one before it: [N, 3, S, S] -> [N - 1]."""
        features = torch.cat([self.features(part) for part in frames.split(batch_size)])
        return (features[1:] - features[:-1]).norm(dim=1)


class Lpips:
    """LPIPS (Zhang et al. 2018) through torchmetrics, with a backbone from the user's torch hub cache.

    Nothing is downloaded, and weights are read without unpickling anything else. name: how to quote it.
    """

    def __init__(self, net: str | None = None, *, device: str | torch.device = "cpu") -> None:
        """net: "alex" or "vgg", the first whose weights are at hand when None.

        Raises WorkbenchError where they are not, or the file holds something else.
        """
        found = [name for name in LPIPS_NETS if lpips_backbone(name).is_file()]
        if not found or (net is not None and net not in found):
            wanted = lpips_backbone(net if net in LPIPS_NETS else "alex")
            raise WorkbenchError(
                f"LPIPS needs the weights of its backbone, which are not at hand: expected {wanted}. Put "
                f"{_weights(net if net in LPIPS_NETS else 'alex').url} there, or ask for the distance 'clip'."
            )
        net = found[0] if net is None else net
        self.name = f"LPIPS ({net})"
        self.network = _build_lpips(net).to(device)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS of each pair of [N, 3, H, W] in [-1, 1], at their own resolution, [N]."""
        return self.network(a.float(), b.float()).flatten()

    detail = __call__


def perceptual_distance(
    kind: Kind = "auto",
    clip: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DetailDistance:
    """A distance that sees detail: "lpips", "clip" (FeatureDistance of `clip`, the mini-CLIP when None), or
    "auto": LPIPS where its weights are at hand, else the other. Its `name` says which. dtype: in which a
    CLIP's tower computes.
    """
    if kind not in ("auto", "lpips", "clip"):
        raise WorkbenchError(f"The perceptual distance {kind!r} is not known: use auto, lpips or clip.")
    if kind == "lpips" or (kind == "auto" and any(lpips_backbone(net).is_file() for net in LPIPS_NETS)):
        return Lpips(device=device)
    return FeatureDistance(clip, device=device, dtype=dtype)


def _weights(net: str):
    import torchvision

    return getattr(torchvision.models, LPIPS_NETS[net]).DEFAULT


def lpips_backbone(net: str) -> Path:
    """Where torch hub keeps the backbone of LPIPS, whether or not it is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _weights(net).url.rsplit("/", 1)[-1]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted reader raises kinds that it does not export
        raise WorkbenchError(
            f"{path} is not a file of weights ({type(error).__name__}): expected the one that torchvision "
            "publishes. Remove it and get it again, or ask for the distance 'clip'."
        ) from error


def _build_lpips(net: str) -> nn.Module:
    """The network of torchmetrics with both its files loaded strictly."""
    from torchmetrics.functional.image import lpips

    network = lpips._LPIPS(pretrained=False, net=net, pnet_rand=True)  # fetches nothing
    linear = _read(Path(inspect.getfile(lpips)).parent / "lpips_models" / f"{net}.pth")
    backbone = {
        name.removeprefix("features."): value
        for name, value in _read(lpips_backbone(net)).items()
        if name.startswith("features.")
    }
    state = {}
    for name in network.state_dict():
        head, _, rest = name.partition(".")
        if head == "net":  # net.slice2.3.weight is features.3.weight
            source, key = backbone, rest.partition(".")[2]
        elif head == "lins":  # the same modules as lin0 … by another name
            index, _, tail = rest.partition(".")
            source, key = linear, f"lin{index}.{tail}"
        else:
            source, key = linear, name
        if key not in source:
            raise WorkbenchError(
                f"The weights of LPIPS ({net}) lack {key}: expected the file that torchvision publishes. "
                "Get it again, or ask for the distance 'clip'."
            )
        state[name] = source[key]
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
