"""Record files: what is written is read back; bad lines are refused with file, line and remedy; writes are atomic."""

import json

import pytest

from minscl.data import Assignment, CodedDocument, Evidence, Note, Pair, Sample, TextSample
from minscl.data.jsonl import read_jsonl, read_samples, write_jsonl
from minscl.errors import InputError, replace_file

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
        (Note, '{"id": 1, "text": "x"}', "id is 1; it must be a string"),
        (Note, '{"id": "1", "text": "x"', "not JSON"),
        (Note, "[1]", "is not an object"),
        (Note, '{"id": "1", "id": "2", "text": "x"}', "twice"),
        (Note, '{"id": "1", "text": "\\ud800"}', "surrogate"),
        (
            CodedDocument,
            one_code('[{"text": "b", "start": 0, "end": 1}]'),
            r"text\[0:1\] is 'a'",
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
            "between 0 and 1",
        ),
        (Pair, '{"evidence": "x", "code": "I10", "source": "brass"}', "source is 'brass'"),
        (Pair, '{"evidence": " ", "code": "I10", "source": "gold"}', "evidence is ' '"),
        (Pair, '{"evidence": "x", "code": "I10", "source": "gold", "count": true}', "count is True"),
        (Sample, '{"prompt_ids": [], "target_ids": [1]}', "prompt_ids is empty"),
        (Sample, '{"prompt_ids": [1], "target_ids": [-1]}', "target_ids holds -1"),
        (TextSample, '{"prompt": "x", "target": "y", "kind": "other"}', "kind is 'other'"),
    ],
)
def test_bad_lines_are_named(cls, line, message, tmp_path):
    """Guards: a file read only in part, a fault ignored, an error that does not say where."""
    path = tmp_path / "bad.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(InputError, match=message) as error:
        read_jsonl(path, cls)
    assert str(error.value).startswith(f"{path}:2: ")


def test_ids_are_unique_and_files_must_exist(tmp_path):
    """Guards: two predictions for one note, a missing file treated as an empty one."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "1", "text": "x"}\n{"id": "1", "text": "y"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:2: id '1' is also line 1's"):
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
