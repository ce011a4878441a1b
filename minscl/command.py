"""What surrounds a command: its output, one line for whatever ends it, an exit status, and odd standard streams.

    if __name__ == "__main__":
        run_command(main)

Of minscl, this module imports errors.py only. Read next: cli.py, the flags of a command.
"""

import contextlib
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TextIO

from minscl.errors import UNPRINTABLE, InputError, Terminated, printable

MAX_MESSAGE = 1200  # characters of an error line


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON, with escapes for what a terminal obeys and what the encoding may lack."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_utf8)
    print(UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text), flush=True)


def format_counts(rows: Iterable[tuple[str, int]]) -> str:
    """(name, number) rows as aligned lines."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {number:>7,}" for name, number in rows)


def warn(line: str) -> None:
    """Print a warning on stderr."""
    print(f"minscl: warning: {printable(line)}", file=sys.stderr)


def print_written(out: str, rows, *texts: str) -> None:
    """Print (name, number) rows and `texts` on stdout, the name of the file on stderr."""
    print(format_counts(rows), *texts, sep="\n\n")
    print(f"written to {out}", file=sys.stderr)


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run `main()` and exit with its status. Whatever ends it is one line on stderr, never a traceback of bad input.

    Exit status 2: InputError, Terminated, a stream that cannot be written, too little memory; 130: Ctrl-C.
    """
    _repair_streams()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = EscapedStream(sys.stdout), EscapedStream(sys.stderr)  # type: ignore[assignment]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # while it imported: minscl/__init__.py
    try:
        status = main()
        sys.stdout.flush()
    except (InputError, Terminated) as error:
        status = _end(shorten(" ".join(str(error).split())), 2)
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
    finally:
        sys.stdout, sys.stderr = streams
    sys.exit(status)


class EscapedStream:
    """A text stream in which control characters are shown, not obeyed: names, ids and quotations are strangers' text.

    A line may begin with a carriage return, and move up on its own: so a progress bar draws itself.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, escaped."""
        start = "\r" if text.startswith("\r") else ""
        if text.replace("\x1b[A", "").strip("\r\n"):
            text = start + re.sub(r"[^\n\t]+", lambda match: printable(match[0]), text[len(start) :])
        self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Everything but `write` is the stream's own."""
        return getattr(self._stream, name)


def shorten(message: str) -> str:
    """`message`, its middle left out if it is longer than MAX_MESSAGE: a file's names and values may fill megabytes."""
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 300]} ... {message[-300:]}"


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
