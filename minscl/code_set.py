"""The sub-commands of expand that show, search and replace the code set itself.

    python -m minscl.expand edition [--edition 2026]
    python -m minscl.expand lookup E11.65
    python -m minscl.expand lookup acute on chronic heart failure
    python -m minscl.expand official tables.zip descriptions.zip --out icd10cm-2027

Read next: data/icd/editions.py and official/; edition_flags.py for --edition and --date.
"""

import dataclasses
import datetime
import sys
import textwrap
from collections import Counter

from minscl.command import format_counts, print_json, warn
from minscl.data.icd import CodeBook
from minscl.data.icd.editions import BUNDLED, DEFAULT, VARIABLE, Edition, read_edition
from minscl.data.icd.lookup import (
    Search,
    find_node,
    hits_text,
    look_up,
    page_text,
    read_entries,
    refusal,
    unlisted,
)
from minscl.data.icd.official.changes import ChangedText, EditionChanges, edition_changes
from minscl.data.icd.official.check import check_official, misfits
from minscl.data.icd.official.dates import edition_dates
from minscl.data.icd.official.files import read_official
from minscl.data.icd.official.folder import edition_target, missing_roles, official_files, write_edition
from minscl.data.icd.official.recognise import TITLES
from minscl.data.icd.parse_edition import parse_edition
from minscl.data.icd.rules.references import SHAPES, count_references
from minscl.data.icd.tabular import NOTE_KINDS
from minscl.data.spans.gold import stale_rows
from minscl.edition_flags import load_codebook
from minscl.errors import InputError, printable
from minscl.expand_config import LookupConfig, OfficialConfig, ShowEditionConfig

SHOWN_TEXTS = 10  # descriptions that differ


def show_edition(config: ShowEditionConfig) -> None:
    """Print what an edition is made of: its files, codes, notes and stale rows of the Index."""
    book = load_codebook(config)
    print(book.label)
    print(book.edition.about, end="\n\n")
    for role, file in book.edition.files:
        book.edition.read(role)  # that it is still the file with this digest
        print(f"{role:16}  {file.about}\n{'':16}  {file.path.name}, SHA-256 {file.sha256}")
    print(f"\n{format_counts([*edition_counts(book), *index_counts(book)])}")


def edition_counts(book: CodeBook) -> list[tuple[str, int]]:
    """(name, number) rows: codes, notes by kind, and in which shape the notes name codes (rules/references.py)."""
    codes = [node for node in book.nodes if node[0].isalpha() and " " not in node]
    notes = [(f"  {kind}", sum(len(book.notes(node, kind)) for node in book.nodes)) for kind in NOTE_KINDS]
    return [
        ("chapters", sum(node.isdigit() for node in book.nodes)),
        ("sections", sum(" " in node for node in book.nodes)),
        ("codes and headings", len(codes)),
        ("  billable codes", len(book.billable)),
        ("notes of the Tabular List", sum(number for _, number in notes)),
        *notes,
        *(
            (f"{kind} notes read as: {shape}", count_references(book, kind)[shape])
            for kind in ("excludes1", "excludes2", "codeFirst", "useAdditionalCode", "codeAlso")
            for shape in SHAPES
        ),
    ]


def index_counts(book: CodeBook) -> list[tuple[str, int]]:
    """(name, number) rows: the rows of the Index whose code is not billable any more, by what became of them."""
    outcomes = Counter(outcome for *_, outcome in stale_rows(book))
    return [
        ("rows of the Index whose code is no longer billable", outcomes.total()),
        *((f"  {outcome}", number) for outcome, number in outcomes.most_common()),
    ]


def official(config: OfficialConfig) -> None:
    """Read the official archives, check them, print what they change, and write the folder of their edition."""
    edition_target(config.out)  # refuse a folder that cannot be replaced before anything is read
    files = read_official(config.files)
    for digest, place, title in files.digests:
        print(f"SHA-256 {digest}  {place} ({title})")
    checked = check_official(files)
    for place in files.not_used:
        print(f"not used: {place}")
    name, first_date, last_date = edition_dates(files, checked.version)
    print(f"\nEdition {name}, dates of service {first_date} to {last_date}; its files agree:")
    print(format_counts(checked.counts))
    for title, other, texts in checked.texts:
        print_texts(f"Descriptions that differ, {title} and {other}", texts, title, other)
    if "addenda" in files and (unfitting := misfits(files["addenda"].content, checked.rows)):
        codes = ", ".join(row.code for row in unfitting[:10]) + (", ..." if len(unfitting) > 10 else "")
        warn(f"{files['addenda'].place}: rows that do not fit the other files, which count: {codes}")
    if name[:4] not in checked.version:  # another year in it is an error
        shown = printable(checked.version[:20]) or "missing"
        warn(f"the Tabular List's <version> is {shown}, no year; the names of the files count")
    bundled = nearest_bundled(first_date)
    for role in missing_roles(files, bundled):
        about = bundled.file(role).about
        print(f"{TITLES[role]}: not in the archives; copied from edition {bundled.name}: {about}")
    for old in dict.fromkeys([bundled, read_edition(DEFAULT)]):
        print_changes(old.name, name, edition_changes(parse_edition(old), checked.placed))
    about = f"made of the official archives {', '.join(dict.fromkeys(file.names[1] for file in files.files.values()))}"
    write_edition(config.out, name, (first_date, last_date), about, official_files(files, checked.rows, name, bundled))
    print(f"written to {config.out}; use it with --edition {config.out} or {VARIABLE}={config.out}", file=sys.stderr)


def print_changes(bundled: str, name: str, changes: EditionChanges) -> None:
    """Print the counts of what changed from the bundled edition to edition `name`, then the codes of each change."""
    title = f"\nFrom the bundled edition {bundled} to this edition {name}:"
    if not changes:
        print(f"{title} no change")
        return
    print(f"{title}\n{format_counts(changes.rows())}")
    for change, codes in changes.codes:
        if codes:
            print(textwrap.fill(f"{change}: {', '.join(codes)}", 120, subsequent_indent="  ", break_on_hyphens=False))
    print_texts("Descriptions revised", changes.revised, f"bundled {bundled}", f"this {name}")


def print_texts(title: str, texts: list[ChangedText], name: str, other: str) -> None:
    """Print the first SHOWN_TEXTS codes that `name` and `other` describe differently, with both descriptions."""
    if texts:
        print(f"\n{title}{f', the first {SHOWN_TEXTS} of {len(texts):,}' if len(texts) > SHOWN_TEXTS else ''}:")
    width = max(len(name), len(other)) + 1
    for code, text, other_text in texts[:SHOWN_TEXTS]:
        print(f"{code:8}  {f'{name}:':{width}}  {text}\n{'':8}  {f'{other}:':{width}}  {other_text}")


def nearest_bundled(date: datetime.date) -> Edition:
    """The bundled edition in force on `date`, or that comes nearest to it: whose Index an edition may borrow."""
    started = [edition for edition in map(read_edition, BUNDLED) if edition.first_date <= date]
    return started[-1] if started else read_edition(BUNDLED[0])


def lookup(config: LookupConfig) -> int:
    """Print a code in context, or what a search by words finds; returns 1 where it finds nothing, else 0."""
    query = " ".join(config.words)
    book = load_codebook(config)
    node = find_node(book, query)
    if node:
        page = look_up(book, node, read_entries(book))
        print_json(dataclasses.asdict(page)) if config.json else print(page_text(page))
        return 0
    message = refusal(book, query)
    if message:
        raise InputError(message)
    hits = Search(book).search(query if " " in query else f"{query} ")  # one word is complete: "uti" is no utility gas
    code = book.normalise(query)
    if code and not hits:
        raise InputError(unlisted(book, code))
    if config.json:
        print_json({"query": query, "code_set": book.label, "hits": [dataclasses.asdict(hit) for hit in hits]})
    elif hits:
        print(hits_text(hits))
    else:
        print("minscl: nothing found: no line of Index or Tabular List has these words; try others", file=sys.stderr)
    return 0 if hits else 1
