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

from minscl.data.types import CodedDocument
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
    """Guards reviewed documents and tables without code set and model (F4), and a machine.jsonl that evaluate refuses
    or that has a coder's decisions (F12)."""
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
