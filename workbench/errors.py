"""The error that a mistake which a person can mend raises, and one for a process that was lost."""


class WorkbenchError(ValueError):
    """A mistake that a person can mend: one clear sentence or two.

    The text says what happened (with the value), what was expected and what to do. The command line prints it
    as ``error: …`` and exits with 2; the app and the notebooks show the same text.
    """


class ProcessLost(WorkbenchError):
    """Another process of the same run ended or cannot be reached: no mistake of the one that says so."""
