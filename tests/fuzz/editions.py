"""Kinds of inputs: the official archives of ICD-10-CM, and the folder of an edition, read up to the gold spans.

Read next: answers.py.
"""

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

from minscl.data.icd.cache import read_cache, write_cache
from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.editions import read_edition
from minscl.data.icd.index_tables import TABLES
from minscl.data.icd.lookup import Search, read_entries
from minscl.data.icd.official.check import check_official, misfits
from minscl.data.icd.official.dates import edition_dates
from minscl.data.icd.official.files import read_official
from minscl.data.icd.parse_edition import parse_edition
from minscl.data.spans.gold import read_gold
from tests.fuzz.kinds import FileKind
from tests.official_archives import INDEX, SMALL, SMALL_ROWS, addenda

NEOPLASM = b"""<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.index>
  <version>2027</version><title>TABLE OF NEOPLASMS</title>
  <indexHeading>
    <head col="1">Site</head><head col="2">Malignant Primary</head><head col="3">Benign</head>
  </indexHeading>
  <letter><title>N</title>
    <mainTerm><title>Neoplasm, neoplastic</title><cell col="2">H81.0</cell><cell col="3">-</cell>
      <term level="1"><title>ear<nemod>(inner)</nemod></title><cell col="2">H81.0</cell><see>Neoplasm, skin</see></term>
    </mainTerm>
  </letter>
</ICD10CM.index>
"""
CODES = "code\tbillable\tdescription\n" + "".join(f"{code}\t{flag}\t{text}\n" for code, flag, text in SMALL_ROWS)
CORRECTIONS = "action\tpath\told\tnew\nreplace_code\tAmyloidosis(generalized) of organs\tE85.4\tH81.0\n"
PARTS = {  # role → (file, content)
    "codes": ("codes.tsv.gz", CODES.encode()),
    "tabular": ("tabular.xml.gz", SMALL["icd10cm_tabular_2027.xml"]),
    "index": ("index.xml.gz", INDEX),
    "index-corrections": ("corrections.tsv.gz", CORRECTIONS.encode()),
    "neoplasm": ("neoplasm.xml.gz", NEOPLASM),
}


def write_archive(folder: Path) -> None:
    """Tabular List, both lists of codes, addenda and Index in one archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        members = SMALL | {"icd10cm_index_2027.xml": INDEX, "icd10cm_neoplasm_2027.xml": NEOPLASM}
        members["icd10cm_order_addenda_2027.txt"] = addenda([("Add:", "H81.0", 1, "Disease")])
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    (folder / "2027.zip").write_bytes(packed.getvalue())


def write_loose(folder: Path) -> None:
    """The Tabular List and the order file as they are when unpacked."""
    for name, content in SMALL.items():
        (folder / name).write_bytes(content)


def read_archives(folder: Path) -> None:
    """Read and check the files as `expand official` does, before it writes."""
    files = read_official([str(path) for path in sorted(folder.iterdir())])
    checked = check_official(files)
    edition_dates(files, checked.version)
    if "addenda" in files:
        misfits(files["addenda"].content, checked.rows)


def write_edition_folder(folder: Path) -> None:
    """An edition as `expand official` writes it."""
    description = {"edition": "2027", "first_date": "2026-10-01", "last_date": "2027-09-30", "about": "FY2027"}
    files = {}
    for role, (name, content) in PARTS.items():
        (folder / name).write_bytes(gzip.compress(content, mtime=0))
        files[role] = {"file": name, "about": role, "sha256": ""}
    (folder / "edition.json").write_text(json.dumps(description | {"files": files}))
    seal_edition(folder)


def seal_edition(folder: Path) -> None:
    """Set the digests of the files right, as whoever makes an edition to do harm would."""
    try:
        description = json.loads((folder / "edition.json").read_text())
        for entry in description["files"].values():
            entry["sha256"] = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
        (folder / "edition.json").write_text(json.dumps(description))
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        pass


def read_edition_folder(folder: Path) -> None:
    """The code set, its gold spans and its look-up."""
    edition = read_edition(folder)
    book = CodeBook(parse_edition(edition), edition)
    read_gold(book, [name for name in TABLES if edition.has(name)])
    Search(book).search("chronic gout")
    read_entries(book)


def write_cached(folder: Path) -> None:
    """A file of the cache."""
    write_cache(folder / "edition.json", {"nodes": {"1": ["x", None]}, "billable": ["I10"], "notes": {}})


KINDS = [
    FileKind("official archive", write_archive, read_archives, share=2),
    FileKind("official files", write_loose, read_archives, share=2),
    FileKind("edition.json", write_edition_folder, read_edition_folder, ("edition.json",)),
    FileKind("edition's XML", write_edition_folder, read_edition_folder, ("*.xml.gz",), seal_edition, share=3),
    FileKind("edition's tables", write_edition_folder, read_edition_folder, ("*.tsv.gz",), seal_edition),
    FileKind("cache", write_cached, lambda folder: read_cache(folder / "edition.json")),
]
