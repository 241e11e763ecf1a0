"""Subcommands of `workbench dataset`: make, check and carry data sets."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from workbench.commands.common import CLIP, AsJson, File, Text, Whole, dataset, find_model, say
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.datasets.check.captions import Tokenizer


@dataset.command(name="world")
def dataset_world(
    *,
    out: Path,
    count: int = 20_000,
    seed: int = 0,
    resolution: int = 64,
    workers: Whole = None,
    device: str = "cpu",
    ray: bool = False,
    ray_address: Text = None,
) -> None:
    """Draw a Shepherd World data set: pictures, captions, factors. Resumes where it stopped.

    Args:
        out: Folder to write (imagefolder layout: metadata.jsonl and images/).
        count: Number of pictures.
        seed: Picture i of seed s is always the same picture.
        resolution: Side of a picture in pixels.
        workers: Processes that draw; all cores when left out.
        device: cpu, or cuda to draw on the GPU.
        ray: Draw with Ray workers (pip install workbench[cluster]); the same bits.
        ray_address: A running Ray cluster, such as auto or 10.0.0.5:6379; this machine alone when left out.
    """
    from workbench.datasets.world.folder import Ray, write_world

    folder = write_world(
        out,
        count=count,
        seed=seed,
        resolution=resolution,
        workers=workers,
        device=device,
        ray=Ray(address=ray_address) if ray or ray_address else None,
        say=say,
    )
    print(f"{count} pictures of {resolution} px in {folder}")


@dataset.command(name="flux")
def dataset_flux(
    *,
    out: Path,
    count: int = 5000,
    seed: int = 0,
    resolution: int = 256,
    native_size: int = 512,
    templates: File = None,
    model: str = "black-forest-labs/FLUX.1-schnell",
    revision: Text = None,
    download: bool = False,
    device: Text = None,
    offload: Literal["auto", "none", "model", "sequential"] = "auto",
    batch: Whole = None,
) -> None:
    """Draw a data set with Flux.1 Schnell from prompts: German shepherds, or your templates. Resumes.

    Args:
        out: Folder to write; metadata.jsonl in it keeps each picture's prompt, seed and model.
        count: Number of pictures.
        seed: Picture i of seed s always has the same prompt and noise.
        resolution: Side of a picture in pixels.
        native_size: Side at which Flux draws, before the picture is reduced.
        templates: Text file with a template a line, such as {A} {coat} cat {scene}; or a TOML or JSON file
            with templates, factors (lists of words) and a style. German shepherds when left out.
        model: Folder of a Flux pipeline, or its name on the Hugging Face Hub.
        revision: Version of the model on the Hub: a branch, a tag or a commit.
        download: Let the Hub be asked for weights that are not on this machine (34 GB).
        device: cuda, cuda:1; cpu has to be asked for, and takes many minutes a picture.
        offload: What leaves GPU memory meanwhile: nothing, the idle networks, or the idle layers. auto
            looks at how much is free.
        batch: Pictures drawn at once; by free GPU memory when left out.
    """
    from workbench.datasets.flux.folder import FluxConfig, write_flux
    from workbench.datasets.flux.templates import Templates, read_templates

    config = FluxConfig(
        count=count,
        seed=seed,
        resolution=resolution,
        native=native_size,
        model=model,
        revision=revision,
        templates=Templates() if templates is None else read_templates(templates),
    )
    folder = write_flux(
        out,
        config,
        device=device,
        offload=None if offload == "auto" else offload,
        batch=batch,
        download=download,
        say=say,
    )
    print(f"{count} pictures of {resolution} px in {folder}")


@dataset.command(name="folder")
def dataset_folder(
    source: Positional[Path],
    *,
    out: Path,
    resolution: int = 64,
    fit: Literal["crop", "pad", "bucket"] = "crop",
    captions: Literal["auto", "metadata", "txt", "filename", "folders", "blip"] = "auto",
    upscale: bool = False,
    frames: int = 1,
    caption_model: str = "Salesforce/blip-image-captioning-base",
    download: bool = False,
    device: Text = None,
    workers: Whole = None,
) -> int:
    """Make a data set of a tree of your own pictures. Resumes where it stopped; the source is only read.

    Args:
        source: Folder with pictures, at any depth.
        out: Folder to write; skipped.jsonl in it names every file that was not taken, and why.
        resolution: Side in pixels, or of the square whose area a bucket has.
        fit: crop cuts the centre out, pad adds white, bucket takes the nearest of a few shapes of one
            area (a training takes the centre square of each, but for an upsampler's with aspects).
        captions: Where captions are from: metadata.jsonl or .csv, a .txt beside each picture, the file
            name, the folder names, or BLIP. auto takes the first of these that has one, without BLIP.
        upscale: Enlarge pictures that are too small; they are left out and named otherwise.
        frames: Frames to take of an animated file, evenly spread.
        caption_model: BLIP for --captions blip: a folder or a name on the Hugging Face Hub.
        download: Let the Hub be asked for the caption model's weights.
        device: Where BLIP runs: cpu, cuda, cuda:0; the best there is when left out.
        workers: Threads that read pictures; all cores when left out.
    """
    from workbench.datasets.own.importing import import_folder
    from workbench.datasets.own.taking import TakeConfig

    config = TakeConfig(resolution=resolution, fit=fit, upscale=upscale, frames=frames)
    captioner = None
    if captions == "blip":
        from workbench.datasets.own.blip import load_captioner

        captioner = load_captioner(caption_model, download=download, device=device)
    done = import_folder(source, out, config=config, captions=captions, captioner=captioner, workers=workers)
    print(done.text())
    return 0 if done.pictures else 1


@dataset.command(name="check")
def dataset_check(
    folder: Positional[Path],
    *,
    preset: Text = None,
    clip: str = CLIP,
    fix: File = None,
    report: File = None,
    json: AsJson = False,
) -> int:
    """Look a data set through for what would spoil a training. Exit status 1 when there is a problem.

    Args:
        folder: The data set folder.
        preset: Preset to be trained, to know how many pictures and of what size: shepherd-64, …
        clip: CLIP folder or open_clip name whose words the captions are held against; as in train.
        fix: Write a mended copy to this new folder: broken files and second copies out, names right,
            pictures upright and RGB, captions plain. The original is not touched.
        report: Write report.html with pictures and plots, findings.json and a contact sheet here.
        json: Print the findings as JSON.
    """
    from workbench import images
    from workbench.datasets.check.fix import check_place, fix_folder
    from workbench.datasets.check.running import check_folder, need_of

    if fix is not None:
        check_place(folder, fix)  # before every picture is looked at
    if report is not None:
        images.check_place(report)
    need = None if preset is None else need_of(preset)
    found = check_folder(folder, need=need, tokenizer=_tokenizer(clip), progress=True)
    if json:
        print(dumps(found.to_json(), indent=2))  # ASCII: names may hold bytes that are no characters
    else:
        print(found.text())
    if report is not None:
        from workbench.datasets.check.report import write_report

        print(f"report: {write_report(found, report)}", file=sys.stderr)
    if fix is not None:
        print(fix_folder(found, fix).text(), file=sys.stderr if json else sys.stdout)
    return 0 if found.ok else 1


def _tokenizer(clip: str) -> "Tokenizer | None":
    """The tokenizer of a CLIP folder or of an open_clip name, without any weights; None where the default
    CLIP is not there."""
    from open_clip import get_model_config

    from workbench.models.clip_io import read_json
    from workbench.models.tokens import BpeTokenizer, tokenizer_from_json

    vocabulary = Path(find_model(clip)) / "vocabulary.json"
    if vocabulary.is_file():
        return tokenizer_from_json(read_json(vocabulary))
    known = get_model_config(clip)
    if known is not None and "hf_model_name" not in known["text_cfg"]:
        return BpeTokenizer(known["text_cfg"]["context_length"])
    if clip == CLIP:
        return None
    raise WorkbenchError(
        f"{clip!r} is neither a CLIP folder nor an open_clip model with CLIP's own words: expected a folder "
        f"such as {CLIP}, or a name such as ViT-L-14."
    )
