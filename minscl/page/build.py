"""Builds the coder's page: one HTML file with everything in it, for `generate --html` and for the server of `review`.

The page asks for nothing outside it. Its Content-Security-Policy admits the scripts and the style by their SHA-256 and
nothing else, so a note cannot run anything even if it got into the markup; but notes never are markup: documents and
code set are data blocks, which scripts read and show as text.

Read next: code_set.py, the code set in the page; static/main.js, where its scripts start.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from minscl import __version__
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.page.answer import remark
from minscl.page.code_set import pack_code_set

TEMPLATE = "page.html"
STYLES = ("style.css", "screens.css", "print.css")  # in this order: later rules hold
SCRIPTS = (  # in this order: classic scripts that share one global scope
    "text.js",
    "state.js",
    "answer.js",
    "codes.js",
    "words.js",
    "texts.js",
    "word_index.js",
    "agreement.js",
    "default_codes.js",
    "search.js",
    "elements.js",
    "note_view.js",
    "word_cursor.js",
    "code_view.js",
    "card.js",
    "header.js",
    "dialogs.js",
    "picker.js",
    "files.js",
    "moves.js",
    "commands.js",
    "keys.js",
    "export.js",
    "log.js",
    "coding.js",
    "store.js",
    "file_store.js",
    "tabs.js",
    "main.js",
)
# In JSON inside a script element: "<" could end the element; a lone surrogate cannot be written as UTF-8.
_ESCAPED = re.compile("[<\u2028\u2029\ud800-\udfff]")


def page_html(
    documents: Iterable[CodedDocument],
    codebook: CodeBook,
    *,
    about: str = "",
    server: Mapping | None = None,
    entries: Sequence[Mapping] = (),
) -> str:
    """The whole page, as text.

    `about`: a sentence on the code set. `server`: {"token", "reviewer", "canCode", "unwritten"} where `review` serves
    the page, None for a file. `entries`: the decision log so far, oldest first.
    """
    documents = list(documents)
    data = {
        "version": __version__,
        "about": about,
        "edition": codebook.edition.id,
        "date": str(codebook.date) if codebook.date else None,
        "server": server,
        "documents": [document.to_dict() for document in documents],
        "remarks": [remark(document) for document in documents],
        "entries": list(entries),
    }
    style = "\n".join(read_static(name) for name in STYLES)
    scripts = [read_static(name) for name in SCRIPTS]
    parts = {
        "policy": policy(scripts, style, "'self'" if server else "'none'"),
        "style": f"<style>{style}</style>",
        "page-data": json_in_html(data),
        "code-set": pack_code_set(codebook),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], read_static(TEMPLATE))


def policy(scripts: Iterable[str], style: str, connect: str) -> str:
    """The Content-Security-Policy: exactly these scripts and this style, and requests to `connect`."""
    script_sources = " ".join(map(source_hash, scripts))
    return (
        f"default-src 'none'; script-src {script_sources}; style-src {source_hash(style)}; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def source_hash(content: str) -> str:
    """An inlined script or style as the policy names it: 'sha256-…'."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def json_in_html(value) -> str:
    """`value` as JSON that can stand in a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def read_static(name: str) -> str:
    """The text of a file of static/, with \\n line ends: a browser hashes a script as parsed, without \\r."""
    return (resources.files("minscl.page") / "static" / name).read_text("utf-8")
