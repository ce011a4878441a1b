"""`expand official` on archives in the official layout: full size from the bundled editions, else of seven codes."""

import datetime
import errno
import gc
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minscl import disk
from minscl.data.icd import CodeBook
from minscl.data.icd.code_list import read_code_list
from minscl.data.icd.editions import read_edition
from minscl.data.icd.official import folder as edition_folder
from minscl.data.icd.official.changes import edition_changes
from minscl.data.icd.official.check import check_official
from minscl.data.icd.official.dates import edition_dates
from minscl.data.icd.official.files import read_official
from minscl.data.icd.parse_edition import parse_edition
from minscl.errors import InputError
from minscl.files import lock_folder
from tests.official_archives import (
    INDEX,
    ORDER,
    SMALL,
    TABULAR,
    addenda,
    book_rows,
    official,
    order_file,
    refusal,
    tabular_2027,
    write,
    zip_of,
)


@pytest.fixture
def no_collector():
    """Python's garbage collector would double the time: it walks a million small objects, none of them garbage."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.long
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
    written = read_code_list(edition.read("codes"), "codes")  # new codes last in their category, as in tabular_2027
    assert sorted(written) == sorted(rows) and len(rows) == 98_403
    assert edition.read("tabular") == tabular and edition.read("index") == INDEX
    assert edition.read("drug") == read_edition("2027").read("drug") and not edition.has("index-corrections")


@pytest.mark.long
@pytest.mark.usefixtures("no_collector")
def test_april_2026_differs_from_the_default_by_the_addenda(tmp_path):
    """Guards: a change counted in the wrong class, compared with CMS's own counts in its order addenda of FY2027."""
    rows, tabular = book_rows("2026"), read_edition("2026").read("tabular")
    inner = {"Tables/ICD10CM-Tabular-April-2026.XML": tabular, "icd10cm-order-April-2026.txt": order_file(rows)}
    path = write(tmp_path, {"Downloads/inner.zip": zip_of(inner)}, "icd10cm-table-index-April-2026.zip")
    files = read_official([path])
    checked = check_official(files)
    dates = edition_dates(files, checked.version)
    assert dates == ("2026-04", datetime.date(2026, 4, 1), datetime.date(2026, 9, 30))
    assert not edition_changes(parse_edition(read_edition("2026")), checked.placed)
    changes = edition_changes(checked.placed, parse_edition(read_edition("2027")))
    counts = [("added", 190), ("deleted", 15), ("headings", 15), ("billable", 0), ("added", 48), ("deleted", 6)]
    assert [(name.split()[-1], number) for name, number in changes.rows()[:6]] == counts
    codes = dict(changes.codes)
    assert codes["descriptions revised"] == ["L02.232", "L03.312", "L03.322", "Z29.14"]
    assert {"D69.1", "I42.0", "M72.2", "Z68.1", "Z87.890"} < set(codes["billable codes that became headings"])
    assert {"C78.31", "QA1.798", "T65.854S", "J4B"} < set(codes["billable codes added"])


# ---- small archives: the command


def test_the_command_writes_an_edition_that_the_code_book_loads(tmp_path):
    """Guards: a folder that --edition cannot read; a second run into the same folder refused."""
    rows = addenda([("Add:", "H81.0", 1, "Meniere's disease"), ("Add:", "H82", 1, "Vertigo")])
    unversioned = SMALL[TABULAR].replace(b"<version>2027", b"<version>")
    path = write(tmp_path, {**SMALL, TABULAR: unversioned, "index.xml": INDEX, "addenda.txt": rows})
    command = [sys.executable, "-m", "minscl.expand", "official", path, "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and official(*command[4:]).returncode == 0, result.stderr
    warnings = (
        "which count: H82",
        "<version> is missing, no year; the names of the files count",
        f"written to {tmp_path / 'out'};",
    )
    assert all(words in line for words, line in zip(warnings, result.stderr.splitlines(), strict=True))
    assert "billable codes deleted: A00.0, " in result.stdout
    book = CodeBook.load(tmp_path / "out")
    assert book.billable == ["H81.0", "M1A.9XX0", "M1A.9XX1"] and book.parent("M1A.9XX0") == "M1A.9"
    assert book.description("H81.0") == "Meniere's disease" and book.notes("H81", "excludes1")
    assert book.edition.name == "2027" and str(book.edition.last_date) == "2027-09-30"
    assert {path.name for path in tmp_path.iterdir()} == {"2027.zip", "out"}


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
@pytest.mark.parametrize("step", ["fsync", "last rename", "exchange"])
def test_an_interrupted_run_leaves_what_was_there(step, exists, tmp_path, monkeypatch):
    """Guards: half an edition, or none, where a run ends while it writes or puts the folder in place."""
    out, rename = tmp_path / "out", disk.rename
    if exists:
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"before"))

    def fail(path, target):
        if Path(path).suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    def refuse(path, target):
        raise OSError(errno.ENOSYS if step == "last rename" else errno.EIO, "cannot be exchanged")

    monkeypatch.setattr(*((os, "fsync", interrupt) if step == "fsync" else (disk, "rename", fail)))
    monkeypatch.setattr(disk, "exchange", refuse)
    with pytest.raises((KeyboardInterrupt, InputError)):
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"after"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * exists
    assert not exists or read_edition(out).read("tabular") == b"before"


def test_modes_and_what_killed_runs_leave(tmp_path):
    """Guards: files that everyone may read unless the user says so; megabytes left for ever; an edition that a killed
    run had set aside lost, or what a run is still writing removed."""
    out = tmp_path / "out"
    edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"a"))
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    for path in (*out.iterdir(), out):
        path.chmod(0o750)
    abandoned, in_use = tmp_path / ".minscl-1.tmp", tmp_path / ".minscl-2.tmp"
    abandoned.mkdir()
    with lock_folder(in_use):
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"b"))
        assert {path.stat().st_mode & 0o777 for path in (*out.iterdir(), out)} == {0o750}
        assert in_use.exists() and not abandoned.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "exchange", lambda path, target: (_ for _ in ()).throw(OSError(errno.ENOSYS, "")))
        edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"c"))
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        out.rename(tmp_path / ".minscl-out.previous")
        with pytest.raises(KeyboardInterrupt):
            patch.setattr(disk, "fsync", interrupt)
            edition_folder.write_edition(str(out), "2027", DATES, "", folder_files(b"d"))
    assert read_edition(out).read("tabular") == b"c"


def interrupt(descriptor):
    """As the user who stops a run while it writes."""
    raise KeyboardInterrupt
