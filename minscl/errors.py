"""Errors that the user can fix, atomic file writes, and a JSON reader whose errors name the file.

Every command turns an `InputError` into one line on stderr and exit status 2 (cli.run_command). Any module may import
this one; it imports nothing from minscl.
"""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# The disk is full, a quota is used up, the file is over a size limit, the device fails.
DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class InputError(ValueError):
    """Bad input or bad usage. The message is one line that names the file, the value and the remedy."""


@contextlib.contextmanager
def disk_errors(
    path: str | Path, remedy: str = "free some space and start again; the previous file is untouched"
) -> Iterator[None]:
    """Turns the OSError of a full or failing disk into an InputError that names `path` and `remedy`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error


@contextlib.contextmanager
def replace_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success fsync it and rename it over `path`.

    `mode` is "w" (UTF-8 text, newlines as written) or "wb". On any exception the temporary file is removed and `path`
    stays as it was. Raises InputError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); choose a folder that can be written") from error
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with disk_errors(path), os.fdopen(fd, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private; a result has ordinary permissions
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json_object(path: str | Path, remedy: str = "fetch the file again") -> dict:
    """The JSON object in `path`. Raises InputError with the file and `remedy` if there is none."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object; {remedy}")
    return value
