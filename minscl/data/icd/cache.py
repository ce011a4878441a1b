"""What takes seconds to compute from an edition's files, kept in the user's cache folder as checked JSON.

A file that is absent, damaged or forbidden is as good as none: everything in it can be computed again.

Read next: parse_edition.py.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from minscl.errors import InputError
from minscl.files import read_bytes, replace_file


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/minscl or ~/.cache/minscl; None where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minscl"
    except RuntimeError:  # HOME is not set and the user has no passwd entry, as in some containers
        return None


def read_checked(path: Path) -> bytes | None:
    """What write_checked wrote; None where it is absent, unreadable, or not as it was written."""
    try:
        return checked_content(read_bytes(path))
    except InputError:
        return None


def checked_content(file: bytes) -> bytes | None:
    """The content of a file that write_checked wrote; None where it is not as it was written."""
    digest, _, content = file.partition(b"\n")
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


def write_checked(path: Path, content: bytes) -> None:
    """A line with the digest of what follows, then `content`. Raises InputError where `path` cannot be written."""
    with replace_file(path, "wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_cache(path: Path) -> Any:
    """What write_cache wrote; None where it is absent, unreadable, or not as it was written."""
    content = read_checked(path)
    try:
        return None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        return None


def write_cache(path: Path, value: Any) -> None:
    """`value` as JSON, for read_cache; nothing where `path` cannot be written."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    with contextlib.suppress(InputError):
        write_checked(path, content)
