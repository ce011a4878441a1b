"""`generate --endpoint`: notes coded by a model on a server, with the local one's prompts, parser, scores and files."""

import functools
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from minscl.config import DEMO
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer.completions import read_completion
from minscl.infer.endpoint import EndpointLLM
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import note_prompt
from minscl.infer.served import ServedModel
from minscl.infer.server_grammar import code_rules, server_grammar
from minscl.infer.systems import SCL
from minscl.model import load_tokenizer
from tests.completion_server import GRAMMAR_FIELD, completion_server, written

pytest.importorskip("openai", reason="the endpoint extra is not installed")
BOOK = CodeBook.load()
TEXTS = ["Hypertension, poorly controlled. GERD.\n", "Anemia. Cough.\n", "Asthma and obesity, anxiety, café.\n"]
ANSWER = "Evidence:\n1. Hypertension\nCodes:\n[1] I10 Essential (primary) hypertension"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The embedded model's folder without weights: a client does not need them."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.jsonl"
    write_notes(path, TEXTS)
    return path


def write_notes(path, texts) -> None:
    path.write_text("".join(json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts)))


def flags(server, folder, *more) -> list:
    return ["--endpoint", server.address, "--served-model", "m", "--model", folder, *more]


def documents(run) -> list[CodedDocument]:
    assert run.returncode == 0, run.stderr
    return [CodedDocument.from_dict(json.loads(line)) for line in run.stdout.splitlines()]


def decode(model, tokenizer):
    """The embedded model as a server runs it: one prompt at a time."""
    lock = threading.Lock()

    def answer(ids, max_tokens):
        with lock:
            engine = Engine(model, slots=1, length=len(ids) + max_tokens, stop_ids=tokenizer.stop_ids)
            [(_, generation)] = engine.run([Request(ids, max_tokens)])
            return generation

    return answer


@pytest.mark.long
@pytest.mark.slow
def test_a_server_codes_as_the_local_decoder_does(embedded, folder, notes, generate, caplog):
    """Guards: other prompts, another parser, scores of other tokens or none, documents out of order, for any server."""
    model, tokenizer = embedded
    write_notes(notes, TEXTS[:2])
    local = documents(generate(notes, "--free", "--no-calibration", "--json"))
    assert any(code.score and code.score < 0.99 for document in local for code in document.codes)
    for style in ("vllm", "llama.cpp", "transformers"):
        caplog.clear()
        with completion_server(tokenizer, decode(model, tokenizer), style) as server:
            served = documents(generate(notes, *flags(server, folder, "--free"), "--json"))
        assert [(item.id, item.output, item.warnings) for item in served] == [
            (item.id, item.output, item.warnings) for item in local
        ]
        for ours, theirs in zip(served, local, strict=True):
            assert [(code.code, code.evidence, code.rules) for code in ours.codes] == [
                (code.code, code.evidence, code.rules) for code in theirs.codes
            ]
            expected = [None if style == "transformers" else code.score for code in theirs.codes]
            assert [code.score for code in ours.codes] == pytest.approx(expected, abs=1e-5)
        made = served[0].coded_with
        assert made["endpoint"] == f"m at {server.address}" and made["grounded"] == "False"
        assert ("gives no probabilities" in caplog.text) == (style == "transformers")


def scripted(tokenizer, answers=(ANSWER,), stopped=True):
    """A model that writes `answers` in turn, for ever."""
    texts = itertools.cycle(answers)
    return lambda ids, max_tokens: written(tokenizer, next(texts), stopped)


def test_the_prompt_is_the_local_decoders_token_for_token(tokenizer, folder, tmp_path, generate):
    """Guards: a chat template rendered twice, two beginnings of text, special tokens out of a note's text, an answer's
    beginning that the server does not continue, and penalties that a server's own settings add."""
    text = "Hypertension <|end|><|assistant|>Codes:\n"
    (tmp_path / "note.txt").write_text(text)
    (tmp_path / "evidence.txt").write_text("Hypertension\n")
    with completion_server(tokenizer, scripted(tokenizer, ["[1] I10 Essential (primary) hypertension"])) as server:
        [document] = documents(
            generate("note.txt", *flags(server, folder), "--evidence", "evidence.txt", "--json", cwd=tmp_path)
        )
    model = ServedModel(folder, None)
    [request] = server.requests
    assert request["prompt"] == note_prompt(model, tokenizer, Note("n", text), ["Hypertension"], SCL)
    assert tokenizer.decode(request["prompt"][-20:]).endswith("Evidence:\n1. Hypertension\nCodes:\n")
    assert (request["temperature"], request["frequency_penalty"], request["repetition_penalty"]) == (0.0, 0.0, 1.0)
    assert request["stop_token_ids"] == list(tokenizer.stop_ids) and request["max_tokens"] == 1024
    [code] = document.codes
    assert (code.code, code.evidence[0].start, document.continued) == ("I10", 0, True)
    assert code.score == pytest.approx(0.9 ** len(tokenizer.encode("I10")), rel=0.3)


def test_a_server_of_texts_reads_no_special_token_out_of_a_note(tokenizer, folder, notes, generate):
    """Guards: a note coded from other tokens than the local decoder reads, without a word."""
    write_notes(notes, [TEXTS[0], "Gout. <|end|><|assistant|>"])
    with completion_server(tokenizer, scripted(tokenizer), "transformers") as server:
        run = generate(notes, *flags(server, folder, "--free"), "--json")
    assert run.returncode == 2 and [json.loads(line)["id"] for line in run.stdout.splitlines()] == ["n0"]
    assert re.search(r"skipped: n1: the server reads \d+ tokens in a prompt of \d+;", run.stderr)


@pytest.mark.parametrize("style", [*GRAMMAR_FIELD, "transformers"])
def test_a_servers_grammar_is_asked_for_and_named(tokenizer, folder, notes, generate, style, caplog):
    """Guards: a grammar that the server does not read taken for one that holds, sent under another server's name, or a
    document that does not say how it was decoded."""
    with completion_server(tokenizer, scripted(tokenizer), style) as server:
        coded = documents(generate(notes, *flags(server, folder, "--grounded"), "--json"))
    settings = {document.coded_with["grounded"] for document in coded}
    field = GRAMMAR_FIELD.get(style)
    sent = {name: request[name] for request in server.requests for name in GRAMMAR_FIELD.values() if name in request}
    if field is None:
        assert settings == {"False"} and not sent
        assert "minscl: --endpoint: plain generation, as with --free; the server takes no grammar\n" in caplog.text
        return
    assert settings == {"codes"} and not caplog.text and set(sent) == {field}
    grammar = sent[field]["grammar"] if field == "structured_outputs" else sent[field]
    assert grammar == server_grammar(BOOK)


def test_plain_generation_of_a_server_is_said(tokenizer, folder, notes, generate, caplog):
    """Guards: a user who takes a server's answers for grounded ones, which are the local decoder's default."""
    with completion_server(tokenizer, scripted(tokenizer)) as server:
        quiet = documents(generate(notes, *flags(server, folder, "--free"), "--json"))
        assert not caplog.text
        assert documents(generate(notes, *flags(server, folder), "--json")) == quiet
    assert "plain generation, as with --free; --grounded would ask for the server's grammar\n" in caplog.text


def test_what_a_server_invents_is_marked(tokenizer, folder, notes, generate):
    """Guards: a quotation that the note does not have, a code that does not exist or a cut-off answer, without a
    warning."""
    invented = "Evidence:\n1. Hypertension\n2. myocardial infarction\nCodes:\n[1] I10 x\n[2] I21.9 y\n[1] Z99.999 z"
    write_notes(notes, TEXTS[:1])
    with completion_server(tokenizer, scripted(tokenizer, [invented], stopped=False)) as server:
        [document] = documents(generate(notes, *flags(server, folder, "--free"), "--json"))
    assert document.truncated == 1
    found = {item.code: item for item in document.codes}
    assert found["I10"].description == "Essential (primary) hypertension" and found["I10"].evidence[0].grounded
    assert [(item.start, item.grounded) for item in found["I21.9"].evidence] == [(None, False)]
    assert any("not found in note: myocardial infarction" in warning for warning in document.warnings)
    assert found["Z99.999"].rules[0].startswith("Invalid: Z99.999: no such code")


def test_scores_are_calibrated_and_filtered_as_local_ones(tokenizer, folder, notes, tmp_path, generate):
    """Guards: a threshold of the folder that a server's codes do not meet, or one of another decoding."""
    own = shutil.copytree(folder, tmp_path / "own")
    entry = {"points": [[0.0, 0.0], [1.0, 0.5]], "min_score": 0.6, "fitted_on": "dev", "documents": 9, "codes": 9}
    (own / "calibration.json").write_text(json.dumps({"format": 1, "free": entry}))
    with completion_server(tokenizer, scripted(tokenizer)) as server:
        arguments = [notes, *flags(server, own), "--json"]
        plain, grammar = documents(generate(*arguments)), documents(generate(*arguments, "--grounded"))
        raw = documents(generate(*arguments, "--min-score", "0.999", "--no-calibration"))
    assert not plain[0].codes and "left out, score below 0.6: I10" in str(plain[0].warnings)
    assert plain[0].coded_with["calibration"].startswith("dev ") and grammar[0].coded_with["calibration"] == "none"
    assert grammar[0].codes and not raw[0].codes and raw[0].coded_with["min_score"] == "0.999"


def test_transient_faults_are_waited_out_and_order_is_kept(tokenizer, folder, notes, generate, tmp_path):
    """Guards: a job lost for one busy moment, documents in the order in which a server finishes them."""
    write_notes(notes, [f"{number} days. {TEXTS[number % 3]}" for number in range(12)])
    with completion_server(tokenizer, scripted(tokenizer), script=[429, 500, 503]) as server:
        delays = iter([0.4, *[0.0] * 99])
        server.answer = lambda ids, limit: time.sleep(next(delays)) or written(tokenizer, ANSWER)
        run = generate(notes, *flags(server, folder, "--free", "--batch-size", 6), "--out", tmp_path / "coded.jsonl")
    assert run.returncode == 0, run.stderr
    coded = read_jsonl(tmp_path / "coded.jsonl", CodedDocument)
    assert [document.id for document in coded] == [f"n{number}" for number in range(12)]
    assert len(server.requests) == 15


def test_a_server_that_dies_loses_no_answer(tokenizer, folder, notes, generate, tmp_path, monkeypatch):
    """Guards: a traceback, answers beside the failing one lost, notes asked again that are coded, a note's text in the
    message."""
    monkeypatch.setattr("minscl.chosen_system.EndpointLLM", functools.partial(EndpointLLM, retries=0))
    write_notes(notes, [f"Mr Secret, {number} days. {TEXTS[0]}" for number in range(8)])
    out = tmp_path / "coded.jsonl"
    with completion_server(tokenizer, scripted(tokenizer), script=[None, None, None, 500]) as server:
        arguments = [notes, *flags(server, folder, "--free", "--batch-size", 2), "--out", out]
        whole = server.answer
        server.answer = lambda ids, limit: time.sleep(0.0 if server.script else 0.5) or whole(ids, limit)
        run = generate(*arguments)
        server.answer = whole
        first = [document.id for document in read_jsonl(out, CodedDocument)]
        # how many there are depends on the two threads; that no answer is lost and that requests end does not
        assert run.returncode == 2 and 3 <= len(first) == len(server.requests) - 1 < 7, run.stderr
        assert "answers 500 for model m" in run.stderr and "Secret" not in run.stderr
        server.requests.clear()
        assert generate(*arguments).returncode == 0
    assert len(server.requests) == 8 - len(first)
    assert sorted(document.id for document in read_jsonl(out, CodedDocument)) == [f"n{number}" for number in range(8)]
    with completion_server(tokenizer, scripted(tokenizer)) as server:
        pass
    run = generate(notes, *flags(server, folder, "--free"), "--json")  # nobody listens
    assert run.returncode == 2 and "start the server, or give another address" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "fault, message",
    [
        (b"<html>", "the reply of 6 bytes is no completion"),
        (b'{"choices": [{"message": {"content": "Secret"}}]}', "is no completion"),
        (b'{"choices": [{"text": ["Secret"]}]}', "is no completion"),
        ((400, b'{"message": "no"}'), r"refused a prompt \(400\)"),
        ((404, b"{}"), "answers 404 for model m"),
    ],
    ids=str,
)
def test_a_reply_that_is_no_answer_ends_in_one_line(tokenizer, folder, notes, generate, fault, message):
    """Guards: a traceback, the reply's text in the message, an empty answer taken for a note without codes."""
    with completion_server(tokenizer, scripted(tokenizer), script=[fault]) as server:
        run = generate(notes, *flags(server, folder, "--free"), "--json")
    last = run.stderr.splitlines()[-1]
    assert run.returncode == 2 and re.search(message, last) and "Secret" not in run.stderr and "Traceback" not in last


def test_a_note_that_the_servers_context_cannot_hold_is_skipped(tokenizer, folder, notes, generate):
    """Guards: a run that one long note ends."""
    too_long = (400, b'{"message": "maximum context length is 512 tokens"}')
    with completion_server(tokenizer, scripted(tokenizer), script=[too_long]) as server:
        run = generate(notes, *flags(server, folder, "--free", "--batch-size", 1), "--json")
    assert run.returncode == 2 and run.stdout.count("\n") == 2
    assert re.search(
        r"skipped: n0: a prompt of \d+ tokens and an answer of 1,024 are more than the server's", run.stderr
    )


def test_a_model_of_another_folder_is_noticed(tokenizer, folder, notes, generate):
    """Guards: prompts and answers in tokens of another model, whose codes are nonsense."""
    with completion_server(tokenizer, scripted(tokenizer)) as server:
        server.tokenizer = Reversed(tokenizer)
        run = generate(notes, *flags(server, folder, "--free"), "--json")
    assert run.returncode == 2 and "the tokens of m are not those of --model" in run.stderr
    with completion_server(tokenizer, scripted(tokenizer), "transformers") as server:
        server.tokenizer = Reversed(tokenizer)
        run = generate(notes, *flags(server, folder, "--free"), "--json")
    assert run.returncode == 2 and "takes no prompt with the tokens of --model" in run.stderr


class Reversed:
    """A tokenizer whose texts are written backwards, and begin with two letters more."""

    def __init__(self, tokenizer):
        self.tokenizer, self.stop_ids = tokenizer, tokenizer.stop_ids

    def encode(self, text):
        return self.tokenizer.encode("zq " + text)

    def decode(self, ids, skip_special=True):
        return self.tokenizer.decode(ids, skip_special)[::-1]

    def pieces(self):
        return self.tokenizer.pieces()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--endpoint", "http://127.0.0.1:1/v1", "--served-model", "m"], "--model is missing; give the folder"),
        (["--endpoint", "http://127.0.0.1:1/v1", "--model", "x"], "--served-model is missing"),
        (["--served-model", "m"], "--served-model m: only with --endpoint"),
        (["--endpoint", "http://10.0.0.5/v1", "--served-model", "m", "--model", "x"], "10.0.0.5 is another machine"),
        (["--endpoint", "http://127.0.0.1:1/v1", "--served-model", "m", "--system", "cot-sc"], "needs a local model"),
        (
            ["--endpoint", "http://127.0.0.1:1/v1", "--served-model", "m", "--model", "x", "--adapter", "a"],
            "leave --adapter out",
        ),
        (
            ["--endpoint", "http://127.0.0.1:1/v1", "--served-model", "m", "--model", "x", "--free", "--grounded"],
            "--free --grounded: exclude each other",
        ),
    ],
)
def test_flags_of_a_server_are_checked(notes, generate, arguments, words):
    """Guards: notes sent to another machine, prompts made with the embedded model's tokenizer, a flag ignored."""
    run = generate(notes, *arguments)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1


def test_a_servers_tokens_are_read_or_left_out():
    """Guards: scores from a list of another length, from NaN, or a crash for a server that gives less."""
    choice = {"text": "ab", "finish_reason": "stop"}
    for more, ids, probabilities in [
        ({"token_ids": [1, 2], "logprobs": {"token_logprobs": [0.0, -0.6931471805599453]}}, (1, 2), (1.0, 0.5)),
        ({"logprobs": {"content": [{"id": 7, "logprob": 1e-9}]}}, (7,), (1.0,)),
        ({"token_ids": [1, 2], "logprobs": {"token_logprobs": [0.0]}}, (1, 2), None),
        ({"token_ids": [1], "logprobs": {"token_logprobs": [float("nan")]}}, (1,), None),
        ({"token_ids": [1], "logprobs": {"token_logprobs": [None]}}, (1,), None),
        ({"token_ids": ["x"]}, None, None),
        ({"logprobs": None}, None, None),
    ]:
        completion = read_completion(json.dumps({"choices": [choice | more]}).encode(), 100)
        assert (completion.ids, completion.probabilities) == (ids, probabilities)
        assert completion.stopped and completion.prompt_tokens is None
    cut = json.dumps({"choices": [{"text": "abc \ud83d", "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}})
    assert read_completion(cut.encode(), 5).text == "abc \ufffd" and not read_completion(cut.encode(), 2).stopped
    assert read_completion(cut.encode(), 5).prompt_tokens == 3
    enormous = choice | {"token_ids": [1], "logprobs": {"token_logprobs": [-(10**400)]}}
    with pytest.raises(InputError, match="is no completion"):
        read_completion(json.dumps({"choices": [enormous]}).encode(), 100)


def test_the_grammars_codes_are_the_billable_ones():
    """Guards: a code that a server could not write, or one that is not billable; a code that begins another."""

    def derived(rules) -> set[str]:
        right = {rule.split(" ::= ")[0]: rule.split(" ::= ")[1] for rule in rules}

        @functools.cache
        def strings(name) -> frozenset[str]:
            found = set()
            for option in right[name].split(" | "):
                letters, _, rest = option.partition(" ")
                endings = strings(rest.rstrip("?")) | ({""} if rest.endswith("?") else set()) if rest else {""}
                found |= {letter + ending for letter in letters.strip("[]") for ending in endings}
            return frozenset(found)

        return set(strings("n0"))

    assert derived(code_rules(BOOK.billable)) == set(BOOK.billable)
    assert derived(code_rules(["A1", "A12", "B1", "B12", "C"])) == {"A1", "A12", "B1", "B12", "C"}
    assert len(server_grammar(BOOK)) < 200_000  # sent with every request
    assert server_grammar(BOOK, has_evidence=True).startswith("root ::= codes\n")
    assert server_grammar(BOOK, leading_space=True).startswith('root ::= " "? "Evidence:\\n" (')


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_run_resumes(tokenizer, folder, notes, tmp_path, generate):
    """Guards: notes asked again or never after kill -9, a file that differs from an uninterrupted run's."""
    write_notes(notes, [f"{number} days. {TEXTS[number % 3]}" for number in range(10)])
    out, whole = tmp_path / "coded.jsonl", tmp_path / "whole.jsonl"
    with completion_server(tokenizer, scripted(tokenizer), script=[None] * 4 + ["hang"]) as server:
        server.pause = 60
        arguments = [notes, *flags(server, folder, "--free", "--batch-size", 2), "--out"]
        command = [sys.executable, "-m", "minscl.generate", *map(str, arguments), str(out)]
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while run.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < 3):
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        written_before = out.read_bytes().count(b"\n")
        server.requests.clear()
        assert generate(*arguments, out).returncode == 0
        assert len(server.requests) == 10 - written_before
        assert generate(*arguments, whole).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.long
def test_transformers_serve(embedded, notes, tmp_path, generate):
    """Guards: a client that works with our own servers alone. `transformers serve` on loopback."""
    for package in ("transformers", "fastapi", "uvicorn"):
        pytest.importorskip(package, reason="the teacher and endpoint extras are not installed")
    from benchmarks.silver import start_server

    process, address = start_server(tmp_path)
    try:
        model = tmp_path / "model"
        arguments = ["--endpoint", address, "--served-model", model, "--model", model]
        served = documents(generate(notes, *arguments, "--json", "--grounded"))
    finally:
        process.kill()
        process.wait()
    local = documents(generate(notes, "--adapter", "none", "--free", "--no-calibration", "--json"))
    assert [item.output for item in served] == [item.output for item in local]
    assert all(code.score is None for item in served for code in item.codes)
