"""Archives as CDC and CMS publish them, built from the bundled editions: the Tabular List as XML, the code lists as
fixed-width text, ZIP around them. And a Tabular List of seven codes for tests of what is refused."""

import io
import xml.etree.ElementTree as ElementTree
import zipfile

from minscl.data.icd import CodeBook
from minscl.data.icd.editions import read_edition

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
    """The Tabular List of April 2026 with the codes of FY2027: a <diag> for every code but those that only a 7th
    character makes, at its place among its siblings."""
    book = CodeBook.load("2027")
    root = ElementTree.fromstring(read_edition("2026").read("tabular"))
    root.find("version").text = "2027"
    order = {node: number for number, node in enumerate(book.nodes)}
    diags = {diag.findtext("name"): diag for diag in root.iter("diag")}
    sections = {f"section {section.get('id')}": section for section in root.iter("section")}
    for parent in [*sections.values(), *diags.values()]:
        for child in parent.findall("diag"):
            if child.findtext("name") not in order:
                parent.remove(child)
    has_seventh = {name for name, diag in diags.items() if diag.find("sevenChrDef") is not None}
    for code in order:
        if code in diags or not code[0].isalpha() or " " in code:
            continue
        if len(code) == 8 and has_seventh & {code, *book.ancestors(code)}:
            continue
        diag = diags[code] = ElementTree.Element("diag")
        ElementTree.SubElement(diag, "name").text = code
        ElementTree.SubElement(diag, "desc").text = book.description(code)
        parent = diags.get(book.parent(code), sections.get(book.parent(code)))
        later = (place for place, other in enumerate(parent) if order.get(other.findtext("name"), -1) > order[code])
        parent.insert(next(later, len(parent)), diag)
    for code, diag in diags.items():
        if code in order and diag.findtext("desc") != book.description(code):
            diag.find("desc").text = book.description(code)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True)


def edition_archives(folder, rows, tabular, year, more=()):
    """Paths of the two archives of CMS in `folder`: tables, whose folder holds `more` too, and code descriptions."""
    tables = {f"Table and Index/icd10cm_tabular_{year}.xml": tabular, **dict(more)}
    texts = {
        f"Code Descriptions/icd10cm_order_{year}.txt": order_file(rows),
        f"Code Descriptions/icd10cm_codes_{year}.txt": codes_file(rows),
    }
    paths = folder / f"{year}-code-tables-tabular-index.zip", folder / f"{year}-code-descriptions-tabular-order.zip"
    for path, members in zip(paths, (tables, texts), strict=True):
        path.write_bytes(zip_of(members))
    return paths
