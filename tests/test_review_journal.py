"""What a review keeps: nothing that was answered is lost, whatever ends the server, and nothing is kept that is not the
document's."""

import contextlib
import http.client
import json
import random
import resource
import signal
import threading
import time

import pytest

from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.page.entry import Entry
from minscl.page.journal import ReviewFolder
from tests.review_process import CODED, ITEM, NOTE, QUOTATION, ReviewProcess, entry, write_notes

pytest.importorskip("uvicorn", reason="the review extra is not installed")
DOCUMENT = CodedDocument.from_dict({"id": "a", "text": NOTE, "codes": [CODED]})


def keep(folder, *entries, reviewed=None):
    folder.keep("a", *folder.check("a", entries, reviewed), after=folder.last("a"))


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_was_answered(tmp_path):
    """Guards decisions that are answered before they are on the disk, and a folder that a kill leaves locked."""
    answered, number, arguments = [], 0, [write_notes(tmp_path / "coded.jsonl", "a")]  # number: of entries sent
    reviewed = {"id": "a", "text": NOTE, "codes": [CODED]}
    for count in (1, 30):
        with ReviewProcess(tmp_path / "review", *arguments, "--model", "none") as server:
            first, sent = number + 1, ""
            with contextlib.suppress(OSError, http.client.HTTPException):  # the kill
                while True:
                    number += 1
                    sent = f"e-{number}"
                    if number == first + count:
                        threading.Timer(random.random() / 10, server.process.kill).start()
                    time.sleep(0.01)  # fewer than a hundred a second
                    body = {"entries": [entry(number)], "after": answered[-1] if answered else None}
                    answer = server.post("log", document="a", tab="1", reviewed=reviewed, **body)
                    assert answer == (200, {"kept": 1})
                    answered.append(sent)
        with ReviewFolder(tmp_path / "review") as folder:
            kept = [item.entry for item in folder.entries()]
        assert kept in (answered, [*answered, sent])
        answered, arguments = kept, []  # the second server goes on with the folder
    assert len(answered) > 30


@pytest.mark.slow
def test_a_full_disk_is_told_and_loses_nothing_and_ctrl_c_ends_in_order(tmp_path):
    """Guards half a line in the journal, an answer that claims more than is there, and a server that must be started
    again once there is space; and an end by Ctrl-C with a traceback. The limit on a file's size stands in for the
    disk."""
    CodeBook.load()  # its cache is there before the limit
    limit = 20_000

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    notes = write_notes(tmp_path / "coded.jsonl", "a")
    with ReviewProcess(tmp_path / "review", notes, "--model", "none", preexec_fn=limit_files) as server:
        for number in range(100):
            after = f"e-{number - 1}" if number else None
            status, answer = server.post("log", document="a", tab="1", after=after, entries=[entry(number)])
            if status != 200:
                break
        assert status == 507 and "decisions.jsonl" in answer and len(answer.splitlines()) == 1
        assert "pneumonia" not in answer
        kept = [f"e-{item}" for item in range(number)]
        assert server.entries() == kept and number > 5
        lines = (tmp_path / "review" / "decisions.jsonl").read_text().splitlines()
        assert [json.loads(line)["entry"] for line in lines] == kept
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = server.post("log", document="a", tab="1", after=kept[-1], entries=[entry(number)])
        assert again == (200, {"kept": 1})
        assert server.entries() == [*kept, f"e-{number}"]
        server.process.send_signal(signal.SIGINT)
        stdout, stderr = server.process.communicate(timeout=30)
        assert server.process.returncode == 0 and stdout.startswith("stopped; everything is in ")
        assert len(stderr.splitlines()) == 1 and "decisions.jsonl" in stderr  # one line in the terminal, too


def test_a_torn_last_line_is_cut_off_with_a_line(tmp_path, caplog):
    """Guards a journal that cannot be opened after a power failure, and a next entry glued to half a line."""
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        keep(folder, entry(1), entry(2))
    path = tmp_path / "decisions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(entry(3)).encode()[:100])
    with ReviewFolder(tmp_path) as folder:
        assert [item.entry for item in folder.entries()] == ["e-1", "e-2"]
        assert path.read_bytes() == whole
        keep(folder, entry(4))
    assert [record.getMessage().count("cut off") for record in caplog.records] == [1]
    with ReviewFolder(tmp_path) as folder:
        assert [item.to_dict() for item in folder.entries()] == [entry(1), entry(2), entry(4)]


def test_a_review_goes_on_where_it_stopped(tmp_path, caplog):
    """Guards decisions about codes that have become others: keys are positions in the document as it was first shown.
    Without a decision yet, the newer codes are shown."""
    note, other = CodedDocument("a", NOTE), CodedDocument("b", NOTE)
    with ReviewFolder(tmp_path, [note, other]) as folder:
        assert list(folder.documents) == ["a", "b"]
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        assert list(folder.documents.values()) == [DOCUMENT]
        keep(folder, entry(1), reviewed=DOCUMENT.to_dict())
    changed = CodedDocument.from_dict({"id": "a", "text": NOTE, "codes": [{**CODED, "code": "I15.9"}]})
    for documents in ([changed], [note], []):
        with ReviewFolder(tmp_path, documents) as folder:
            assert folder.documents["a"] == DOCUMENT and [item.entry for item in folder.entries()] == ["e-1"]
            assert list(folder.documents) == (["a"] if documents else ["a", "b"])
    assert len(caplog.records) == 1 and "other codes" in caplog.text


def test_what_a_kill_or_a_user_did_to_the_reviewed_files_is_mended_or_told(tmp_path):
    """Guards a finished note that is in no file after a kill between the journal and it; machine.jsonl that stays
    missing or broken, so that `evaluate` counts notes as not coded; one of somebody else's that is overwritten."""
    finish = entry(2, act="finish", code=None, before={"finished": False}, after={"finished": True})
    record = {"id": "a", "text": NOTE, "codes": [CODED]}
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        keep(folder, entry(1), finish, reviewed=record)
        assert folder.unwritten() == []
    machine, reviewed = tmp_path / "machine.jsonl", tmp_path / "reviewed.jsonl"
    right = machine.read_bytes()
    assert b"I10" in right
    machine.unlink(), reviewed.unlink()
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        assert folder.unwritten() == ["a"]
        keep(folder, reviewed=record)
        assert folder.unwritten() == [] and machine.read_bytes() == right
    machine.unlink()
    with ReviewFolder(tmp_path):
        assert machine.read_bytes() == right
    for content, named in ((right[:-20], "not JSON"), (right.replace(b'"a"', b'"z"'), "none of this review's")):
        machine.write_bytes(content)
        with pytest.raises(InputError, match=f"machine.jsonl.*{named}"):
            ReviewFolder(tmp_path)
        assert machine.read_bytes() == content


def test_a_reviewed_file_that_is_older_than_the_journal_is_told(tmp_path, monkeypatch):
    """Guards codes of a finished note that were changed while the disk was full, and stay the old ones for `train`."""
    finish = entry(2, act="finish", code=None, before={"finished": False}, after={"finished": True})
    record = {"id": "a", "text": NOTE, "codes": [CODED]}
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        keep(folder, entry(1), finish, reviewed=record)
        reopen = entry(3, act="reopen", code=None, before={"finished": True}, after={"finished": False})
        [(key, item)] = entry(1)["after"]["codes"].items()
        reject = entry(4, before={"codes": {key: item}}, after={"codes": {key: {**item, "decision": "rejected"}}})
        again = entry(5, act="finish", code=None, before={"finished": False}, after={"finished": True})
        with monkeypatch.context() as patch:
            patch.setattr("minscl.page.journal.write_jsonl", lambda *arguments: raise_error())
            with pytest.raises(InputError):
                keep(folder, reopen, reject, again, reviewed={**record, "codes": []})
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        assert folder.unwritten() == ["a"]
        keep(folder, reviewed={**record, "codes": []})
        assert folder.unwritten() == []


def raise_error():
    raise InputError("disk full")


def test_a_reviewed_document_without_its_decisions_is_refused(tmp_path):
    """Guards a journal that a user emptied: the next decision would take the note from reviewed.jsonl."""
    finish = entry(1, act="finish", code=None, before={"finished": False}, after={"finished": True})
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        keep(folder, finish, reviewed={"id": "a", "text": NOTE, "codes": [CODED]})
    before = (tmp_path / "reviewed.jsonl").read_bytes()
    (tmp_path / "decisions.jsonl").write_bytes(b"")
    with pytest.raises(
        InputError, match="decisions.jsonl: has no decisions about 1 of the documents in reviewed.jsonl"
    ):
        ReviewFolder(tmp_path, [DOCUMENT])
    assert (tmp_path / "reviewed.jsonl").read_bytes() == before


def test_another_text_under_a_known_id_is_refused(tmp_path):
    """Guards offsets that would mark other words than the coder saw."""
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        keep(folder, entry(1), reviewed=DOCUMENT.to_dict())
    for name in ("documents.jsonl", "none is missing"):
        with pytest.raises(InputError, match="another text") as error:
            ReviewFolder(tmp_path, [CodedDocument("a", "x")])
        assert "pneumonia" not in str(error.value)
        (tmp_path / name).unlink(missing_ok=True)  # then reviewed.jsonl alone knows the text


def test_a_note_coded_anew_without_codes_replaces_one_that_is_not_begun(tmp_path):
    """Guards an earlier model's codes, shown as those of the one that found none."""
    with ReviewFolder(tmp_path, [DOCUMENT]):
        pass
    for coded_with, expected in (({"model": "new"}, 0), (None, len(DOCUMENT.codes))):
        folder = tmp_path / str(coded_with is None)
        with ReviewFolder(folder, [DOCUMENT]):
            pass
        again = CodedDocument("a", DOCUMENT.text, (), output=coded_with and "Codes:\nnone", coded_with=coded_with)
        with ReviewFolder(folder, [again]) as review:
            assert len(review.documents["a"].codes) == expected


def test_nothing_is_written_outside_the_folder(tmp_path):
    """Guards a link in the folder, which would be written through, and what a kill has left of a replaced file."""
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / ".minscl-abc.tmp").write_text(NOTE)
    with ReviewFolder(tmp_path / "review", [DOCUMENT]):
        assert not (tmp_path / "review" / ".minscl-abc.tmp").exists()
    (tmp_path / "elsewhere.jsonl").write_text("")
    (tmp_path / "review" / "reviewed.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(InputError, match="link"):
        ReviewFolder(tmp_path / "review", [DOCUMENT])


def test_a_folder_is_open_once(tmp_path):
    """Guards two servers that append to one journal; after a refusal the folder is free as before."""
    with ReviewFolder(tmp_path, [DOCUMENT]), pytest.raises(InputError, match="another run"):
        ReviewFolder(tmp_path, [DOCUMENT])
    (tmp_path / "reviewed.jsonl").write_text("{}\n")
    for _ in range(2):
        with pytest.raises(InputError, match="reviewed.jsonl:1"):
            ReviewFolder(tmp_path, [DOCUMENT])


@pytest.mark.parametrize(
    "changes",
    [
        {"act": "accept-all"},
        {"at": "yesterday"},
        {"entry": ""},
        {"who": "x" * 201},
        {"document": "b"},
        {"note": NOTE},
        {"after": {"codes": {"1": ITEM}}},
        {"after": {"codes": {"0": {**ITEM, "decision": "maybe"}}}},
        {"after": {"codes": {"0": {**ITEM, "poa": "1"}}}},
        {"after": {"codes": {"0": {**ITEM, "score": float("nan")}}}},
        {"after": {"codes": {"0": {**ITEM, "evidence": [{**QUOTATION, "text": "pneumonia"}]}}}},
        {"after": {"codes": None}},
        {"after": {"order": [1]}},
        {"after": {"text": NOTE}},
        {"who": "\ud800"},
        {"after": {"codes": {"0": {**ITEM, "description": "\ud800"}}}},
    ],
)
def test_an_entry_is_checked_before_it_is_kept(changes, tmp_path):
    """Guards a journal that the next start cannot read or the page cannot fold; the message shows nothing of it."""
    with ReviewFolder(tmp_path, [DOCUMENT]) as folder:
        with pytest.raises(InputError) as error:
            keep(folder, {**entry(1), **changes})
        assert "pneumonia" not in str(error.value) and folder.entries() == []


def test_every_act_of_the_page_is_an_entry():
    """Guards an act that the page knows and the journal refuses."""
    removed = entry(1, act="code-again", code=None, after={"codes": {"0": None}, "order": [], "finished": False})
    assert Entry.from_dict(removed).to_dict() == removed
    without_code = {key: value for key, value in removed.items() if key != "code"}  # as other software may write it
    assert Entry.from_dict(without_code) == Entry.from_dict({**removed, "code": None})
    missing = {"text": "no such words", "start": None, "end": None, "grounded": False}
    unlocated = entry(2, after={"codes": {"0": {**ITEM, "evidence": [missing], "rules": None, "score": None}}})
    assert Entry.from_dict(unlocated).to_dict() == unlocated
