"""An edition's files parsed, and the result kept as JSON in the user's cache folder.

Read next: codebook.py, which answers questions about it.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from minscl.data.icd.code_list import place_codes, read_code_list
from minscl.data.icd.editions import Edition
from minscl.data.icd.tabular import parse_tabular
from minscl.data.icd.xml_text import read_xml
from minscl.errors import InputError
from minscl.files import read_bytes, replace_file

CACHE_FORMAT = 3  # increase when CodeBook needs something from parse_edition that older cache files lack


def parse_edition(edition: Edition) -> dict:
    """`edition` in the form of tabular.parse_tabular, from the cache or else from its files. Raises InputError."""
    folder = cache_folder()
    cache = folder and folder / f"edition-{CACHE_FORMAT}-{edition.digest}.json"
    parsed = cache and _read_cache(cache)
    if not parsed:
        file = edition.file("tabular")
        parsed = parse_tabular(read_xml(edition.read("tabular"), str(file.path)))
        if edition.has("codes"):
            name = str(edition.file("codes").path)
            parsed = place_codes(read_code_list(edition.read("codes"), name), parsed, name)
        if not parsed["billable"]:
            raise InputError(f"{file.path}: edition {edition.name} has no billable code; make the edition again")
        if cache:
            _write_cache(cache, parsed)
    return parsed


def cache_folder() -> Path | None:
    """The folder for parsed tables: $XDG_CACHE_HOME/minscl or ~/.cache/minscl; None where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minscl"
    except RuntimeError:  # HOME is not set and the user has no passwd entry, as in some containers
        return None


def _read_cache(path: Path) -> dict | None:
    """What _write_cache wrote; None where it is absent, unreadable, or not as it was written."""
    try:
        digest, _, content = read_bytes(path).partition(b"\n")
    except InputError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    kinds = {"nodes": dict, "billable": list, "notes": dict}
    is_whole = isinstance(parsed, dict) and all(isinstance(parsed.get(key), kind) for key, kind in kinds.items())
    return parsed if is_whole and parsed["billable"] else None


def _write_cache(path: Path, parsed: dict) -> None:
    """A line with the digest of what follows, then `parsed` as JSON; nothing where `path` cannot be written."""
    content = json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode()
    with contextlib.suppress(InputError), replace_file(path, "wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
