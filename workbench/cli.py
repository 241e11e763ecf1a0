"""The `workbench` command: reads the line, runs the subcommand, and turns a mistake into one sentence."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import workbench
from workbench.errors import WorkbenchError

_STOPPED = 130  # commands.STOPPED, which may not be imported when Ctrl-C comes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 a mistake that can be mended, 130 Ctrl-C.

    WorkbenchError and OSError become one line `error: …` on stderr, after a traceback if WORKBENCH_DEBUG=1.
    """
    arguments = _spelt_out(list(sys.argv[1:] if argv is None else argv))
    try:
        import tyro  # here, where Ctrl-C is heeded: this and the next take some tenths of a second

        from workbench.commands import app

        status = app.cli(
            prog="workbench",
            description=workbench.__doc__,
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`workbench figures | head`): nothing is wrong on our side.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _STOPPED
    except (WorkbenchError, OSError) as error:
        if os.environ.get("WORKBENCH_DEBUG") == "1":
            traceback.print_exc()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        print(
            "error: There is not enough memory for this. Make the batch, the resolution or the count smaller,"
            " or use a smaller preset.",
            file=sys.stderr,
        )
        return 2
    return status if isinstance(status, int) else 0


def _spelt_out(arguments: list[str]) -> list[str]:
    """`evaluate --model …` is short for `evaluate report --model …`, the whole of what can be measured."""
    option = arguments[1] if arguments[:1] == ["evaluate"] and len(arguments) > 1 else ""
    if option.startswith("--") and option != "--help":
        return ["evaluate", "report", *arguments[1:]]
    return arguments


def out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch on CUDA has a class of its own for it, on the CPU only a text."""
    named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    return named or "can't allocate memory" in str(error)


def sentence(error: Exception) -> str:
    """One line for a person: what happened and, for a system's refusal, what to do."""
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split()) or type(error).__name__
    advice = {
        errno.ENOSPC: "Make room on that disk (df -h) or choose another folder, then run the command again.",
        errno.EDQUOT: "Make room in your quota or choose another folder, then run the command again.",
        errno.EACCES: "Choose a folder that you may write to, or change its permissions.",
        errno.EPERM: "Choose a folder that you may write to, or change its permissions.",
        errno.EROFS: "Choose a folder on a disk that can be written to.",
        errno.ENOENT: "Check the path.",
        errno.ENOTDIR: "Check the path: a part of it is a file.",
        errno.EISDIR: "Name a file, not a folder.",
        errno.EADDRINUSE: "Choose another port, e.g. --port 7861.",
    }.get(error.errno, "Mend that and run the command again.")
    where = f": {error.filename}" if error.filename is not None else ""
    return f"{error.strerror}{where}. {advice}"


if __name__ == "__main__":
    sys.exit(main())
