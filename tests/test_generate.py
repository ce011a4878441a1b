"""`minscl.generate` as a user runs it: real files, exit status, one line per error. Most tests call it in this
process."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from minscl import chosen_system
from minscl.chosen_system import ChosenSystem
from minscl.cli import parse_flags
from minscl.config import DEMO
from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.notes import read_evidence
from minscl.data.resuming import already_coded, evidence_setting
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError, printable
from minscl.generate import main
from minscl.generate_config import GenerateConfig
from minscl.infer.answer import score_below
from minscl.live_answer import LiveAnswer
from minscl.lora import add_lora, save_adapter
from minscl.model import Decoder, ModelConfig, load_model
from minscl.pretrained import load_pretrained

ROOT = Path(__file__).parent.parent
NOTE, OTHER = ROOT / "examples" / "note.txt", ROOT / "examples" / "urinary_coronary.txt"
PLAIN = ("--free", "--no-calibration")
SHORT = "Obstructive hydrocephalus: continued donepezil.\nHe was admitted with pneumonia and atrial fibrillation.\n"


def run_python(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A file with a short note."""
    path = tmp_path_factory.mktemp("notes") / "short.txt"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="module")
def coded(short, generate):
    """The example and the short note, as `--json` prints them: plain generation, every code, with its raw score."""
    run = generate(NOTE, short, *PLAIN, "--json")
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_json_is_a_coded_document_whose_offsets_slice(coded, short):
    """Guards offsets that drift from the file's text, and keys that the contract does not have."""
    documents = [CodedDocument.from_dict(record) for record in coded]
    assert [document.text for document in documents] == [NOTE.read_bytes().decode(), SHORT]
    assert [document.id for document in documents] == [str(NOTE), str(short)]
    assert all(document.output and document.codes for document in documents)
    book = CodeBook.load()
    for document in documents:
        for code in document.codes:
            assert 0 <= code.score <= 1 and (book.description(code.code) in (code.description, None))
            for evidence in code.evidence:
                if evidence.grounded:
                    assert document.text[evidence.start : evidence.end] == evidence.text
                else:
                    assert evidence.start is None and evidence.end is None


def test_table_shows_line_and_column(coded, short, generate):
    """Guards the default output: every code with its description, each quotation with its place in the note."""
    run = generate(short, *PLAIN)
    assert run.returncode == 0
    for code in coded[1]["codes"]:
        assert code["code"] in run.stdout and code["description"] in run.stdout
        for evidence in code["evidence"]:
            if evidence["grounded"]:
                line = coded[1]["text"].count("\n", 0, evidence["start"]) + 1
                assert f"{line}:" in run.stdout
            else:
                assert "not found in note" in run.stdout


@pytest.mark.slow
def test_codes_below_min_score_are_left_out_and_named(coded, short, generate):
    """Guards a threshold that drops more, or fewer, codes than those below it, or drops them silently."""
    min_score = max(code["score"] for document in coded for code in document["codes"])  # leaves the best code alone
    run = generate(NOTE, short, *PLAIN, "--json", "--min-score", min_score)
    for document, before in zip(map(json.loads, run.stdout.splitlines()), coded, strict=True):
        dropped = [
            f"{code['code']} ({score_below(code['score'], min_score)})"
            for code in before["codes"]
            if code["score"] < min_score
        ]
        remaining = [(code["code"], code["score"]) for code in before["codes"] if code["score"] >= min_score]
        assert dropped and [(code["code"], code["score"]) for code in document["codes"]] == remaining
        assert document["output"] == before["output"]
        left_out = [warning for warning in document["warnings"] if warning.startswith("left out")]
        [(threshold, codes)] = [warning.split(": ") for warning in left_out]
        assert threshold == f"left out, score below {min_score:g}" and sorted(codes.split(", ")) == sorted(dropped)


@pytest.mark.slow
def test_many_notes_keep_their_order_and_equal_one_at_a_time(coded, tmp_path, generate):
    """Guards the batch: padding must not change a note's codes, nor the order of the results."""
    notes = [("tiny", "Assessment:\n1. Hypertension\n2. GERD\n"), ("long", coded[0]["text"]), ("short", SHORT)]
    write_jsonl(tmp_path / "notes.jsonl", [Note(*note) for note in notes])
    run = generate(tmp_path / "notes.jsonl", *PLAIN, "--json", "--batch-size", 2)
    assert run.returncode == 0, run.stderr
    documents = [json.loads(line) for line in run.stdout.splitlines()]
    assert [document["id"] for document in documents] == ["tiny", "long", "short"]
    assert [document["output"] for document in documents[1:]] == [document["output"] for document in coded]


def test_human_evidence_replaces_the_models(tmp_path, generate, coded):
    """Guards "+ Evid.": the codes refer to the given lines and to no other, and the document says that its output
    continues them."""
    (tmp_path / "note.txt").write_text("Seen today. Long-standing hypertension, and type 2 diabetes.\n")
    (tmp_path / "evidence.txt").write_text("hypertension\n")
    run = generate(tmp_path / "note.txt", "--evidence", tmp_path / "evidence.txt", "--json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    quoted = {evidence["text"] for code in document["codes"] for evidence in code["evidence"]}
    assert quoted <= {"hypertension"}
    assert "Evidence" not in document["output"]
    assert document["continued"] is True and not any("continued" in record for record in coded)


def test_html_is_one_page_with_the_note_as_data(tmp_path, generate):
    """Guards a page that needs the network, and a note's own markup in it; test_page.py has the page itself."""
    text = "<script>alert(1)</script> Patient with hypertension & GERD.\n"
    (tmp_path / "note.txt").write_text(text)
    run = generate(tmp_path / "note.txt", "--html", tmp_path / "page.html")
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page and "\\u003cscript>alert(1)" in page
    [data] = re.findall('<script type="application/json" id="page-data">(.*?)</script>', page)
    [document] = json.loads(data)["documents"]
    assert CodedDocument.from_dict(document).text == text and document["coded_with"]
    assert json.loads(data)["about"].startswith("ICD-10-CM edition 2027 (dates of service 2026-10-01 to 2027-09-30): ")


def write_bad_files(folder):
    (folder / "empty.txt").write_text(" \n")
    (folder / "binary.txt").write_bytes(b"\x7fELF\0\0")
    (folder / "latin.txt").write_bytes("Müde".encode("latin-1"))
    (folder / "long.txt").write_text("chronic pain " * 6000)
    (folder / "keys.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b", "note": "x"}\n')


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.txt"], ["missing.txt"]),
        (["empty.txt"], ["empty.txt", "empty"]),
        (["binary.txt"], ["binary.txt", "zero byte"]),
        (["latin.txt"], ["latin.txt", "UTF-8"]),
        (["long.txt"], ["long.txt", "tokens", "4,096"]),
        (["keys.jsonl"], ["keys.jsonl:2", "note"]),
        ([NOTE, "--model", "nowhere"], ["nowhere"]),
        ([NOTE, "--adapter", "nowhere"], ["nowhere"]),
        ([NOTE, "--evidence", "nowhere.txt"], ["nowhere.txt"]),
        ([NOTE, "--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        ([NOTE, "--memory", "-1"], ["--memory -1"]),
        ([NOTE, "--min-score", "1.5"], ["--min-score 1.5", "at most 1"]),
        ([NOTE, "--free", "--grounded"], ["--free --grounded", "leave out --grounded"]),
        ([NOTE, "--device", "potato"], ["--device potato", "use cpu"]),
        ([NOTE, "--device", "meta"], ["--device meta: not available", "leave the flag out"]),
        ([NOTE, "--compile", "maybe"], ["--compile", "maybe", "auto, on, off"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, words, tmp_path, generate):
    """Guards tracebacks: the line names the file, the value and the remedy."""
    write_bad_files(tmp_path)
    run = generate(*arguments, cwd=tmp_path)
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert all(str(word) in run.stderr for word in words), run.stderr


@pytest.mark.slow
def test_the_module_exits_as_main_does(tmp_path):
    """Guards the command itself, since the other tests call its main: no traceback, nothing on stdout, status 2."""
    run = run_python("-m", "minscl.generate", "missing.txt", cwd=tmp_path)
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert "missing.txt" in run.stderr


def test_adapter_of_another_model_is_refused(tmp_path, generate):
    """Guards an adapter of another width that is half applied."""
    other = Decoder(
        ModelConfig.from_dict(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 64,
                "vocab_size": 300,
                "intermediate_size": 96,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
                "rms_norm_eps": 1e-5,
            }
        )
    )
    torch.nn.init.zeros_(other.lm_head.weight)
    add_lora(other)
    save_adapter(other, tmp_path / "adapter")
    run = generate(NOTE, "--adapter", tmp_path / "adapter")
    assert run.returncode == 2 and len(run.stderr.strip().splitlines()) == 1 and "adapter" in run.stderr


def test_adapter_none_is_the_model_alone():
    """Guards a zero-shot baseline that gets the model folder's own adapter."""
    plain = load_model(DEMO, device="cpu", dtype="float32").state_dict()
    without, merged = (
        load_pretrained(str(DEMO), adapter, device="cpu", dtype="float32")[0].state_dict() for adapter in ("none", "")
    )
    assert all(torch.equal(plain[name], without[name]) for name in plain)
    assert not all(torch.equal(plain[name], merged[name]) for name in plain)


def test_human_evidence_is_in_document_order_and_of_this_note(tmp_path):
    """Guards: quotations without offsets that cannot be sorted or stay beside their codes; evidence of procedures;
    another text."""
    text = "HTN and DM2, intubated."
    not_found = tuple(Evidence(quotation, None, None, grounded=False) for quotation in ("zoster", "asthma"))
    codes = (
        Assignment("E11.9", "", (Evidence("DM2", 8, 11), *not_found)),
        Assignment("I10", "", (Evidence("HTN", 0, 3), Evidence("DM2", 8, 11))),
        Assignment("0BH17EZ", "", (Evidence("intubated", 13, 22),)),
    )
    write_jsonl(tmp_path / "gold.jsonl", [CodedDocument("1", text, codes)])
    assert read_evidence(str(tmp_path / "gold.jsonl"), [Note("1", text)]) == {"1": ["HTN", "DM2", "asthma", "zoster"]}
    with pytest.raises(InputError, match="not the note's"):
        read_evidence(str(tmp_path / "gold.jsonl"), [Note("1", text + " ")])
    with pytest.raises(InputError, match="no record with id 2"):
        read_evidence(str(tmp_path / "gold.jsonl"), [Note("2", text)])


def test_a_document_of_another_text_is_not_resumed():
    """Guards: an earlier answer that is taken for a note whose text has changed since."""
    notes = [Note("a", "HTN"), Note("b", "DM2")]
    done = CodedDocument("a", "HTN")
    assert already_coded([done, CodedDocument("c", "of another run")], notes, "out.jsonl", {}).keys() == {"a", "c"}
    with pytest.raises(InputError, match="out.jsonl: b was coded from another text"):
        already_coded([done, CodedDocument("b", "DM1")], notes, "out.jsonl", {})


def test_a_document_coded_with_other_settings_is_not_resumed():
    """Guards a file with answers of two systems, adapters, thresholds or evidence, whose scores are of neither."""
    notes, settings = [Note("a", "HTN")], {"system": "scl", "adapter": "x 1", "min_score": "0.0"}

    def coded(id="a", evidence=None, **changes):
        made = settings | changes | evidence_setting(evidence, id)
        return [CodedDocument(id, "HTN", coded_with={name: value for name, value in made.items() if value})]

    def resume(documents, evidence=None):
        return already_coded(documents, notes, "out.jsonl", settings, evidence).keys()

    human = {"a": ["HTN"], "b": ["HTN"]}
    assert resume(coded()) == resume(coded(evidence=human), human) == {"a"}
    assert resume(coded("b", evidence=human)) == {"b"}  # not among the notes: its evidence may be any
    for changes in ({"system": "sft"}, {"adapter": "x 2"}, {"min_score": "0.5"}, {"adapter": ""}, {"grounded": "True"}):
        for id in "ab":
            with pytest.raises(InputError, match=f"out.jsonl: {id} was coded with {next(iter(changes))}"):
                resume(coded(id, **changes))
    for before, now in ((None, human), (human, None), ({"a": ["DM2"]}, human)):
        with pytest.raises(InputError, match="was coded with evidence"):
            resume(coded(evidence=before), now)


def test_what_is_no_log_of_coded_documents_is_untouched(tmp_path, generate, short):
    """Guards a note, or a list without a final newline, that loses its last line to --out before it is looked at."""
    document = json.dumps(CodedDocument("x", "HTN").to_dict())
    for content in (
        "Pt with HTN.",
        "id,code\n1,I10\n2,E11.9",
        document + "\nPt with HTN.",
        document + "\n{}",
        '{"id": "1", "text": "a note"}',
        '{\n "a": 1\n}',
        document + "\n" + document,  # one id twice
        "[]",
        "{",
    ):
        path = tmp_path / "other.txt"
        path.write_text(content)
        done = generate(short, "--out", path)
        assert (done.returncode, path.read_text()) == (2, content), content
        assert done.stderr.count("\n") == 1 and "HTN" not in done.stderr, done.stderr


def test_no_output_goes_over_an_input(tmp_path, generate, short):
    """Guards `generate note.txt --out note.txt`, which lost the note with exit status 0, and --html x --out x."""
    note, evidence = tmp_path / "note.txt", tmp_path / "evidence.txt"
    note.write_text(short.read_text())
    evidence.write_text("hypertension\n")
    before = note.read_text()
    for words in (["--out", note], ["--html", note], ["--evidence", evidence, "--html", evidence]):
        done = generate(note, *words)
        assert done.returncode == 2 and "would be written over" in done.stderr
    done = generate(note, "--out", tmp_path / "x", "--html", tmp_path / "x")
    assert done.returncode == 2 and not (tmp_path / "x").exists()
    assert note.read_text() == before and evidence.read_text() == "hypertension\n"


def test_outputs_are_private_and_say_what_coded_them(tmp_path, generate, short):
    """Guards notes that all users of a machine can read, and a file of codes whose origin nobody knows."""
    done = generate(short, "--out", tmp_path / "x.jsonl", "--html", tmp_path / "x.html")
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in ("x.jsonl", "x.html"))
    made = json.loads((tmp_path / "x.jsonl").read_text())["coded_with"]
    assert made["grounded"] == "True" and made["model"].startswith("demo ") and made["adapter"].startswith("adapter ")
    again = generate(short, "--free", "--out", tmp_path / "x.jsonl")
    assert again.returncode == 2 and "was coded with grounded True, now False" in again.stderr


@pytest.mark.slow
@pytest.mark.long
def test_torchs_compiler_is_not_imported(short):
    """Guards an import of torch's compiler on the way, which makes every command start a second later."""
    code = (
        "import sys; from minscl import generate; generate.main(sys.argv[1:]); "
        "sys.exit(any(module in sys.modules for module in ('torch._dynamo', 'sympy')))"
    )
    run = run_python("-c", code, short)
    assert run.returncode == 0, run.stderr


def test_on_a_terminal_the_answer_is_shown_as_it_is_written(tmp_path, generate, monkeypatch):
    """Guards: an answer that appears only when it is whole, or lacks a passage; a note that sends the terminal escape
    codes; a table that differs from the one in a pipe, or comes in the middle of the answer."""
    note = tmp_path / "note.txt"
    note.write_text("Seen for hypertension\x1b[31m and GERD.\n" + SHORT * 3)
    arguments = (note, "--no-calibration", "--passage", "40")
    piped, [document] = generate(*arguments).stdout, map(json.loads, generate(*arguments, "--json").stdout.splitlines())
    controller, terminal = os.openpty()
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # when the other side is closed
            while chunk := os.read(controller, 2**16):
                chunks.append(chunk.decode())

    reader = threading.Thread(target=read)
    reader.start()
    with open(terminal, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        status = main([str(argument) for argument in arguments])
    reader.join()
    os.close(controller)
    shown = "".join(chunks).replace("\r\n", "\n")
    answers = "\n".join(printable(line) for line in document["output"].split("\n") if not line.startswith("---"))
    assert status == 0 and len(chunks) > 20 and "\x1b" not in shown
    assert shown.endswith(piped) and shown.removesuffix(piped).split() == answers.split()


class Letters:
    """A tokenizer whose tokens are the code points of characters."""

    def decode(self, ids):
        return "".join(map(chr, ids))


def test_a_passage_that_grows_is_shown_whole(capsys):
    """Guards: the rest of a passage lost when one beside it ends and the next takes its slot: the prefill reports that
    one, and the pass after it reports it again before the passage that grows."""
    live, answers = LiveAnswer(Letters()), {}

    def report(passage, letters):
        answers[passage] = answers.get(passage, "") + letters
        live.on_tokens(passage, [*map(ord, answers[passage])])

    for passage, letters in [(1, "a"), (0, "a"), (1, "b"), (0, "b"), (2, "c"), (2, "d"), (0, "c"), (2, "e"), (0, "d")]:
        report(passage, letters)
    report(2, "f")
    report(2, "g")
    document = CodedDocument("n", "")
    assert list(live.until_finished([document])) == [document]
    assert capsys.readouterr().out == "abcd\nab\ncdefg\n\n"


@pytest.mark.parametrize("flags", [(), ("--system", "clh"), ("--verify",)], ids=str)
def test_a_gpu_that_the_weights_fill_is_one_line(short, generate, monkeypatch, flags):
    """Guards: a traceback where memory ends while the adapter is merged or projections are fused."""

    def full(model):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(chosen_system, "prepare_for_inference", full)
    run = generate(short, *flags)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("minscl: the GPU's memory is full (CUDA out of memory. Tried to allocate 2 GiB); use ")


def test_two_engines_share_the_memory(short):
    """Guards: --verify, which codes and asks by turns, with twice the memory that --memory allows."""
    memory = {}
    for flags in ((), ("--verify",), ("--verify", "--system", "clh")):
        config = parse_flags(GenerateConfig, "generate", "", [str(short), "--memory", "2", *flags])
        memory[flags] = ChosenSystem(config, CodeBook.load(), None).memory
    assert list(memory.values()) == [2e9, 1e9, 2e9]
