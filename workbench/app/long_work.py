"""Work of many seconds behind a page's generator: it tells how far it is, and ends soon after Stop, or never
begins where Stop was pressed while it waited.
"""

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

_EVERY: "weakref.WeakSet[Stops]" = weakref.WeakSet()
Tell = Callable[[Any], None]  # says how far the work is; raises Stopped where it shall end


class Stopped(Exception):
    """Raised inside the work when somebody pressed Stop or left the page."""


class Wish:
    """What one visitor asks for, from the press until the work begins; the newest press counts.

    Held in a `gr.State`, written by an event that does not queue and taken by the work when its turn comes.
    So Stop can take back what waits, and a press after it keeps the place in the queue.
    """

    def __init__(self) -> None:
        self._asked: deque[tuple[Any, ...]] = deque(maxlen=1)  # its append and pop are one step each
        self.stopped = False  # since the newest press

    def ask(self, *values: Any) -> None:
        """Wish for work with these values."""
        self.stopped = False
        self._asked.append(values)

    def take(self) -> tuple[Any, ...] | None:
        """The values, once; None where nothing waits (any more)."""
        try:
            return self._asked.pop()
        except IndexError:
            return None

    def drop(self) -> bool:
        """Stop was pressed: take the wish back; False where none waited."""
        self.stopped = True
        return self.take() is not None


class Stops:
    """The Stop of each visitor's running work."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Event] = {}
        _EVERY.add(self)

    def stop(self, visitor: str) -> bool:
        """Ask the running work of a visitor to end; False when there is none."""
        event = self._running.get(visitor)
        if event is not None:
            event.set()
        return event is not None

    def run(self, work: Callable[[Tell], Any], visitor: str = "") -> Iterator[tuple[str, Any]]:
        """("told", sentence) while it works, then ("done", result) or ("stopped", None).

        The work runs in a thread of its own. Closing the iterator stops it too. What it raises is raised
        here.
        """
        stop = self._running[visitor] = threading.Event()
        said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

        def tell(sentence: str) -> None:
            if stop.is_set():
                raise Stopped
            said.put(("told", sentence))

        thread = threading.Thread(target=_kept, args=(work, tell, said), name="long-work")
        thread.start()
        try:
            yield from _until_the_end(said)
        finally:
            stop.set()
            thread.join()
            if self._running.get(visitor) is stop:
                del self._running[visitor]


def end_all() -> None:
    """Press every visitor's Stop: Python does not end while their work goes on."""
    for stops in tuple(_EVERY):
        for visitor in tuple(stops._running):
            stops.stop(visitor)


def _kept(work: Callable[[Tell], Any], tell: Tell, said: "queue.SimpleQueue[tuple[str, Any]]") -> None:
    try:
        said.put(("done", work(tell)))
    except Stopped:
        said.put(("stopped", None))
    except BaseException as error:  # noqa: BLE001 - raised again where the page waits
        said.put(("failed", error))


def _until_the_end(said: "queue.SimpleQueue[tuple[str, Any]]") -> Iterator[tuple[str, Any]]:
    while True:
        what, value = said.get()
        while what == "told" and not said.empty():  # the newest is enough
            what, value = said.get()
        if what == "failed":
            raise value
        yield what, value
        if what != "told":
            return
