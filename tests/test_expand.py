"""Silver and synthetic pairs: what an LLM answers is checked against the note, the candidates and the other codes; a stopped job asks nothing twice."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minscl.data import CodeBook, Pair
from minscl.data.coverage import coverage
from minscl.data.gold import gold_pairs
from minscl.data.journal import Journal
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.silver import Chosen, Mined, candidates, choose, lines_of, mine, quotations, silver_pairs
from minscl.data.synthetic import Taken, Written, reworded, spoken, synthesise, template_pairs
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.generate import GenerateConfig, load_coder
from minscl.infer.llm import EndpointLLM, LocalLLM, check_address

BOOK = CodeBook.load()


def document(id, text, *codes):
    return CodedDocument(id, text, tuple(Assignment(code, BOOK.description(code)) for code in codes))


NOTES = [document("a", "Known HTN. Productive cough,\nfever; CXR: pneumonia.", "I10", "J18.9"), document("b", "htn, on lisinopril. Pneumonia of the left base.", "I10", "J18.9"),
         document("c", "Hypertensive today. HTN.", "I10"), document("d", "Feels well.", "Z00.00")]
ANSWERS = {("a", "I10"): '1. "HTN"\n2. high blood pressure', ("a", "J18.9"): "Quotes:\n- Productive cough, fever\n- pneumonia", ("b", "I10"): "htn\nhtn",
           ("b", "J18.9"): "pneumonia OF the left base", ("c", "I10"): "HTN\nHypertensive", ("d", "Z00.00"): "None."}


class Scripted:
    """Answers from a table by what the prompt names; breaks off after `patience` answers."""

    name = "scripted"

    def __init__(self, patience=10**9):
        self.patience, self.asked = patience, []

    def ask(self, prompts):
        for prompt in prompts:
            if self.patience == 0:
                raise InputError("the server went away")
            self.patience -= 1
            self.asked.append(prompt)
            yield self.answer(prompt)

    def answer(self, prompt):
        for (note, code), answer in ANSWERS.items():
            if next(one.text for one in NOTES if one.id == note) in prompt and f"code {code} " in prompt:
                return answer
        return {"I10": "1. HTN (3)\nhigh blood pressure", "J18.9": "pneumonia\nPneumonia of the left base\nProductive cough, fever"}[prompt.split()[2]]


def both_stages(folder, llm, notes=NOTES):
    with Journal(folder / "mined.jsonl", Mined) as journal:
        mined = mine(notes, BOOK, llm, journal)
    found = candidates(mined)
    with Journal(folder / "chosen.jsonl", Chosen) as journal:
        return mined, found, silver_pairs(choose(found, BOOK, llm, journal), found)


def test_two_stages_by_hand(tmp_path):
    """Guards: quotations that stand nowhere, one expression counted twice for case or within a note, answers outside the candidates, lost counts."""
    mined, found, pairs = both_stages(tmp_path, llm := Scripted())
    assert [(one.note, one.code, one.evidence, one.rejected) for one in mined] == [
        ("a", "I10", ("HTN",), 1), ("a", "J18.9", ("Productive cough, fever", "pneumonia"), 0), ("b", "I10", ("htn",), 0),
        ("b", "J18.9", ("Pneumonia of the left base",), 0), ("c", "I10", ("HTN", "Hypertensive"), 0), ("d", "Z00.00", (), 0)]
    assert [(one.text, one.count, one.notes) for one in found["I10"]] == [("HTN", 3, ("a", "b", "c")), ("Hypertensive", 1, ("c",))]
    assert pairs == [Pair("HTN", "I10", "silver", 3, "notes: a, b, c"), Pair("pneumonia", "J18.9", "silver", 1, "notes: a"),
                     Pair("Pneumonia of the left base", "J18.9", "silver", 1, "notes: b"), Pair("Productive cough, fever", "J18.9", "silver", 1, "notes: a")]
    assert read_jsonl(tmp_path / "chosen.jsonl", Chosen)[0].rejected == 1 and len(llm.asked) == 8


@pytest.mark.parametrize("answer, lines", [("none", []), ("None.", []), ("", []), ("Evidence:\n1. HTN\n(2) “DM2”\n• 'x y'\n- A1c 9.4", ["HTN", "DM2", "x y", "A1c 9.4"]),
                                           ("9.4 percent", ["9.4 percent"])])
def test_lines_of_an_answer(answer, lines):
    """Guards: bullets and quotation marks taken for words of the note, numbers of the note taken for bullets."""
    assert lines_of(answer) == lines


def test_quotations_are_the_notes_own_words():
    """Guards: the LLM's case and spaces in place of the note's."""
    assert quotations("Acute  Renal\nFailure", ["acute renal failure", "renal", "kidney", "x" * 300]) == (["Acute Renal Failure", "Renal"], 2)


def test_a_broken_off_job_asks_nothing_twice(tmp_path):
    """Guards: answers lost or asked again after the LLM fails in either stage; a result that depends on where it broke."""
    _, _, whole = both_stages(tmp_path / "whole", Scripted())
    asked = []
    for _ in range(20):
        llm = Scripted(patience=1)
        try:
            _, _, pairs = both_stages(tmp_path / "pieces", llm)
            break
        except InputError:
            pass
        finally:
            asked += llm.asked
    assert pairs == whole and len(asked) == len(set(asked)) == 8
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes() for name in ("mined.jsonl", "chosen.jsonl"))


class Writer:
    name = "writer"

    def ask(self, prompts):
        yield from (self.answers[prompt.split()[2]] for prompt in prompts)


def test_synthetic_answers_are_checked(tmp_path, monkeypatch):
    """Guards: an empty phrase, another code's description or phrase, the same phrase for two codes, an answer asked again."""
    import minscl.data.synthetic as module

    given = [Pair("HTN", "I10", "gold"), Pair("pneumonia", "J18.9", "gold")]
    targets = ["I11.9", "I11.0"]
    monkeypatch.setattr(module, "neighbours", lambda pairs, book: [(code, book.nearest(code, frozenset(one.code for one in given))) for code in targets])
    llm = Writer()
    llm.answers = {"I11.9": "hypertensive heart disease\nEssential (primary) hypertension\nhtn\n" + "long " * 60, "I11.0": "hypertensive heart disease\nHTN with CHF\n"}
    with Journal(tmp_path / "w.jsonl", Written) as journal:
        pairs, rejected = synthesise(given, BOOK, llm, journal)
    assert pairs == [Pair("hypertensive heart disease", "I11.9", "synthetic", origin="nearest: I10"), Pair("HTN with CHF", "I11.0", "synthetic", origin="nearest: I10")]
    assert rejected == {"the description of another code": 1, "a phrase of another code": 2, "too long for a phrase": 1}
    llm.answers = {}
    with Journal(tmp_path / "w.jsonl", Written) as journal:
        assert synthesise(given, BOOK, llm, journal) == (pairs, rejected)
    llm.answers = {code: "" for code in targets}
    with Journal(tmp_path / "empty.jsonl", Written) as journal:
        assert synthesise(given, BOOK, llm, journal) == ([], {"empty": 2})


@pytest.mark.parametrize("phrase, before, after, expected", [
    ("fracture of right hand", "Fracture of right wrist", "Fracture of left wrist", "fracture of left hand"),
    ("thigh frostbite, initial encounter", "Frostbite of thigh, initial encounter", "Frostbite of thigh, sequela", None),  # words go, none replaces them alone
    ("bruise of hand", "Contusion of right hand", "Contusion of left hand", None), ("right right hand", "Right hand", "Left hand", None)])
def test_a_neighbours_phrase_is_reworded_or_left(phrase, before, after, expected):
    """Guards: a phrase that keeps the neighbour's side or encounter."""
    found = reworded(phrase, before, after)
    assert found == expected or (expected is None and found is not None and "initial" not in found and "right" not in found)


def test_templates_cover_every_code():
    """Guards: a code without a pair, a phrase that belongs to two codes or is another code's description."""
    gold = gold_pairs(BOOK)
    pairs = template_pairs(gold, BOOK)
    assert coverage([*gold, *pairs], BOOK).covered == 74_719 and {one.source for one in pairs} == {"synthetic-template"}
    assert len(pairs) == len({one.code for one in pairs}) == len({one.evidence.casefold() for one in pairs}) == 74_719 - len({one.code for one in gold})
    taken = Taken(gold, BOOK)
    assert not [one for one in pairs if taken.fault(one.evidence, one.code)]
    assert all(one.evidence == " ".join(one.evidence.split()) for one in pairs)
    assert spoken("Unspecified fracture of shaft of humerus, unspecified arm (closed)") == "fracture of shaft of humerus, arm"


def test_a_note_is_read_once_for_all_its_codes(tmp_path):
    """Guards: the note computed for each of its codes."""
    model, tokenizer = load_coder(GenerateConfig())
    text = "HISTORY OF PRESENT ILLNESS\n" + "He came with pneumonia and atrial fibrillation. Hypertension. " * 6
    llm = LocalLLM(model, tokenizer, "demo", slots=4)
    with Journal(tmp_path / "m.jsonl", Mined) as journal:
        mine([document("a", text, *("I10", "J18.9", "I48.91", "E11.9", "K21.9", "N18.9"))], BOOK, llm, journal)
    one = len(tokenizer.encode(text))
    assert llm.asked > 6 * one and llm.computed < llm.asked - 5 * one
    assert list(llm.ask(["word " * 5000, "short"]))[0] is None


@pytest.mark.parametrize("url, allowed", [("http://127.0.0.1:1/v1", True), ("http://localhost:1/v1", True), ("http://[::1]:1/v1", True), ("https://api.example.com/v1", False),
                                          ("http://10.0.0.5:8000/v1", False), ("http://localhost.example.com/v1", False), ("http://127.0.0.1@example.com/v1", False)])
def test_notes_go_to_this_machine_alone(url, allowed):
    """Guards: patients' notes sent elsewhere by a wrong or tricky address."""
    if allowed:
        check_address(url, False)
    else:
        with pytest.raises(InputError, match="is another machine"):
            check_address(url, False)
        check_address(url, True)
    for wrong in ("ftp://x", "localhost:8000", ""):
        with pytest.raises(InputError, match="not an address"):
            check_address(wrong, True)


class Faulty(BaseHTTPRequestHandler):
    """Answers as `script` says, a fault after another, then as a chat completion that repeats the question."""

    script: list = []
    asked: list = []

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        Faulty.asked.append(prompt)
        fault = Faulty.script.pop(0) if Faulty.script else None
        if fault == "hang":
            time.sleep(3)
            return
        good = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m",
                           "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": prompt.upper()}}]})
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
    assert list(llm.ask(["a", "b", "c", "d"])) == ["A", "B", "C", "D"] and len(Faulty.asked) == 4 + len(script)


@pytest.mark.parametrize("script, message", [([429] * 9, "answers 429"), ([500] * 9, "answers 500"), ([401], "answers 401"), ([307], "answers 307"), (["hang"] * 3, "APITimeoutError"),
                                             (["garbage"] * 3, "endpoint http"), (["other"] * 3, "no chat completion"), ([400], "is m the name of its model")])
def test_faults_that_stay_end_in_one_line(faulty, script, message):
    """Guards: a traceback, a question in an error message, a redirection followed to another machine."""
    Faulty.script, Faulty.asked = list(script), []
    llm = EndpointLLM(faulty, "m", concurrency=1, timeout=0.5, retries=1)
    with pytest.raises(InputError, match=message) as error:
        list(llm.ask(["Mr Secret has cough"]))
    assert "Secret" not in str(error.value) and "--endpoint" in str(error.value)


def expand(*arguments):
    return subprocess.Popen([sys.executable, "-m", "minscl.expand", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_silver_killed_on_the_way_gives_the_same_file(tmp_path):
    """Guards: the command as a user runs it: a journal that a kill spoils, a result that depends on the kill, another model's journal."""
    notes = [document(str(n), f"Day {n}. Hypertension, pneumonia and anxiety. " * 3, "I10", "J18.9", "F41.9") for n in range(8)]
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
    for name in ("", ".quoted.jsonl", ".chosen.jsonl"):
        assert (tmp_path / f"out.jsonl{name}").read_bytes() == (tmp_path / f"whole.jsonl{name}").read_bytes()
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

    model, _ = load_coder(GenerateConfig())
    save_model(model, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, tmp_path / "model" / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**__import__("os").environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    server = subprocess.Popen([sys.executable, "-m", "transformers.cli.transformers", "serve", str(tmp_path / "model"), "--host", "127.0.0.1", "--port", str(port),
                               "--device", "cpu"], env=environment, stdout=(tmp_path / "log").open("w"), stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        write_jsonl(tmp_path / "labels.jsonl", [document("a", "Hypertension and pneumonia.", "I10", "J18.9"), document("b", "Anxiety.", "F41.9")])
        run = expand("silver", "--notes", tmp_path / "labels.jsonl", "--out", tmp_path / "out.jsonl", "--endpoint", f"http://127.0.0.1:{port}/v1", "--model", tmp_path / "model")
        out, err = run.communicate(timeout=240)
        assert run.returncode == 0, err + (tmp_path / "log").read_text()[-2000:]
        mined = read_jsonl(tmp_path / "out.jsonl.quoted.jsonl", Mined)
        assert [(one.note, one.code, one.answered) for one in mined] == [("a", "I10", True), ("a", "J18.9", True), ("b", "F41.9", True)]
    finally:
        server.kill()
        server.wait()
