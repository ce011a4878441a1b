"""The page's state and exports, without a browser: random reviews in Node.js, read back by minscl's own readers.

javascript/review_session.js compares undo and redo with a naive replay and tries bad logs; it fails by itself.
"""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minscl.data.assertion import STATUSES
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.page.entry import Entry, check_evidence

NODE = shutil.which("node")
ROOT = Path(__file__).parents[1]
SESSIONS = 20
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT TESTED: the page's state and exports, for want of Node.js")


@pytest.fixture(scope="module")
def exports():
    """What the page exports of random reviews; guards undo, redo and a fold of the log that lose something."""
    script = ROOT / "tests" / "javascript" / "review_session.js"
    run = subprocess.run([NODE, script, str(SESSIONS)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout)


def test_reviewed_documents_are_coded_documents(exports):
    """Guards offsets in UTF-16 units, evidence without a place, and undecided or rejected codes among the gold."""
    documents = [CodedDocument.from_dict(json.loads(line)) for line in exports["reviewed"].splitlines()]
    assert len(documents) == SESSIONS
    quotations = 0
    for document, items in zip(documents, exports["items"], strict=True):
        accepted = [item for item in items if item["decision"] == "accepted"]
        assert [code.code for code in document.codes] == [item["code"] for item in accepted]
        assert not any(item["principal"] for item in accepted[1:])
        for code in document.codes:
            assert code.score is None and code.rules is None
            assert all(document.text[quote.start : quote.end] == quote.text for quote in code.evidence)
            quotations += len(code.evidence)
    assert quotations > SESSIONS  # that there was something to compare


def test_who_coded_is_in_the_exports(exports):
    """Guards reviewed documents and tables without code set and model, and a machine.jsonl that evaluate refuses
    or that has a coder's decisions."""
    reviewed = [CodedDocument.from_dict(json.loads(line)) for line in exports["reviewed"].splitlines()]
    assert {(document.edition, document.date) for document in reviewed} == {("2027", "2026-11-02")}
    assert {"model": "demo"} in [document.coded_with for document in reviewed]
    rows = list(csv.DictReader(io.StringIO(exports["csv"][1:], newline="")))
    assert {row["edition"] for row in rows} == {"2027"}
    assert {row["model"] for row in rows if row["added"] == "yes"} == {""}
    assert {row["model"] for row in rows if row["added"] != "yes"} == {"", "demo"}  # the document's, the answer's
    machine = [CodedDocument.from_dict(document) for document in exports["machine"]]
    assert [[code.score for code in document.codes] for document in machine] == [[0, 0.25, 0.5]] * SESSIONS
    uncoded = CodedDocument.from_dict(exports["uncoded"])
    assert [code.description for code in uncoded.codes] == ["first"] and uncoded.coded_with == {"model": "demo"}


def test_log_entries_are_what_the_server_keeps(exports):
    """Guards an entry that the page writes and the journal refuses, so that nothing is saved any more."""
    text = json.loads(exports["reviewed"].splitlines()[0])["text"]
    entries = [Entry.from_dict(json.loads(line)) for line in exports["log"].splitlines()]
    for entry in entries:
        check_evidence(entry, text)
    assert {entry.act for entry in entries} >= {"accept", "change-code", "add-evidence", "code-again", "undo", "redo"}
    assert len({entry.entry for entry in entries}) == len(entries)


def spoilt_entries(good: dict):
    """(what is changed, the entry) of entries that neither the page nor the server may take."""

    def changed(name, value, part="entry"):
        entry = json.loads(json.dumps(good))
        [item] = entry["after"]["codes"].values()
        parts = {"entry": entry, "after": entry["after"], "item": item, "evidence": item["evidence"][0]}
        parts[part][name] = value
        return f"{part}: {name} = {value!r}", entry

    for name, value in (("at", "yesterday"), ("at", "2026-11-27 03:00"), ("extra", 1), ("entry", "e" * 201)):
        yield changed(name, value)
    for name, value in (("code", 1), ("code", "x" * 201), ("undoes", []), ("who", "\ud800"), ("before", [])):
        yield changed(name, value)
    for name, value in (("codes", []), ("order", [1]), ("order", None), ("finished", 1), ("text", "x")):
        yield changed(name, value, "after")
    for name, value in (("code", " "), ("score", 1.5), ("score", True), ("extra", 1), ("rules", [1]), ("poa", "1")):
        yield changed(name, value, "item")
    for name, value in (("evidence", [None]), ("evidence", [1]), ("description", "\ud800")):
        yield changed(name, value, "item")
    for name, value in (("end", None), ("start", None), ("grounded", False), ("grounded", 1), ("assertion", "likely")):
        yield changed(name, value, "evidence")
    for name, value in (("extra", 1), ("text", 1), ("end", 10**6), ("start", -1), ("start", True)):
        yield changed(name, value, "evidence")


def test_a_log_is_refused_by_the_page_where_the_server_would_refuse_it(exports):
    """Guards an import that the page takes and the server then refuses for ever, and a message that is an exception."""
    text = json.loads(exports["reviewed"].splitlines()[0])["text"]
    start = text.index("A1c 9.4")
    quotation = {"text": "A1c 9.4", "start": start, "end": start + 7, "grounded": True, "assertion": None}
    item = {"key": "0", "code": "I10", "description": "", "evidence": [quotation], "score": 1, "rules": None}
    item |= {"decision": "accepted", "added": False, "principal": False, "poa": None}
    good = {"entry": "e-1", "at": "2026-11-26T23:30:05.123Z", "who": "Ann", "document": "=note 1", "act": "accept"}
    good |= {"code": None, "before": {}, "after": {"codes": {"0": item}}, "undoes": None}
    fine = [json.loads(json.dumps(good)) for _ in STATUSES]
    for entry, status in zip(fine, STATUSES, strict=True):
        entry["after"]["codes"]["0"]["evidence"][0]["assertion"] = status
    names, spoilt = zip(*spoilt_entries(good), strict=True)
    script = ROOT / "tests" / "javascript" / "review_session.js"
    run = subprocess.run(
        [NODE, script, "--entries"], input=json.dumps([*fine, *spoilt]), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr[-4000:]
    problems = json.loads(run.stdout)
    assert problems[: len(fine)] == [""] * len(fine)
    for entry in fine:
        check_evidence(Entry.from_dict(entry), text)
    for name, entry, problem in zip(names, spoilt, problems[len(fine) :], strict=True):
        assert problem, name
        with pytest.raises(InputError):
            check_evidence(Entry.from_dict(entry), text)
            pytest.fail(name)


def test_csv(exports):
    """Guards columns that the documentation does not name, lost rows, and cells that a spreadsheet would compute."""
    assert exports["csv"].startswith("\ufeff")
    header, *rows = csv.reader(io.StringIO(exports["csv"][1:], newline=""))
    documented = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "review.md").read_text("utf-8"), re.MULTILINE)
    assert header == documented
    assert len(rows) == sum(map(len, exports["items"]))
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@" and cell]
    by_name = [dict(zip(header, row, strict=True)) for row in rows]
    assert {row["decision"] for row in by_name} == {"undecided", "accepted", "rejected"}
    for row in by_name:
        assert (row["present_on_admission"] == "exempt") or row["code"] != "Z79.4"
        assert bool(row["reviewer"]) == bool(row["decided_at"]) == (row["decision"] != "undecided")
