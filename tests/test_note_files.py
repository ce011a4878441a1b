"""Note and evidence files as users have them: signatures, endings in any case, page breaks, coded documents."""

import codecs
import json
import os

import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.locate import locate
from minscl.data.notes import read_evidence, read_notes
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError

TEXT = "Seen for gout.\r\nCourse: atrial\x0cfibrillation, COPD\u2028exacerbation, DM2\x85type.\n"


def test_only_newlines_end_a_line_of_evidence(tmp_path):
    """Guards a quotation over a page break (form feed, U+2028, U+0085) that is cut in two."""
    quotations = ["gout", "atrial\x0cfibrillation", "COPD\u2028exacerbation", "DM2\x85type"]
    for newline in ("\n", "\r\n", "\r"):
        path = tmp_path / "evidence.txt"
        path.write_bytes(newline.join(["", *quotations, " ", ""]).encode())
        assert read_evidence(str(path), [Note("n", TEXT)]) == {"n": quotations}
    assert all(locate(TEXT, quotation) for quotation in quotations)


def test_a_signature_is_no_part_of_a_note_or_its_evidence(tmp_path):
    """Guards offsets that are one too high, and a first quotation or key that is not recognised."""
    for name, content in (
        ("note.txt", TEXT),
        ("evidence.txt", "gout\n"),
        ("notes.jsonl", json.dumps({"id": "a", "text": TEXT}) + "\n"),
    ):
        (tmp_path / name).write_bytes(codecs.BOM_UTF8 + content.encode())
    [note] = read_notes([tmp_path / "note.txt"])
    assert note.text == TEXT and read_notes([tmp_path / "notes.jsonl"]) == [Note("a", TEXT)]
    assert read_evidence(str(tmp_path / "evidence.txt"), [note]) == {note.id: ["gout"]}


def test_endings_count_in_any_case(tmp_path):
    """Guards NOTES.JSONL, as Windows programs write it, coded as one note of JSON."""
    document = CodedDocument("a", "HTN.", (Assignment("I10", "", (Evidence("HTN", 0, 3),)),))
    write_jsonl(tmp_path / "NOTES.JSONL", [document])
    notes = read_notes([tmp_path / "NOTES.JSONL"])
    assert notes == [Note("a", "HTN.")]
    assert read_evidence(str(tmp_path / "NOTES.JSONL"), notes) == {"a": ["HTN"]}


def test_coded_documents_are_notes(tmp_path):
    """Guards gold and predictions that cannot be coded (again) for their keys; other unknown keys stay errors."""
    prediction = CodedDocument(
        "b", "DM2.", output="Codes:\nnone", warnings=(), truncated=1, coded_with={"system": "scl"}
    )
    write_jsonl(tmp_path / "mixed.jsonl", [Note("a", "HTN."), prediction])
    assert read_notes([tmp_path / "mixed.jsonl"]) == [Note("a", "HTN."), Note("b", "DM2.")]
    (tmp_path / "odd.jsonl").write_text('{"id": "a", "text": "x", "codes": [], "author": "x"}\n')
    with pytest.raises(InputError, match=r"odd.jsonl:1: Note: unknown key 'author'"):
        read_notes([tmp_path / "odd.jsonl"])


def test_what_is_too_large_is_refused_before_it_is_read_as_a_note(tmp_path, monkeypatch):
    """Guards 200 MB of something else that is tokenised until memory ends."""
    with open(tmp_path / "large.txt", "wb") as file:
        file.truncate(208 * 10**6)  # takes no space on the disk
    with pytest.raises(InputError, match="large.txt: larger than 64 MB"):
        read_notes([tmp_path / "large.txt"])
    with pytest.raises(InputError, match="large.txt: larger than 64 MB"):
        read_evidence(str(tmp_path / "large.txt"), [Note("n", "x")])
    monkeypatch.setattr("minscl.data.record_checks.MAX_CHARACTERS", 20)
    write_jsonl(tmp_path / "large.jsonl", [Note("a", "HTN."), Note("b", "pain " * 5)])
    with pytest.raises(InputError, match="large.jsonl:2: Note: text has 25 characters"):
        read_notes([tmp_path / "large.jsonl"])


def test_a_pipe_is_refused(tmp_path):
    """Guards a pipe that nobody writes, at which the command would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="a pipe or device"):
        read_notes([tmp_path / "pipe"])
    with pytest.raises(InputError, match="a pipe or device"):
        read_evidence(str(tmp_path / "pipe"), [Note("n", "x")])


@pytest.mark.parametrize(
    "content, words",
    [(b"", "no quotations"), (b"\n \n", "no quotations"), (b"a\0b", "no quotations"), (b"\xe9", "UTF-8")],
)
def test_a_file_without_evidence_is_refused(tmp_path, content, words):
    """Guards a message about an empty note, and codes that nothing supports."""
    (tmp_path / "evidence.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"evidence.txt: .*{words}"):
        read_evidence(str(tmp_path / "evidence.txt"), [Note("n", "x")])


def test_messages_do_not_show_a_note(tmp_path):
    """Guards patients' text in logs and tickets."""
    secret = "Zacharias has scabies"
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "text": secret, "codes": [], secret: secret}) + "\n")
    write_jsonl(tmp_path / "gold.jsonl", [CodedDocument("a", secret)])
    (tmp_path / "zero.txt").write_text(secret + "\0")
    failures = [
        lambda: read_notes([tmp_path / "a.jsonl"]),
        lambda: read_notes([tmp_path / "zero.txt"]),
        lambda: read_notes([tmp_path / "gold.jsonl", tmp_path / "gold.jsonl"]),
        lambda: read_evidence(str(tmp_path / "gold.jsonl"), [Note("a", secret + ".")]),
        lambda: read_evidence(str(tmp_path / "zero.txt"), [Note("a", secret)]),
    ]
    for fail in failures:
        with pytest.raises(InputError) as error:
            fail()
        assert "Zacharias" not in str(error.value) and "scabies" not in str(error.value)


@pytest.mark.parametrize("name", ["notes.json", "NOTES.NDJSON"])
def test_json_is_not_read_as_the_text_of_a_note(tmp_path, name):
    """Guards quotations such as "text" out of a file of notes that has another ending than .jsonl."""
    (tmp_path / name).write_text('{"id": "1", "text": "Pt with HTN."}')
    with pytest.raises(InputError, match="JSON is not a note's text"):
        read_notes([tmp_path / name])


def test_evidence_of_any_diagnosis_code_is_used(tmp_path):
    """Guards human quotations dropped without a word because their code is ICD-9-CM's or mistyped."""
    evidence = (Evidence("HTN", 0, 3),)
    for code in ("I10", "I10-", "250.00", "hypertension"):
        write_jsonl(tmp_path / "x.jsonl", [CodedDocument("1", "HTN.", (Assignment(code, "", evidence),))])
        assert read_evidence(str(tmp_path / "x.jsonl"), [Note("1", "HTN.")]) == {"1": ["HTN"]}, code


def test_utf_16_is_named(tmp_path):
    """Guards the advice to convert from latin1, which makes letters with zero bytes of it."""
    (tmp_path / "x.txt").write_bytes("HTN".encode("utf-16"))
    with pytest.raises(InputError, match="iconv -f utf-16"):
        read_notes([tmp_path / "x.txt"])


def test_an_id_that_holds_a_note_is_not_shown(tmp_path):
    """Guards patients' text in messages where columns have been swapped."""
    text = "Mr Quux has hypertension"
    write_jsonl(tmp_path / "x.jsonl", [Note("a", "b")])
    with pytest.raises(InputError, match="no record with id a string of 24 characters") as error:
        write_jsonl(tmp_path / "gold.jsonl", [CodedDocument("a", "b")])
        read_evidence(str(tmp_path / "gold.jsonl"), [Note(text, "b")])
    assert "Quux" not in str(error.value)
