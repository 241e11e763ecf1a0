"""Inception-v3 with the weights that the first FID was computed with, read from a file that is at hand.

Letters: N pictures. The layers are torch-fidelity's, whose own class would download, or unpickle, when it is
made; here they stand in a row, so that floating-point pictures of any resizer can go in.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as parts

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.extractor import Extractor

SIDE, DIMS = 299, 2048
PUBLISHED = "6726825d"  # the first digits of the published file's SHA-256, and the end of its name
CACHED = (  # in torch's hub cache: torch-fidelity's name and pytorch-fid's
    f"weights-inception-2015-12-05-{PUBLISHED}.pth",
    f"pt_inception-2015-12-05-{PUBLISHED}.pth",
)


class Inception(nn.Sequential):
    """Pictures [N, 3, 299, 299] in 0 … 255 -> the pooled last layer [N, 2048] (Heusel et al. 2017)."""

    def __init__(self) -> None:
        conv, pool = parts.BasicConv2d, nn.MaxPool2d(kernel_size=3, stride=2)
        super().__init__(
            OrderedDict(
                Conv2d_1a_3x3=conv(3, 32, kernel_size=3, stride=2),
                Conv2d_2a_3x3=conv(32, 32, kernel_size=3),
                Conv2d_2b_3x3=conv(32, 64, kernel_size=3, padding=1),
                MaxPool_1=pool,
                Conv2d_3b_1x1=conv(64, 80, kernel_size=1),
                Conv2d_4a_3x3=conv(80, 192, kernel_size=3),
                MaxPool_2=pool,
                Mixed_5b=parts.InceptionA(192, pool_features=32),
                Mixed_5c=parts.InceptionA(256, pool_features=64),
                Mixed_5d=parts.InceptionA(288, pool_features=64),
                Mixed_6a=parts.InceptionB(288),
                Mixed_6b=parts.InceptionC(768, channels_7x7=128),
                Mixed_6c=parts.InceptionC(768, channels_7x7=160),
                Mixed_6d=parts.InceptionC(768, channels_7x7=160),
                Mixed_6e=parts.InceptionC(768, channels_7x7=192),
                Mixed_7a=parts.InceptionD(768),
                Mixed_7b=parts.InceptionE_1(1280),
                Mixed_7c=parts.InceptionE_2(2048),
                AvgPool=nn.AdaptiveAvgPool2d(output_size=(1, 1)),
            )
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return super().forward((pictures - 128) / 128).flatten(1)


def find_weights() -> Path | None:
    """The published file in torch's hub cache, None where it is not there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return next((folder / name for name in CACHED if (folder / name).is_file()), None)


def load_inception(weights: str | Path | None = None, *, device: str = "cpu") -> Extractor:
    """The features of FID, from a file (.pth by torch's restricted reader, or .safetensors) or torch's cache.

    Only the published file makes a distance that is called FID: other weights are named by their hash.
    Raises WorkbenchError where there is no file, or it holds something else.
    """
    path = find_weights() if weights is None else Path(weights)
    if path is None or not path.is_file():
        wanted = Path(torch.hub.get_dir()) / "checkpoints" / CACHED[0]
        raise WorkbenchError(
            f"FID needs Inception's weights, which are not at hand: expected {path or wanted}. Put "
            f"{parts.URL_INCEPTION_V3} there, give the path of that file as weights, or measure with other "
            "features (judge, clip), whose distance is not called FID."
        )
    network = Inception()
    state = _read(path)
    expected = network.state_dict()
    for name in sorted(expected.keys() | {k for k in state if not k.startswith("fc.")}):
        want, got = expected.get(name), state.get(name)
        if want is None or got is None or want.shape != got.shape:
            shapes = ["nothing" if t is None else str(tuple(t.shape)) for t in (want, got)]
            raise WorkbenchError(
                f"{path} is no Inception of FID: {name} should be {shapes[0]}, the file holds {shapes[1]}. "
                f"Get {parts.URL_INCEPTION_V3}."
            )
    network.load_state_dict({name: state[name] for name in expected})
    network.to(device).eval().requires_grad_(False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    published = digest.startswith(PUBLISHED)
    return Extractor(
        name="Inception-v3, 2048" if published else "Inception-v3, 2048, other weights",
        version=digest[:12],
        dims=DIMS,
        side=SIDE,
        resizer="tf1",
        embed=network,
        fid=published,
        device=device,
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WorkbenchError(f"{path} is damaged ({error}): get it again.") from error
    except Exception as error:  # torch's restricted reader raises kinds that it does not export
        raise WorkbenchError(
            f"{path} is not a file of weights ({type(error).__name__}): expected the one that torch-fidelity "
            "publishes. Get it again."
        ) from error
