"""The notes of the Tabular List by the codes they stand at and by the codes they name.

`NoteIndex.carried(code)` are the notes of one kind that apply to a code: its own and those of every node above it.
`NoteIndex.naming(code)` are the notes, anywhere, that name it. Two codes exclude one another where a note carried by
one names the other, so a set of codes is checked with intersections of sets, whatever the number of notes.

Read next: checking.py.
"""

import functools
from dataclasses import dataclass

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.references import Pattern, Reference, category_order, read_reference


@dataclass(frozen=True)
class Note:
    """`text` is word for word; `depth` counts the nodes above `node`."""

    node: str
    text: str
    reference: Reference
    depth: int


class NoteIndex:
    """The notes of one kind in one book, numbered in the List's order. Get it from `note_index`."""

    def __init__(self, book: CodeBook, kind: str):
        self._book = book
        self.notes: list[Note] = []
        self._at_node: dict[str, list[int]] = {}
        self._by_category: dict[str, list[tuple[Pattern, int]]] = {}
        self._carried: dict[str, frozenset[int]] = {}
        self._naming: dict[str, frozenset[int]] = {}
        self._distinct: dict[frozenset[int], frozenset[int]] = {}  # one object for the many codes that share a set
        order = category_order(book)
        categories = list(order)
        for node in book.nodes_with(kind):
            for text in book.notes(node, kind):
                note = Note(node, text, read_reference(text, book), len(book.ancestors(node)))
                number = len(self.notes)
                self.notes.append(note)
                self._at_node.setdefault(node, []).append(number)
                for pattern in note.reference.patterns:
                    start, end = (order[bound[:3]] for bound in (pattern.first, pattern.last))
                    for category in categories[start : end + 1]:
                        self._by_category.setdefault(category, []).append((pattern, number))

    def carried(self, code: str) -> frozenset[int]:
        """The numbers of the notes at `code` and at every node above it. An unlisted code has its place by prefix."""
        if code not in self._carried:
            node, *above = node_path(code, self._book) or [""]
            own = self._at_node.get(node, ())
            inherited = self.carried(above[0]) if above else frozenset()
            numbers = inherited.union(own) if own else inherited
            if node != code:  # what people write has no bound; what is listed has
                return numbers
            self._carried[code] = numbers
        return self._carried[code]

    def naming(self, code: str) -> frozenset[int]:
        """The numbers of the notes that name `code` or something above it."""
        if code not in self._naming:
            candidates = self._by_category.get(code[:3], ())
            numbers = frozenset(number for pattern, number in candidates if pattern.covers(code, self._book))
            if self._book.description(code) is None:
                return numbers
            self._naming[code] = self._distinct.setdefault(numbers, numbers)
        return self._naming[code]


@functools.lru_cache(maxsize=20)  # four books, five kinds: what is not used any more goes
def note_index(book: CodeBook, kind: str) -> NoteIndex:
    """The index of the notes of one kind (tabular.NOTE_KINDS) in `book`."""
    return NoteIndex(book, kind)


def node_path(code: str, book: CodeBook) -> list[str]:
    """`code`, or the longest listed node that it begins with, and the nodes above; [] for an unlisted category."""
    if book.description(code) is not None:
        return [code, *book.ancestors(code)]
    for length in range(len(code) - 1, 2, -1):
        node = code[:length].rstrip(".")
        if book.description(node) is not None:
            return [node, *book.ancestors(node)]
    return []
