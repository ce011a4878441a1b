"""ACI-Bench's train notes with invented codes, in every table of codes that is read: tabs, CSV, published columns."""

import csv
import json
from pathlib import Path

import pytest

from minscl import expand
from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.code_table import CodeRow, read_code_table
from minscl.data.corpora.counts import Counts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from tests.conftest import call_command

BOOK = CodeBook.load()
NOTES = aci_notes(Path(__file__).parent.parent / "study" / "resources" / "aci_bench_train.jsonl")[:3]
FIRST, SECOND, _ = NOTES


def write_csv(path, header, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def codes_of(documents):
    return {document.id: [assignment.code for assignment in document.codes] for document in documents}


@pytest.mark.parametrize(
    "content",
    [
        "{0}\te1165\n{0}\tI10\n\n{1}\tR51\n{0}\tI10\n",
        "id\tcode\n{0}\tE11.65\n{0}\tI10\n{1}\tR51\n",
        "\ufeffID\tCode\tcoder\r\n{0}\tE11.65\tx\r\n{0}\tI10\tx\r\n{1}\tR51\ty\r\n",
        "code,id\nE11.65,{0}\nI10,{0}\nR51,{1}\n",
        "{0},E11.65\n{0},I10\n{1},R51\n",
        "Document ID,ICD10,Description\n{0},E11.65,words\n{0},I10,words\n{1},R51,words\n",
    ],
)
def test_tables_of_codes(tmp_path, content):
    """Guards: a first row taken for a header or a header for a row, a description as evidence, a code twice."""
    path = tmp_path / "codes.tsv"
    path.write_bytes(content.format(FIRST.id, SECOND.id).encode())
    counts = Counts()
    documents = aci_documents(NOTES, [path], BOOK, counts)
    assert codes_of(documents) == {FIRST.id: ["E11.65", "I10"], SECOND.id: ["R51"]}
    assert not any(assignment.evidence for document in documents for assignment in document.codes)
    assert counts.numbers["notes without codes, left out"] == 1 and not counts.warnings
    assert counts.numbers["  codes that are not billable today, kept"] == 1  # R51


def test_medcoder_as_published(tmp_path):
    """Guards: MedCodER's own ids not read, its evidence at its wrong offsets, a code lost with a quotation."""
    words = FIRST.text.split()
    diagnosis, quoted = " ".join(words[20:22]), " ".join(words[40:48])
    start = FIRST.text.index(words[20])
    notes = write_csv(
        tmp_path / "text.csv",
        ["Document ID", "medical_record_text", "aci_doc_id"],
        [["abc1", FIRST.text, "test_1"], ["abc2", SECOND.text, "test_2"]],
    )
    diagnoses = write_csv(
        tmp_path / "diagnosis.csv",
        ["Document ID", "ICD10", "Diagnosis", "Start", "End"],
        [
            ["abc1", "I10", FIRST.text[start : start + 5], start, start + 5],
            ["abc1", "Narwhal", diagnosis, 1, 2],
            ["abc2", "R05.9", "narwhal", 3, 10],
        ],
    )
    evidence = write_csv(
        tmp_path / "supporting_evidence.csv",
        ["Document ID", "ICD-10-cm code", "Coordinate", "Supporting Evidence Text", "Start", "End"],
        [["abc1", "I10", "(0, 5)", quoted, 1, 6], ["abc1", "E11.9", "", quoted.upper(), "", ""]],
    )
    assert [note.id for note in aci_notes(notes)] == ["abc1", "abc2"]
    out = tmp_path / "out.jsonl"
    tables = f"{diagnoses}, {evidence}"
    done = call_command(expand.main, "documents", "aci-bench", "--notes", notes, "--codes", tables, "--out", out)
    assert done.returncode == 0, done.stderr
    documents = read_jsonl(out, CodedDocument)
    assert codes_of(documents) == {"abc1": ["I10", "E11.9"], "abc2": ["R05.9"]}
    place = FIRST.text.index(words[40])
    at_offsets, located = documents[0].codes[0].evidence
    assert (at_offsets.start, at_offsets.end) == (start, start + 5)
    assert located.start <= place < located.end and located.text.split() == quoted.split()
    assert documents[0].codes[1].evidence[0].text.split() == quoted.split() and not documents[1].codes[0].evidence
    assert "line 3: a string of 7 characters is no ICD-10-CM code and is left out" in done.stderr
    assert "line 4: note abc2 does not have the quotation of R05.9" in done.stderr
    assert "narwhal" not in done.stderr.lower() and "evidence spans 3" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "content, message",
    [
        ("{0}\tE11.65\tx\n", "line 1: 3 cells and no columns id and code; give a row of two cells"),
        ("{0}\n", "line 1: 1 cells and no columns id and code"),
        ("{0}\tE11.65\n{0}\n", "line 2: 1 cells where the first row has 2"),
        ("{0}\tE11.65\n{0}\t585.3\n", "line 2: 585.3 is not an ICD-10-CM code (1 rows have none)"),
        ("note,icd\n{0},I10\n", "line 1: a string of 3 characters is not an ICD-10-CM code"),
        ("x1\tI10\nx2\tI10\n", "line 1: no note has the id x1, nor any other id of the file; name the notes"),
        ("{0}\t\n", "line 1: a string of 0 characters is not an ICD-10-CM code"),
        ("", "contains no row with a code"),
        ("id\tcode\n\n", "contains no row with a code"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, content, message):
    """Guards: a column that is guessed, an empty result for ids of other notes or for a table without codes, a message
    without its line."""
    path = tmp_path / "codes.tsv"
    path.write_text(content.format(FIRST.id))
    with pytest.raises(InputError) as error:
        aci_documents(NOTES, [path], BOOK, Counts())
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_nothing_left_is_no_file(tmp_path):
    """Guards an empty file, and status 0, where every note of a corpus was left out."""
    (tmp_path / "notes.jsonl").write_text("\n")
    flags = ["notes", "documents", "--documents", "notes.jsonl", "--out", "empty.jsonl"]
    run = call_command(expand.main, *flags, cwd=tmp_path)
    assert run.returncode == 2 and not (tmp_path / "empty.jsonl").exists()
    assert run.stdout.split() == ["notes", "written", "0"]
    assert run.stderr.startswith("minscl: --out empty.jsonl: not written") and run.stderr.count("\n") == 1


def test_own_evidence_and_notes_as_written(tmp_path):
    """Guards: notes of `expand notes` not read back with codes; offsets that are no numbers."""
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(json.dumps(note.to_dict()) + "\n" for note in NOTES))
    assert aci_notes(path) == NOTES
    path.write_text(json.dumps({"id": "a", "note": "cough", "text": "cough"}))
    with pytest.raises(InputError, match="notes.jsonl:1: AciNote: unknown key 'note'"):
        aci_notes(path)
    table = write_csv(
        tmp_path / "codes.csv",
        ["id", "code", "evidence", "start", "end"],
        [["a", "R05.9", "cough", "x", ""], ["a", "R05.9", "cough", 6, 11], ["a", "I10", "", "", ""]],
    )
    assert next(read_code_table(table)) == CodeRow(2, "a", "R05.9", "cough")
    [document] = aci_documents([Note("a", "cough cough")], [table], BOOK, Counts())
    assert [(span.start, span.end) for span in document.codes[0].evidence] == [(0, 5), (6, 11)]
    assert not document.codes[1].evidence
