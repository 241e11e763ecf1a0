"""The Hugging Face Hub as both models and data sets meet it: names, and what its client raises, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from workbench.errors import WorkbenchError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_name(repo: object) -> str:
    """`repo` where it is owner/name; else a WorkbenchError."""
    if not isinstance(repo, str) or not NAME.fullmatch(repo):
        raise WorkbenchError(f"{str(repo)[:60]!r} is no Hub name: expected owner/name, for example me/dogs.")
    return repo


def nobody_is_logged_in() -> WorkbenchError:
    """The error of an upload without a token."""
    return WorkbenchError(
        "Nobody is logged in to the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN to a token that "
        "may write. Nothing was uploaded."
    )


@contextlib.contextmanager
def clear_errors(repo: str, so_far: Callable[[], str]) -> Iterator[None]:
    """Turns what the Hub's client raises while `repo` is uploaded into a WorkbenchError of one sentence.

    so_far: asked when the Hub cannot be reached, what is there already, as in "3 of 7 files are there".
    """
    import httpx2  # what the Hub's client speaks through, and raises
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise nobody_is_logged_in() from error
    except HFValidationError as error:
        why = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{repo} is no valid Hub name ({why}): choose another.") from error
    except (OfflineModeIsEnabled, ConnectionError, httpx2.TransportError) as error:
        raise WorkbenchError(
            f"The Hugging Face Hub cannot be reached, {so_far()}: check the network and run it again."
        ) from error
    except HfHubHTTPError as error:
        raise WorkbenchError(
            f"The Hugging Face Hub refused {repo} (status {status_of(error)}): check the name and that your "
            "token may write."
        ) from error


def status_of(error: Exception) -> int | str:
    """The HTTP status of an error of the Hub's client, "no" where none came."""
    return getattr(getattr(error, "response", None), "status_code", "no")
