"""Images per second of a training step: ours, and that of gigagan-pytorch from the package index.

    pip install --no-deps --target runs/peer \\
      gigagan-pytorch ema-pytorch beartype numerize kornia kornia-rs einops
    python benchmarks/train_step.py --peer runs/peer

Both at 64 px with the same batch and parameter counts within 5 %, each in every setting that may be its
fastest, each in a process of its own, in turns; the best of the rounds counts. Two sizes: `readme` is the
unconditional example of the peer's README (G 9.9 M, D 21.9 M parameters) beside shepherd-64 with its coarse
layers widened, and some doubled, to as many; `shepherd` is shepherd-64 as it is, beside the peer cut down to
it, with two levels for its D as ours has. Ours trains as it does for the demo: text, vision-aided heads,
contrastive and mode-seeking loss. The peer runs without text and without its vision-aided loss, which need
weights that cannot be had here: less work, in its favour. Both take their gradient penalties every 16 steps.
Prints one JSON object; the figure train.ratio_to_peer is the `ratio` of the size readme.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.presets import Preset, preset
from workbench.training import bench

ROOT = Path(__file__).resolve().parents[1]
RESOLUTION, PENALTY_EVERY = 64, 16
SETTINGS = ("ours:bf16", "ours:fp32", "peer:fp32", "peer:bf16")
# The peer's networks, and the channels of ours: parameter counts are checked in every run.
PEER = {
    "readme": (
        {"dim_capacity": 8, "dim_max": 512, "num_skip_layers_excite": 4,
         "style_network": {"dim": 64, "depth": 4}},
        {"dim_capacity": 16, "dim_max": 512, "num_skip_layers_excite": 4},
    ),
    "shepherd": (
        {"dim_capacity": 16, "dim_max": 228, "dim_latent": 228, "self_attn_resolutions": (16, 8),
         "self_attn_heads": 4, "self_attn_dim_head": 32, "style_network": {"dim": 128, "depth": 4}},
        {"dim_capacity": 16, "dim_max": 198, "attn_resolutions": (16, 8), "attn_heads": 4,
         "attn_dim_head": 32, "multiscale_input_resolutions": (32,)},
    ),
}  # fmt: skip
OURS = {
    "readme": (
        {"channels": {4: 256, 8: 256, 16: 192, 32: 64, 64: 32}, "blocks": {4: 1, 8: 1, 16: 2, 32: 2, 64: 2}},
        {"channels": {4: 640, 8: 512, 16: 256, 32: 64, 64: 32}},
    ),
    "shepherd": ({}, {}),  # as they are
}
TOLERANCE = 0.05


def count(network: torch.nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def networks(size: str) -> Preset:
    """shepherd-64, with other channels and blocks where the size asks for them."""
    chosen, (G, D) = preset("shepherd-64"), OURS[size]
    generator, discriminator = replace(chosen.generator, **G), replace(chosen.discriminator, **D)
    return replace(chosen, generator=generator, discriminator=discriminator)


def ours(precision: str, args: argparse.Namespace) -> dict:
    """Our whole step in this process, all losses on."""
    chosen = networks(args.size)
    speed = bench.step(chosen, clip=args.clip, device="cpu", precision=precision, batch_size=args.batch_size)
    if speed.steps != PENALTY_EVERY:
        raise RuntimeError(f"a penalty comes every {speed.steps} steps, not {PENALTY_EVERY}")
    with torch.device("meta"):
        G, D = Generator(chosen.generator), Discriminator(chosen.discriminator)
    return {"images_per_s": speed.images_per_s, "G": count(G), "D": count(D)}


def peer(precision: str, args: argparse.Namespace) -> dict:
    """The peer's own training steps on noise pictures, by its own trainer class."""
    sys.path.append(str(args.peer))
    from gigagan_pytorch import GigaGAN

    G, D = PEER[args.size]
    common = {"image_size": RESOLUTION, "unconditional": True}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # it makes folders where it is started
        gan = GigaGAN(
            generator={**common, **G},
            discriminator={**common, **D},
            amp=precision != "fp32",
            mixed_precision_type=precision if precision != "fp32" else "no",
            accelerate_kwargs={"cpu": True},
        )
        pictures = iter(lambda: torch.rand(args.batch_size, 3, RESOLUTION, RESOLUTION), None)

        def step(penalty: bool) -> float:
            begun = time.perf_counter()
            gan.train_discriminator_step(dl_iter=pictures, apply_gradient_penalty=penalty)
            gan.train_generator_step(dl_iter=pictures, batch_size=args.batch_size)
            return time.perf_counter() - begun

        step(True)
        plain = statistics.median(step(False) for _ in range(3))
        with_penalty = min(step(True) for _ in range(2))
    rate = PENALTY_EVERY * args.batch_size / ((PENALTY_EVERY - 1) * plain + with_penalty)
    return {"images_per_s": rate, "G": count(gan.G), "D": count(gan.D)}


def worker(setting: str, args: argparse.Namespace) -> None:
    """Measure one setting in this process and print it."""
    who, precision = setting.split(":")
    found = {"ours": ours, "peer": peer}[who](precision, args)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**found, "peak_mib": kib / 1024}))


def measure(setting: str, args: argparse.Namespace) -> dict:
    """One setting in a process of its own. RuntimeError when it fails."""
    line = [sys.executable, __file__, "--worker", setting, "--peer", str(args.peer.resolve())]
    line += ["--size", args.size, "--clip", str(args.clip), "--batch-size", str(args.batch_size)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{setting} ended with {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{setting}: {found['images_per_s']:.2f} images/s, {found['peak_mib']:.0f} MiB", file=sys.stderr)
    return found


def main() -> None:
    """Measure all settings in turns and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", type=Path, default=ROOT / "runs" / "peer")
    parser.add_argument("--size", default="readme", choices=tuple(PEER))
    parser.add_argument("--clip", default="assets/models/mini-clip")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args)
        return
    if not (args.peer / "gigagan_pytorch").is_dir():
        parser.error(f"{args.peer} holds no gigagan_pytorch: install it there with the line above (--help).")
    found: dict[str, dict] = {}
    for _ in range(args.rounds):  # in turns, so that another program's burst does not decide
        for setting in args.settings:
            one = measure(setting, args)
            if setting not in found or one["images_per_s"] > found[setting]["images_per_s"]:
                found[setting] = one
    best = {}
    for who in ("ours", "peer"):
        name = max((s for s in found if s.startswith(who)), key=lambda s: found[s]["images_per_s"])
        best[who] = {"precision": name.split(":")[1], **found[name]}
    for network in ("G", "D"):
        off = best["peer"][network] / best["ours"][network] - 1
        if abs(off) > TOLERANCE:
            raise RuntimeError(f"the peer's {network} is {off:+.1%} off our size: change it above")
    result = {
        "ratio": best["ours"]["images_per_s"] / best["peer"]["images_per_s"],
        "peak_mib": best["ours"]["peak_mib"],
        "peak_ratio": best["peer"]["peak_mib"] / best["ours"]["peak_mib"],
        "size": args.size, "batch_size": args.batch_size, "resolution": RESOLUTION,
        "ours": best["ours"], "peer": best["peer"], "settings": found,
        "cores": os.cpu_count(), "torch": torch.__version__,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
