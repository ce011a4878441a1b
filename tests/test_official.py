"""`expand official` on archives in the official layout: full size from the bundled editions, else of seven codes."""

import datetime
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.code_list import place_codes, read_code_list
from minscl.data.icd.editions import read_edition
from minscl.data.icd.official import folder as edition_folder
from minscl.data.icd.official.changes import edition_changes
from minscl.data.icd.official.dates import edition_dates
from minscl.data.icd.official.files import check_official, misfits, read_official
from minscl.data.icd.official.order_file import code_list_kind, read_order_file
from minscl.data.icd.parse_edition import parse_edition
from minscl.errors import InputError
from tests.official_archives import (
    CODES,
    INDEX,
    ORDER,
    SMALL,
    SMALL_ROWS,
    SMALL_TABULAR,
    TABULAR,
    addenda,
    book_rows,
    codes_file,
    official,
    order_file,
    refusal,
    tabular_2027,
    write,
    zip_of,
)

TABLE = b'<ICD10CM.index><version>2027</version><indexHeading><head col="1">%s</head></indexHeading></ICD10CM.index>'


@pytest.mark.slow
def test_archives_of_the_bundled_edition_change_nothing(tmp_path):
    """Guards: codes lost or misplaced between archive and folder; an index that is not stored as it came; a digest of
    something else than the file."""
    rows, tabular = book_rows("2027"), tabular_2027()
    texts = {f"Code Descriptions/{ORDER}": order_file(rows)}
    tables = {
        f"Table and Index/{TABULAR}": tabular,
        "Table and Index/icd10cm_index_2027.xml": INDEX,
        "Table and Index/icd10cm_tabular_2027.pdf": b"%PDF-1.7",
    }
    paths = [
        write(tmp_path, tables, "2027-code-tables-tabular-index.zip"),
        write(tmp_path, texts, "2027-code-descriptions-tabular-order.zip"),
    ]
    result = official(*paths, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "From the bundled edition 2027 to this edition 2027: no change" in result.stdout
    assert "dates of service 2026-10-01 to 2027-09-30" in result.stdout and "74,879" in result.stdout
    for content in (Path(paths[0]).read_bytes(), Path(paths[1]).read_bytes(), tabular, INDEX, *texts.values()):
        assert hashlib.sha256(content).hexdigest() in result.stdout
    assert f"not used: {paths[0]}: Table and Index/icd10cm_tabular_2027.pdf" in result.stdout
    edition = read_edition(tmp_path / "out")
    assert read_code_list(edition.read("codes"), "codes") == rows and len(rows) == 98_403
    assert edition.read("tabular") == tabular and edition.read("index") == INDEX
    assert edition.read("drug") == read_edition("2027").read("drug") and not edition.has("index-corrections")


@pytest.mark.long
def test_april_2026_differs_from_the_default_by_the_addenda(tmp_path):
    """Guards: a change counted in the wrong class, compared with CMS's own counts in its order addenda of FY2027."""
    rows, tabular = book_rows("2026"), read_edition("2026").read("tabular")
    inner = {"Tables/ICD10CM-Tabular-April-2026.XML": tabular, "icd10cm-order-April-2026.txt": order_file(rows)}
    path = write(tmp_path, {"Downloads/inner.zip": zip_of(inner)}, "icd10cm-table-index-April-2026.zip")
    files = read_official([path])
    checked = check_official(files)
    dates = edition_dates(files, checked.version)
    assert dates == ("2026-04", datetime.date(2026, 4, 1), datetime.date(2026, 9, 30))
    april = place_codes(list(checked.rows), checked.tabular)
    assert not edition_changes(parse_edition(read_edition("2026")), april)
    changes = edition_changes(april, parse_edition(read_edition("2027")))
    counts = [("added", 190), ("deleted", 15), ("headings", 15), ("billable", 0), ("added", 48), ("deleted", 6)]
    assert [(name.split()[-1], number) for name, number in changes.rows()[:6]] == counts
    codes = dict(changes.codes)
    assert codes["descriptions revised"] == ["L02.232", "L03.312", "L03.322", "Z29.14"]
    assert {"D69.1", "I42.0", "M72.2", "Z68.1", "Z87.890"} < set(codes["billable codes that became headings"])
    assert {"C78.31", "QA1.798", "T65.854S", "J4B"} < set(codes["billable codes added"])


# ---- small archives: the command, recognition, dates


def test_the_command_writes_an_edition_that_the_code_book_loads(tmp_path):
    """Guards: a folder that --edition cannot read; a second run into the same folder refused."""
    stale = SMALL_TABULAR.replace(b"<version>2027", b"<version>2026")
    rows = addenda([("Add:", "H81.0", 1, "Meniere's disease"), ("Add:", "H82", 1, "Vertigo")])
    path = write(tmp_path, {**SMALL, TABULAR: stale, "index.xml": INDEX, "addenda.txt": rows})
    command = [sys.executable, "-m", "minscl.expand", "official", path, "--out", str(tmp_path / "out")]
    for _ in range(2):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    warnings = "which count: H82", "<version> is 2026; the names of the files count", f"written to {tmp_path / 'out'};"
    assert all(words in line for words, line in zip(warnings, result.stderr.splitlines(), strict=True))
    assert "billable codes deleted: A00.0, " in result.stdout
    book = CodeBook.load(tmp_path / "out")
    assert book.billable == ["H81.0", "M1A.9XX0", "M1A.9XX1"] and book.parent("M1A.9XX0") == "M1A.9"
    assert book.description("H81.0") == "Meniere's disease" and book.notes("H81", "excludes1")
    assert book.edition.name == "2027" and str(book.edition.last_date) == "2027-09-30"
    assert {path.name for path in tmp_path.iterdir()} == {"2027.zip", "out"}


@pytest.mark.parametrize(
    "members",
    [
        {"Tabular.xml": SMALL_TABULAR, "Order.TXT": SMALL[ORDER]},
        {"FY27/FY27_Tabular.XML": b"\xef\xbb\xbf" + SMALL_TABULAR, "a": SMALL[ORDER]},
        {"x.bin": zip_of({"b/c.zip": zip_of({"icd10cm-Tabular-2027.xml": SMALL_TABULAR})}), ORDER: SMALL[ORDER]},
        {"Table and Index\\t.xml": SMALL_TABULAR, "codes only.txt": SMALL[CODES], "twice.txt": SMALL[CODES]},
        {TABULAR: SMALL_TABULAR, ORDER: SMALL[ORDER], "icd10cm_tabular_2027_addenda.xml": SMALL_TABULAR + b" "},
    ],
)
def test_files_are_recognised_by_their_content(members, tmp_path):
    """Guards: a year's spelling of names that finds no file, or takes the addenda for the List; codes lost on the way
    from any of the layouts."""
    files = read_official([write(tmp_path, members)])
    checked = check_official(files)
    assert {(row.code, row.is_billable) for row in checked.rows} == {(code, bool(bit)) for code, bit, _ in SMALL_ROWS}
    assert edition_dates(files, checked.version)[0] == "2027"


def test_tables_are_told_apart_by_title_column_and_name(tmp_path):
    """Guards: the External Cause Index read as the Alphabetic Index; a list of procedures read as the order file."""
    members = {
        **SMALL,
        "a.xml": INDEX,
        "b.xml": INDEX.replace(b"INDEX TO DISEASES and INJURIES", b"EXTERNAL CAUSE of INJURIES INDEX"),
        "c.xml": TABLE % b"Neoplasm",
        "icd10cm_drug.xml": TABLE % b"",
        "order_addenda.txt": addenda([("Add:", "H81.0", 1, "Meniere's disease"), ("Add:", "H82", 1, "Vertigo")]),
        "icd10pcs_order_2027.txt": order_file([("001", 0, "Central Nervous System"), ("B00.0", 1, "Imaging")]),
        "gems.txt": b"A000    0010   00000\r\n",
        "other.xml": b"<html>ICD10CM</html>",
        "empty.txt": b"",
    }
    files = read_official([write(tmp_path, members)])
    found = {file.names[-1]: role for role, file in files.files.items()}
    assert {name: found[name] for name in ("a.xml", "b.xml", "c.xml", "icd10cm_drug.xml", "order_addenda.txt")} == {
        "a.xml": "index",
        "b.xml": "external-cause",
        "c.xml": "neoplasm",
        "icd10cm_drug.xml": "drug",
        "order_addenda.txt": "addenda",
    }
    assert [place.split(": ")[1] for place in files.not_used] == list(members)[-4:]
    assert [row.code for row in misfits(files["addenda"].content, check_official(files).rows)] == ["H82"]


@pytest.mark.parametrize(
    "tabular, order, version, expected",
    [
        ("Tabular.xml", "Order.txt", "2016", ("2016", "2015-10-01", "2016-09-30")),
        ("icd10c-tabular-April-1-2026.xml", "icd10cm_order_2026.txt", "2026", ("2026-04", "2026-04-01", "2026-09-30")),
        ("tabular_January_2021.xml", "order.txt", "2021", ("2021-01", "2021-01-01", "2021-09-30")),
        ("icd10cm-tabular-2027.xml", "icd10cm-order-2026.txt", "2027", r"tabular-2027\S* is of 2027, \S*order-2026"),
        ("Tabular.xml", "icd10cm-order-2026.txt", "2027", r"Tabular.xml is of 2027, \S*icd10cm-order-2026"),
        ("Tabular.xml", "Order.txt", "", "neither the names nor <version>"),
        ("tabular-jan-2021.xml", "order-apr-2021.txt", "2021", "two updates"),
    ],
)
def test_dates_of_service(tabular, order, version, expected, tmp_path):
    """Guards: an April update dated from October; the files of two years taken for one edition."""
    paths = [write(tmp_path, content, name) for content, name in ((SMALL_TABULAR, tabular), (SMALL[ORDER], order))]
    files = read_official(paths)
    if isinstance(expected, tuple):
        assert tuple(map(str, edition_dates(files, version))) == expected
    else:
        with pytest.raises(InputError, match=expected):
            edition_dates(files, version)


def test_the_order_files_layout():
    """Guards: a description cut where an accent makes the short one longer in bytes; older encodings, line ends."""
    row = "00001 H810    1 {:60} Ménière's disease, long\r\n"
    padded_in_bytes = "Ménière's disease" + " " * (60 - len("Ménière's disease".encode()))
    for short, encoding in ((padded_in_bytes, "utf-8"), ("Ménière's", "utf-8"), ("Ménière's", "cp1252")):
        text = row.format(short) if short != padded_in_bytes else row.replace("{:60}", short)
        content = ("\n" + text + "\x1a").encode(encoding)
        assert code_list_kind(content) == "order"
        assert read_order_file(content, "order") == [("H81.0", True, "Ménière's disease, long")]
    for line, fault in ((row.format("x") * 2, "order:2: H81.0 occurs twice"), ("00001 H81 1 short", "order:1: not an")):
        with pytest.raises(InputError, match=fault):
            read_order_file(line.encode(), "order")


# ---- files that do not agree


def test_codes_in_one_file_only_are_named(tmp_path):
    """Guards: an edition whose files are of two years; an error that names too few or too many codes."""
    extra = [*SMALL_ROWS, *((f"N99.{number}", 1, "Other disorder") for number in range(10, 22))]
    line = refusal(write(tmp_path, {**SMALL, ORDER: order_file(extra)}), tmp_path / "out")
    assert f"{ORDER} and {tmp_path / '2027.zip'}: {TABULAR} disagree" in line
    assert "billable codes only in the order file: N99.10, " in line and "N99.19, ... (12 in all);" in line
    fewer = [row for row in SMALL_ROWS if row[0] != "M1A.9XX1"]
    line = refusal(write(tmp_path, {**SMALL, CODES: codes_file(fewer)}), tmp_path / "out")
    assert "billable codes only in the Tabular List: M1A.9XX1;" in line and CODES in line
    line = refusal(write(tmp_path, {**SMALL, ORDER: order_file(SMALL_ROWS[1:])}), tmp_path / "out")
    assert "headings only in the Tabular List: H81;" in line


def test_descriptions_that_differ_are_counted(tmp_path):
    """Guards: an accent that the order file drops counted as a difference, or refused."""
    rows = [(code, billable, text.replace("with tophus", "w tophus")) for code, billable, text in SMALL_ROWS]
    files = read_official([write(tmp_path, {TABULAR: SMALL_TABULAR, ORDER: order_file(rows)})])
    assert check_official(files).counts[-1] == ("descriptions that differ from the Tabular List's", 1)


# ---- the folder


def folder_files(content: bytes) -> dict:
    """The files of write_edition for an edition of one file."""
    return {"tabular": ("tabular.xml.gz", "Tabular List", gzip.compress(content))}


DATES = datetime.date(2026, 10, 1), datetime.date(2027, 9, 30)


def test_a_folder_that_holds_anything_else_is_not_replaced(tmp_path):
    """Guards: the user's files, the archives for one, lost with the folder that is replaced."""
    path, out = write(tmp_path, SMALL), tmp_path / "out"
    out.mkdir()
    for content in (b"a", b"b"):  # into an empty folder, into an edition's
        edition = edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(content))
        assert edition.read("tabular") == content and len(list(out.iterdir())) == 2
    shutil.copy(path, out)
    assert "out: holds 2027.zip, no file of an edition" in refusal(path, out)
    (out / "edition.json").unlink()
    assert "no file of an edition" in refusal(path, out)
    assert "2027.zip: is also FILE's" in refusal(path, tmp_path / "2027.zip")
    (tmp_path / "file").touch()
    assert "file: not a folder" in refusal(path, tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written in"):
        edition_folder.edition_target(str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("step", ["fsync", "last rename"])
def test_an_interrupted_run_leaves_what_was_there(step, exists, tmp_path, monkeypatch):
    """Guards: half an edition, or none, where a run ends while it writes or puts the folder in place."""
    out, rename = tmp_path / "out", Path.rename
    if exists:
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"before"))

    def interrupt(descriptor):
        raise KeyboardInterrupt

    def fail(path, target):
        if path.suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(*((os, "fsync", interrupt) if step == "fsync" else (Path, "rename", fail)))
    with pytest.raises((KeyboardInterrupt, InputError)):
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"after"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * exists
    assert not exists or read_edition(out).read("tabular") == b"before"
