"""Tensors and pictures: 8-bit conversion, contact sheets, PNG with its recipe, GIF, and the one plot style.

Shapes: N pictures of H x W pixels. Tensors are [N, 3, H, W] in [-1, 1], arrays [N, H, W, 3] in 0..255.
"""

import contextlib
import errno
import io
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from workbench import recipe as recipes
from workbench.errors import WorkbenchError

# Okabe-Ito, told apart with any common colour blindness and at least 3:1 against white (a test computes
# both).
COLOURS = {
    "gan": "#D55E00",
    "diffusion": "#0072B2",
    "real": "#333333",
    "low": "#009E73",
    "high": "#CC79A7",
}
MAX_PIXELS = 64_000_000  # a contact sheet of 8,000 x 8,000; read nothing larger from a file that anybody sent

# errno -> (what happened, what to do), for the sentence a person reads when a file cannot be written.
_CAUSES = {
    errno.ENOSPC: ("the disk is full", "free some space and run it again"),
    errno.EDQUOT: ("your disk quota is used up", "free some space and run it again"),
    errno.EFBIG: ("the file would be larger than allowed here", "choose another folder"),
    errno.EACCES: ("permission is denied", "choose a folder you may write to"),
    errno.EPERM: ("permission is denied", "choose a folder you may write to"),
    errno.EROFS: ("the disk is read-only", "choose a folder you may write to"),
    errno.ENOENT: ("its folder does not exist", "create the folder first"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "choose another folder"),
    errno.EEXIST: ("a file of that name is in the way", "choose another folder"),
    errno.ENAMETOOLONG: ("its name is too long", "choose a shorter one"),
}
_LONGEST_NAME = 240  # bytes of a name beside which a mark of 13 more fits into the 255 that a disk allows
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


# --- tensors and arrays ---


def to_uint8(x: Tensor) -> np.ndarray:
    """[N, 3, H, W] in [-1, 1] to uint8 [N, H, W, 3]; values outside are clipped, NaN is a WorkbenchError."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise WorkbenchError(f"Pictures have the shape {list(x.shape)}: expected [N, 3, H, W].")
    x = x.detach().float()
    if torch.isnan(x).any():
        raise WorkbenchError(
            "The pictures hold NaN: the model that made them has diverged, use an earlier checkpoint."
        )
    levels = x.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8(a: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1]; to_uint8 gives exactly `a` back."""
    a = np.asarray(a)
    if a.dtype != np.uint8 or a.ndim != 4 or a.shape[3] != 3:
        raise WorkbenchError(f"Expected uint8 [N, H, W, 3], got {a.dtype} {list(a.shape)}.")
    return torch.tensor(a).permute(0, 3, 1, 2).to(torch.float32).div(127.5).sub(1).contiguous()


def grid(x: Tensor, columns: int, *, scale: int = 1, pad: int = 0) -> Image.Image:
    """A contact sheet, row by row. scale: whole-number enlargement; pad: white pixels between pictures."""
    pictures = to_uint8(x)
    if len(pictures) == 0 or columns < 1 or scale < 1 or pad < 0:
        raise WorkbenchError(
            f"A contact sheet of {len(pictures)} pictures in {columns} columns, scale {scale}, pad {pad}: "
            "expected at least one picture, one column, scale 1 and pad 0."
        )
    count, height, width, _ = pictures.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    height, width = height * scale, width * scale
    sheet = np.full((rows * (height + pad) - pad, columns * (width + pad) - pad, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (k // columns) * (height + pad), (k % columns) * (width + pad)
        sheet[top : top + height, left : left + width] = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(sheet)


# --- PNG with its recipe ---


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 over the decoded RGB bytes, row by row: the same for the same pixels, whatever the file."""
    return recipes.sha256(image.convert("RGB").tobytes())


def save_png(
    image: Image.Image | np.ndarray | Tensor,
    path: str | Path,
    recipe: Mapping[str, Any] | None = None,
    *,
    alpha: Image.Image | None = None,
    with_recipe: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write one picture, with its recipe as two text keys; returns the path.

    Args:
        image: a PIL picture, uint8 [H, W, 3], or a tensor [3, H, W] / [1, 3, H, W] in [-1, 1].
        recipe: fields of `workbench.recipe.FIELDS`; the pixel hash is added here.
        alpha: how opaque each pixel is, mode L of the same size; not a part of the pixel hash.
        with_recipe: False writes neither key ("leave settings out").
        overwrite: False raises FileExistsError when the file is there, without a gap between look and write.

    The file appears whole or not at all. A full disk or a missing permission raises OSError with one clear
    sentence.
    """
    picture = _as_picture(image)
    keys = PngImagePlugin.PngInfo()
    if recipe is not None and with_recipe:
        full = {**recipe, "size": [picture.width, picture.height], "pixel_hash": pixel_hash(picture)}
        plain = recipes.plain_line(full)
        keys.add_text(recipes.PLAIN_KEY, plain)  # Pillow writes iTXt by itself where the text is not Latin-1
        keys.add_itxt(recipes.RECIPE_KEY, recipes.encode(full))
    if alpha is not None:
        picture = picture.copy()
        picture.putalpha(alpha)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=keys)
    write_whole(path, lambda handle: handle.write(buffer.getbuffer()), overwrite=overwrite)
    return Path(path)


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe inside a PNG, None where there is none (a screenshot, a JPEG, a re-saved picture).

    Unknown fields are left out. A file that is no picture, a damaged or oversized recipe and one of a newer
    schema raise WorkbenchError. The text is data and is never evaluated.
    """
    with open_picture(path) as image:
        text = getattr(image, "text", {}).get(recipes.RECIPE_KEY)
    return None if text is None else recipes.decode(text, where=f"The recipe in {Path(path).name}")


@contextlib.contextmanager
def open_picture(path: str | Path) -> Iterator[Image.Image]:
    """A fully decoded picture; a missing, broken, huge or foreign file is a WorkbenchError that names it."""
    path = Path(path)
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            if hasattr(image, "text"):
                _ = image.text  # keys behind the pixels are read here, inside the checks
            yield image
    except FileNotFoundError:
        raise WorkbenchError(f"There is no picture at {path}: check the path.") from None
    except IsADirectoryError:
        raise WorkbenchError(f"{path} is a folder: give the path of one PNG.") from None
    except UnidentifiedImageError:
        raise WorkbenchError(
            f"{path.name} is not a picture that can be read: give a PNG made here."
        ) from None
    except Image.DecompressionBombError:
        raise WorkbenchError(
            f"{path.name} claims far too many pixels and is not opened: give a PNG made here."
        ) from None
    except WorkbenchError:
        raise
    except PermissionError:
        raise WorkbenchError(
            f"{path} may not be read: ask its owner for the right to, or copy it to a folder of yours."
        ) from None
    except (ValueError, SyntaxError, EOFError, OSError) as error:
        raise WorkbenchError(f"{path.name} is broken ({error}): ask for the original file.") from error


def name_beside(path: Path) -> Path:
    """Where a file lies until it is whole: its own name and a mark, no longer than a disk allows."""
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")
    return path.with_name(f"{name}.tmp-{uuid.uuid4().hex[:8]}")


def write_whole(path: str | Path, write: Callable[[Any], object], *, overwrite: bool = True) -> Path:
    """Write a file beside its place, then move it there: it appears whole or not at all.

    `write` gets the open binary file. OSError (disk full, no permission, no folder) comes back as the same
    class with one clear sentence; with overwrite=False an existing file raises FileExistsError and stays as
    it is.
    """
    path = Path(path)
    beside = name_beside(path)
    try:
        with open(beside, "xb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())  # a full network disk may answer only here
        if overwrite:
            os.replace(beside, path)
        else:
            _move_unless_there(beside, path)
    except FileExistsError:
        raise FileExistsError(
            f"{path} is already there and is not overwritten: choose another name."
        ) from None
    except OSError as error:
        raise clear_os_error(error, path) from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # moved, or never made
            beside.unlink()
    return path


def clear_os_error(error: OSError, path: str | Path) -> OSError:
    """The same kind of OSError with one sentence: what could not be written, why, what to do."""
    why, what_to_do = _CAUSES.get(
        error.errno, (error.strerror or str(error) or type(error).__name__, "choose another folder")
    )
    clear = type(error)(f"Cannot write {path}: {why}; {what_to_do}.")
    clear.errno = error.errno
    return clear


def check_place(folder: str | Path) -> None:
    """WorkbenchError when `folder` is none and cannot become one. Asked before long work; writes nothing."""
    folder = Path(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        why = "may not be written to" if nearest.is_dir() else "is a file"
        raise WorkbenchError(f"Cannot write into {folder}: {nearest} {why}; choose another folder.")


def _move_unless_there(beside: Path, path: Path) -> None:
    """Rename that fails with FileExistsError when the name is taken; a link makes look and move one act."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except (
        OSError
    ):  # a file system without hard links (FAT, some network disks): claim the name, then fill it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(beside, path)


def _as_picture(image: Image.Image | np.ndarray | Tensor) -> Image.Image:
    """Any of the three forms of one picture as RGB."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, Tensor):
        image = to_uint8(image[None] if image.ndim == 3 else image)
        if len(image) != 1:
            raise WorkbenchError(
                f"One picture goes into a PNG, got {len(image)}: save them one by one or as a grid."
            )
        image = image[0]
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise WorkbenchError(f"Expected a picture as uint8 [H, W, 3], got {array.dtype} {list(array.shape)}.")
    return Image.fromarray(array)


# --- GIF ---


def save_gif(
    frames: Sequence[Image.Image | np.ndarray | Tensor],
    path: str | Path,
    *,
    seconds_per_frame: float | Sequence[float],
    hold_last: float = 2.0,
    colours: int = 256,
    comment: str = "",
    overwrite: bool = True,
) -> Path:
    """A GIF that loops for ever. seconds_per_frame: one number or one a frame; hold_last: added to the last;
    comment: a text that the file carries.

    All frames share one palette of `colours` (2 to 256) fitted to all of them, without dithering: nothing
    crawls or flickers where the picture stands still. Frames that do not change are joined, with their time
    kept.
    """
    pictures = [_as_picture(frame) for frame in frames]
    if not pictures:
        raise WorkbenchError("A GIF needs at least one frame, got none.")
    if len({picture.size for picture in pictures}) > 1:
        raise WorkbenchError(
            f"GIF frames differ in size ({sorted({p.size for p in pictures})}): make them equal."
        )
    one = isinstance(seconds_per_frame, (int, float))
    seconds = [float(seconds_per_frame)] * len(pictures) if one else [float(s) for s in seconds_per_frame]
    if len(seconds) != len(pictures) or not all(math.isfinite(s) and 0.02 <= s <= 600 for s in seconds):
        raise WorkbenchError(
            f"A GIF of {len(pictures)} frames needs a time of 0.02 to 600 s for each: {seconds_per_frame!r}."
        )
    if not (math.isfinite(hold_last) and 0 <= hold_last <= 600):
        raise WorkbenchError(f"hold_last is {hold_last}: expected 0 to 600 seconds.")
    if not 2 <= colours <= 256:
        raise WorkbenchError(f"colours is {colours}: a GIF holds 2 to 256.")
    seconds[-1] += hold_last
    palette = _shared_palette(pictures, colours)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    # GIF counts hundredths of a second: rounded here, so that no writer does it its own way. imageio hands
    # its frames to this same writer, but as RGB, which gives each frame a palette of its own.
    indexed[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=[round(s * 100) * 10 for s in seconds],
        loop=0,
        optimize=False,
        comment=comment.encode(),
    )
    return write_whole(path, lambda handle: handle.write(buffer.getbuffer()), overwrite=overwrite)


def _shared_palette(pictures: Sequence[Image.Image], size: int, most_pixels: int = 40_000) -> Image.Image:
    """`size` colours fitted to pixels of all frames, a quarter of them from the last, looked at longest.

    Median cut, then Lloyd steps of our own: Pillow's `kmeans` runs until nothing moves, which may be never.
    """
    draw = np.random.default_rng(0)  # the same frames give the same file
    kept = []
    for k, picture in enumerate(pictures):
        pixels = np.asarray(picture).reshape(-1, 3)
        last = k == len(pictures) - 1
        most = most_pixels // 4 if last else max(1, most_pixels * 3 // 4 // (len(pictures) - 1))
        # Chosen by chance: an even stride would fall into step with the width.
        kept.append(pixels if len(pixels) <= most else pixels[draw.choice(len(pixels), most, replace=False)])
    pixels = np.concatenate(kept)
    start = Image.fromarray(pixels[None]).quantize(size, method=Image.Quantize.MEDIANCUT)
    colours = torch.tensor(start.getpalette(), dtype=torch.float32).reshape(-1, 3)
    x = torch.tensor(pixels, dtype=torch.float32)
    for _ in range(10):
        nearest = (colours.square().sum(1) - 2 * x @ colours.t()).argmin(1)
        count = torch.bincount(nearest, minlength=len(colours))
        total = torch.zeros_like(colours).index_add_(0, nearest, x)
        colours = torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], colours)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.round().to(torch.uint8).flatten().tolist())
    return palette


# --- plots ---


def use_style() -> None:
    """Switch matplotlib to the style of this project: large type, thick lines, colours told apart by all.

    The line cycle changes dash and colour together, so that a plot can be read without colour.
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "figure.figsize": (8.0, 4.5),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.dpi": 150,
            "font.size": 14,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
            "axes.titlesize": 16,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=list(COLOURS.values())) + cycler(linestyle=list(_DASHES)),
            "grid.color": "#DDDDDD",
            "lines.linewidth": 2.5,
            "lines.markersize": 8,
            "legend.frameon": False,
            "legend.handlelength": 3.0,
            "image.interpolation": "nearest",
        }
    )
