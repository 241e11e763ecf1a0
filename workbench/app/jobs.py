"""What stands between the page and the model: one model loaded once, one job at a time, a stop that stops.

The model is loaded in the background, so that the page answers before torch is imported. A model that is
missing is not fatal: every use of it says the same sentence, and looks again, so that one that arrives later
is found.
"""

import contextlib
import functools
import inspect
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from workbench.errors import WorkbenchError

F = TypeVar("F", bound=Callable[..., Any])
CLIP = Path(__file__).resolve().parents[2] / "assets" / "models" / "mini-clip"
MODEL_QUEUE = "model"  # every event that touches the model shares this queue: one at a time
MAX_COUNT = 16
CHUNK = 4  # pictures between two looks at the stop flag; about a tenth of a second on two cores
MAX_BEST_OF = 8  # candidates of a picture
KEPT_JOBS = 60  # folders of pictures kept on disk while the app runs


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the header says of the model. parameters: numbers in G and the text encoder."""

    name: str
    parameters: int
    device: str
    precision: str
    resolution: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Pictures made so far in one job. seconds: time spent in the models alone; of: candidates of each."""

    files: tuple[Path, ...]
    seeds: tuple[int, ...]
    seconds: float
    wanted: int
    of: int = 1
    stopped: bool = False

    @property
    def done(self) -> bool:
        """Whether no more pictures come."""
        return self.stopped or len(self.files) == self.wanted


class Studio:
    """One model folder (or Hub name), its pipeline, and the folder of the pictures made by this app."""

    def __init__(self, model: str, work: Path) -> None:
        self.model = model
        self.work = work
        self._pipeline: Any = None
        self._clip: Any = None
        self._loading = threading.Lock()
        self._model_lock = threading.Lock()
        self._next = threading.Lock()  # held by whoever gets the model next
        self._stops: dict[str, threading.Event] = {}
        self._jobs = 0
        self._folders = threading.Lock()

    # --- the model ---

    def start_loading(self) -> threading.Thread:
        """Load in the background and draw one picture, so that the first real one is quick."""
        # No daemon: torch aborts when Python ends under it, so the end waits for the load, seconds at most.
        thread = threading.Thread(target=self._warm_up, name="load-model")
        thread.start()
        return thread

    def _warm_up(self) -> None:
        # The sentence of a failed load is shown to whoever asks for the model next: nothing is hidden.
        with contextlib.suppress(WorkbenchError, OSError):
            pipeline = self.pipeline()
            with self.alone():
                pipeline("a shepherd", seed=0, count=1)

    def pipeline(self) -> Any:
        """The loaded pipeline; waits for a load under way. A missing or broken model: WorkbenchError."""
        with self._loading:
            if self._pipeline is None:
                if looks_local(self.model) and not Path(self.model).exists():
                    raise WorkbenchError(missing_model(self.model))
                from workbench.pipeline import Pipeline  # brings torch and open_clip: seconds

                self._pipeline = Pipeline.from_pretrained(self.model)
            return self._pipeline

    def chooser(self, of: int) -> Any:
        """What draws `of` candidates of each picture and keeps the best; the pipeline itself for one.

        WorkbenchError where no CLIP here knows the model's words, and as `pipeline`.
        """
        pipeline = self.pipeline()
        if of == 1:
            return pipeline
        from workbench.pipeline.choosing import Chooser, clip_of

        with self._loading:
            if self._clip is None:
                beside = Path(self.model).expanduser() / "text_encoder"
                self._clip = clip_of(pipeline, [beside, CLIP])
        return Chooser(pipeline, self._clip, of)

    def trouble(self) -> str | None:
        """Why the model cannot be used, in the sentence of its error; None when it is loaded."""
        try:
            self.pipeline()
        except (WorkbenchError, OSError) as error:
            return str(error)
        return None

    @property
    def ready(self) -> bool:
        """Whether the model is in memory."""
        return self._pipeline is not None

    def facts(self) -> Facts:
        """Name, size, device and precision of the loaded model."""
        pipeline = self.pipeline()
        towers = [tower for tower in (pipeline.G, pipeline.text_encoder) if tower is not None]
        return Facts(
            name=pipeline.name,
            parameters=sum(p.numel() for tower in towers for p in tower.parameters()),
            device=pipeline.device.type,
            precision=str(pipeline.G.compute_dtype).removeprefix("torch."),
            resolution=int(pipeline.G.config.resolution),
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nobody else uses the model: for what is watched or switched off in it."""
        self._wait_for_the_model()
        try:
            yield
        finally:
            self._model_lock.release()

    def give_way(self) -> None:
        """Called inside `alone`, between two steps of long work: whoever waits for the model has it first."""
        self._model_lock.release()
        self._wait_for_the_model()

    def _wait_for_the_model(self) -> None:
        # A lock alone would go to whoever asks soonest: to the one who has just let it go.
        with self._next:
            self._model_lock.acquire()

    # --- pictures ---

    def generate(
        self, prompt: str, seed: int, count: int, truncation: float, of: int = 1, *, visitor: str = ""
    ) -> Iterator[Progress]:
        """Make pictures of seed, seed + 1, …, each the best of `of` candidates, a few at a time. Closing the
        iterator or `stop` ends it; the last Progress of a stopped job says so, even with no picture at all.

        Raises WorkbenchError for a prompt, seed, count or `of` that cannot be used, and for a missing model.
        """
        count, of = check_count(count), check_best_of(of)
        stop = self._stops[visitor] = threading.Event()  # before the model, which may still be loading
        try:
            from workbench.pipeline.choosing import STRIDE
            from workbench.pipeline.inputs import check_seeds

            check_seeds(seed, count)  # all of them, and their last candidates, before the first is drawn
            check_seeds(seed + (of - 1) * STRIDE, count)
            pipeline, folder = self.chooser(of), self.new_folder()
            now = Progress(files=(), seeds=(), seconds=0.0, wanted=count, of=of, stopped=stop.is_set())
            while not now.done:
                first, step = seed + len(now.files), min(max(1, CHUNK // of), count - len(now.files))
                with self.alone():
                    start = time.perf_counter()
                    samples = pipeline(prompt, seed=first, count=step, truncation=truncation)
                    seconds = now.seconds + time.perf_counter() - start
                files = (*now.files, *self._save(samples, folder))
                now = replace(now, files=files, seeds=(*now.seeds, *samples.seeds), seconds=seconds)
                yield now
                now = replace(now, stopped=stop.is_set() and not now.done)
            if now.stopped:
                yield now
        finally:
            if self._stops.get(visitor) is stop:
                del self._stops[visitor]

    def remake(self, png: str | Path) -> tuple[Any, Path]:
        """The verdict on a PNG of ours (`workbench.pipeline.Remade`), and the picture made again."""
        from workbench.images import save_png
        from workbench.pipeline import remake

        pipeline = self.pipeline()
        with self.alone():
            remade = remake(png, pipeline)
        return remade, save_png(remade.image, self.new_folder() / "made-again.png")

    def stop(self, visitor: str = "") -> bool:
        """Ask the running job of one visitor to end after the pictures in hand; False when there is none."""
        event = self._stops.get(visitor)
        if event is None:
            return False
        event.set()
        return True

    def _save(self, samples: Any, folder: Path) -> list[Path]:
        from workbench.images import save_png
        from workbench.pipeline.keeping import slug

        named = zip(samples.images, samples.prompts, samples.seeds, samples.recipes, strict=True)
        return [
            save_png(image, folder / f"{slug(text)}-{seed}.png", recipe)
            for image, text, seed, recipe in named
        ]

    def new_folder(self) -> Path:
        """A folder for one job, to be made when it is written to: those longest unwritten are cleared away,
        and the pictures shown were copied by the page.
        """
        with self._folders:
            self._jobs += 1
            folder = self.work / f"job-{self._jobs:06d}"
            folder.mkdir(parents=True)
            for old in sorted(self.work.glob("job-*"), key=_written)[:-KEPT_JOBS]:
                shutil.rmtree(old, ignore_errors=True)
            return folder


def _written(folder: Path) -> tuple[int, str]:
    """When a folder got its last file, and its name where a clock cannot tell."""
    return folder.stat().st_mtime_ns, folder.name


def looks_local(model: str) -> bool:
    """Whether a model's name is a folder here rather than owner/name on the Hugging Face Hub."""
    return (
        model.startswith((".", "/", "~", "assets", "runs")) or model.count("/") != 1 or Path(model).exists()
    )


def missing_model(model: str) -> str:
    """The sentence for a model folder that is not there."""
    return (
        f"There is no model at {model}. Make the shipped one with `make demo-models`, or start the app with "
        "another: `workbench app --model DIR`."
    )


def check_count(count: object) -> int:
    """`count` as an int that the page can show, else a WorkbenchError. Sliders may send 4 as 4.0."""
    number = isinstance(count, (int, float)) and not isinstance(count, bool)
    if not number or not 1 <= count <= MAX_COUNT or count != int(count):  # the range first: int(nan) raises
        raise WorkbenchError(
            f"The count is {str(count)[:40]}: expected a whole number from 1 to {MAX_COUNT} on this page; "
            "`workbench sample` makes more."
        )
    return int(count)


def check_best_of(of: object) -> int:
    """`of` as an int from 1 to MAX_BEST_OF, else a WorkbenchError."""
    number = isinstance(of, (int, float)) and not isinstance(of, bool)
    if not number or not 1 <= of <= MAX_BEST_OF or of != int(of):
        raise WorkbenchError(
            f"The best of {str(of)[:40]} was asked for: expected a whole number from 1 to {MAX_BEST_OF} on "
            "this page; `workbench sample --best-of` draws more."
        )
    return int(of)


def in_words(function: F) -> F:
    """Wrap a page's function: what a person can mend becomes a notice with the same sentence."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _told():
                yield from function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _told():
                return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (WorkbenchError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from error
