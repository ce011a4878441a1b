"""The code book: ICD-10-CM's Tabular List as a tree, and the nearest code of Eq. 9.

`CodeBook.load()` parses the bundled official XML once and keeps the result as JSON in the user's cache folder (safe to
delete; named by the content it was made from). Codes are written with the dot after three characters.

Read next: gold.py; tabular.py for the parsing.
"""

import functools
import gzip
import hashlib
import json
import os
import re
import unicodedata
from importlib import resources
from pathlib import Path

from minscl.data.icd.tabular import parse_tabular
from minscl.errors import InputError, replace_file

TABULAR = "icd10cm_tabular_2026.xml.gz"
FORMAT = 1  # of the cache; raise it when parse_tabular's result changes
ROOT = "ICD-10-CM"  # above the chapters
SHAPE = re.compile(r"[A-Z][0-9][0-9AB][0-9A-Z]{0,4}")
SPECIAL_CATEGORIES = ("C7A", "C7B", "D3A", "M1A", "O9A", "Z3A", "QA0")


class CodeBook:
    """Look-ups in the Tabular List. Make one with `CodeBook.load()`."""

    def __init__(self, parsed: dict):
        self._nodes = parsed["nodes"]
        self._notes = parsed["notes"]
        self.billable: list[str] = parsed["billable"]  # sorted
        self._billable = frozenset(self.billable)
        self._near: _Nearest | None = None

    @staticmethod
    @functools.cache
    def load() -> "CodeBook":
        """The bundled ICD-10-CM of April 2026, from the cache or else from the XML. One copy a process."""
        packed = (resources.files("minscl.data.icd") / "resources" / TABULAR).read_bytes()
        cache = cache_folder() / f"tabular-{FORMAT}-{hashlib.sha256(packed).hexdigest()[:16]}.json"
        try:
            return CodeBook(json.loads(cache.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, unreadable or damaged: made anew
        with gzip.open((resources.files("minscl.data.icd") / "resources" / TABULAR).open("rb")) as handle:
            parsed = parse_tabular(handle)
        try:
            with replace_file(cache) as handle:
                json.dump(parsed, handle, ensure_ascii=False, separators=(",", ":"))
        except (InputError, OSError):
            pass  # a home that cannot be written costs a second at each start, no more
        return CodeBook(parsed)

    def is_billable(self, code: str) -> bool:
        return code in self._billable

    def description(self, code: str) -> str | None:
        """The Tabular List's description of a code or heading; None where it is not listed."""
        return self._nodes.get(code, (None,))[0]

    def parent(self, code: str) -> str | None:
        """The heading above: code → category → section → chapter → None."""
        return self._nodes[code][1]

    @functools.cached_property
    def _children(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for code, (_, parent) in self._nodes.items():
            found.setdefault(parent, []).append(code)
        return found

    def children(self, code: str) -> list[str]:
        """The nodes directly below, in the List's order."""
        return list(self._children.get(code, ()))

    def ancestors(self, code: str) -> list[str]:
        """From the parent up to the chapter."""
        found = []
        while (code := self._nodes[code][1]) is not None:
            found.append(code)
        return found

    def category(self, code: str) -> str:
        """The three characters before the dot."""
        return code[:3]

    def chapter(self, code: str) -> str | None:
        """The chapter's number ("1".."22") of a listed code, None for another."""
        if code not in self._nodes:
            return None
        return (self.ancestors(code) or [code])[-1]

    def notes(self, code: str, kind: str) -> list[str]:
        """The notes of one kind (tabular.NOTE_KINDS) that stand at this very node."""
        return list(self._notes.get(code, {}).get(kind, ()))

    def headings_with(self, kind: str) -> list[str]:
        """The codes and headings that carry notes of one kind, in the List's order."""
        return [name for name, notes in self._notes.items() if kind in notes and name[0].isalpha() and " " not in name]

    def inclusion_terms(self, code: str) -> list[str]:
        return self.notes(code, "inclusionTerm")

    def normalise(self, text: str) -> str | None:
        """Canonical form of a code as people write it ("e1165" → "E11.65"); None for what is not ICD-10-CM shaped.

        A well-formed code that the List lacks is kept; a seven-character one of PCS's shape that it lacks is not.
        """
        bare = re.sub(r"[\s.]", "", unicodedata.normalize("NFKC", text)).upper()
        if not SHAPE.fullmatch(bare) and not (
            bare.startswith(SPECIAL_CATEGORIES) and len(bare) <= 7 and bare.isalnum()
        ):
            return None
        code = bare if len(bare) == 3 else f"{bare[:3]}.{bare[3:]}"
        pcs = re.fullmatch(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}", bare) and "." not in text
        return None if pcs and code not in self._nodes else code

    def nearest(self, code: str, among) -> str:
        """Eq. 9: the code of `among` at the fewest steps from `code` in the tree, `code` itself left out.

        Ties by the deepest common ancestor, then by code order. Chapters hang under one root, so there is always an answer. Give the
        same frozenset again and its index is built once. Raises InputError where `among` holds no other code.
        """
        if self._near is None or self._near.among is not among:
            self._near = _Nearest(self, among)
        return self._near.of(code)


class _Nearest:
    """For each node the two members of `among` fewest steps below it; a query climbs from its code and asks at each ancestor."""

    def __init__(self, book: CodeBook, among):
        self.book, self.among = book, among
        self.below: dict[str, list[tuple[int, str]]] = {}
        for member in set(among):
            for steps, node in enumerate(self.path(member)):
                best = self.below.setdefault(node, [])
                best.append((steps, member))
                best.sort()
                del best[2:]  # two: one of them may be the code that asks

    def path(self, code: str) -> list[str]:
        return [code, *self.book.ancestors(code), ROOT]

    def of(self, code: str) -> str:
        found = [
            (climbed + steps, climbed, member)  # a smaller climb is a deeper common ancestor
            for climbed, node in enumerate(self.path(code))
            for steps, member in self.below.get(node, ())
            if member != code
        ]
        if not found:
            raise InputError(f"nearest code to {code}: no other code is given to choose from; give more codes")
        return min(found)[2]


def cache_folder() -> Path:
    """Where parsed tables are kept: $XDG_CACHE_HOME/minscl or ~/.cache/minscl."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minscl"
