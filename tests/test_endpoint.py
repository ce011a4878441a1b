"""An LLM behind an address: where notes may go, faults of the server; the commands that ask, killed on the way."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minscl.data import Pair
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.silver import StageOneAnswer, digest
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.expand import main
from minscl.expand_llm import SilverConfig
from minscl.infer.llm import EndpointLLM, check_address
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
        ("http://127.0.0.1@example.com/v1", False),
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
    ],
)
def test_an_address_that_cannot_be_read_is_refused_in_one_line(wrong):
    """Guards: a traceback for a bracket that is not closed or a port that is no number."""
    with pytest.raises(InputError, match="not an address"):
        check_address(wrong, True)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"together": 0}, "--together 0: must be at least 1"),
        ({"retries": -1}, "--retries -1: must be at least 0"),
        ({"timeout": 0.0}, "--timeout 0.0: must be above 0"),
        ({"timeout": -2.0}, "--timeout -2.0"),
        ({"timeout": float("nan")}, "--timeout nan"),
    ],
)
def test_flags_of_asking_are_checked(given, message):
    """Guards: a traceback from the thread pool or the client library; nobody asked, and a job that seems to hang."""
    with pytest.raises(InputError, match=message):
        SilverConfig(notes="n", out="o", **given)


class Faulty(BaseHTTPRequestHandler):
    """Answers as `script` says, a fault after another, then as a chat completion that repeats the question."""

    script: list = []
    asked: list = []
    pause = 3  # seconds of a hang

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        Faulty.asked.append(prompt)
        fault = Faulty.script.pop(0) if Faulty.script else None
        if fault == "hang":
            time.sleep(self.pause)
            return
        if fault == "refuse late":
            time.sleep(1)
            fault = 401
        good = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": prompt.upper()}}
                ],
            }
        )
        self.send_response(fault if isinstance(fault, int) else 200)
        if fault == 307:
            self.send_header("Location", "http://203.0.113.1/v1/chat/completions")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write({"garbage": b"<html>not json", "other": b'{"ok": true}'}.get(fault, good.encode()))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def faulty():
    pytest.importorskip("openai", reason="the endpoint extra is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.mark.parametrize("script", [[429], [500, 503], ["hang"], []])
def test_faults_that_pass_are_waited_out(faulty, script):
    """Guards: a job of days lost for one busy moment; answers out of order."""
    Faulty.script, Faulty.asked = list(script), []
    llm = EndpointLLM(faulty, "m", concurrency=3, timeout=1.0, retries=3)
    assert sorted(llm.ask(["a", "b", "c", "d"])) == list(enumerate("ABCD")) and len(Faulty.asked) == 4 + len(script)


def test_what_is_answered_beside_a_failing_question_is_kept(faulty):
    """Guards: answers that wait for the first question's, and are lost when that one fails."""
    Faulty.script, Faulty.asked, kept = ["refuse late"], [], []
    with pytest.raises(InputError, match="answers 401"):
        for number, answer in EndpointLLM(faulty, "m", concurrency=3).ask(list("abcdefg")):
            kept.append((number, answer))
    assert len(kept) == 6 and set(kept) < set(enumerate("ABCDEFG"))


@pytest.mark.parametrize(
    "script, message",
    [
        ([429] * 9, "answers 429"),
        ([500] * 9, "answers 500"),
        ([401], "answers 401"),
        ([307], "answers 307"),
        (["hang"] * 3, "APITimeoutError"),
        (["garbage"] * 3, "endpoint http"),
        (["other"] * 3, "no chat completion"),
        ([400], "is m the name of its model"),
    ],
)
def test_faults_that_stay_end_in_one_line(faulty, script, message):
    """Guards: a traceback, a question in an error message, a redirection followed to another machine."""
    Faulty.script, Faulty.asked = list(script), []
    llm = EndpointLLM(faulty, "m", concurrency=1, timeout=0.5, retries=1)
    with pytest.raises(InputError, match=message) as error:
        list(llm.ask(["Mr Secret has cough"]))
    assert "Secret" not in str(error.value) and "--endpoint" in str(error.value)


def expand(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "minscl.expand", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def same(folder, one, other):
    """Whether two runs' pairs are the same bytes, and their journals the same lines in any order."""
    assert (folder / one).read_bytes() == (folder / other).read_bytes()
    for name in (".quoted.jsonl", ".chosen.jsonl"):
        assert sorted((folder / f"{one}{name}").read_bytes().splitlines()) == sorted(
            (folder / f"{other}{name}").read_bytes().splitlines()
        )


def test_nothing_answered_is_asked_again_after_a_kill(faulty, tmp_path, monkeypatch):
    """Guards: answers that come while an earlier question hangs, lost by a kill and asked again; counted at the server."""
    monkeypatch.setattr(Faulty, "pause", 60)
    write_jsonl(
        tmp_path / "labels.jsonl", [document(str(n), f"Day {n}. HTN and pneumonia.", "I10", "J18.9") for n in range(6)]
    )
    arguments = [
        "silver",
        "--notes",
        str(tmp_path / "labels.jsonl"),
        "--endpoint",
        faulty,
        "--model",
        "m",
        "--together",
        "3",
        "--out",
    ]
    Faulty.script, Faulty.asked, path = ["hang"], [], tmp_path / "out.jsonl.quoted.jsonl"
    run = expand(*arguments, tmp_path / "out.jsonl")
    while run.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 8):
        time.sleep(0.02)
    run.kill()
    run.communicate()
    with AnswerLog(path, StageOneAnswer) as journal:
        answered = {one.prompt for one in journal.records}
    assert run.returncode == -signal.SIGKILL and 8 <= len(answered) < 12
    Faulty.asked = []
    assert main([*arguments, str(tmp_path / "out.jsonl")]) == 0
    asked = [digest(prompt) for prompt in Faulty.asked if prompt.startswith("Clinical note")]
    assert len(asked) == len(set(asked)) == 12 - len(answered) and not answered & set(asked)
    main([*arguments, str(tmp_path / "whole.jsonl")])
    same(tmp_path, "whole.jsonl", "out.jsonl")
    assert len(read_jsonl(tmp_path / "out.jsonl", Pair)) == 12


def test_silver_killed_on_the_way_gives_the_same_file(tmp_path):
    """Guards: the command as a user runs it: a journal that a kill spoils, a result that depends on the kill, another model's journal."""
    notes = [
        document(str(n), f"Day {n}. Hypertension, pneumonia and anxiety. " * 3, "I10", "J18.9", "F41.9")
        for n in range(8)
    ]
    write_jsonl(tmp_path / "labels.jsonl", notes)
    rng, arguments = random.Random(2), ("silver", "--notes", tmp_path / "labels.jsonl", "--out")
    whole = expand(*arguments, tmp_path / "whole.jsonl")
    assert whole.wait(timeout=300) == 0, whole.stderr.read()
    journal = tmp_path / "out.jsonl.quoted.jsonl"
    for _ in range(2):
        before = journal.read_bytes().count(b"\n") if journal.exists() else 0
        run = expand(*arguments, tmp_path / "out.jsonl")
        while run.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < before + 3):
            time.sleep(0.01)
        time.sleep(rng.random() / 10)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    last = expand(*arguments, tmp_path / "out.jsonl")
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    same(tmp_path, "whole.jsonl", "out.jsonl")
    counts = {" ".join(line.split()[:-1]): line.split()[-1] for line in out.splitlines() if line}
    assert counts["codes asked about"] == "24" and "rejected: not in the note" in counts
    other = expand(*arguments, tmp_path / "out.jsonl", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m")
    assert other.wait(timeout=60) == 2 and "holds answers of" in other.stderr.read()


def test_a_real_server(tmp_path):
    """Guards: an endpoint that works with our own server alone. `transformers serve` on loopback, a folder that save_model wrote."""
    for package in ("transformers", "openai", "fastapi", "uvicorn"):
        pytest.importorskip(package, reason="the teacher and endpoint extras are not installed")
    import shutil
    import socket

    from minscl.config import DEMO
    from minscl.model import save_model

    model, _ = load_pretrained(DEMO)
    save_model(model, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, tmp_path / "model" / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**__import__("os").environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "transformers.cli.transformers",
            "serve",
            str(tmp_path / "model"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--device",
            "cpu",
        ],
        env=environment,
        stdout=(tmp_path / "log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        write_jsonl(
            tmp_path / "labels.jsonl",
            [document("a", "Hypertension and pneumonia.", "I10", "J18.9"), document("b", "Anxiety.", "F41.9")],
        )
        run = expand(
            "silver",
            "--notes",
            tmp_path / "labels.jsonl",
            "--out",
            tmp_path / "out.jsonl",
            "--endpoint",
            f"http://127.0.0.1:{port}/v1",
            "--model",
            tmp_path / "model",
        )
        out, err = run.communicate(timeout=240)
        assert run.returncode == 0, err + (tmp_path / "log").read_text()[-2000:]
        mined = read_jsonl(tmp_path / "out.jsonl.quoted.jsonl", StageOneAnswer)
        assert sorted((one.note, one.code, one.answered) for one in mined) == [
            ("a", "I10", True),
            ("a", "J18.9", True),
            ("b", "F41.9", True),
        ]
    finally:
        server.kill()
        server.wait()
