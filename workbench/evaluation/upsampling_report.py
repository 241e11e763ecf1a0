"""What `evaluate_upsampling` found, for people: tables, the plot of the spectra, a sheet of pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from rich.box import SIMPLE
from rich.table import Table
from torch import Tensor

from workbench.datasets.world import Factors, head_place
from workbench.evaluation.figures import FIGURES, provenance, record_model
from workbench.evaluation.interpolation import box_mean
from workbench.evaluation.true_pictures import TruePictures
from workbench.evaluation.upsampling import TRUTH, Method, classical, enlarged
from workbench.images import COLOURS, grid, use_style, write_whole

NUMBERS, PAGE, PLOT, SHEET = (
    "upsampling.json", "upsampling.md", "upsampling-spectrum.png", "upsampling-pictures.webp",
)  # fmt: skip
LABELS = {
    "input": "input", "bicubic": "bicubic", "lanczos": "Lanczos", "l1": "L1 U-Net", "upsampler": "ours",
    TRUTH: "truth",
}  # fmt: skip
# The same for a method wherever it is drawn.
STYLES = {
    TRUTH: (COLOURS["real"], "-"),
    "upsampler": (COLOURS["gan"], "-"),
    "l1": (COLOURS["diffusion"], "--"),
    "lanczos": (COLOURS["high"], "-."),
    "bicubic": (COLOURS["low"], ":"),
}
_OTHER = ("#56B4E9", (0, (1, 1)))  # of a model beside ours
_MARK = "*"
_LOOKED_AT = 60  # pictures among which those of the sheet are chosen
_CROP, _SCALE = 96, 2
_COLUMNS = (  # key, title on the page, in a terminal, form
    ("frechet", "Fréchet, tiles", "Fréchet\ntiles", ".3g"),
    ("frechet_whole", "Fréchet, whole at 64 px", "Fréchet\nwhole", ".3g"),
    ("distance", "perceptual", "percep-\ntual", ".4f"),
    ("psnr", "PSNR, dB", "PSNR\ndB", ".2f"),
    ("ssim", "SSIM", "SSIM", ".4f"),
    ("power_kept", "power kept", "power\nkept", ".3f"),
    ("all", "all four factors", "all\nfactors", ".4f"),
)


def label(name: str) -> str:
    """What a method is called on a page."""
    return LABELS.get(name, name)


def _marked(name: str, result: dict) -> str:
    """Its label, with a mark where there is a note on it."""
    return label(name) + (_MARK if name in result.get("notes", {}) else "")


def _ordered(names: Sequence[str]) -> list[str]:
    """Methods in the order of LABELS, then others; the truth last."""
    known = [name for name in LABELS if name in names and name != TRUTH]
    return known + [name for name in names if name not in LABELS] + [TRUTH]


def _cells(result: dict) -> list[list[str]]:
    methods = result["methods"]
    return [
        [
            _marked(name, result),
            *(
                format(methods[name][key], form) if key in methods[name] else ""
                for key, _, _, form in _COLUMNS
            ),
        ]
        for name in _ordered(list(methods))
    ]


def note_lines(result: dict) -> list[str]:
    """A sentence for each method that goes without something, under its label."""
    return [f"{_marked(name, result)}: {note}." for name, note in result.get("notes", {}).items()]


def table(result: dict) -> Table:
    """For a terminal."""
    said = " ".join(note_lines(result)) or None
    out = Table("", *(title for _, _, title, _ in _COLUMNS), box=SIMPLE, caption=said)
    for row in _cells(result):
        out.add_row(*row)
    return out


def markdown(result: dict) -> str:
    """The page: the table, what each column is, the plot and the pictures."""
    rows = [
        ["", *(title for _, title, _, _ in _COLUMNS)],
        ["---"] + ["---:"] * len(_COLUMNS),
        *_cells(result),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    ratios = [
        f"{name} {result[f'frechet_ratio_{name}']:.3g} (perceptual {result[f'distance_ratio_{name}']:.3g})"
        for name in result["methods"]
        if f"frechet_ratio_{name}" in result
    ]
    side, factor, n, close = (result[key] for key in ("resolution", "factor", "n", "n_close"))
    words = f"""# {side // factor} → {side} px: Shepherd World enlarged {factor} times

{n:,} held-out renders of {side} px, shrunk to exact {factor} × {factor} means and enlarged again, each with
its own caption. SSIM, perceptual distance and spectrum are of the first {close:,}. Lower is better for
Fréchet and the perceptual distance, higher for PSNR, SSIM and the factors; power kept is best at 1.

"""
    notes = f"""
- **Fréchet, tiles**: {result["features"]}, {result["tiles"]:,} of them, to {result["reference"]}. Two
  halves of the true renders, {n // 2:,} pictures each, lie {result["floor"]:.3g} apart.
- **Fréchet, whole at 64 px**: the same judge on whole pictures, which it shrinks to its own 64 px: the
  finest detail is not in it. Two halves of the true renders lie {result["floor_whole"]:.3g} apart.
- **Perceptual**: {result["distance_name"]}, to the true render.
- **Power kept**: share of the true renders' power at frequencies above those that the input can carry
  ({0.5 / factor:g} cycles a pixel). It says how much detail there is, not whether it is the right one.
- **All four factors**: pictures for which the judge still names coat, pose, scene and light right.
- Time of a megapixel and peak memory of each factor: `benchmarks/results/upscale-cpu.json`.
"""
    notes += "".join(f"- {line}\n" for line in note_lines(result)).replace(_MARK, f"\\{_MARK}")
    if ratios:
        own = next(n for n in result["methods"] if n != TRUTH and f"frechet_ratio_{n}" not in result)
        whose = "Ours" if own == "upsampler" else label(own)
        notes += f"- **{whose} over others**, Fréchet on tiles: {', '.join(ratios)}.\n"
    facts = (
        f"\nJudge {result['judge']}, seed {result['seed']}, {result['machine']}, torch "
        f"{result['versions']['torch']}, {result['date']}. All numbers: `{NUMBERS}`.\n"
    )
    pictures = f"\n![Spectra]({PLOT})\n\n![Heads of six held-out pictures]({SHEET})\n"
    return words + "\n".join(lines) + "\n" + notes + pictures + facts


def spectrum_plot(result: dict) -> bytes:
    """PNG: power at each frequency, and the share of the truth's, for every method."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    spectra = {name: torch.tensor(values) for name, values in result["spectrum"].items()}
    frequency, truth = spectra.pop("cycles_a_pixel"), spectra[TRUTH]
    edge = 0.5 / result["factor"]
    with mpl.rc_context():
        use_style()
        figure = Figure(figsize=(12.0, 5.2))
        power, share = figure.subplots(1, 2)
        *enlarged_ones, _ = _ordered(list(spectra))
        for name in (TRUTH, *enlarged_ones):  # ours over the others
            colour, dash = STYLES.get(name, _OTHER)
            style = {"color": colour, "linestyle": dash, "label": _marked(name, result)}
            power.loglog(frequency, spectra[name], **style)
            share.loglog(frequency, (spectra[name] / truth).clamp_min(1e-6), **style)
        for axis, title in ((power, "Power of a wave"), (share, "Share of the truth's power")):
            axis.axvspan(edge, 0.5, color="#F3EFE6", zorder=0)
            axis.set(title=title, xlabel="cycles a pixel", xlim=(frequency[0].item(), 0.5))
            axis.set_xticks([1 / k for k in (128, 32, 8, 4, 2)], [f"1/{k}" for k in (128, 32, 8, 4, 2)])
            axis.minorticks_off()
        share.set_ylim(1e-3, 3)
        power.text(
            edge * 1.04,
            0.97,
            "not in the input",
            transform=power.get_xaxis_transform(),
            va="top",
            fontsize=12,
        )
        power.legend(loc="lower left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=90)
    return _few_colours(buffer)


def _few_colours(png: io.BytesIO) -> bytes:
    out = io.BytesIO()
    Image.open(png).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def various(pictures: TruePictures, count: int = 6) -> list[int]:
    """Numbers of early pictures that show as many different coats, poses, scenes and lights as they can."""
    batch = pictures.batch(0, min(len(pictures), _LOOKED_AT))
    shown: dict[tuple[str, int], int] = {}
    chosen: list[int] = []
    for _ in range(min(count, len(batch))):
        left = [k for k in range(len(batch)) if k not in chosen]
        best = min(
            left, key=lambda k: sum(shown.get((name, ids[k].item()), 0) for name, ids in batch.truth.items())
        )
        chosen.append(best)
        for name, ids in batch.truth.items():
            shown[name, ids[best].item()] = shown.get((name, ids[best].item()), 0) + 1
    return sorted(chosen)


def picture_sheet(
    methods: Sequence[Method], pictures: TruePictures, *, factor: int, seed: int = 0
) -> Image.Image:
    """Six pictures in rows, the ways to enlarge in columns; each cut out about the dog's head."""
    everyone = [*classical(factor), *methods]
    rows: list[Tensor] = []
    for number in various(pictures):
        batch = pictures.batch(number, number + 1)
        shown = {method.name: enlarged(method, batch, factor, seed) for method in everyone}
        low = box_mean(batch.images, factor)
        shown |= {"input": F.interpolate(low, scale_factor=factor, mode="nearest"), TRUTH: batch.images}
        top, left = _about_the_head(pictures, number)
        names = _ordered([name for name in shown if name != TRUTH])
        rows += [shown[name][..., top : top + _CROP, left : left + _CROP] for name in names]
    noted = {"notes": {method.name: method.note for method in everyone if method.note}}
    titles = [_marked(name, noted) for name in names]
    return _titled(grid(torch.cat(rows), len(names), scale=_SCALE, pad=6), titles)


def _about_the_head(pictures: TruePictures, number: int) -> tuple[int, int]:
    """Corner (top, left) of the square about a dog's head, or about the middle where it is not known."""
    columns = pictures.rows[number].factors
    names = [field.name for field in fields(Factors)]
    known = all(name in columns for name in names)
    x, y = head_place(Factors(**{name: columns[name] for name in names})) if known else (0.5, 0.5)
    most = max(0, pictures.side - _CROP)
    top, left = (round(place * pictures.side - _CROP / 2) for place in (y, x))
    return min(max(0, top), most), min(max(0, left), most)


def _titled(sheet: Image.Image, titles: list[str]) -> Image.Image:
    """The sheet under the titles of its columns."""
    import matplotlib as mpl

    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 24)
    out = Image.new("RGB", (sheet.width, sheet.height + 40), "white")
    out.paste(sheet, (0, 40))
    draw = ImageDraw.Draw(out)
    for k, title in enumerate(titles):
        draw.text(((k + 0.5) * out.width / len(titles), 18), title, fill="#222222", font=font, anchor="mm")
    return out


def write_report(result: dict, methods: Sequence[Method], data: str | Path, out: str | Path) -> dict:
    """upsampling.json, its page, the plot and the sheet of pictures in the folder `out`; what was written as
    JSON, the result with where and with what it was measured.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    full = {**result, **provenance()}
    side, factor = result["resolution"], result["factor"]
    pictures = TruePictures.open(data, count=result["n"], factor=factor, tile=side)
    sheet = io.BytesIO()
    picture_sheet(methods, pictures, factor=factor, seed=result["seed"]).save(
        sheet, "WEBP", quality=86, method=6
    )
    for name, content in (
        (NUMBERS, (json.dumps(_short(full), indent=1, ensure_ascii=False) + "\n").encode()),
        (PAGE, markdown(full).encode()),
        (PLOT, spectrum_plot(result)),
        (SHEET, sheet.getvalue()),
    ):
        write_whole(out / name, lambda handle, content=content: handle.write(content))
    return full


def record(
    result: dict,
    methods: Sequence[Method],
    data: str | Path,
    out: str | Path,
    *,
    model: str | None,
    baseline: str | None,
    beside: str | None = None,
) -> None:
    """The report, and the figures of a measured model in `out`/figures.json."""
    write_report(result, methods, data, out)
    if model is None:
        return
    given = (("--model", model), ("--baseline", baseline), ("--beside", beside), ("--data", str(data)))
    words = [word for option, value in given if value for word in (option, value)]
    settings = f"--n {result['n']} --seed {result['seed']}"
    command = f"workbench evaluate upsampler {' '.join(words)} {settings} --fresh --json"
    record_model(result, command=command, path=Path(out) / FIGURES.name)


def _short(value):
    """Numbers with six digits: more were never measured."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return value
