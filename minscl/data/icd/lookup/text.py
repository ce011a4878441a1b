"""The pages of page.py and the hits of search.py as text.

Read next: page.py.
"""

import textwrap

from minscl.data.icd.lookup.page import CodePage, Line, NoteBlock, node_name
from minscl.data.icd.lookup.search import Hit

KIND_NAMES = {  # tabular.NOTE_KINDS
    "includes": "Includes",
    "inclusionTerm": "Inclusion terms",
    "excludes1": "Excludes1",
    "excludes2": "Excludes2",
    "codeFirst": "Code first",
    "useAdditionalCode": "Use additional code",
    "codeAlso": "Code also",
    "notes": "Note",
}
_LINE = 120  # characters of a line of text
_INDEX_LINES = 20  # of the text; the object has all


def page_text(page: CodePage) -> str:
    """The page for people."""
    blocks = [
        f"{page.code}  {page.description}\n{page.status}{f'; {page.valid}' if page.valid else ''}\n{page.code_set}"
        f"; notes: {page.notes_from}"
    ]
    blocks.append(_table([(line.code, line.description) for line in page.path]))
    if page.seventh_characters:
        rows = [(seventh.code or seventh.character, seventh.meaning) for seventh in page.seventh_characters]
        blocks.append("7th characters\n" + _table(rows, "  "))
    for kind, name in KIND_NAMES.items():
        rows = [(node if not number else "", text) for node, number, text in _numbered(page.notes, kind)]
        if rows:
            blocks.append(f"{name}\n" + _table(rows, "  "))
    if page.children and not any(seventh.code for seventh in page.seventh_characters):
        blocks.append("Below\n" + _table([(_dashed(line), line.description) for line in page.children], "  "))
    if page.index:
        rows = [(line.code, line.where) for line in page.index[:_INDEX_LINES]]
        more = len(page.index) - _INDEX_LINES
        blocks.append("Index\n" + _table(rows, "  ") + (f"\n  and {more:,} more (--json)" if more > 0 else ""))
    return "\n\n".join(blocks)


def hits_text(hits: list[Hit]) -> str:
    """Search results for people: code, description, and below it where it was found. A dash marks a heading."""
    rows = []
    for hit in hits:
        code = hit.code and _dashed(Line(node_name(hit.code), hit.description, hit.billable))
        rows += [(code, hit.description), ("", hit.where)] if code else [("", hit.where)]
    return _table(rows)


def _dashed(line: Line) -> str:
    """The code with a dash where it is incomplete, as the Index prints it."""
    return line.code if line.billable or " " in line.code else f"{line.code}-"


def _numbered(notes: list[NoteBlock], kind: str) -> list[tuple[str, int, str]]:
    """(node, number in its block, text) of the notes of one kind."""
    return [
        (block.code, number, text) for block in notes if block.kind == kind for number, text in enumerate(block.texts)
    ]


def _table(rows: list[tuple[str, str]], indent: str = "") -> str:
    """Two columns, aligned; the second is wrapped."""
    width = max(len(first) for first, _ in rows)
    lines = []
    for first, second in rows:
        beginning = f"{indent}{first:{width}}  "
        lines.append(
            textwrap.fill(
                second,
                _LINE,
                initial_indent=beginning,
                subsequent_indent=" " * len(beginning),
                break_on_hyphens=False,
                break_long_words=False,
            )
        )
    return "\n".join(lines)
