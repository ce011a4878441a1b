"""An LLM on a server: where notes may go, the server's faults; `expand silver` killed and started again."""

import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from minscl.config import DEMO
from minscl.data import Pair
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.answers import StageOneAnswer
from minscl.data.spans.asking import prompt_digest
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.expand import main
from minscl.expand_config import SilverConfig, SyntheticConfig
from minscl.infer import llm as llm_module
from minscl.infer.asker import EndpointAsker
from minscl.infer.endpoint import MAX_ANSWER_CHARACTERS, MAX_REPLY_BYTES, EndpointLLM
from minscl.infer.endpoint_address import check_address
from minscl.infer.llm import LocalLLM
from minscl.infer.systems.questions import CODES, Question, Reply
from minscl.model import save_model
from minscl.model.config import RopeConfig
from minscl.pretrained import load_pretrained

BOOK = CodeBook.load()


def document(id, text, *codes):
    return CodedDocument(id, text, tuple(Assignment(code, BOOK.description(code)) for code in codes))


@pytest.mark.parametrize(
    "url, allowed",
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://localhost:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("https://api.example.com/v1", False),
        ("http://10.0.0.5:8000/v1", False),
        ("http://localhost.example.com/v1", False),
        ("http://127.0.0.1\\.example.com/v1", False),
    ],
)
def test_notes_go_to_this_machine_alone(url, allowed):
    """Guards: patients' notes sent elsewhere by a wrong or tricky address."""
    if allowed:
        check_address(url, False)
    else:
        with pytest.raises(InputError, match="is another machine"):
            check_address(url, False)
        check_address(url, True)


@pytest.mark.parametrize(
    "wrong",
    [
        "ftp://x",
        "localhost:8000",
        "",
        "http://[::1",
        "http://[::1]x/v1",
        "http://127.0.0.1:abc/v1",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1\n/v1",
        "http://127.0.0.1 /v1",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_in_one_line(wrong):
    """Guards: a traceback for a bracket that is not closed or a port that is no number."""
    with pytest.raises(InputError, match="not an address"):
        check_address(wrong, True)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"together": 0}, "--together 0: must be at least 1"),
        ({"together": 10**40}, "--together .huge.: must be"),
        ({"retries": -1}, "--retries -1: must be at least 0"),
        ({"timeout": 0.0}, "--timeout 0.0: must be above 0"),
        ({"timeout": -2.0}, "--timeout -2.0"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"timeout": float("inf")}, "--timeout inf"),
        ({"endpoint": "http://127.0.0.1:1/v1"}, "--model is missing"),
        ({"notes": "o.quoted.jsonl"}, "--out o: its answer log o.quoted.jsonl is an input"),
        ({"notes": "./o.chosen.jsonl"}, "--out o: its answer log o.chosen.jsonl is an input"),
    ],
)
def test_flags_of_the_llm_are_checked(flags, message):
    """Guards: a traceback from the thread pool or the client library; no request sent, and a job that seems to hang."""
    with pytest.raises(InputError, match=message):
        SilverConfig(**{"notes": "n", "out": "o", **flags})


def test_the_log_of_synthetic_is_no_input():
    """Guards: answers appended to a file of pairs."""
    with pytest.raises(InputError, match="its answer log o.written.jsonl is an input"):
        SyntheticConfig(pairs="gold.jsonl, o.written.jsonl", out="o")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:sesame@127.0.0.1:1/v1",
        "http://sesame@127.0.0.1:1/v1",
        "http://user:ses/ame?#@127.0.0.1:1/v1",
        "user:sesame@127.0.0.1",
        "http://127.0.0.1:1/v1?api_key=sesame",
        "http://127.0.0.1:1/v1#sesame",
    ],
)
def test_an_address_holds_no_secret(url):
    """Guards: a password stored with every answer in a log, and printed; a query that the client library garbles."""
    with pytest.raises(InputError, match="MINSCL_API_KEY") as error:
        EndpointLLM(url, "m", allow_remote=True)
    with pytest.raises(InputError, match="MINSCL_API_KEY") as flag_error:
        SilverConfig(notes="n", out="o", endpoint=url, model="m", allow_remote=True)
    for message in map(str, (error.value, flag_error.value)):
        assert "sesame" not in message and "127.0.0.1" not in message and "ame" not in message.replace("name", "")


@pytest.mark.parametrize("key", ["sesame\n", "sés-ame", "ses ame", "ses\tame", "\udcffsesame"])
def test_a_key_that_no_header_can_carry_is_named_and_not_shown(monkeypatch, key):
    """Guards: a message about something else for such a key, or one with the key in it."""
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    monkeypatch.setenv("MINSCL_API_KEY", key)
    with pytest.raises(InputError, match="MINSCL_API_KEY: the key in this variable has") as error:
        EndpointLLM("http://127.0.0.1:1/v1", "m")
    assert "ame" not in str(error.value)


def test_an_address_that_only_the_client_library_refuses():
    """Guards: the library's own exception as a traceback."""
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    for url in ("http://10.0.0.999/v1", f"http://127.0.0.1/{'v' * 70_000}"):
        with pytest.raises(InputError, match="not an address"):
            EndpointLLM(url, "m", allow_remote=True)
    with pytest.raises(InputError, match="UnicodeError; start the server"):
        list(EndpointLLM("http://a..b/v1", "m", allow_remote=True, retries=0).ask(["a"]))
    with pytest.raises(InputError, match="--model: not the name"):
        EndpointLLM("http://127.0.0.1:1/v1", "m\udcff")


def test_a_local_model_is_asked_in_the_context_that_yarn_opens(monkeypatch):
    """Guards: notes left out as too long that YaRN's longer context holds."""
    rope = RopeConfig(rope_type="yarn", factor=4.0, original_max_position_embeddings=300)
    config = dataclasses.replace(load_pretrained(DEMO)[0].config, max_position_embeddings=300, rope=rope)
    model = SimpleNamespace(config=config)
    tokenizer = SimpleNamespace(encode_chat=lambda messages, **_: [1] * len(messages[0]["content"]), stop_ids={0})
    asked = []
    monkeypatch.setattr(
        llm_module,
        "Engine",
        lambda *_, **settings: SimpleNamespace(
            run=lambda requests: asked.extend(len(item.prompt) for item in requests) or [],
            prompt_tokens=0,
            computed_tokens=0,
        ),
    )
    answers = list(LocalLLM(model, tokenizer, "m").ask(["x" * 50, "x" * (1200 - 256), "x" * (1201 - 256)]))
    assert answers == [(2, None)] and asked == [50, 1200 - 256]


class Faulty(BaseHTTPRequestHandler):
    """Behaves badly as `script` says, a fault a request; then answers with the prompt in capitals.

    A fault is a status, a name, the bytes to send, or (status, bytes); None: no fault.
    """

    script: list = []
    prompts: list = []  # received
    keys: list = []  # received
    unread = 0  # replies that the client did not read to the end
    pause = 3  # seconds of a hang

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        Faulty.prompts.append(prompt)
        Faulty.keys.append(self.headers["Authorization"])
        fault = Faulty.script.pop(0) if Faulty.script else None
        if fault == "hang":
            time.sleep(self.pause)
            return
        if fault == "refuse late":
            time.sleep(1)
            fault = 401
        status, body = fault if isinstance(fault, tuple) else (fault, completion(prompt.upper()))
        self.send_response(status if isinstance(status, int) else 200)
        if fault == 307:
            self.send_header("Location", "http://203.0.113.1/v1/chat/completions")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        try:
            self.wfile.write(fault if isinstance(fault, bytes) else body)
        except ConnectionError:
            Faulty.unread += 1

    def log_message(self, *_):
        pass


def completion(content, reason="stop") -> bytes:
    """A chat completion with `content` that ended for `reason`, as JSON."""
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": reason, "message": message}]
    return json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}).encode()


@pytest.fixture(scope="module")
def faulty():
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.mark.parametrize("script", [[429], [500, 503], ["hang"], []])
def test_transient_faults_are_waited_out(faulty, script):
    """Guards: a job of days lost for one busy moment; answers out of order."""
    Faulty.script, Faulty.prompts = list(script), []
    llm = EndpointLLM(faulty, "m", concurrency=3, timeout=1.0, retries=3)
    assert sorted(llm.ask(["a", "b", "c", "d"])) == list(enumerate("ABCD")) and len(Faulty.prompts) == 4 + len(script)


def test_answers_beside_a_failing_prompt_are_kept(faulty):
    """Guards: answers that wait for the first prompt's, and are lost when that one fails."""
    Faulty.script, Faulty.prompts, answers = ["refuse late"], [], []
    with pytest.raises(InputError, match="answers 401"):
        for number, answer in EndpointLLM(faulty, "m", concurrency=3).ask(list("abcdefg")):
            answers.append((number, answer))
    assert len(answers) == 6 and set(answers) < set(enumerate("ABCDEFG"))


@pytest.mark.parametrize(
    "script, message",
    [
        ([429] * 9, "answers 429"),
        ([500] * 9, "answers 500"),
        ([401], "answers 401"),
        ([307], "answers 307"),
        (["hang"] * 3, "APITimeoutError"),
        ([400], "is m the name of its model"),
    ],
)
def test_permanent_faults_end_in_one_line(faulty, script, message):
    """Guards: a traceback, a prompt in an error message, a redirection followed to another machine."""
    Faulty.script, Faulty.prompts = list(script), []
    llm = EndpointLLM(faulty, "m", concurrency=1, timeout=0.5, retries=1)
    with pytest.raises(InputError, match=message) as error:
        list(llm.ask(["Mr Secret has cough"]))
    assert "Secret" not in str(error.value) and "--endpoint" in str(error.value)


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>not json",
        b'{"ok": true}',
        b"",
        b"null",
        b"[" * 200_000,
        b'{"choices": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": ["content"]}]}',
        b'{"choices": [{"message": {}}]}',
        b'{"choices": [{"message": {"content": 1%s}}]}' % (b"0" * 5000),
        completion("Mr Secret").decode().encode("utf-16")[:-1],
        completion("Mr S\xe9cret").replace(b"\\u00e9", b"\xe9"),
        *map(completion, (3, True, 1e30, float("inf"), 10**400, [{"text": "Secret"}], {"text": "Secret"})),
        completion("Secret " * 10_000_000),  # 70 MB
    ],
    ids=lambda reply: repr(reply[:60]),
)
def test_a_reply_that_is_no_answer_ends_in_one_line(faulty, reply):
    """Guards: a traceback from the client library or the answer log for a reply of another form; all of the memory
    taken by an endless one; the reply's text in the message, Python's names of types, and a promise that what
    generate prints was kept."""
    Faulty.script, Faulty.prompts, Faulty.unread, answers = [None, reply], [], 0, []
    with pytest.raises(InputError, match="--endpoint http.* no chat completion") as error:
        for _, answer in EndpointLLM(faulty, "m", concurrency=1, retries=0).ask(["Mr Secret", "b", "c"]):
            answers.append(answer)
    assert answers == ["MR SECRET"] and len(Faulty.prompts) == 2
    assert "Secret" not in str(error.value) and len(str(error.value)) < 250
    assert not any(name in str(error.value) for name in (" int", " dict", " bool", "so far are kept"))
    endless, deadline = len(reply) > 2**26, time.monotonic() + 10
    while endless and not Faulty.unread and time.monotonic() < deadline:
        time.sleep(0.01)  # until the server notices
    assert Faulty.unread == endless


def test_an_unusual_answer_is_an_answer(faulty):
    """Guards: a crash of the answer log for half an emoji, a null content, or a text without end."""
    contents = ["caf\xe9 \ud83d", None, "x" * (MAX_REPLY_BYTES - 1000)]
    Faulty.script = list(map(completion, contents))
    assert list(EndpointLLM(faulty, "m", concurrency=1).ask(list("abc"))) == [
        (0, "caf\xe9 \ufffd"),
        (1, ""),
        (2, "x" * MAX_ANSWER_CHARACTERS),
    ]


def test_an_answer_that_a_limit_ends_is_known(faulty):
    """Guards: a coder's list that a server cut off taken for a whole one, or cut off here where it has the tokens."""
    Faulty.script = [completion("Evidence:", "length"), completion("x" * 9000), completion("x" * 20_000)]
    llm = EndpointLLM(faulty, "m", concurrency=1, max_tokens=1024)
    assert [len(answer) for _, answer in llm.ask(list("abc"))] == [9, 9000, 16_000] and llm.truncated == {0, 2}
    assert list(llm.ask(["d"])) == [(0, "D")] and llm.truncated == set()
    Faulty.script = [completion("Evidence:", "length")]
    [reply] = EndpointAsker(llm).ask([Question("coder", "note", "Code.", CODES, note="note")])
    assert reply == Reply("Evidence:", truncated=True)


def test_a_long_error_page_is_not_read(faulty):
    """Guards: all of the memory taken by the body of an error; a prompt that is too long taken for a failure."""
    Faulty.unread = 0
    Faulty.script = [(500, b"x" * 100_000_000), (400, b'{"error": {"message": "maximum context length is 4096"}}')]
    assert list(EndpointLLM(faulty, "m", concurrency=1, retries=1).ask(["Mr Secret"])) == [(0, None)]
    assert Faulty.unread == 1


def test_an_empty_key_is_no_key(faulty, monkeypatch):
    """Guards: a traceback for MINSCL_API_KEY="", as shells unset a variable for one command; a key not sent."""
    Faulty.script, Faulty.keys = [], []
    for key in ("", "sesame"):
        monkeypatch.setenv("MINSCL_API_KEY", key)
        assert list(EndpointLLM(faulty, "m").ask(["a"])) == [(0, "A")]
    assert Faulty.keys == ["Bearer none", "Bearer sesame"]


def expand(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "minscl.expand", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_results(out, other):
    """Two runs' pairs are the same bytes, and their answer logs the same lines in any order."""
    assert out.read_bytes() == other.read_bytes()
    for suffix in (".quoted.jsonl", ".chosen.jsonl"):
        logs = [path.with_name(path.name + suffix).read_bytes() for path in (out, other)]
        assert sorted(logs[0].splitlines()) == sorted(logs[1].splitlines())


@pytest.mark.slow
def test_nothing_answered_is_asked_again_after_a_kill(faulty, tmp_path, monkeypatch):
    """Guards: answers that come while an earlier request hangs, lost by a kill and asked for again."""
    monkeypatch.setattr(Faulty, "pause", 60)
    write_jsonl(
        tmp_path / "labels.jsonl", [document(str(n), f"Day {n}. HTN and pneumonia.", "I10", "J18.9") for n in range(6)]
    )
    labels, endpoint = str(tmp_path / "labels.jsonl"), ["--endpoint", faulty, "--model", "m", "--together", "3"]
    arguments = ["silver", "--notes", labels, *endpoint, "--out"]
    Faulty.script, Faulty.prompts, path = ["hang"], [], tmp_path / "out.jsonl.quoted.jsonl"
    run = expand(*arguments, tmp_path / "out.jsonl")
    while run.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 8):
        time.sleep(0.02)
    run.kill()
    run.communicate()
    with AnswerLog(path, StageOneAnswer) as log:
        answered = {answer.prompt for answer in log.records}
    assert run.returncode == -signal.SIGKILL and 8 <= len(answered) < 12
    Faulty.prompts = []
    assert main([*arguments, str(tmp_path / "out.jsonl")]) == 0
    digests = [prompt_digest(prompt) for prompt in Faulty.prompts if prompt.startswith("Clinical note")]
    assert len(digests) == len(set(digests)) == 12 - len(answered) and not answered & set(digests)
    main([*arguments, str(tmp_path / "whole.jsonl")])
    assert_same_results(tmp_path / "whole.jsonl", tmp_path / "out.jsonl")
    assert len(read_jsonl(tmp_path / "out.jsonl", Pair)) == 12


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_silent_server_does_not_hold_the_run(faulty, tmp_path, monkeypatch, number, status):
    """Guards: Ctrl-C that waits for requests to a server that does not answer, at their end or at the interpreter's;
    answers that had arrived, lost."""
    monkeypatch.setattr(Faulty, "pause", 60)
    Faulty.script, labels = [None] * 5 + ["hang"] * 7, tmp_path / "labels.jsonl"
    log = tmp_path / "out.jsonl.quoted.jsonl"
    write_jsonl(labels, [document(str(n), f"Day {n}. HTN and pneumonia.", "I10", "J18.9") for n in range(6)])
    run = expand("silver", "--notes", labels, "--out", tmp_path / "out.jsonl", "--endpoint", faulty, "--model", "m")
    while run.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    run.send_signal(number)
    _, error = run.communicate(timeout=10)
    assert run.returncode == status and log.read_bytes().count(b"\n") == 5 and "Traceback" not in error
    assert error.endswith("\nminscl: interrupted\n") == (number == signal.SIGINT)


@pytest.mark.long
def test_silver_killed_on_the_way_gives_the_same_file(tmp_path):
    """Guards: an answer log that a kill spoils, a result that depends on the kill, another model's log used."""
    labels, out, whole = (tmp_path / name for name in ("labels.jsonl", "out.jsonl", "whole.jsonl"))
    text = "Hypertension, pneumonia and anxiety."
    write_jsonl(labels, [document(str(n), f"Day {n}. {text}", "I10", "J18.9", "F41.9") for n in range(3)])
    rng, arguments = random.Random(2), ["silver", "--notes", str(labels), "--together", "4", "--out"]
    assert main([*arguments, str(whole)]) == 0
    log = tmp_path / "out.jsonl.quoted.jsonl"
    run = expand(*arguments, out)
    while run.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    time.sleep(rng.random() / 10)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    last = expand(*arguments, out)
    printed, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    assert_same_results(whole, out)
    counts = {" ".join(line.split()[:-1]): line.split()[-1] for line in printed.splitlines() if line}
    assert counts["codes asked about"] == "9" and "rejected: not in the note" in counts
    other = expand(*arguments, out, "--endpoint", "http://127.0.0.1:9/v1", "--model", "m")
    _, error = other.communicate(timeout=60)
    assert other.returncode == 2 and error.count("\n") == 1 and "has answers of" in error


@pytest.mark.slow
@pytest.mark.long
def test_a_real_server(tmp_path):
    """Guards: an endpoint that works with our own server alone. `transformers serve` on loopback."""
    for package in ("transformers", "openai", "fastapi", "uvicorn"):
        pytest.importorskip(package, reason="the teacher and endpoint extras are not installed")
    folder, log = tmp_path / "model", tmp_path / "log"
    model, _ = load_pretrained(DEMO)
    save_model(model, folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    )
    labels, out = tmp_path / "labels.jsonl", tmp_path / "out.jsonl"
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.1)
        notes = [document("a", "Hypertension and pneumonia.", "I10", "J18.9"), document("b", "Anxiety.", "F41.9")]
        write_jsonl(labels, notes)
        endpoint = ["--endpoint", f"http://127.0.0.1:{port}/v1", "--model", str(folder)]
        try:
            assert main(["silver", "--notes", str(labels), "--out", str(out), *endpoint]) == 0
        except InputError as error:  # the embedded base quotes nothing when asked like this
            assert "no quotation was located" in str(error), f"{error}\n{log.read_text()[-2000:]}"
        answers = read_jsonl(tmp_path / "out.jsonl.quoted.jsonl", StageOneAnswer)
        assert sorted((answer.note, answer.code, answer.answered) for answer in answers) == [
            ("a", "I10", True),
            ("a", "J18.9", True),
            ("b", "F41.9", True),
        ]
    finally:
        server.kill()
        server.wait()
