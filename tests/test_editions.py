"""The editions of the code set: the bundled ones against the changes that CMS published, dates, folders."""

import dataclasses
import datetime
import gzip
import hashlib
import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from minscl.data.icd import CodeBook, editions, parse_edition, xml_text
from minscl.data.icd.code_list import HEADER, place_codes, read_code_list
from minscl.data.icd.editions import ROLES, read_edition
from minscl.data.icd.xml_text import read_xml
from minscl.errors import InputError

RESOURCES = Path(str(resources.files("minscl.data.icd") / "resources"))
BOOK, OLD = CodeBook.load("2027"), CodeBook.load("2026")


def codes_of(book):
    """The codes and headings of `book`, without chapters and sections."""
    return {node for node in book.nodes if node[0].isalpha() and " " not in node}


def test_the_default_is_fy2027():
    """Guards: last year's code set by default; a code list that is not CMS's in number."""
    assert CodeBook.load() is BOOK and (len(BOOK.billable), len(codes_of(BOOK))) == (74_879, 98_403)
    assert (len(OLD.billable), len(codes_of(OLD))) == (74_719, 98_186)


def test_the_changes_are_those_of_the_addenda():
    """Guards: codes lost or kept on the way from one edition to the next (CMS's order addenda for FY2027)."""
    new, old = set(BOOK.billable), set(OLD.billable)
    assert (len(new - old), len(old - new)) == (190, 30)
    gone = codes_of(OLD) - codes_of(BOOK)
    assert len(old - new - gone) == 15 and len(gone) == 21 and len(codes_of(BOOK) - codes_of(OLD)) == 238
    assert {"D69.1", "I42.0", "M72.2", "Z68.1", "Z87.890"} <= old - new
    assert BOOK.description("D69.11") == "Glanzmann thrombasthenia" and BOOK.description("D69.1")


def test_codes_stand_where_the_tabular_list_has_them():
    """Guards: a code below another parent than the Tabular List's, which is older than the list of codes."""
    shared = codes_of(BOOK) & codes_of(OLD)
    assert [node for node in BOOK.nodes if node in shared] == [node for node in OLD.nodes if node in shared]
    assert all(BOOK.parent(code) == OLD.parent(code) for code in shared)


@pytest.mark.parametrize(
    "code, above",
    [
        ("D69.11", ["D69.1", "D69", "section D65-D69", "3"]),
        ("J4B", ["section J40-J4A", "10"]),
        ("K6A.01", ["K6A.0", "K6A", "section K65-K68", "11"]),
        ("QA1.790", ["QA1.79", "QA1.7", "QA1", "section QA0", "17"]),
    ],
)
def test_later_codes_inherit_notes_from_above(code, above):
    """Guards: a code newer than the Tabular List's file outside its category, so without its notes."""
    assert BOOK.ancestors(code) == above and BOOK.normalise(code.replace(".", "").lower()) == code
    later = CodeBook({"nodes": {"QA2": ("New", None)}, "notes": {}, "billable": []}, BOOK.edition)
    assert later.normalise("qa21") == "QA2.1" and BOOK.normalise("qb21") is None


@pytest.mark.parametrize(
    "edition, date, in_force",
    [
        ("2027", "2026-09-30", "2026"),
        ("2027", "2026-10-01", "2027"),
        ("2027", datetime.date(2027, 9, 30), "2027"),
        ("2026", "2025-10-01", "2026"),
        (None, "2019-01-01", "2026"),
        (None, None, "2027"),
    ],
)
def test_the_date_of_service_selects_what_was_in_force(edition, date, in_force):
    """Guards: a code of October billed for a service in September, or the reverse."""
    book = CodeBook.load(edition, date)
    assert book.edition.name == in_force and book.is_billable("D69.1") == (in_force == "2026")
    assert (
        bool(book.out_of_range) == ("codes may differ from those of 2019-01-01" in book.label) == (date == "2019-01-01")
    )
    assert book.date == (date if date is None or isinstance(date, datetime.date) else datetime.date.fromisoformat(date))


def test_a_date_between_two_known_editions_is_said(monkeypatch):
    """Guards: codes of an edition that had ended, judged as if it were in force."""
    later = dataclasses.replace(
        BOOK.edition, name="2029", first_date=datetime.date(2028, 10, 1), last_date=datetime.date(2029, 9, 30)
    )
    original = editions.read_edition
    monkeypatch.setattr(editions, "read_edition", lambda name: later if name == "2029" else original(name))
    date = datetime.date(2027, 12, 1)
    found = editions.find_edition("2029", date)
    assert found.name == "2027"
    book = CodeBook({"nodes": {}, "notes": {}, "billable": []}, found, date)
    assert "no edition of 2027-12-01 is known, so codes may differ from those of that day" in book.label


def test_a_code_of_another_date_is_named_as_such():
    """Guards: a code that was valid last year reported like one that never was."""
    assert BOOK.when_valid("D69.1") == "valid until 2026-09-30" and OLD.when_valid("D69.11") == "valid from 2026-10-01"
    assert BOOK.when_valid("D69.11") == BOOK.when_valid("I99.99") == BOOK.when_valid("E11") == ""
    own = CodeBook({"nodes": {}, "notes": {}, "billable": []}, dataclasses.replace(BOOK.edition, name="own"))
    assert own.when_valid("D69.1") == "valid until 2026-09-30" and own.when_valid("D69.11") == ""  # of the same dates


@pytest.mark.parametrize(
    "first, last, code, when",
    [
        ("2027-10-01", "2028-09-30", "E11.65", "valid until 2027-09-30"),
        ("2027-04-01", "2027-09-30", "E11.65", "valid until 2027-03-31"),
        ("2027-10-01", "2028-09-30", "D69.1", "valid until 2026-09-30"),
        ("2020-10-01", "2021-09-30", "E11.65", "valid by 2025-10-01"),
        ("2024-10-01", "2025-09-30", "E11.65", "valid from 2025-10-01"),
        ("2020-10-01", "2021-09-30", "D69.11", "valid from 2026-10-01"),
    ],
)
def test_validity_beside_an_edition_of_the_users(first, last, code, when):
    """Guards: the end or beginning of a code taken from an edition that is not the next one known."""
    first_date, last_date = map(datetime.date.fromisoformat, (first, last))
    edition = dataclasses.replace(
        BOOK.edition, name="own", first_date=first_date, last_date=last_date, is_bundled=False
    )
    own = CodeBook({"nodes": {}, "notes": {}, "billable": []}, edition)
    assert own.when_valid(code) == when and edition.id == f"own-{edition.digest}"


@pytest.mark.parametrize(
    "edition, date, message",
    [
        ("2026", "2026-10-01", "edition 2026 ends on 2026-09-30; use --edition 2027"),
        ("2027", "2026-W40-1", "no such date"),
        ("2027", "2027-10-01", "name a later edition"),
        ("2027", "2026-02-30", "date 2026-02-30: no such date; write it as 2026-10-01"),
        ("2027", "20260930", "no such date"),
        ("2025", None, "edition 2025: neither 2026, 2027 nor a folder"),
    ],
)
def test_dates_and_editions_that_cannot_be_used(edition, date, message):
    """Guards: a silent fall back to another edition than the one that was asked for."""
    with pytest.raises(InputError, match=message):
        CodeBook.load(edition, date)


@pytest.fixture
def folder(tmp_path):
    """An edition folder with the files of edition 2027, for dates a year later."""
    description = json.loads((RESOURCES / "edition_2027.json").read_text())
    description |= {"edition": "next", "first_date": "2027-10-01", "last_date": "2028-09-30"}
    for entry in description["files"].values():
        shutil.copyfile(RESOURCES / entry["file"], tmp_path / entry["file"])
    (tmp_path / "edition.json").write_text(json.dumps(description))
    return tmp_path


def test_a_folder_is_an_edition(folder, monkeypatch):
    """Guards: an edition of the user's that is used in part, or not in a process that only has the variable."""
    monkeypatch.setenv("MINSCL_EDITION", str(folder))
    book = CodeBook.load()
    assert book.edition.name == "next" and book.billable == BOOK.billable and all(map(book.edition.has, ROLES))
    assert CodeBook.load(date="2027-09-30").edition.name == "2027" and CodeBook.load("2027").edition.name == "2027"


def test_a_damaged_folder_is_refused(folder, tmp_path_factory, monkeypatch):
    """Guards: codes read out of a file that was cut or exchanged after `expand official` checked it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(parse_edition, "parse_tabular", lambda root: {"nodes": {}, "billable": [], "notes": {}})
    monkeypatch.setattr(parse_edition, "read_xml", lambda content, name: None)  # a second each, and not tested here
    description = json.loads((folder / "edition.json").read_text())
    entry = description["files"]["codes"]
    codes = folder / entry["file"]
    whole = codes.read_bytes()

    def loads(content, message):
        codes.write_bytes(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "edition.json").write_text(json.dumps(description))
        with pytest.raises(InputError, match=message):
            CodeBook.load(read_edition_path(folder))

    codes.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="not the file that edition next was made of"):
        CodeBook.load(read_edition_path(folder))
    loads(whole[:1000], "not a gzip file")
    loads(gzip.compress(b"code\n"), ":1: not the heading code billable description")
    loads(gzip.compress(f"{HEADER}\nE11.65\tyes\tType 2\n".encode()), ":2: not a code with its dot, 0 or 1")
    loads(gzip.compress(f"{HEADER}\nI10\t\tHypertension\n".encode()), ":2: not a code with its dot, 0 or 1")
    loads(gzip.compress(f"{HEADER}\nI10\t1\tM\xe9ni\xe8re\n".encode("latin-1")), "is not UTF-8")
    loads(gzip.compress(f"{HEADER}\n".encode()), "edition next has no billable code")
    loads(gzip.compress(f"{HEADER}\nI10\t1\tHypertension\nI10\t1\tHypertension\n".encode()), ":3: I10 occurs twice")
    loads(gzip.compress(f"{HEADER}\nI99.9\t1\tNo category\n".encode()), "I99.9 has no category there")
    for key, value, message in [
        ("last_date", "2027-01-01", "a day after first_date"),
        ("first_date", "soon", "first_date soon: no such date"),
        ("edition", "<b>", "edition is .<b>., but must be a name"),
        ("files", {}, "the Tabular List"),
        ("files", {"tabular": {"file": "../tabular.xml.gz", "about": "", "sha256": ""}}, "in the same folder"),
    ]:
        (folder / "edition.json").write_text(json.dumps({**description, key: value}))
        with pytest.raises(InputError, match=message):
            read_edition(folder)


def read_edition_path(folder):
    """A new spelling of the folder's path each time: a process keeps the editions that it has read."""
    read_edition_path.calls = getattr(read_edition_path, "calls", 0) + 1
    return f"{folder}{'/' * read_edition_path.calls}"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<a>", "not well-formed"),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares a document type"),
        (b"\xff\xfe<\x00a\x00/\x00>", "byte 8 is not utf-16"),
        (b"<a>\xff</a>", "byte 3 is not UTF-8"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding"),
        (b"<a>" * 60 + b"</a>" * 60, "nested more than 50 deep"),
        (b"<a>" + b"<b/>" * 1000 + b"</a>", "more text, elements or attributes"),
        (b"<a " + b"b='' " * 1000 + b"/>", "more text, elements or attributes"),
        (b"<a>" + b"b" * 9000 + b"</a>", "more text, elements or attributes"),
    ],
)
def test_xml_that_is_refused(content, message, monkeypatch):
    """Guards: entities that expand without end or read other files; millions of empty elements, which take
    gigabytes and come in 97 kB of gzip; a parser's traceback."""
    monkeypatch.setattr(xml_text, "MAX_MARKS", 900)
    monkeypatch.setattr(xml_text, "MAX_BYTES", 8000)
    with pytest.raises(InputError, match=message):
        read_xml(content, "file.xml")


def test_the_code_list_decides_over_the_tabular_list():
    """Guards: codes of the older Tabular List that the list of codes has dropped; their notes left behind."""
    tabular = {
        "nodes": {"1": ["Chapter", None], "section A00-A09": ["Section", "1"], "A00": ["Old", "section A00-A09"]},
        "billable": ["A00"],
        "notes": {"A00": {"excludes1": ["typhoid (A01.-)"]}, "A00.5": {"includes": ["gone"]}},
    }
    rows = read_code_list(
        f"{HEADER}\nA00\t0\tCholera\nA00.0\t1\tCholera, new\nA0A\t1\tNew category\n".encode(), "codes"
    )
    placed = place_codes(rows, tabular)
    assert placed["billable"] == ["A00.0", "A0A"] and placed["notes"] == {"A00": {"excludes1": ["typhoid (A01.-)"]}}
    assert placed["nodes"]["A0A"] == ["New category", "section A00-A09"] and placed["nodes"]["A00.0"][1] == "A00"
