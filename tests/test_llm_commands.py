"""`generate` with the systems of several questions: the embedded model, a server, and flags that do not go together."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minscl import chosen_system
from minscl.data.calibration import settings_to_calibrate
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.errors import InputError

NOTE = "Hypertension, poorly controlled."
BOOK = CodeBook.load()


class Lookup:
    """In place of the retriever, which takes seconds to build."""

    def __init__(self, codebook):
        pass

    def codes(self, phrase, limit):
        """See clh.CodeSource."""
        return ["I15.9", "I10"]


class Server(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that answers CLH's questions, one of them outside the list."""

    asked: list = []

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = request["messages"][0]["content"]
        Server.asked.append((prompt, request["temperature"], request["model"], request["max_tokens"]))
        answer = "Yes, it stays."
        if "quote each" in prompt:
            answer = "Evidence:\n1. Hypertension\n2. poorly controlled\n3. diabetes"
        elif "Which ICD-10-CM code" in prompt:
            answer = "Number 2, I10." if '"Hypertension"' in prompt else "Number 3 fits best."
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def note_folder(tmp_path, monkeypatch):
    (tmp_path / "note.txt").write_text(NOTE)
    monkeypatch.setattr(chosen_system, "Retriever", Lookup)
    return tmp_path


def read(run):
    assert run.returncode == 0, run.stderr
    return CodedDocument.from_dict(json.loads(run.stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [pytest.param(("--system", "clh"), marks=pytest.mark.long), ("--system", "mac", "--verify")], ids=" ".join
)
def test_the_embedded_model_runs(note_folder, generate, flags):
    """Guards: a system that starts with no model that we have; a document without its intermediate answers, or made
    with settings that another run would not notice."""
    document = read(generate("note.txt", *flags, "--json", cwd=note_folder))
    assert document.output.startswith("--- step 1: ") and document.edition
    assert all(BOOK.is_billable(item.code) for item in document.codes)
    assert document.coded_with["system"] == flags[1]
    assert document.coded_with.get("verified") == ("True" if "--verify" in flags else None)


def test_a_server_codes_a_note(note_folder, generate):
    """Guards: an endpoint whose answer outside the list becomes a code, sampling, the embedded model loaded or named in
    place of the server's, and scores that no one computed."""
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, Server.asked = f"http://127.0.0.1:{server.server_port}/v1", []
    flags = ("--system", "clh", "--endpoint", url, "--served-model", "big", "--json")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chosen_system, "load_pretrained", lambda *_, **__: pytest.fail("a local model is loaded"))
            document = read(generate("note.txt", *flags, cwd=note_folder))
    finally:
        server.shutdown()
    [hypertension] = document.codes
    assert hypertension.code == "I10" and hypertension.score is None
    assert [(item.text, item.start) for item in hypertension.evidence] == [("Hypertension", 0)]
    assert "> Number 3 fits best.\n= 0" in document.output and "> Yes, it stays.\n= yes" in document.output
    assert {entry[1:] for entry in Server.asked} == {(0.0, "big", 1024)}
    assert document.coded_with["model"] == f"big at {url}"


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--system", "clh", "--evidence", "e.txt"], "--system clh --evidence: it has no such choice"),
        (["--system", "mac", "--free"], "--system mac --free: it has no such choice"),
        (["--system", "clh", "--passage", "100"], "--passage 100: needs SCL's own evidence"),
        (["--system", "clh", "--endpoint", "http://127.0.0.1:1/v1"], "--served-model is missing"),
        (["--system", "clh", "--endpoint", "http://10.0.0.5/v1", "--served-model", "m"], "is another machine"),
        (["--system", "mac", "--endpoint", "http://[::1]/v1", "--served-model", "m", "--model", "x"], "leave it out"),
        (
            ["--system", "mac", "--endpoint", "http://[::1]/v1", "--served-model", "m", "--adapter", "a"],
            "--adapter out",
        ),
        (["--system", "lookup", "--spans", "s.jsonl", "--model", "m"], "no model is used"),
    ],
)
def test_flags_that_exclude_each_other(note_folder, generate, flags, words):
    """Guards: a flag that is silently ignored, a note sent to another machine."""
    (note_folder / "e.txt").write_text("Hypertension\n")
    run = generate("note.txt", *flags, cwd=note_folder)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1 and not run.stdout


def test_verified_codes_calibrate_nothing():
    """Guards: a calibration of SCL fitted on codes that --verify has changed."""
    made = {"system": "scl", "grounded": "True", "model": "m", "adapter": "a", "min_score": "0.0", "verified": "True"}
    with pytest.raises(InputError, match="was verified"):
        settings_to_calibrate([CodedDocument("n", "text", coded_with=made)])


def test_answers_under_a_servers_grammar_calibrate_nothing():
    """Guards: a calibration of plain generation fitted on scores of codes that a server's grammar has left over."""
    made = {"system": "scl", "grounded": "codes", "model": "m", "adapter": "a", "min_score": "0.0"}
    with pytest.raises(InputError, match="under a server's grammar"):
        settings_to_calibrate([CodedDocument("n", "text", coded_with=made)])
