"""The one error that a user's mistake raises."""


class WorkbenchError(ValueError):
    """A mistake that a person can mend: one clear sentence or two.

    The text says what happened (with the value), what was expected and what to do. The command line prints it
    as ``error: …`` and exits with 2; the app and the notebooks show the same text.
    """
