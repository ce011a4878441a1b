"""One self-contained HTML page of coded notes: each code, and its evidence marked in the text. No script, no link out.

Read next: infer/coder.py, which makes the documents.
"""

from html import escape

from minscl.data.types import CodedDocument

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; background: #fff }
section { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 2rem; border-top: 1px solid #999; padding: 1rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: inherit }
mark { background: #ffe9a8; padding: 0 .1em } mark sup { font-weight: 600 }
.code { font-weight: 600 } .missing { color: #a00000 } dd { margin: 0 0 .3rem 1rem }
@media (max-width: 50rem) { section { grid-template-columns: 1fr } }
"""


def marked_text(document: CodedDocument) -> str:
    """The note as HTML, every located quotation inside <mark> with its codes. Overlapping quotations share marks."""
    places = [(e.start, e.end, one.code) for one in document.codes for e in one.evidence if e.start is not None]
    cuts = sorted({0, len(document.text), *(start for start, _, _ in places), *(end for _, end, _ in places)})
    pieces = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        piece = escape(document.text[start:end])
        codes = list(dict.fromkeys(code for first, last, code in places if first <= start and end <= last))
        if codes:
            closing = "".join(
                f"<sup>{escape(code)}</sup> "
                for code in codes
                if any(last == end and code == c for _, last, c in places)
            )
            piece = f'<mark title="{escape(", ".join(codes))}">{piece}{closing.rstrip()}</mark>'
        pieces.append(piece)
    return "".join(pieces)


def code_list(document: CodedDocument) -> str:
    """The codes as a definition list; a quotation that is not in the note says so."""
    items = []
    for one in document.codes:
        score = "" if one.score is None else f" ({one.score:.2f})"
        items.append(f'<dt><span class="code">{escape(one.code)}</span> {escape(one.description or "")}{score}</dt>')
        for evidence in one.evidence:
            missing = "" if evidence.start is not None else ' <span class="missing">not found in note</span>'
            items.append(f"<dd>“{escape(evidence.text)}”{missing}</dd>")
    return f"<dl>{''.join(items) or '<dt>nothing to code was found</dt>'}</dl>"


def html_page(documents) -> str:
    """The whole page, as text; every value from a note is escaped."""
    sections = []
    for one in documents:
        warnings = "".join(f"<li>{escape(warning)}</li>" for warning in one.warnings or ())
        sections.append(
            f"<h2>{escape(one.id)}</h2><section><pre>{marked_text(one)}</pre><div>{code_list(one)}<ul>{warnings}</ul></div></section>"
        )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Coded notes</title><style>{STYLE}</style></head><body><h1>Coded notes</h1>{''.join(sections)}</body></html>\n"
    )
