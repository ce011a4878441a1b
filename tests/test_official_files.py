"""Which files `expand official` recognises, in which encodings and of which date: on archives of seven codes."""

import datetime
import re

import pytest

from minscl.code_set import nearest_bundled
from minscl.data.icd.editions import read_edition
from minscl.data.icd.official.check import check_official, misfits
from minscl.data.icd.official.dates import edition_dates
from minscl.data.icd.official.files import read_official
from minscl.data.icd.official.folder import missing_roles
from minscl.data.icd.xml_text import read_xml
from minscl.errors import InputError
from tests.official_archives import (
    ALL_CODES,
    CODES,
    INDEX,
    ORDER,
    SMALL,
    SMALL_ROWS,
    SMALL_TABULAR,
    TABULAR,
    addenda,
    checked,
    fault,
    order_file,
    write,
    zip_of,
)

TABLE = (
    b"<ICD10CM.index><version>2027</version><indexHeading><head col='1'>%s</head></indexHeading>"
    b"<letter><mainTerm/></letter></ICD10CM.index>"
)


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
    files, codes = checked(tmp_path, members)
    assert {(row.code, row.is_billable) for row in codes.rows} == ALL_CODES
    assert edition_dates(files, codes.version)[0] == "2027"


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


# ---- XML: encodings, what is not a Tabular List


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "ISO-8859-1", "windows-1252", "us-ascii"])
def test_xml_in_legal_encodings_is_read(encoding, tmp_path):
    """Guards: an index in UTF-16 "not in the archives", or a Tabular List in Latin 1 "damaged"."""
    declaration = "utf-16" if encoding.startswith("utf-16") else encoding

    def encoded(content):
        return content.decode().replace("utf-8", declaration, 1).encode(encoding, "xmlcharrefreplace")

    padding = b"?>\n<!-- <ICD10CM.tabular> " + b"x" * 70_000 + b" -->"  # the root comes after the first 64 kB
    members = {TABULAR: encoded(SMALL_TABULAR), ORDER: SMALL[ORDER], "i": encoded(INDEX.replace(b"?>", padding, 1))}
    files, codes = checked(tmp_path, members)
    assert codes.placed["notes"] and codes.counts[-1][1] == 0 and "index" in files
    entities = b'?><!DOCTYPE ICD10CM.tabular [<!ENTITY a "aaaa">]>'
    message = fault(tmp_path, {**SMALL, TABULAR: encoded(SMALL_TABULAR.replace(b"?>", entities, 1))})
    assert "document type or entities" in message
    curly = '<?xml version="1.0" encoding="ISO-8859-1"?><a>“é”</a>'.encode("cp1252")
    assert read_xml(curly, "a.xml").text == "“é”"


@pytest.mark.parametrize(
    "old, new, message",
    [
        (b"utf-8", b"klingon", "unknown encoding klingon"),
        (b"Chronic gout, un", b"Chronic &#x9b; un", "control characters, or bytes of no letter, at M1A.9"),
        (b"<name>13</name>", b"", "a chapter without <name>, Diseases of the ear"),
        (b' id="M1A-M1A"', b"", "section None"),
        (b"<desc>Chronic gout</desc>\n        <seven", b"<seven", "M1A, without <desc>"),
        (b"<name>M1A.9", b"<name>H81.0", "H81.0 occurs twice"),
        (b"<name>M1A.9", b"<name>N99.9", "N99.9 has no category"),
        (b"<name>M1A.9", b"<name>m1a9", "m1a9, Chronic gout, unspecified: not a code"),
        (b"</chapter>", b"</chapter><diag><name>N99</name></diag>", "N99 is in no section"),
    ],
)
def test_what_is_no_tabular_list_is_refused(old, new, message, tmp_path):
    """Guards: an edition in which looking up a code's chapter is a KeyError; codes that are in no section."""
    tabular = SMALL_TABULAR.replace(old, new)
    assert tabular != SMALL_TABULAR and f"{TABULAR}: {message}" in fault(tmp_path, {**SMALL, TABULAR: tabular})


def test_a_namespace_is_ignored(tmp_path):
    """Guards: a Tabular List with a namespace that has no codes."""
    plain = SMALL_TABULAR.replace(b"<ICD10CM.tabular>", b'<ICD10CM.tabular xmlns="http://cdc.gov">')
    prefixed = re.sub(rb"<(/?)([A-Za-z1])", rb"<\1a:\2", SMALL_TABULAR).replace(b"tabular>", b'tabular xmlns:a="b">', 1)
    for tabular in (plain, prefixed):
        _, codes = checked(tmp_path, {**SMALL, TABULAR: tabular})
        assert {(row.code, row.is_billable) for row in codes.rows} == ALL_CODES


def test_the_order_file_decides_on_what_the_list_says_in_prose(tmp_path):
    """Guards: an edition refused in which S06 codes of deaths take a 7th character D, which later ones rule out in
    prose only."""
    gout = SMALL_TABULAR[
        SMALL_TABULAR.index(b"      <diag><name>M1A<") : SMALL_TABULAR.index(b"    </section>\n  </ch")
    ]
    injury = gout.replace(b"M1A.9", b"S06.1X7").replace(b"M1A", b"S06").replace(b'char="0"', b'char="A"')
    tabular = SMALL_TABULAR.replace(gout, gout + injury.replace(b'char="1"', b'char="D"'))
    rows = [("S06", 0, "Injury"), ("S06.1X7", 0, "Injury, death"), ("S06.1X7A", 1, "Injury, first")]
    for seventh in ([], [("S06.1X7D", 1, "Injury, subsequent")]):
        _, codes = checked(tmp_path, {TABULAR: tabular, ORDER: order_file([*SMALL_ROWS, *rows, *seventh])})
        assert ("S06.1X7D" in codes.placed["nodes"]) == bool(seventh)


# ---- dates of service, and what an edition borrows


@pytest.mark.parametrize(
    "tabular, order, version, expected",
    [
        ("Tabular.xml", "Order.txt", "2016", ("2016", "2015-10-01", "2016-09-30")),
        ("icd10c-tabular-April-1-2026.xml", "icd10cm_order_2026.txt", "2026", ("2026-04", "2026-04-01", "2026-09-30")),
        ("tabular_January_2021.xml", "order.txt", "2021", ("2021-01", "2021-01-01", "2021-09-30")),
        ("tabular_July_2027.xml", "order.txt", "2027", ("2027-07", "2027-07-01", "2027-09-30")),
        ("April 1 2027/Tabular.xml", "April 1 2027/Order.txt", "2027", ("2027-04", "2027-04-01", "2027-09-30")),
        ("April/tabular_2027.xml", "Order.txt", "2027", ("2027-04", "2027-04-01", "2027-09-30")),
        ("table-04-01-2027/t.xml", "Order.txt", "2027", ("2027-04", "2027-04-01", "2027-09-30")),
        ("2027 updated-02-01-2026/t.xml", "Order.txt", "", ("2027", "2026-10-01", "2027-09-30")),
        ("tabular-October-2026.xml", "order-October-2026.txt", "2027", ("2027", "2026-10-01", "2027-09-30")),
        ("t 2026-11-26/Tabular.xml", "Order.txt", "2027", ("2027", "2026-10-01", "2027-09-30")),
        ("FY27_Tabular.xml", "FY 2027 order.txt", "", ("2027", "2026-10-01", "2027-09-30")),
        ("icd10cm-tabular-2027.xml", "icd10cm-order-2026.txt", "2027", r"tabular-2027\S* is of 2027, .*order-2026"),
        ("Tabular.xml", "icd10cm-order-2026.txt", "2027", r"order-2026\S* is of 2026, <version> of \S* Tabular.xml is"),
        ("tabular_2026.xml", "order_2026.txt", "2027", r"tabular_2026\S* is of 2026, <version> of .* is of 2027"),
        ("April 2026/tabular_2027.xml", "Order.txt", "2027", r"tabular_2027.xml is of 2027, .* April 2026 is of 2026"),
        ("Tabular.xml", "Order.txt", "", "neither the names nor <version>"),
        ("tabular-jan-2021.xml", "order-apr-2021.txt", "2021", "two updates"),
    ],
)
def test_dates_of_service(tabular, order, version, expected, tmp_path):
    """Guards: an April update dated from October; a calendar year or a day of a download read as the fiscal year; the
    files of two years taken for one edition."""
    list_of_year = SMALL_TABULAR.replace(b"2027</version>", version.encode() + b"</version>")
    files, codes = checked(tmp_path, {tabular: list_of_year, order: SMALL[ORDER]}, "archive.zip")
    if isinstance(expected, tuple):
        assert tuple(map(str, edition_dates(files, codes.version))) == expected
    else:
        with pytest.raises(InputError, match=expected):
            edition_dates(files, codes.version)


def test_a_folder_on_disk_names_an_update_with_its_year_only(tmp_path):
    """Guards: unpacked files of an April update dated from October; a person's folder taken for a month."""
    for name, first_date in (("April 1 2027", "2027-04-01"), ("april", "2026-10-01"), ("2019", "2026-10-01")):
        (tmp_path / name).mkdir()
        paths = [write(tmp_path / name, SMALL[member], member) for member in (TABULAR, ORDER)]
        files = read_official(paths)
        assert str(edition_dates(files, check_official(files).version)[1]) == first_date


def test_an_edition_borrows_from_the_bundled_one_nearest_to_it(tmp_path):
    """Guards: corrections of FY2027 in an edition whose codes are older."""
    names = {year: nearest_bundled(datetime.date(year - 1, 10, 1)).name for year in (2021, 2026, 2027, 2028)}
    assert names == {2021: "2026", 2026: "2026", 2027: "2027", 2028: "2027"}
    files, _ = checked(tmp_path, SMALL)
    assert "index-corrections" in missing_roles(files, read_edition("2027"))
    assert "index-corrections" not in missing_roles(files, read_edition("2026"))
