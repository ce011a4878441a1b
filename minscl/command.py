"""What surrounds a command: one line for whatever ends it, an exit status, and standard streams that may be odd.

    if __name__ == "__main__":
        run_command(main)

Of minscl, this module imports errors.py only. Read next: cli.py, the flags of a command.
"""

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from minscl.errors import InputError, printable


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON, with escapes where the encoding of stdout may lack letters."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not is_utf8), flush=True)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run `main()` and exit with its status. Whatever ends it is one line on stderr, never a traceback of bad input.

    Exit status 2: InputError, a stream that cannot be written, too little memory; 130: Ctrl-C.
    """
    _repair_streams()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # while it imported: minscl/__init__.py
    try:
        status = main()
        sys.stdout.flush()
    except InputError as error:
        status = _end(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what still runs at exit
        status = _end("interrupted", 130)
    except BrokenPipeError:  # the reader of stdout (head, less) has closed it: not an error
        status = _end("", 0)
    except MemoryError:
        status = _end("out of memory; use a smaller model, shorter notes, or a machine with more", 2)
    except OSError as error:  # files are opened in files.py, so this is a standard stream or a rare system error
        status = _end(f"{error.filename or 'standard output'}: {error.strerror or error}; nothing else is written", 2)
    sys.exit(status)


def _end(message: str, status: int) -> int:
    """Print `message`, if any, on stderr and return `status`. What stdout could not take is dropped."""
    with contextlib.suppress(OSError, ValueError):
        if message:
            print(f"minscl: {printable(message)}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # at exit, Python would try again and fail with a traceback
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _repair_streams() -> None:
    """Stand in for closed standard streams (`2>&-`), and escape what an encoding lacks (PYTHONIOENCODING=latin-1)."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would get its number, and C libraries' messages
            os.open(os.devnull, os.O_RDWR)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 (open to the end)
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="backslashreplace")
