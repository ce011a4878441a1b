"""The sub-commands of expand that show, search and replace the code set itself.

    python -m minscl.expand edition [--edition 2026]
    python -m minscl.expand lookup E11.65
    python -m minscl.expand lookup acute on chronic heart failure

Read next: data/icd/editions.py; edition_flags.py for --edition and --date.
"""

import dataclasses
import sys

from minscl.cli import format_counts
from minscl.command import print_json
from minscl.data.icd import CodeBook
from minscl.data.icd.index_entries import read_entries
from minscl.data.icd.lookup import find_node, look_up, nearest_listed
from minscl.data.icd.lookup_text import hits_text, page_text
from minscl.data.icd.search import Search
from minscl.data.icd.tabular import NOTE_KINDS
from minscl.edition_flags import load_codebook
from minscl.errors import InputError
from minscl.expand_config import LookupConfig, ShowEditionConfig


def show_edition(config: ShowEditionConfig) -> None:
    """Print what an edition is made of: its files, codes and notes."""
    book = load_codebook(config)
    print(book.label)
    print(book.edition.about, end="\n\n")
    for role, file in book.edition.files:
        print(f"{role:16}  {file.about}\n{'':16}  {file.path.name}, SHA-256 {file.sha256}")
    print(f"\n{format_counts(edition_counts(book))}")


def edition_counts(book: CodeBook) -> list[tuple[str, int]]:
    """(name, number) rows: codes by kind, and notes by kind."""
    codes = [node for node in book.nodes if node[0].isalpha() and " " not in node]
    notes = [(f"  {kind}", sum(len(book.notes(node, kind)) for node in book.nodes)) for kind in NOTE_KINDS]
    return [
        ("chapters", sum(node.isdigit() for node in book.nodes)),
        ("sections", sum(" " in node for node in book.nodes)),
        ("codes and headings", len(codes)),
        ("  billable codes", len(book.billable)),
        ("notes of the Tabular List", sum(number for _, number in notes)),
        *notes,
    ]


def lookup(config: LookupConfig) -> int:
    """Print a code in context, or what a search by words finds; returns 1 where it finds nothing, else 0."""
    query = " ".join(config.words)
    book = load_codebook(config)
    node = find_node(book, query)
    if node:
        page = look_up(book, node, read_entries(book))
        print_json(dataclasses.asdict(page)) if config.json else print(page_text(page))
        return 0
    code = book.normalise(query)
    if code and ("." in query or book.has_category(code)):  # else "B12" may be a vitamin
        raise InputError(unlisted(book, code))
    hits = Search(book).search(query)
    if code and not hits:
        raise InputError(unlisted(book, code))
    if config.json:
        print_json({"query": query, "code_set": book.label, "hits": [dataclasses.asdict(hit) for hit in hits]})
    elif hits:
        print(hits_text(hits))
    else:
        print("minscl: nothing found: no line of Index or Tabular List has these words; try others", file=sys.stderr)
    return 0 if hits else 1


def unlisted(book: CodeBook, code: str) -> str:
    """The message about a code that is in another edition or in none."""
    when = book.when_valid(code)
    near = nearest_listed(book, code)
    return (
        f"lookup {code}: not in ICD-10-CM edition {book.edition.name}{f' ({when}; name a --date)' if when else ''}; "
        f"the nearest listed code is {near} {book.description(near)}"
    )
