"""The command line, ``lt-bench``: from words to a command of :mod:`lt_bench.commands`, and how it ends.

Everything a person can mend ends in one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from lt_bench import __version__
from lt_bench.commands import COMMANDS
from lt_bench.errors import PREEMPTED_CODE, LostProcesses, LTBenchError, Preempted


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``lt-bench``; None takes the process's.

    Returns:
        The exit code: 0, 2 for something a person can mend, 130 for an interruption, 143 where SIGTERM ended
        a run that can be resumed.
    """
    for stream in (sys.stdout, sys.stderr):
        # A locale that is not UTF-8 may have no sign for the tau of a label.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except LostProcesses as error:
        print(f"lt-bench: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        # Threads of the process group may still wait for the others: Python's own end would abort on them.
        os._exit(2)
    except LTBenchError as error:
        print(f"lt-bench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader has seen enough (``lt-bench list configs | head``).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        where = f" {error.filename}" if error.filename else ""
        print(
            f"lt-bench: cannot read or write{where}: {error.strerror or error}; "
            "free space or choose a folder you may write to",
            file=sys.stderr,
        )
        return 2
    except RuntimeError as error:
        told = _run_out_of(error)
        if told is None:
            raise
        print(f"lt-bench: {told}", file=sys.stderr)
        return 2
    except Preempted as ended:
        print(f"lt-bench: {ended}", file=sys.stderr)
        return PREEMPTED_CODE
    except KeyboardInterrupt as interruption:
        resumed = hasattr(arguments, "unfinished")
        again = "--resume goes on from the last checkpoint" if resumed else "give the command again"
        how = str(interruption) or again
        print(f"lt-bench: interrupted; {how}", file=sys.stderr)
        return 130
    return 0


def _run_out_of(error: RuntimeError) -> str | None:
    """The sentence where a machine is too small for what was asked of it; None for any other error."""
    # By its name: most commands do without torch.
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "the GPU's memory is full; lower stage1.batch_size, the classifier's recipe.batch_size or "
            "runtime.eval_batch_size"
        )
    reason = str(error).partition("\n")[0]
    if reason.startswith("DataLoader worker"):
        return (
            f"a process that loads images has died ({reason[:120]}); lower runtime.workers, or give it more "
            "memory (a container: more shared memory, --shm-size)"
        )
    return None


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it gives has the function to call as ``command``."""
    whole = argparse.ArgumentParser(
        prog="lt-bench", description="A benchmark for long-tailed visual recognition."
    )
    whole.add_argument("--version", action="version", version=f"lt-bench {__version__}")
    commands = whole.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
