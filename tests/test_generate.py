"""`python -m minscl.generate` as a user runs it: real files, exit status, one line an error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument

ROOT = Path(__file__).parent.parent
NOTE, OTHER = ROOT / "examples" / "note.txt", ROOT / "examples" / "urinary_coronary.txt"


def generate(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-m", "minscl.generate", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


SHORT = "Obstructive hydrocephalus: continued donepezil.\nHe was admitted with pneumonia and atrial fibrillation.\n"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("notes") / "short.txt"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="module")
def coded(short):
    """The example and a short note, as `--json` prints them."""
    done = generate(NOTE, short, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_is_a_coded_document_whose_offsets_slice(coded, short):
    """Guards offsets that drift from the file's text, and keys that the contract does not have."""
    documents = [CodedDocument.from_dict(one) for one in coded]
    assert [one.text for one in documents] == [NOTE.read_bytes().decode(), SHORT] and [one.id for one in documents] == [
        str(NOTE),
        str(short),
    ]
    assert all(one.output and one.codes for one in documents)
    book = CodeBook.load()
    for document in documents:
        for code in document.codes:
            assert 0 <= code.score <= 1 and (book.description(code.code) in (code.description, None))
            for evidence in code.evidence:
                if evidence.grounded:
                    assert document.text[evidence.start : evidence.end] == evidence.text
                else:
                    assert evidence.start is None and evidence.end is None


def test_table_shows_line_and_column(coded, short):
    """Guards the default output: every code with its description, each quotation with where it stands."""
    done = generate(short)
    assert done.returncode == 0
    for code in coded[1]["codes"]:
        assert code["code"] in done.stdout and code["description"] in done.stdout
        for evidence in code["evidence"]:
            if evidence["grounded"]:
                line = coded[1]["text"].count("\n", 0, evidence["start"]) + 1
                assert f"{line}:" in done.stdout
            else:
                assert "not found in note" in done.stdout


def test_codes_below_min_score_are_left_out_and_named(coded, short):
    """Guards a threshold that drops more, or less, than the codes below it, or drops them in silence."""
    least = max(code["score"] for one in coded for code in one["codes"])  # the best code alone is left
    done = generate(NOTE, short, "--json", "--min-score", least)
    for found, before in zip(map(json.loads, done.stdout.splitlines()), coded, strict=True):
        weak = [f"{code['code']} ({code['score']:.2f})" for code in before["codes"] if code["score"] < least]
        assert (
            weak
            and found["codes"] == [code for code in before["codes"] if code["score"] >= least]
            and found["output"] == before["output"]
        )
        assert found["warnings"] == [*before.get("warnings", []), f"left out, score below {least:g}: {', '.join(weak)}"]


def test_many_notes_keep_their_order_and_equal_one_at_a_time(coded, tmp_path):
    """Guards the batch: padding must not change a note's codes, nor the order of the results."""
    notes = [("tiny", "Assessment:\n1. Hypertension\n2. GERD\n"), ("long", coded[0]["text"]), ("short", SHORT)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in notes))
    done = generate(tmp_path / "notes.jsonl", "--json", "--batch-size", 2)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in records] == ["tiny", "long", "short"]
    assert [one["output"] for one in records[1:]] == [one["output"] for one in coded]


def test_human_evidence_takes_the_place_of_the_models(tmp_path):
    """Guards "+ Evid.": the codes refer to the given lines and to no other."""
    (tmp_path / "note.txt").write_text("Seen today. Long-standing hypertension, and type 2 diabetes.\n")
    (tmp_path / "evidence.txt").write_text("hypertension\n")
    done = generate(tmp_path / "note.txt", "--evidence", tmp_path / "evidence.txt", "--json")
    assert done.returncode == 0, done.stderr
    quoted = {evidence["text"] for code in json.loads(done.stdout)["codes"] for evidence in code["evidence"]}
    assert quoted <= {"hypertension"}
    assert "Evidence" not in json.loads(done.stdout)["output"]


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_a_compiled_pass_gives_the_same_document(short):
    """Guards: --compile with an adapter merged in and a tied head, grounded texts that are forced in between."""
    plain, compiled = generate(short, "--json", "--grounded"), generate(short, "--json", "--grounded", "--compile")
    assert compiled.returncode == 0 and "was compiled in" in compiled.stderr, compiled.stderr
    assert json.loads(compiled.stdout)["output"] == json.loads(plain.stdout)["output"]


def test_without_a_compiler_it_says_so_in_one_line(short, tmp_path):
    """Guards: pages of the compiler's own messages."""
    done = generate(short, "--compile", CXX="/nowhere/g++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "--compile" in done.stderr and "install a C++ compiler" in done.stderr


def test_html_is_one_page_with_the_note_escaped(tmp_path):
    """Guards a note's own markup running in the page, and marks that lose text."""
    text = "<script>alert(1)</script> Patient with hypertension & GERD.\n"
    (tmp_path / "note.txt").write_text(text)
    done = generate(tmp_path / "note.txt", "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "http" not in page


def bad_files(folder):
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
        ([NOTE, "--min-score", "1.5"], ["--min-score 1.5", "0 to 1"]),
        ([NOTE, "--device", "potato"], ["--device potato", "use cpu"]),
        ([NOTE, "--compile", "--device", "meta"], ["--compile", "meta", "leave the flag out"]),
        ([NOTE, OTHER, "--compile", "--device", "cpu"], ["--compile", "2 would be written together", "--batch-size 1"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, words, tmp_path):
    """Guards tracebacks: the line names the file, the value and the remedy."""
    bad_files(tmp_path)
    done = generate(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(str(word) in done.stderr for word in words), done.stderr


def test_adapter_of_another_model_is_refused(tmp_path):
    """Guards an adapter of another width being half applied."""
    import torch

    from minscl.lora import add_lora, save_adapter
    from minscl.model import Decoder, ModelConfig

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
    done = generate(NOTE, "--adapter", tmp_path / "adapter")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "adapter" in done.stderr


def test_adapter_none_is_the_model_alone():
    """Guards a zero-shot baseline that is given the model folder's own adapter."""
    import torch

    from minscl.config import DEMO
    from minscl.model import load_model
    from minscl.pretrained import load_pretrained

    plain = load_model(DEMO, device="cpu", dtype="float32").state_dict()
    alone, own = (load_pretrained(DEMO, name, device="cpu", dtype="float32")[0].state_dict() for name in ("none", ""))
    assert all(torch.equal(plain[name], alone[name]) for name in plain) and not all(
        torch.equal(plain[name], own[name]) for name in plain
    )


def test_given_evidence_is_in_document_order_and_of_this_note(tmp_path):
    """Guards: quotations without a place that cannot be sorted, or that stand by their codes; evidence of procedures; evidence of another text."""
    from minscl.data.jsonl import write_jsonl
    from minscl.data.types import Assignment, Evidence, Note
    from minscl.errors import InputError
    from minscl.generate import read_evidence

    text = "HTN and DM2, intubated."
    lost = tuple(Evidence(one, None, None, grounded=False) for one in ("zoster", "asthma"))
    codes = (
        Assignment("E11.9", "", (Evidence("DM2", 8, 11), *lost)),
        Assignment("I10", "", (Evidence("HTN", 0, 3), Evidence("DM2", 8, 11))),
        Assignment("0BH17EZ", "", (Evidence("intubated", 13, 22),)),
    )
    write_jsonl(tmp_path / "gold.jsonl", [CodedDocument("1", text, codes)])
    assert read_evidence(str(tmp_path / "gold.jsonl"), [Note("1", text)]) == {"1": ["HTN", "DM2", "asthma", "zoster"]}
    with pytest.raises(InputError, match="not the note's"):
        read_evidence(str(tmp_path / "gold.jsonl"), [Note("1", text + " ")])
    with pytest.raises(InputError, match="no record with id '2'"):
        read_evidence(str(tmp_path / "gold.jsonl"), [Note("2", text)])


def test_torchs_compiler_stays_outside_unless_asked_for():
    """Guards: a call that imports torch's compiler on the way, which makes every command a second slower to start."""
    code = "import sys; from minscl import generate; generate.main(sys.argv[1:]); sys.exit(any(one in sys.modules for one in ('torch._dynamo', 'sympy')))"
    done = subprocess.run(
        [sys.executable, "-c", code, "examples/urinary_coronary.txt", "--grounded"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
