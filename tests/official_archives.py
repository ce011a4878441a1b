"""Archives as CDC and CMS publish them, built from the bundled editions: the Tabular List as XML, the code lists as
fixed-width text, ZIP around them. And a Tabular List of seven codes for tests of what is refused."""

import io
import os
import re
import zipfile
from xml.sax.saxutils import escape

import pytest

from minscl import expand
from minscl.data.icd import CodeBook
from minscl.data.icd.editions import read_edition
from minscl.data.icd.official.check import check_official
from minscl.data.icd.official.files import read_official
from minscl.errors import InputError
from tests.conftest import call_command

SMALL_TABULAR = """<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.tabular>
  <version>2027</version>
  <chapter><name>13</name><desc>Diseases of the ear and joints (H80-M99)</desc>
    <section id="H80-H83"><desc>Diseases of inner ear (H80-H83)</desc>
      <diag><name>H81</name><desc>Disorders of vestibular function</desc>
        <excludes1><note>epidemic vertigo (A88.1)</note></excludes1>
        <diag><name>H81.0</name><desc>Ménière's disease</desc></diag>
      </diag>
    </section>
    <section id="M1A-M1A"><desc>Chronic gout</desc>
      <diag><name>M1A</name><desc>Chronic gout</desc>
        <sevenChrDef>
          <extension char="0">without tophus</extension><extension char="1">with tophus</extension>
        </sevenChrDef>
        <diag><name>M1A.9</name><desc>Chronic gout, unspecified</desc></diag>
      </diag>
    </section>
  </chapter>
</ICD10CM.tabular>
""".encode()
SMALL_ROWS = [  # (code, billable, description) of SMALL_TABULAR, accents dropped as in the official text
    ("H81", 0, "Disorders of vestibular function"),
    ("H81.0", 1, "Meniere's disease"),
    ("M1A", 0, "Chronic gout"),
    ("M1A.9", 0, "Chronic gout, unspecified"),
    ("M1A.9XX0", 1, "Chronic gout, unspecified, without tophus"),
    ("M1A.9XX1", 1, "Chronic gout, unspecified, with tophus"),
]
ALL_CODES = {(code, bool(billable)) for code, billable, _ in SMALL_ROWS}
INDEX = b"""<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.index>
  <version>2027</version>
  <title>ICD-10-CM INDEX TO DISEASES and INJURIES</title>
  <letter><title>A</title>
    <mainTerm><title>Amyloidosis<nemod>(generalized)</nemod> of organs</title><code>E85.4</code><manif>J99</manif>
      <term level="1"><title>heart</title><seecat>E85</seecat><subcat>E85.4</subcat></term>
    </mainTerm>
  </letter>
</ICD10CM.index>
"""


def order_file(rows) -> bytes:
    """(code, billable, description) rows in the layout of the order file."""
    lines = (
        f"{number:05} {code.replace('.', ''):7} {billable:d} {text[:60]:60} {text}\r\n"
        for number, (code, billable, text) in enumerate(rows, 1)
    )
    return "".join(lines).encode()


def codes_file(rows) -> bytes:
    """The billable ones of the rows in the layout of the codes file."""
    return "".join(f"{code.replace('.', ''):7} {text}\r\n" for code, billable, text in rows if billable).encode()


def addenda(rows) -> bytes:
    """(action, code, billable, description) rows in the layout of the order addenda, with the counts below them."""
    lines = [
        f"{action:13}{billable:d} {code.replace('.', ''):7} {text:60} {text}" for action, code, billable, text in rows
    ]
    return "\r\n".join([*lines, "", "Codes", f"{len(rows):7} additions", ""]).encode()


def zip_of(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of {name: content}."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def book_rows(edition) -> list[tuple[str, bool, str]]:
    """(code, billable, description) of every code and heading of a bundled edition."""
    book = CodeBook.load(edition)
    codes = (node for node in book.nodes if node[0].isalpha() and " " not in node)
    return [(code, book.is_billable(code), book.description(code)) for code in codes]


def tabular_2027() -> bytes:
    """The Tabular List of April 2026 with the codes of FY2027: deleted ones cut out, new ones at the end of the code or
    section above them, unless a 7th-character definition makes them anyway."""
    text = read_edition("2026").read("tabular").decode().replace("<version>2026<", "<version>2027<")
    old, new = CodeBook.load("2026"), CodeBook.load("2027")
    listed = set(new.nodes)
    starts = {match[1]: text.rindex("<diag", 0, match.start()) for match in re.finditer(r"<name>([A-Z].*?)</", text)}
    starts |= {f"section {match[1]}": match.start() for match in re.finditer(r'<section id="(.*?)"', text)}

    def end(node):  # each tag is on a line of its own, the closing one indented as the opening one
        indent = text[text.rindex("\n", 0, starts[node]) : starts[node]]
        return text.index(f"{indent}</", starts[node])

    def is_expanded(code):  # by the 7th-character definition of its category
        return len(code) == 8 and code[:3] in starts and "<sevenChrDef>" in text[starts[code[:3]] : end(code[:3])]

    def element(code):
        below = "".join(element(child) for child in new.children(code) if not is_expanded(child))
        return f"<diag><name>{code}</name><desc>{escape(new.description(code))}</desc>{below}</diag>"

    edits = []  # (start, end, what is to be there)
    for code in starts:
        if code not in listed and old.parent(code) in listed:
            edits.append((starts[code], text.index(">", end(code)) + 1, ""))
        elif code in listed and " " not in code and old.description(code) != new.description(code):
            start = text.index("<desc>", starts[code])
            edits.append((start, text.index("</desc>", start), f"<desc>{escape(new.description(code))}"))
    for code in listed - set(old.nodes):
        if new.parent(code) in starts and not is_expanded(code):
            edits.append((end(new.parent(code)), end(new.parent(code)), element(code)))
    pieces, done = [], 0
    for start, stop, replacement in sorted(edits):
        pieces += [text[done:start], replacement]
        done = stop
    return "".join([*pieces, text[done:]]).encode()


def write(folder, members, name="2027.zip"):
    """The path of a ZIP archive of {name: content}, or of bytes as they are."""
    path = folder / name
    path.write_bytes(members if isinstance(members, bytes) else zip_of(members))
    return str(path)


def checked(folder, members, name="2027.zip"):
    """(the files, the checked codes) of an archive of {name: content}."""
    files = read_official([write(folder, members, name)])
    return files, check_official(files)


def fault(folder, members):
    """The message with which an archive of {name: content} is refused."""
    with pytest.raises(InputError) as error:
        checked(folder, members)
    assert "\n" not in str(error.value)
    return str(error.value)


def passed_over(files):
    """The names of the files that are not used."""
    return [place.split(": ")[1].split(" (")[0] for place in files.not_used]


def official(*arguments):
    """`expand official` in this process."""
    return call_command(expand.main, "official", *arguments)


def refusal(path, out):
    """The one line with which `expand official` refuses the archive `path`; nothing may be written."""
    before = sorted(os.listdir(out.parent))
    result = official(path, "--out", out)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert sorted(os.listdir(out.parent)) == before
    return result.stderr


TABULAR, ORDER, CODES = "icd10cm_tabular_2027.xml", "icd10cm_order_2027.txt", "icd10cm_codes_2027.txt"
SMALL = {TABULAR: SMALL_TABULAR, ORDER: order_file(SMALL_ROWS), CODES: codes_file(SMALL_ROWS)}
