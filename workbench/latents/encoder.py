"""A small network from a picture to the w that may have made it: where inversion starts.

It learns from the generator itself, on pairs drawn as they are needed, so that nothing but the model is
required. What it gives is M's mean w of the caption plus a move in the principal parts of w: the caption
already says what is shown, the picture where and from which side. Letters: N pictures, S pixels a side,
k principal parts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error, write_whole
from workbench.latents.points import draw, from_z
from workbench.latents.store import FOLDER
from workbench.models.mapping import Text
from workbench.noise import draw_z, generator_for
from workbench.pipeline import Pipeline

__all__ = ["Encoder", "EncoderConfig", "encoder_of", "load_encoder", "save_encoder", "train_encoder"]

SCHEMA = 1
KIND = "gigagan-encoder"
FACTS, NUMBERS, STATE = "encoder.json", "encoder.safetensors", "encoder-training.safetensors"
MEAN_DRAWS = 16  # as many z as the pipeline's own mean of a prompt
WORLD_SEED, HELD_OUT_SEED = 8_100_013, 8_200_019  # captions that no training and no measurement uses
ROUND, BATCH, PASSES, A_CAPTION = 128, 32, 4, 2  # pictures drawn at once, a step, passes; z of a caption
LR, WARM_UP = 3e-3, 20
EVERY_S = 30.0  # between two states that are kept
Report = Callable[[int, int, str], object]  # images so far, of, what


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of the encoder. channels: features after each halving of the picture, the last at 4 px; squeeze:
    features of the last map that are laid out flat; parts: principal parts of w, k.
    """

    resolution: int = 64
    w_dim: int = 256
    channels: tuple[int, ...] = (24, 48, 64, 96)
    squeeze: int = 32
    parts: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels or self.resolution != 4 << len(self.channels):
            raise WorkbenchError(
                f"channels has {len(self.channels)} entries for {self.resolution} px: expected one for each "
                "halving down to 4 px, four for 64."
            )
        if min(*self.channels, self.squeeze, self.parts) < 1 or any(c % 8 for c in self.channels):
            raise WorkbenchError(
                f"channels {self.channels}, squeeze {self.squeeze}, parts {self.parts}: expected numbers "
                "above 0, channels in eights."
            )
        if self.parts > self.w_dim:
            raise WorkbenchError(
                f"w has {self.w_dim} numbers, not {self.parts} principal parts: ask for less."
            )


def config_for(pipeline: Pipeline) -> EncoderConfig:
    """The default shape at a model's size."""
    G = pipeline.G.config
    depth = int(math.log2(G.resolution)) - 2
    channels = tuple(min(96, 24 * (i + 1)) for i in range(depth)) if depth != 4 else (24, 48, 64, 96)
    return EncoderConfig(resolution=G.resolution, w_dim=G.w_dim, channels=channels, parts=min(64, G.w_dim))


class Encoder(nn.Module):
    """picture [N, 3, S, S] in [-1, 1], mean w of its caption [N, w_dim] -> w [N, w_dim]."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for width in config.channels:
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(8, width), nn.LeakyReLU(0.2)]
            before = width
        self.trunk = nn.Sequential(*layers, nn.Conv2d(before, config.squeeze, 1), nn.LeakyReLU(0.2))
        self.head = nn.Linear(config.squeeze * 16, config.parts)
        nn.init.zeros_(self.head.weight)  # begins at the mean of the caption
        nn.init.zeros_(self.head.bias)
        self.register_buffer("basis", torch.zeros(config.parts, config.w_dim))

    def parts(self, x: Tensor) -> Tensor:
        """The move from the caption's mean in deviations of each principal part, [N, k]."""
        return self.head(self.trunk(x).flatten(1))

    def forward(self, x: Tensor, w_mean: Tensor) -> Tensor:
        return w_mean + self.parts(x) @ self.basis


# --- training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """images [N, 3, S, S]; w and the mean w of each one's caption [N, w_dim]."""

    images: Tensor
    w: Tensor
    w_mean: Tensor


def train_encoder(
    pipeline: Pipeline,
    out: str | Path,
    *,
    images: int = 6400,
    seed: int = 0,
    config: EncoderConfig | None = None,
    progress: Report | None = None,
) -> Encoder:
    """Train an encoder for a model on `images` pictures of its own, and write it to `out`.

    progress is told after each round of 128, the held-out error with it: the share of w's variance inside a
    caption that is not explained (1: as good as the mean). The same call goes on where one was broken off,
    to the same end. Raises WorkbenchError for a model without text and for fewer than 128 images.
    """
    if pipeline.text_encoder is None:
        raise WorkbenchError(f"{pipeline.name} reads no text: the encoder learns from captions.")
    if isinstance(images, bool) or not isinstance(images, int) or images < ROUND:
        raise WorkbenchError(f"images is {images!r}: expected a whole number of at least {ROUND}.")
    out = Path(out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(config or config_for(pipeline)).to(pipeline.device)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=LR, weight_decay=0.01, betas=(0.9, 0.99))
    rounds = images // ROUND
    facts = {"images": images, "seed": seed, "model": pipeline.weight_hash, **asdict(encoder.config)}
    first = _resume(out / STATE, encoder, optimiser, facts)
    if first == 0:
        encoder.basis.copy_(_principal(draw_pairs(pipeline, 1024, HELD_OUT_SEED, pictures=False), encoder))
    held_out = draw_pairs(pipeline, ROUND, HELD_OUT_SEED)
    saved = time.monotonic()
    for number in range(first, rounds):
        pairs = draw_pairs(pipeline, ROUND, WORLD_SEED + seed, first=number * ROUND)
        _round(encoder, optimiser, pairs, number, rounds, seed)
        if progress is not None:
            done = (number + 1) * ROUND
            progress(done, rounds * ROUND, f"encoder, held-out error {held_out_error(encoder, held_out):.3f}")
        if time.monotonic() - saved > EVERY_S and number + 1 < rounds:
            _keep(out / STATE, encoder, optimiser, number + 1, facts)
            saved = time.monotonic()
    error = held_out_error(encoder, held_out)
    save_encoder(out, encoder, pipeline, {"images": rounds * ROUND, "seed": seed, "held_out_error": error})
    (out / STATE).unlink(missing_ok=True)
    return load_encoder(out, pipeline)


@torch.no_grad()
def draw_pairs(pipeline: Pipeline, n: int, seed: int, *, first: int = 0, pictures: bool = True) -> _Pairs:
    """n pictures of the world's captions from `first` on, A_CAPTION of each: a function of its arguments.

    pictures False leaves them undrawn (an empty tensor), for statistics of w.
    """
    numbers = range(first // A_CAPTION, (first + n) // A_CAPTION)
    captions = [full_caption(draw_factors(seed, i), seed, i) for i in numbers]
    text = pipeline.G.encode_text(pipeline.text_encoder(captions).to(pipeline.device))
    fixed = draw_z(range(MEAN_DRAWS), pipeline.G.config.z_dim, stream=seed).to(pipeline.device)
    t_global = text.t_global.repeat_interleave(MEAN_DRAWS, 0)
    w_mean = (
        pipeline.G.mapping(fixed.repeat(len(captions), 1), t_global).unflatten(0, (-1, MEAN_DRAWS)).mean(1)
    )
    text: Text = text.repeat_interleave(A_CAPTION)
    z = draw_z(range(first, first + len(text.mask)), pipeline.G.config.z_dim, stream=seed)
    at = from_z(pipeline, z, text)
    images = draw(pipeline, at).to(pipeline.device) if pictures else torch.empty(0)
    return _Pairs(images, at.ws[:, 0], w_mean.repeat_interleave(A_CAPTION, 0))


def _principal(pairs: _Pairs, encoder: Encoder) -> Tensor:
    """The principal parts of w about its caption's mean, one deviation long each: [k, w_dim]."""
    values, vectors = torch.linalg.eigh(torch.cov((pairs.w - pairs.w_mean).t()))
    k = encoder.config.parts
    return (vectors[:, -k:] * values[-k:].clamp_min(0).sqrt()).t().flip(0)


def _round(
    encoder: Encoder, optimiser: torch.optim.Optimizer, pairs: _Pairs, number: int, rounds: int, seed: int
) -> None:
    """PASSES times through the pictures of a round, grained a little so that no pixel alone decides."""
    encoder.train()
    generator = generator_for(seed, number + 1)
    a_round = PASSES * ROUND // BATCH
    for step in range(a_round):
        if step % (ROUND // BATCH) == 0:
            order = torch.randperm(len(pairs.w), generator=generator)
        rows = order[step % (ROUND // BATCH) * BATCH :][:BATCH]
        done = number * a_round + step
        share = min(1, (done + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done / (rounds * a_round)))
        for group in optimiser.param_groups:
            group["lr"] = LR * share
        grain = 0.03 * torch.randn(pairs.images[rows].shape, generator=generator)
        w = encoder(pairs.images[rows] + grain.to(pairs.images), pairs.w_mean[rows])
        loss = F.mse_loss(w, pairs.w[rows]) / (pairs.w - pairs.w_mean).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    encoder.eval()


@torch.no_grad()
def held_out_error(encoder: Encoder, pairs: _Pairs) -> float:
    """Share of the variance of w inside a caption that is left unexplained: 0 exact, 1 the mean."""
    left = (encoder(pairs.images, pairs.w_mean) - pairs.w).square().mean()
    return (left / (pairs.w - pairs.w_mean).square().mean()).item()


# --- on disk ------------------------------------------------------------------------------------------------


def encoder_of(pipeline: Pipeline, model_folder: str | Path) -> Encoder | None:
    """The encoder beside a model, None where none lies there."""
    folder = Path(model_folder) / FOLDER
    return load_encoder(folder, pipeline) if (folder / FACTS).is_file() else None


def save_encoder(folder: str | Path, encoder: Encoder, pipeline: Pipeline, facts: dict | None = None) -> Path:
    """Write encoder.json and encoder.safetensors (fp16), each whole or not at all; returns the folder."""
    folder = Path(folder)
    page = {
        "schema": SCHEMA,
        "kind": KIND,
        "model": pipeline.name,
        "weight_hash": pipeline.weight_hash,
        "config": asdict(encoder.config),
        "training": facts or {},
    }
    _make(folder)
    data = save({name: value.half().contiguous().cpu() for name, value in encoder.state_dict().items()})
    write_whole(folder / NUMBERS, lambda handle: handle.write(data))
    text = json.dumps(page, indent=1) + "\n"
    write_whole(folder / FACTS, lambda handle: handle.write(text.encode()))
    return folder


def load_encoder(folder: str | Path, pipeline: Pipeline) -> Encoder:
    """The encoder in a folder, for this model.

    Raises WorkbenchError for a folder without one, a damaged one, and one that was trained for another model
    (by the hash of its weights).
    """
    folder = Path(folder)
    if not (folder / FACTS).is_file() or not (folder / NUMBERS).is_file():
        raise WorkbenchError(f"{folder} holds no encoder ({FACTS} and {NUMBERS}): train one for this model.")
    try:
        page = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / NUMBERS)
    except (ValueError, SafetensorError) as error:
        raise WorkbenchError(f"The encoder in {folder} is damaged ({error}): train it again.") from error
    if not isinstance(page, dict) or page.get("kind") != KIND or page.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"{folder / FACTS} is no encoder that this version reads (kind {KIND}, schema {SCHEMA}): train "
            "it again."
        )
    if page.get("weight_hash") != pipeline.weight_hash:
        raise WorkbenchError(
            f"The encoder in {folder} was trained for the model {str(page.get('model'))[:60]!r} "
            f"({str(page.get('weight_hash'))[:10]}), this one is {pipeline.name!r} "
            f"({pipeline.weight_hash[:10]}): what it says would mean nothing here. Train one for this model."
        )
    try:
        encoder = Encoder(EncoderConfig(**page["config"]))
        encoder.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        what = " ".join(str(error).split())[:120]
        raise WorkbenchError(f"The encoder in {folder} is damaged ({what}): train it again.") from error
    return encoder.eval().requires_grad_(False).to(pipeline.device)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise clear_os_error(error, folder) from error


def _keep(path: Path, encoder: Encoder, optimiser: torch.optim.Optimizer, rounds: int, facts: dict) -> None:
    """Weights, moments and the number of rounds, in fp32."""
    tensors = {f"encoder.{name}": value.contiguous() for name, value in encoder.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value.contiguous() for name, value in state.items()}
    tensors["rounds"] = torch.tensor(rounds)
    _make(path.parent)
    data = save(tensors, metadata={"facts": json.dumps(facts, sort_keys=True)})
    write_whole(path, lambda handle: handle.write(data))


def _resume(path: Path, encoder: Encoder, optimiser: torch.optim.Optimizer, facts: dict) -> int:
    """Put a kept state back; the rounds that are done, 0 where there is none or it is another training's."""
    from safetensors import safe_open

    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata().get("facts") != json.dumps(facts, sort_keys=True):
                return 0
        tensors = load_file(path)
    except SafetensorError as error:
        raise WorkbenchError(f"{path} is damaged ({error}): delete it to train from the start.") from error
    weights = {k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")}
    encoder.load_state_dict(weights)
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(tensors["rounds"])
