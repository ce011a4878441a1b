"""The code book: ICD-10-CM as a tree, on a date of service, and the nearest code of Eq. 9.

`CodeBook.load()` parses an edition's files once and caches the result as JSON in the user's cache folder. The cache
file is named after the content it was made from, begins with a digest of its own content, and is safe to delete.
Codes have a dot after three characters.

Read next: editions.py, which files are read; tabular.py, which parses them; ../spans/gold.py, which pairs phrases with
codes.
"""

import datetime
import functools
import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterator

from minscl.data.icd.editions import BUNDLED, DEFAULT, VARIABLE, Edition, find_edition, read_date, read_edition
from minscl.data.icd.parse_edition import parse_edition
from minscl.errors import InputError

ONE_DAY = datetime.timedelta(days=1)
ROOT = "ICD-10-CM"  # the node above the chapters
CODE_SHAPE = re.compile(r"[A-Z][0-9][0-9AB][0-9A-Z]{0,4}")  # without the dot: E1165, I10, M1A9XX0
PCS_SHAPE = re.compile(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}")  # an ICD-10-PCS procedure code: 0SR9019
SPECIAL_CATEGORIES = ("C7A", "C7B", "D3A", "M1A", "O9A", "Z3A", "QA0", "QA1")


class CodeBook:
    """Look-ups in one edition; `CodeBook.load()` returns it.

    A *node* is a chapter ("1".."22"), a section ("section I10-I1A"), or a code or heading with its dot ("I11",
    "I11.0"). `billable` lists the billable codes, sorted.
    """

    def __init__(self, parsed: dict, edition: Edition, date: datetime.date | None = None):
        """`parsed` as parse_edition returns it; raises KeyError or TypeError for anything else."""
        self._nodes: dict[str, tuple[str, str | None]] = parsed["nodes"]  # node → (description, parent)
        self._notes: dict[str, dict[str, list[str]]] = parsed["notes"]  # node → kind → texts
        self.billable: list[str] = parsed["billable"]
        self.edition, self.date = edition, date
        self._billable = frozenset(self.billable)
        self._nearest: _NearestIndex | None = None

    @staticmethod
    def load(edition: str | os.PathLike | None = None, date: str | datetime.date | None = None) -> "CodeBook":
        """The code set `edition`, a bundled name ("2026", "2027") or a folder of `expand official`; one object each.

        Default: the edition that the environment variable MINSCL_EDITION names, else 2027. `date`, a date of service
        ("2026-09-30"), selects what was in force on that day, as far as that edition and the older bundled ones tell.
        Raises InputError for an unknown edition, damaged files, and a date that the edition does not reach.
        """
        return _load(str(edition or os.environ.get(VARIABLE) or DEFAULT), date)

    def on_date(self, date: datetime.date) -> "CodeBook":
        """This book with a date of service, which its messages name."""
        parsed = {"nodes": self._nodes, "notes": self._notes, "billable": self.billable}
        return CodeBook(parsed, self.edition, date)

    @property
    def nodes(self) -> Iterator[str]:
        """All nodes, in the List's order."""
        return iter(self._nodes)

    @property
    def label(self) -> str:
        """For people: the edition with its dates, and the date of service where one was named."""
        return self.edition.label + (f", date of service {self.date}" if self.date else "") + self.out_of_range

    @property
    def out_of_range(self) -> str:
        """A remark where no known edition has the date of service: this is not that day's code set."""
        if self.date is not None and self.date < self.edition.first_date:
            return f"; no older edition is known, so codes may differ from those of {self.date}"
        if self.date is not None and self.date > self.edition.last_date:
            return f"; no edition of {self.date} is known, so codes may differ from those of that day"
        return ""

    def when_valid(self, code: str) -> str:
        """For a code that this book lacks or does not bill: when another edition does. "" for a billable code, and for
        one that no known edition has as billable.

        "valid until 2026-09-30", the day before the next known edition without it; "valid from 2026-10-01", or "valid
        by 2025-10-01" where what came before that edition is not known.
        """
        if code in self._billable:
            return ""
        bundled = [edition for edition in map(read_edition, BUNDLED) if edition.first_date != self.edition.first_date]
        known = sorted([*bundled, self.edition], key=lambda edition: edition.first_date)
        place = known.index(self.edition)
        for index in [*range(place - 1, -1, -1), *range(place + 1, len(known))]:  # older ones first, the latest of them
            edition = known[index]
            if CodeBook.load(edition.name).is_billable(code):
                if index < place:
                    return f"valid until {min(edition.last_date, known[index + 1].first_date - ONE_DAY)}"
                is_next = known[index - 1].last_date + ONE_DAY >= edition.first_date
                return f"valid {'from' if is_next else 'by'} {edition.first_date}"
        return ""

    def is_billable(self, code: str) -> bool:
        """Whether `code` is valid for billing; False for headings and for anything not listed."""
        return code in self._billable

    def billable_below(self, prefix: str) -> list[str]:
        """The billable codes that start with `prefix`, sorted."""
        return self.billable[bisect_left(self.billable, prefix) : bisect_left(self.billable, prefix + "\x7f")]

    def description(self, code: str) -> str | None:
        """The Tabular List's description of a node; None if it is not listed."""
        return self._nodes[code][0] if code in self._nodes else None

    def parent(self, code: str) -> str | None:
        """The node above: code → category → section → chapter → None. Raises KeyError if `code` is not listed."""
        return self._nodes[code][1]

    @functools.cached_property
    def _children(self) -> dict[str | None, list[str]]:
        children: dict[str | None, list[str]] = {}
        for code, (_, parent) in self._nodes.items():
            children.setdefault(parent, []).append(code)
        return children

    def children(self, code: str) -> list[str]:
        """The nodes directly below, in the List's order; [] for a billable code and for anything not listed."""
        return list(self._children.get(code, ()))

    def ancestors(self, code: str) -> list[str]:
        """The nodes above, from the parent up to the chapter. Raises KeyError if `code` is not listed."""
        path = []
        parent = self._nodes[code][1]
        while parent is not None:
            path.append(parent)
            parent = self._nodes[parent][1]
        return path

    def category(self, code: str) -> str:
        """The first three characters; `code` need not be listed."""
        return code[:3]

    def has_category(self, code: str) -> bool:
        """Whether the List has the three-character category of `code`, which need not be listed itself."""
        return self.category(code) in self._nodes

    def chapter(self, code: str) -> str | None:
        """The chapter ("1".."22") of a node; None if it is not listed."""
        if code not in self._nodes:
            return None
        return (self.ancestors(code) or [code])[-1]

    def notes(self, code: str, kind: str) -> list[str]:
        """The notes of one kind (tabular.NOTE_KINDS) at this node itself, inherited ones excluded; [] if none."""
        return list(self._notes.get(code, {}).get(kind, ()))

    def nodes_with(self, kind: str) -> list[str]:
        """The nodes that have notes of one kind, in the List's order."""
        return [node for node, notes in self._notes.items() if kind in notes]

    def headings_with(self, kind: str) -> list[str]:
        """The codes and headings (not chapters and sections) that have notes of one kind, in the List's order."""
        return [node for node in self.nodes_with(kind) if node[0].isalpha() and " " not in node]

    def inclusion_terms(self, code: str) -> list[str]:
        """The inclusion terms at this node itself; [] if there are none."""
        return self.notes(code, "inclusionTerm")

    def normalise(self, text: str) -> str | None:
        """The canonical form of a code as people write it ("e1165" → "E11.65"); None if it is not shaped like one.

        A well-formed code that the List lacks is accepted, unless it has no dot and the shape of an ICD-10-PCS code.
        """
        if text in self._nodes and text[0].isalpha() and " " not in text:
            return text
        code = re.sub(r"\s", "", unicodedata.normalize("NFKC", text)).upper().rstrip(".")
        bare = code.replace(".", "", 1) if code.find(".") in (-1, 3) else code  # E950.0 is of ICD-9-CM
        is_special = bare[:3] in self._nodes or bare.startswith(SPECIAL_CATEGORIES)
        special = is_special and 3 <= len(bare) <= 7 and bare.isascii() and bare.isalnum() and bare[0].isalpha()
        if not CODE_SHAPE.fullmatch(bare) and not special:
            return None
        code = bare if len(bare) == 3 else f"{bare[:3]}.{bare[3:]}"
        is_pcs = PCS_SHAPE.fullmatch(bare) and "." not in text and code not in self._nodes
        return None if is_pcs else code

    def nearest(self, code: str, among: Collection[str]) -> str:
        """c* of Eq. 9: the code of `among`, other than `code` itself, that is nearest to `code` in the hierarchy.

        Eq. 9 writes e = f_LLM(c, c*, K(c*)), where c* is the nearest neighbour of c in the ICD-10-CM hierarchy and
        K(c*) its evidence. The paper does not define the distance; here it is the number of edges between the two
        nodes of the tree, with one root above the chapters. Ties go to the deepest common ancestor, then to the first
        in code order.

        An index over `among` is built once and reused as long as the same object is passed, so pass a frozenset. Raises
        KeyError if `code` or a code of `among` is not listed, InputError if `among` has no code other than `code`.
        """
        if self._nearest is None or self._nearest.among is not among:
            self._nearest = _NearestIndex(self, among)
        return self._nearest.nearest(code)


def is_procedure(text: str) -> bool:
    """Whether `text` has the shape of an ICD-10-PCS code, which has no dot. CodeBook.normalise decides first."""
    return bool(PCS_SHAPE.fullmatch(re.sub(r"\s", "", unicodedata.normalize("NFKC", text)).upper()))


class _NearestIndex:
    """For each node the two codes of `among` with the fewest edges down to them.

    A query climbs from its code to the root and looks up each node on the way. Two, because one may be the query.
    """

    def __init__(self, book: CodeBook, among: Collection[str]):
        self.book, self.among = book, among
        self._closest_below: dict[str, list[tuple[int, str]]] = {}  # node → [(edges, code)]
        for member in set(among):
            for edges, node in enumerate(self._path_to_root(member)):
                closest = self._closest_below.setdefault(node, [])
                closest.append((edges, member))
                closest.sort()
                del closest[2:]

    def _path_to_root(self, code: str) -> list[str]:
        return [code, *self.book.ancestors(code), ROOT]

    def nearest(self, code: str) -> str:
        """As CodeBook.nearest."""
        candidates = [
            (up + down, up, member)  # of equal distances, the shorter climb has the deeper common ancestor
            for up, node in enumerate(self._path_to_root(code))
            for down, member in self._closest_below.get(node, ())
            if member != code
        ]
        if not candidates:
            raise InputError(f"nearest code to {code}: there is no other code to choose from; give more codes")
        return min(candidates)[2]


@functools.lru_cache(maxsize=4)
def _load(edition: str, date: str | datetime.date | None) -> CodeBook:
    day = read_date(date, "date") if isinstance(date, str) else date
    day = day.date() if isinstance(day, datetime.datetime) else day
    in_force = find_edition(edition, day)
    if day is None:
        return CodeBook(parse_edition(in_force), in_force)
    undated = _load(in_force.name if in_force.is_bundled else edition, None)
    return undated.on_date(day)
