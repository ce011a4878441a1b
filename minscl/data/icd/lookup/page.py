"""A code in context: where it stands, what it needs, the notes that apply, what is below, the Index entries for it.

    book = CodeBook.load()
    page = look_up(book, find_node(book, "e1165"), read_entries(book))

Notes of chapters, sections and headings apply to every code below, so each is shown with the node where it stands.
Inclusion terms are a code's own; those of a code that needs a 7th character are also those of the full code.

Read next: spelling.py, the node that a text names; text.py, the page as text; search.py, the search by words.
"""

from dataclasses import dataclass

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.lookup.default_codes import billable_below, seventh_characters
from minscl.data.icd.lookup.entries import IndexEntry
from minscl.data.icd.tabular import NOTE_KINDS


@dataclass(frozen=True)
class Line:
    """A node in a list of them: "chapter 9", "section I30-I5A" or a code."""

    code: str
    description: str
    billable: bool


@dataclass(frozen=True)
class NoteBlock:
    """The notes of one kind (tabular.NOTE_KINDS) that stand at one node."""

    kind: str
    code: str
    texts: list[str]


@dataclass(frozen=True)
class SeventhCharacter:
    """A 7th character that a code may have."""

    character: str
    meaning: str
    code: str  # the full code with it; "" where a heading's codes all have the same characters


@dataclass(frozen=True)
class IndexLine:
    """An entry of the Index or a table: where it is printed, with its reference, and the code printed there."""

    where: str
    code: str  # with its dash, and a manifestation code in brackets: "E85.4 [I43]"


@dataclass(frozen=True)
class CodePage:
    """What `lookup CODE` shows. dataclasses.asdict gives what `--json` prints."""

    code: str
    description: str
    billable: bool
    status: str  # "billable", or what is missing
    valid: str  # CodeBook.when_valid
    code_set: str  # CodeBook.label
    notes_from: str  # the file that has the notes: "Tabular List of April 2026"
    path: list[Line]  # from the chapter down to the code itself
    seventh_characters: list[SeventhCharacter]
    notes: list[NoteBlock]  # by kind; of the code itself first, then from the heading above up to the chapter
    children: list[Line]
    index: list[IndexLine]  # entries that print the code itself, then those that print a heading above it


def look_up(book: CodeBook, node: str, entries: list[IndexEntry]) -> CodePage:
    """The page of a node (find_node). Raises KeyError if it is not listed."""
    above = book.ancestors(node)
    return CodePage(
        code=node_name(node),
        description=book.description(node) or "",
        billable=book.is_billable(node),
        status=status(book, node),
        valid=book.when_valid(node),
        code_set=book.label,
        notes_from=book.edition.file("tabular").about,
        path=[_line(book, name) for name in [*reversed(above), node]],
        seventh_characters=_seventh_characters(book, node),
        notes=_notes(book, node, above),
        children=[_line(book, name) for name in book.children(node)],
        index=_index_lines(entries, [node, *(name for name in above if name[0].isalpha() and " " not in name)]),
    )


def node_name(node: str) -> str:
    """A node as people write it: "9" is "chapter 9"."""
    return f"chapter {node}" if node.isdigit() else node


def status(book: CodeBook, node: str) -> str:
    """ "billable", or which character is missing, or how many codes a chapter or section has."""
    if book.is_billable(node):
        return "billable"
    below = sum(1 for _ in billable_below(book, node))
    if not below:
        return "a title above several sections"
    codes = f"{below:,} billable code{'s' * (below != 1)} below"
    if node.isdigit() or " " in node:
        return codes
    seventh = seventh_characters(book, node)
    if seventh:
        padding = 6 - len(node.replace(".", ""))
        characters = ", ".join(character for character, _, _ in seventh)
        padded = f"{padding} placeholder X and " if padding else ""
        return f"not billable: needs {padded}a 7th character ({characters})"
    return f"not billable: needs a {len(node.replace('.', '')) + 1}th character; {codes}"


def _line(book: CodeBook, node: str) -> Line:
    return Line(node_name(node), book.description(node) or "", book.is_billable(node))


def _seventh_characters(book: CodeBook, node: str) -> list[SeventhCharacter]:
    """Those of the node, or of which it has one, or of all codes below it if they are the same everywhere."""
    own = seventh_characters(book, node) or seventh_characters(book, book.parent(node) or "")
    if own or node.isdigit() or " " in node:
        return [SeventhCharacter(*fields) for fields in own]
    sets = set()
    for parent in {book.parent(code) or "" for code in billable_below(book, node)}:
        sets.add(tuple((character, meaning) for character, meaning, _ in seventh_characters(book, parent)))
    return [SeventhCharacter(character, meaning, "") for character, meaning in sets.pop()] if len(sets) == 1 else []


def _notes(book: CodeBook, node: str, above: list[str]) -> list[NoteBlock]:
    blocks = []
    base = above[:1] if above and seventh_characters(book, above[0]) else []
    for kind in NOTE_KINDS:
        for name in [node, *(base if kind == "inclusionTerm" else above)]:
            texts = book.notes(name, kind)
            if texts:
                blocks.append(NoteBlock(kind, node_name(name), texts))
    return blocks


def _index_lines(entries: list[IndexEntry], codes: list[str]) -> list[IndexLine]:
    by_code: dict[str, list[IndexLine]] = {code: [] for code in codes}
    for entry in entries:
        for code in {entry.code, entry.manifestation.rstrip("-").rstrip(".")} & by_code.keys():
            by_code[code].append(IndexLine(entry.where, entry.printed_codes))
    return [line for code in codes for line in by_code[code]]
