"""Errors a user can mend; files that are written whole or not at all; JSON settings read with every fault named.

Every command turns an `InputError` into one line on stderr and exit status 2 (cli.run_command).
Any module may import this one; it imports nothing of minscl.
"""

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # the disk, a quota, a limit on files, the device


class InputError(ValueError):
    """Bad input or bad usage: the message is one line naming the file, the value and the remedy."""


@contextlib.contextmanager
def disk_errors(path, remedy: str = "make room and start again; what stood there before is untouched"):
    """A disk that is full, as one line that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error


@contextlib.contextmanager
def replace_file(path, mode: str = "w"):
    """Open a temporary file beside `path`; on success fsync it and rename it over `path`.

    `mode` is "w" (UTF-8 text, newlines as written) or "wb". On any exception the temporary file is
    removed and `path` is what it was. Raises InputError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); choose a folder that can be written") from error
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with disk_errors(path), os.fdopen(fd, mode, **text) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; a result is an ordinary file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json_object(path, remedy: str = "fetch the file again") -> dict:
    """The JSON object in `path`. Raises InputError naming the file and `remedy` where it cannot be read or holds something else."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no JSON object; {remedy}")
    return value
