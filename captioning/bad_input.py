"""What a user gave cannot be used: one line that names the thing and the way out, exit status 2, no traceback."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


class BadInput(Exception):
    """A file, an option or a setting that cannot be used. The message is one line: what it is, what was expected, what to do."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its status: 0, what `main` returns, 2 for BadInput, 130 for Ctrl-C.

    A full disk and a read-only folder are BadInput too: the user can mend them, and a traceback would hide which file it was.
    """
    program = Path(sys.argv[0]).name
    try:
        status = main() or 0
        sys.stdout.flush()
    except BadInput as error:
        status = _say(program, str(error))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader went away (`| head`). Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        status = _say(program, f"{error.filename or 'write'}: {error.strerror}; free some space or choose another folder")
    sys.exit(status)


def _say(program: str, message: str) -> int:
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def at_least(config, **minimums) -> None:
    for field, minimum in minimums.items():
        if not getattr(config, field) >= minimum:  # "not >=" also refuses NaN
            raise BadInput(f"{flag(field)} {getattr(config, field)}: give a number of at least {minimum}")


def one_of(config, **choices) -> None:
    for field, allowed in choices.items():
        if getattr(config, field) not in allowed:
            raise BadInput(f"{flag(field)} {getattr(config, field)}: choose {', '.join(allowed)}")
