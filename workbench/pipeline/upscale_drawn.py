"""What a model draws of a prompt, enlarged and written into a folder, each picture with its whole recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.noise import MAX_SEED, check_seed
from workbench.pipeline.chain import Chain, Source
from workbench.pipeline.core import check_count
from workbench.pipeline.keeping import SavedSamples, make_room, save_beside, slug
from workbench.pipeline.upscale_files import Job


def draw_to_folder(
    source: Source,
    out: str | Path,
    job: Job,
    count: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SavedSamples:
    """Draw `count` pictures of the job's prompt, enlarge and write each as `words-of-the-prompt-SEED.png`.

    A taken name gets -2, -3, …; nothing is overwritten. progress(done, count) is called after each picture.
    """
    count, seed, folder = check_count(count), check_seed(job.seed), Path(out).expanduser()
    if seed + count - 1 > MAX_SEED:
        raise WorkbenchError(f"Seed {seed} and {count} pictures go beyond the largest seed: start lower.")
    chain, saved = Chain(source, job.upscalers), SavedSamples([], [])
    make_room(folder, count)
    for own in range(seed, seed + count):
        made = chain(job.prompt or "", seed=own, noise=job.noise, tile=job.tile, stop=job.stop)
        recipe = {**made.recipes[0], "index": len(saved.paths)}
        stem = f"{slug(job.prompt or '')}-{own}"
        saved.paths.append(save_beside(made.images[0], folder, stem, recipe, True))
        saved.warnings = made.warnings
        if progress is not None:
            progress(len(saved.paths), count)
    return saved
