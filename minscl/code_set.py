"""The sub-commands of expand that show, search and replace the code set itself.

    python -m minscl.expand edition [--edition 2026]

Read next: data/icd/editions.py; edition_flags.py for --edition and --date.
"""

from minscl.cli import format_counts
from minscl.data.icd import CodeBook
from minscl.data.icd.tabular import NOTE_KINDS
from minscl.edition_flags import load_codebook
from minscl.expand_config import ShowEditionConfig


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
