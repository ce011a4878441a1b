"""The code set as the page carries it: base64 of gzip of one JSON object, which static/codes.js unpacks.

    {"format": 2, "edition", "label", "date", "poaExempt": null or [codes],
     "codes": [nodes in the List's order], "parents": [how many places before it a node's parent is, 0 for none],
     "descriptions": [as printed; "\\t…" continues the parent's], "billable": "0110…", one digit a node,
     "notes": {node: {kind: [texts]}},
     "abbreviations": {what clinicians write: in the books' words},
     "elsewhere": {code: [description, "valid until 2026-09-30"]}, codes of other known editions,
     "index": [{"book", "columns": [headings] or null, "rows": [row]}]}

A row of the Index is [titles in common with the row before, [other titles], codes, modifiers, see], later empty fields
left out; `codes` is an entry's, or a list with one for each column (null: none there). An entry's code is the code it
leads to ("" for none), or [code, code as printed] where these differ, with a third member 1 where the term has both a
code of its own and a reference (`see`), which does not count then.

Read next: static/codes.js.
"""

import base64
import functools
import gzip
import json
from os.path import commonprefix
from pathlib import Path

from minscl import __version__
from minscl.data.icd import CodeBook
from minscl.data.icd.cache import cache_folder, read_cache, write_cache
from minscl.data.icd.editions import BUNDLED
from minscl.data.icd.lookup import IndexEntry, read_entries
from minscl.data.icd.lookup.abbreviations import CLINICAL
from minscl.data.icd.tabular import NOTE_KINDS

_FORMAT = 2  # what static/codes.js reads
_COMPRESSION = 6  # gzip level: 9 takes four times as long for 1% less


@functools.lru_cache(maxsize=2)
def pack_code_set(codebook: CodeBook) -> str:
    """`pack`, from the cache folder, where it is after the first time; another version of minscl packs anew."""
    path = cache_file(codebook)
    packed = read_cache(path) if path else None
    if not isinstance(packed, str):
        packed = pack(codebook)
        if path:
            write_cache(path, packed)
    return packed


def cache_file(codebook: CodeBook) -> Path | None:
    """Where the packed code set is kept; None where there is no cache folder."""
    folder = cache_folder()
    name = f"page-{_FORMAT}-{__version__}-{codebook.edition.digest}-{codebook.date or 'undated'}.json"
    return folder / name if folder else None


def pack(codebook: CodeBook) -> str:
    """The code set of `codebook`, in ASCII. Reads the Index, which takes seconds."""
    text = json.dumps(code_set(codebook), ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), _COMPRESSION, mtime=0)).decode("ascii")


def code_set(book: CodeBook) -> dict:
    """The object that is packed."""
    nodes = list(book.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    parents, descriptions, notes = [], [], {}
    for place, node in enumerate(nodes):
        parent = book.parent(node)
        parents.append(0 if parent is None else place - places[parent])
        descriptions.append(_continued(book.description(node) or "", book.description(parent or "") or ""))
        of_node = {kind: texts for kind in NOTE_KINDS if (texts := book.notes(node, kind))}
        if of_node:
            notes[node] = of_node
    return {
        "format": _FORMAT,
        "edition": book.edition.id,
        "label": book.label,
        "date": str(book.date) if book.date else None,
        "poaExempt": None,  # no file of an edition lists the codes exempt from POA reporting
        "codes": nodes,
        "parents": parents,
        "descriptions": descriptions,
        "billable": "".join("01"[book.is_billable(node)] for node in nodes),
        "notes": notes,
        "abbreviations": CLINICAL,
        "elsewhere": codes_elsewhere(book),
        "index": [_index_list(*entries) for entries in _by_book(read_entries(book)).items()],
    }


def codes_elsewhere(book: CodeBook) -> dict[str, tuple[str, str]]:
    """Code → (description, CodeBook.when_valid) of the codes that another known edition bills and `book` does not."""
    others = [CodeBook.load(name) for name in BUNDLED if name != book.edition.id]
    return {
        code: (other.description(code) or "", book.when_valid(code))
        for other in others
        for code in other.billable
        if not book.is_billable(code)
    }


def _continued(description: str, above: str) -> str:
    """A description, or a tab and what it adds to that of its parent."""
    return f"\t{description[len(above) :]}" if above and description.startswith(above) else description


def _by_book(entries: list[IndexEntry]) -> dict[str, list[IndexEntry]]:
    by_book: dict[str, list[IndexEntry]] = {}
    for entry in entries:
        by_book.setdefault(entry.term.book, []).append(entry)
    return by_book


def _index_list(name: str, entries: list[IndexEntry]) -> dict:
    """The Index or one of its tables; the columns of a table share their rows."""
    columns = list(dict.fromkeys(entry.term.column for entry in entries))
    has_columns = columns != [""]
    rows: dict[tuple, list[IndexEntry | None]] = {}
    seen: dict[tuple, int] = {}  # a table may print a term twice
    for entry in entries:
        term = entry.term
        key = (term.path, term.modifiers, term.see)
        number = seen[(*key, term.column)] = seen.get((*key, term.column), 0) + 1
        rows.setdefault((*key, number), [None] * len(columns))[columns.index(term.column)] = entry
    packed, before = [], ()
    for (path, modifiers, see, _), in_columns in rows.items():
        shared = len(commonprefix([path, before]))
        codes = [entry and _entry_codes(entry) for entry in in_columns]
        row = [shared, list(path[shared:]), codes if has_columns else codes[0], list(modifiers), see]
        while not row[-1]:
            row.pop()
        packed.append(row)
        before = path
    return {"book": name, "columns": columns if has_columns else None, "rows": packed}


def _entry_codes(entry: IndexEntry) -> str | list:
    if entry.term.see and entry.term.default_code:
        return [entry.code, entry.printed_codes, 1]
    return entry.code if entry.code == entry.printed_codes else [entry.code, entry.printed_codes]
