"""Record files: what is written is read back; bad lines are refused with file, line and remedy; writes are atomic."""

import json

import pytest

from minscl.data import Assignment, CodedDocument, Evidence, Note, Pair, Sample, TextSample
from minscl.data.jsonl import read_jsonl, read_samples, write_jsonl
from minscl.errors import InputError
from minscl.files import replace_file

CODED = CodedDocument(
    "a\u2028b",
    "Pt with HTN, é 🙂.",
    (Assignment("I10", "x", (Evidence("HTN", 8, 11), Evidence("nowhere", None, None, False)), 0.5),),
    "raw",
    ("w",),
)
RECORDS = [
    CODED,
    CodedDocument("1", "t"),
    Note("n", "line\r\nline"),
    Pair("HTN", "I10", "silver", 3, "notes 1, 2"),
    TextSample("p", "t", "span"),
    Sample((1, 2), (3,), "document"),
]


def one_code(evidence: str) -> str:
    """A line with a coded document whose only code has this JSON as its evidence."""
    return f'{{"id": "1", "text": "abc", "codes": [{{"code": "I10", "description": "x", "evidence": {evidence}}}]}}'


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_come_back_as_they_were(record, tmp_path):
    """Guards: a field lost in writing, U+2028 taken for a line end, ASCII escapes."""
    assert write_jsonl(tmp_path / "x.jsonl", [record]) == 1
    assert read_jsonl(tmp_path / "x.jsonl", type(record)) == [record]
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    "cls, line, message",
    [
        (Note, '{"id": "1"}', "key 'text' is missing"),
        (Note, '{"id": "1", "text": "x", "txt": 2}', "unknown key 'txt'"),
        (Note, '{"id": 1, "text": "x"}', "id is a number; it must be a string"),
        (Note, '{"id": "1", "text": "x"', "not JSON"),
        (Note, "[1]", "a list of 1, not an object"),
        (Note, '{"id": "1", "id": "2", "text": "x"}', "twice"),
        (Note, '{"id": "1", "text": "\\ud800"}', "surrogate"),
        (
            CodedDocument,
            one_code('[{"text": "b", "start": 0, "end": 1}]'),
            "the text at 0:1 is not the evidence",
        ),
        (
            CodedDocument,
            one_code('[{"text": "c", "start": 2, "end": 9}]'),
            "not within the text's 3 characters",
        ),
        (
            CodedDocument,
            '{"id": "1", "text": "abc", "codes": [{"code": " ", "description": "x", "evidence": []}]}',
            "give a code",
        ),
        (
            CodedDocument,
            '{"id": "1", "text": "abc", "codes": [{"code": "I10", "description": "x", "evidence": [], "score": 2}]}',
            "a number from 0 to 1",
        ),
        (Pair, '{"evidence": "x", "code": "I10", "source": "brass"}', "source is a string of 5 characters"),
        (Pair, f'{{"evidence": "{"x" * 10001}", "code": "I10", "source": "gold"}}', "so it is no phrase"),
        (Pair, '{"evidence": " ", "code": "I10", "source": "gold"}', "evidence is blank"),
        (Pair, '{"evidence": "x", "code": "I10", "source": "gold", "count": true}', "count is true"),
        (Pair, f'{{"evidence": "x", "code": "I10", "source": "gold", "count": {10**400}}}', "count is out of range"),
        (CodedDocument, '{"id": "1", "text": "x", "codes": [], "truncated": -1}', "truncated is below 0"),
        (CodedDocument, '{"id": "1", "text": "x", "codes": [], "truncated": 1e999}', "truncated is a number"),
        (Sample, '{"prompt_ids": [], "target_ids": [1]}', "prompt_ids is empty"),
        (Sample, '{"prompt_ids": [1], "target_ids": [-1]}', "target_ids holds a number"),
        (TextSample, '{"prompt": "x", "target": "y", "kind": "other"}', "kind is none of"),
    ],
)
def test_bad_lines_are_named(cls, line, message, tmp_path):
    """Guards: a file read only in part, a fault ignored, an error that does not say where."""
    path = tmp_path / "bad.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(InputError, match=message) as error:
        read_jsonl(path, cls)
    assert str(error.value).startswith(f"{path}:2: ")


SECRET = "Mr Quux"  # a name, as a note has it


@pytest.mark.parametrize("cls", [Note, CodedDocument, Pair, TextSample, Sample], ids=lambda cls: cls.__name__)
def test_messages_never_have_content(cls, tmp_path):
    """Guards patients' text in error lines, which end up in logs and tickets: keys, values, broken JSON, ids, codes."""
    evidence = {"text": SECRET, "start": 0, "end": 9}
    whole = [record for record in RECORDS if type(record) is cls][-1].to_dict()
    records = [SECRET, {SECRET: 1}, whole | {SECRET: 1}, *(whole | {key: {SECRET: 1}} for key in whole)]
    records += [whole | {key: [SECRET]} for key in whole] + [whole | {key: f"{SECRET}\ud800"} for key in whole]
    if cls is CodedDocument:
        code = {"code": SECRET, "description": SECRET, "evidence": [evidence]}
        records += [whole | {"codes": [code | change]} for change in ({}, {"score": 9}, {"score": SECRET}, {SECRET: 1})]
    if cls is Pair:
        records += [whole | {"source": SECRET}, whole | {"evidence": SECRET, "count": 0}]
    lines = [json.dumps(record) for record in records]
    lines += [f'{{"id": "{SECRET}"', f'{{"{SECRET}": 1, "{SECRET}": 2}}', f'"{SECRET}', f'{{"id": {"9" * 5000}}}']
    refused = 0
    for line in lines:
        path = tmp_path / "x.jsonl"
        path.write_text(line)
        try:
            read_jsonl(path, cls)
        except InputError as error:
            assert SECRET not in str(error), line
            refused += 1
    assert refused >= len(lines) - 4  # a text may well be the name: such a record is right


def test_a_signature_at_the_start_is_not_content(tmp_path):
    """Guards files saved by Windows editors, whose first line would not be JSON."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "1", "text": "x"}\n')
    assert read_jsonl(path, Note) == [Note("1", "x")]


def test_ids_are_unique_and_files_must_exist(tmp_path):
    """Guards: two predictions for one note, a missing file treated as an empty one."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "1", "text": "x"}\n{"id": "1", "text": "y"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:2: the id is also line 1's"):
        read_jsonl(path, Note)
    with pytest.raises(InputError, match="none.jsonl"):
        read_jsonl(tmp_path / "none.jsonl", Note)
    path.write_bytes(b'{"id": "\xff", "text": "x"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:1: .*UTF-8"):
        read_jsonl(path, Note)


def test_the_keys_decide_the_kind_of_sample(tmp_path):
    """Guards: token samples read as text."""
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps(sample.to_dict()) for sample in (RECORDS[4], RECORDS[5])))
    assert read_samples(path) == [RECORDS[4], RECORDS[5]]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Guards: an incomplete file in place of the old one, temporary files left behind."""
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [Note("1", "old")])

    def records():
        yield Note("2", "new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, records())
    assert read_jsonl(path, Note) == [Note("1", "old")] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError), replace_file("/dev/null/x"):
        pass
