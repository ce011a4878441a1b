"""The review's server as its page and as strangers see it: a real process, asked over HTTP."""

import json
import stat
import threading
import webbrowser
from html import unescape
from types import SimpleNamespace

import pytest

from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.page import guard
from minscl.page.coding import Coding
from minscl.review import main, start_page
from tests.conftest import call_command
from tests.review_process import CODED, NOTE, QUOTATION, ReviewProcess, entry, write_notes

pytest.importorskip("uvicorn", reason="the review extra is not installed")
pytestmark = pytest.mark.slow  # a process starts in a second, several of them do


@pytest.fixture(scope="module")
def server(packed_code_set, tmp_path_factory):
    """A server of the documents a, b and c, without a model."""
    folder = tmp_path_factory.mktemp("server")
    notes = write_notes(folder / "coded.jsonl", "a", "b", "c")
    with ReviewProcess(folder / "review", notes, "--model", "none", "--reviewer", "Ann Coder") as process:
        yield process


def refusals(server):
    """(what is wrong, expected status, method, path, body, headers)."""
    big = json.dumps({"document": "a", "tab": "1", "entries": [], "pad": "x" * 5_000_000})
    note_in_it = {"document": "a", "tab": "1", "entries": [entry(1, act="She denies chest pain")]}
    shifted = {**QUOTATION, "start": QUOTATION["start"] + 1, "end": QUOTATION["end"] + 1}
    moved = entry(900, after={"codes": {"0": {**entry(0)["after"]["codes"]["0"], "evidence": [shifted]}}})
    yield "another host's name", 403, "GET", f"/?token={server.token}", None, {"Host": f"evil.example:{server.port}"}
    yield "another port", 403, "GET", f"/?token={server.token}", None, {"Host": "127.0.0.1:1"}
    yield "another website", 403, "POST", "/api/log", {}, {"Origin": "https://evil.example"}
    yield "a sandboxed page", 403, "POST", "/api/log", {}, {"Origin": "null"}
    yield "localhost for 127.0.0.1", 403, "POST", "/api/log", {}, {"Origin": f"http://localhost:{server.port}"}
    yield "a preflight", 403, "OPTIONS", "/api/log", None, {"Origin": "https://evil.example"}
    yield "no token", 403, "GET", "/", None, {}
    yield "a wrong token", 403, "GET", "/?token=%C3%A4%ED%A0%80", None, {}
    yield "no token header", 403, "GET", "/api/entries?document=a", None, {"X-Minscl-Token": None}
    yield "a wrong token header", 403, "GET", "/api/entries?document=a", None, {"X-Minscl-Token": "x"}
    yield "a large body", 413, "POST", "/api/log", big, {}
    yield "a large body in pieces", 413, "POST", "/api/log", iter([big[:10].encode(), big[10:].encode()]), {}
    yield "no JSON", 400, "POST", "/api/log", "pneumonia", {}
    yield "deep JSON", 400, "POST", "/api/log", "[" * 100_000, {}
    yield "not UTF-8", 400, "POST", "/api/log", b"\xff\xfe", {}
    yield "no object", 400, "POST", "/api/log", [NOTE], {}
    yield "a missing key", 400, "POST", "/api/log", {"document": "a"}, {}
    yield "an entry that is none", 400, "POST", "/api/log", note_in_it, {}
    yield "shifted evidence", 400, "POST", "/api/log", {"document": "a", "tab": "1", "entries": [moved]}, {}
    yield "an unknown document", 404, "POST", "/api/open", {"document": "../a", "tab": "1"}, {}
    yield "no document", 404, "GET", "/api/entries?document=", None, {}
    yield "no model", 404, "POST", "/api/code", {"document": "a", "evidence": None}, {}
    yield "an unknown path", 404, "GET", "/review/decisions.jsonl", None, {}
    yield "another method", 405, "GET", "/api/log", None, {}


def test_what_is_no_request_of_the_page_is_refused_in_one_line_without_note_text(server):
    """Guards another website, another name that leads here, a guessed address and input that no page sends: each is one
    plain line, opens no file, and shows nothing of the note."""
    for wrong, expected, method, path, body, headers in refusals(server):
        status, answered, text = server.send(method, path, body, headers)
        assert status == expected, (wrong, text)
        assert answered["Content-Type"].startswith("text/plain") and text.strip(), wrong
        assert len(text.strip().splitlines()) == 1 and "pneumonia" not in text and "chest" not in text, (wrong, text)
        assert not [name for name in answered if name.lower().startswith("access-control")], wrong
    assert server.entries() == []


def test_the_page_s_policy_is_also_a_header_and_nothing_is_kept(server):
    """Guards a page that another site could frame, a browser that caches notes, and a token sent on as a referrer."""
    status, headers, html = server.send("GET", f"/?token={server.token}", headers={"Origin": None})
    assert status == 200
    policy = unescape(html.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0])
    assert headers["Content-Security-Policy"] == f"{policy}; frame-ancestors 'none'"
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    data = json.loads(html.split('id="page-data">')[1].split("</script>")[0])
    assert data["server"] == {"token": server.token, "reviewer": "Ann Coder", "canCode": False, "unwritten": []}
    assert [document["id"] for document in data["documents"]] == ["a", "b", "c"]


def test_a_second_tab_on_a_note_is_told(server):
    """Guards two tabs that write over each other's decisions: one has the note, the other may take it over."""
    assert server.post("open", document="b", tab="1") == (200, {"owner": True, "last": None})
    status, answer = server.post("open", document="b", tab="2")
    assert (status, answer["owner"]) == (200, False) and answer["since"]
    status, line = server.post("log", document="b", tab="2", entries=[entry(1, "b")])
    assert status == 409 and "another tab" in line and server.entries("b") == []
    assert server.post("open", document="b", tab="2", take=True) == (200, {"owner": True, "last": None})
    assert server.post("log", document="b", tab="1", entries=[entry(2, "b")])[0] == 409
    assert server.post("log", document="b", tab="2", entries=[entry(1, "b")]) == (200, {"kept": 1})
    server.post("open", document="c", tab="3")
    assert not server.post("open", document="c", tab="2")[1]["owner"]  # it has left b, though only to read another
    server.post("open", document="c", tab="3", close=True)
    assert server.post("open", document="b", tab="1") == (200, {"owner": True, "last": "e-1"})
    assert server.post("open", document="b", tab="1", close=True)[1]["owner"]
    assert server.post("open", document="b", tab="3")[1]["owner"]


def test_a_tab_that_has_not_seen_the_last_decision_is_refused(server):
    """Guards a tab that was left open on an older state: it would write over decisions and un-finish the note on the
    disk. What was sent once and is sent again, for want of an answer, is no such tab's."""
    reviewed = {"id": "a", "text": NOTE, "codes": [CODED]}

    def log(tab, after, *numbers, finished=None):
        entries = [entry(number) for number in numbers]
        return server.post("log", document="a", tab=tab, after=after, entries=entries, reviewed=finished)

    server.post("open", document="a", tab="1")
    assert log("1", None, 20, 21, finished=reviewed) == (200, {"kept": 2})
    server.post("open", document="a", tab="1", close=True)
    assert server.post("open", document="a", tab="2") == (200, {"owner": True, "last": "e-21"})
    for after in (None, "e-20", "e-0"):
        status, line = log("2", after, 22)
        assert status == 409 and "since" in line, after
    assert server.entries() == ["e-20", "e-21"]
    assert '"a"' in (server.folder / "reviewed.jsonl").read_text()
    assert log("2", None, 20, 21, finished=reviewed) == (200, {"kept": 2})
    assert log("2", None, 20, 21, 22, finished=reviewed) == (200, {"kept": 3})
    assert log("2", "e-22", 23) == (200, {"kept": 1})
    assert server.entries() == ["e-20", "e-21", "e-22", "e-23"]
    assert (server.folder / "reviewed.jsonl").read_text() == ""
    server.post("open", document="a", tab="2", close=True)


def test_decisions_are_in_the_folder_when_they_are_answered(server):
    """Guards a file that is written later, an entry that is written twice, and the accepted codes in a form that
    `evaluate` does not read."""
    reviewed = {"id": "c", "text": NOTE, "codes": [CODED]}
    for _ in range(2):
        answer = server.post("log", document="c", tab="2", entries=[entry(10, "c"), entry(11, "c")], reviewed=reviewed)
        assert answer == (200, {"kept": 2})
    folder = server.folder
    lines = [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["document"] == "c"] == [entry(10, "c"), entry(11, "c")]
    [document] = read_jsonl(folder / "reviewed.jsonl", CodedDocument)
    assert document.to_dict() == reviewed
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert server.post("log", document="c", tab="2", entries=[], reviewed={**reviewed, "text": "x"})[0] == 400
    reopened = server.post("log", document="c", tab="2", after="e-11", entries=[], reviewed=None)
    assert reopened == (200, {"kept": 0})
    assert (folder / "reviewed.jsonl").read_text() == ""


def test_rules_are_checked_again_in_the_order_sent(server):
    """Guards a rule shown at another code, and denied evidence that looks like a finding after an edit."""
    denied = NOTE.index("chest pain")
    codes = [
        {"code": "R07.9", "evidence": [{"text": "chest pain", "start": denied, "end": denied + 10}]},
        {"code": "E11.9", "evidence": []},
        {"code": "E10.9", "evidence": []},
    ]
    status, answer = server.post("check", document="a", codes=codes)
    assert status == 200 and [item["code"] for item in answer["codes"]] == ["R07.9", "E11.9", "E10.9"]
    assert answer["codes"][0]["evidence"][0]["assertion"] == "denied"
    assert any(rule.startswith("Excludes1") for rule in answer["codes"][1]["rules"])
    assert any("R07.9 rests on denied evidence" in warning for warning in answer["warnings"])


def test_a_flood_of_requests_is_refused_for_a_moment(monkeypatch):
    """Guards a page that loops: a hundred requests a second, then 429. What comes without the token is refused each
    time and not counted: another website must not be able to shut the page out."""
    now = 1000.0
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: now))
    app = guard.Guard(None, token="secret", port=80)

    def refusal(path="/api/check", token="secret", query=b""):
        headers = [(b"host", b"127.0.0.1:80"), (b"x-minscl-token", token.encode())]
        try:
            app.check({"type": "http", "path": path, "query_string": query, "headers": headers})
        except guard.Refused as error:
            return error.status
        return None

    assert {refusal(token="x") for _ in range(300)} == {refusal("/", query=b"token=x") for _ in range(300)} == {403}
    assert [refusal("/", "", b"token=secret"), *(refusal() for _ in range(100))] == [None] * 100 + [429]
    now += 1
    assert refusal() is None


def test_a_folder_and_a_port_have_one_server(server):
    """Guards two servers that append to one journal."""
    other = call_command(main, "--out", server.folder, "--model", "none", "--no-browser")
    assert (other.returncode, other.stdout) == (2, "") and "another run" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    notes = server.folder.parent / "coded.jsonl"
    other = call_command(main, "--out", server.folder.parent / "new", notes, "--port", server.port)
    assert other.returncode == 2 and "--port" in other.stderr and len(other.stderr.splitlines()) == 1
    assert not (server.folder.parent / "new").exists()


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--port", "80"], "--port 80"),
        (["--out", "nowhere"], "nowhere"),
        (["missing.txt"], "missing.txt"),
        (["empty.jsonl"], "empty.jsonl"),
        (["note.txt", "--model", "absent"], "--model absent"),
        (["note.txt", "--adapter", "absent"], "--adapter absent"),
        (["note.txt", "note.txt"], "note.txt"),
        (["note.txt", "--out", "note.txt"], "--out"),
        (["note.txt", "--date", "tomorrow"], "tomorrow"),
        (["note.txt", "--reviewer", "x" * 201], "--reviewer: a name of 201 characters"),
        (["long.txt"], "2 MB"),
    ],
)
def test_bad_usage_is_one_line(arguments, named, tmp_path):
    """Guards a traceback, or a folder that is made although nothing can be reviewed."""
    (tmp_path / "note.txt").write_text(NOTE)
    (tmp_path / "long.txt").write_text("x" * 2_000_001)
    (tmp_path / "empty.jsonl").write_text("\n")
    run = call_command(main, "--no-browser", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and named in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
    assert not (tmp_path / "review").exists() and not (tmp_path / "nowhere").exists()


def test_the_browser_is_led_by_a_private_file(tmp_path, monkeypatch):
    """Guards the token in the list of processes, which every user of the machine can read."""
    opened, done = [], threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda address: (opened.append(address), done.set()))
    path = tmp_path / "start.html"
    with start_page(path, "http://127.0.0.1:1234/?token=secret", opens=True):
        assert done.wait(10) and opened == [path.as_uri()]
        assert "token=secret" in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


class Emitted:
    """Collects the records of a run's stream."""

    def __init__(self):
        self.records, self.ended = [], threading.Event()

    def __call__(self, record):
        if record is None:
            self.ended.set()
        else:
            self.records.append(record)

    def wait(self):
        assert self.ended.wait(60)
        return self.records


def test_one_note_is_coded_at_a_time_and_a_reader_that_leaves_ends_it():
    """Guards two runs in one model, a run that goes on for nobody, and a worker that dies of one bad note."""
    asked, waiting = threading.Event(), threading.Event()
    loads = []

    def load():
        loads.append(1)

        def code(note, evidence, on_answer):
            if note.id == "too long":
                raise InputError("too long: the note makes a prompt\nof 9 tokens")
            if note.id == "bug":
                raise KeyError(note.text)
            on_answer(0, "Evi\ufffd")
            on_answer(0, "Evidence")
            on_answer(1, "next")
            asked.set()
            waiting.wait(60)
            on_answer(1, "next one")
            return CodedDocument(note.id, note.text)

        return code

    coding = Coding(load)
    first = Emitted()
    assert not loads
    run = coding.start(Note("a", NOTE), None, first)
    assert asked.wait(60) and coding.start(Note("b", NOTE), None, Emitted()) is None
    waiting.set()
    text = [{"text": "Evi"}, {"text": "dence"}, {"text": "\nnext"}, {"text": " one"}]
    answer = {"codes": [], "about": "", "noCodes": "", "ownWarnings": []}
    assert first.wait() == [*text, {"document": {"id": "a", "text": NOTE, "codes": []}, "answer": answer}]
    for id, line in (("too long", "too long: the note makes a prompt of 9 tokens"), ("bug", "the program failed")):
        emitted = Emitted()
        assert coding.start(Note(id, NOTE), None, emitted)
        [record] = emitted.wait()
        assert record["error"].startswith(line) and "pneumonia" not in record["error"]
    asked.clear(), waiting.clear()
    left = Emitted()
    run = coding.start(Note("a", NOTE), None, left)
    assert asked.wait(60)
    run.abandoned.set()
    waiting.set()
    assert left.wait()[-1] == {"error": "stopped"} and len(loads) == 1


def test_a_failure_of_the_program_shows_no_note_text(capfd):
    """Guards patients' text in a terminal's log: an exception's message may quote it."""
    emitted = Emitted()

    def load():
        raise RuntimeError(NOTE)

    Coding(load).start(Note("a", NOTE), None, emitted)
    assert "RuntimeError" in emitted.wait()[0]["error"]
    stderr = capfd.readouterr().err
    assert "test_review_server.py" in stderr and "pneumonia" not in stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_answer_streams_and_is_what_generate_writes(tmp_path, generate):
    """Guards a second way of coding: the same settings, the same codes, and the streamed text is the answer. From human
    evidence only the codes are the model's."""
    (tmp_path / "note.txt").write_text("He was admitted with pneumonia and atrial fibrillation.\n")
    run = generate("note.txt", "--json", "--batch-size", 1, cwd=tmp_path)
    expected = CodedDocument.from_dict(json.loads(run.stdout))
    with ReviewProcess(tmp_path / "review", "note.txt") as server:
        status, headers, text = server.send("POST", "/api/code", {"document": "note.txt", "evidence": None})
        assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
        *streamed, last = map(json.loads, text.splitlines())
        document = CodedDocument.from_dict(last["document"])
        assert document == expected and len(streamed) > 2
        assert "".join(record["text"] for record in streamed) == document.output
        *_, last = server.send("POST", "/api/code", {"document": "note.txt", "evidence": ["pneumonia"]})[2].splitlines()
        document = CodedDocument.from_dict(json.loads(last)["document"])
        assert document.continued and {item.text for code in document.codes for item in code.evidence} <= {"pneumonia"}
        for evidence in ([" "], ["x"] * 1001, [1]):
            assert server.post("code", document="note.txt", evidence=evidence)[0] == 400
