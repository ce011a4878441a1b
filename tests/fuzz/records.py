"""Kinds of inputs: every kind of JSON Lines, notes and evidence as text, the folder of a review.

Read next: corpora.py.
"""

import dataclasses
import functools
import json
from pathlib import Path

from hypothesis import strategies as st

from minscl import evaluate, review
from minscl.data.answer_log import AnswerLog
from minscl.data.checks import check_document
from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_samples, write_jsonl
from minscl.data.notes import read_evidence, read_notes
from minscl.data.resuming import already_coded
from minscl.data.sample_types import Sample, TextSample
from minscl.data.spans.answers import StageOneAnswer, StageTwoAnswer, SyntheticAnswer
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair
from minscl.page.entry import Entry
from minscl.page.journal import ReviewFolder
from tests.fuzz.kinds import MARK, NOTE, FileKind, ValueKind

START = NOTE.index("Hypertension")
QUOTATION = Evidence("Hypertension", START, START + 12, grounded=True, assertion="affirmed")
CODED_WITH = {"system": "scl", "grounded": "True", "model": "demo 1", "adapter": "none", "edition": "2027"}
DOCUMENTS = [
    CodedDocument(
        "a",
        NOTE,
        (Assignment("I10", "Essential (primary) hypertension", (QUOTATION,), 0.75, ("a rule",)),),
        output=f"Evidence:\n1. Hypertension\nCodes:\nI10 {MARK} [1]",
        warnings=("not found in note: x",),
        truncated=1,
        edition="2027",
        coded_with=CODED_WITH,
    ),
    CodedDocument("b", f"No fever. {MARK}.", (Assignment("J18.9", "", (), 0.2), Assignment("e1165", "", ()))),
]
PAIRS = [Pair("hypertension", "I10", "gold", 1, "index: Hypertension"), Pair("DM2", "E11.9", "silver", 3, "notes: a")]
TEXT_SAMPLES = [TextSample(NOTE, "I10 Hypertension", "document"), TextSample("HTN", "I10", "span")]
SAMPLES = [Sample((1, 2), (3, 4), "span"), Sample((5,), (6, 7))]
DIGEST = "0123456789abcdef"


def _edit(number: int, act: str, before: dict, after: dict, document: str = "a") -> Entry:
    at = f"2026-11-26T23:30:0{number}.123Z"
    return Entry(f"entry-{number}", at, "A. Coder", document, act, "I10", before, after, None)


def _item(decision: str) -> dict:
    item = {**DOCUMENTS[0].codes[0].to_dict(), "key": "I10", "decision": decision, "added": False, "principal": False}
    return item | {"poa": "Y"}


ENTRIES = [
    _edit(1, "accept", {"codes": {"I10": _item("undecided")}}, {"codes": {"I10": _item("accepted")}, "order": ["I10"]}),
    _edit(2, "finish", {"finished": False}, {"finished": True}),
]
ANSWERS = [
    StageOneAnswer("a", "I10", DIGEST, ("Hypertension",), 0, 0, "demo"),
    StageTwoAnswer("I10", DIGEST, (MARK,), 1, "demo"),
    SyntheticAnswer("I10", DIGEST, ("high pressure",), "demo"),
]


@functools.cache
def book() -> CodeBook:
    """The bundled edition; loaded before the processes are started."""
    return CodeBook.load()


def records(name: str, values, read, share: int = 1) -> FileKind:
    """The kind of a JSON Lines file with `values`, read by `read(path)`."""
    return FileKind(
        name, lambda folder: write_jsonl(folder / "x.jsonl", values), lambda f: read(f / "x.jsonl"), share=share
    )


def read_log(path: Path, cls: type) -> None:
    """Open an answer log as a resumed run does, and append what it has."""
    with AnswerLog(path, cls) as log:
        log.append(log.records[:1])


def write_notes(folder: Path) -> None:
    """A note and its evidence as text, notes and coded documents as JSON Lines."""
    (folder / "note.txt").write_text(NOTE, newline="")
    (folder / "evidence.txt").write_text(f"Hypertension\n{MARK}\n")
    write_jsonl(folder / "notes.jsonl", [Note("a", NOTE), Note("b", "Well.")])
    write_jsonl(folder / "coded.jsonl", DOCUMENTS)


def read_all_notes(folder: Path) -> None:
    """As `generate note.txt --evidence evidence.txt` and `generate notes.jsonl` begin."""
    read_evidence(str(folder / "evidence.txt"), read_notes([folder / "note.txt"]))
    read_notes([folder / "notes.jsonl", folder / "note.txt"])
    read_evidence(str(folder / "coded.jsonl"), read_notes([folder / "coded.jsonl"]))


def resume(path: Path) -> None:
    """As `generate --out` begins where the file exists."""
    with AnswerLog(path, CodedDocument) as log:
        already_coded(log.records, [Note("a", NOTE)], str(path), CODED_WITH)


def read_and_check(path: Path) -> None:
    """Documents as training and as review read them, with the rules."""
    review.read_documents((str(path),), book())
    for document in read_documents(path, book()):
        check_document(document, book())


def write_evaluation(folder: Path) -> None:
    """Gold and predictions of two documents."""
    write_jsonl(folder / "gold.jsonl", [dataclasses.replace(item, coded_with=None) for item in DOCUMENTS])
    write_jsonl(folder / "pred.jsonl", DOCUMENTS)
    write_jsonl(folder / "spans.jsonl", PAIRS)
    write_jsonl(folder / "train.jsonl", DOCUMENTS[:1])


def run_evaluation(folder: Path) -> None:
    """The command `evaluate`, in this process."""
    names = ("gold", "pred", "spans", "train")
    flags = [word for name in names for word in (f"--{name}", str(folder / f"{name}.jsonl"))]
    evaluate.main([*flags, "--rounds", "10"])


def write_review(folder: Path) -> None:
    """The folder of a review with two decisions, finished."""
    reviewed = dataclasses.replace(DOCUMENTS[0], output=None, warnings=None, truncated=None, coded_with=None)
    with ReviewFolder(folder, DOCUMENTS[:1]) as opened:
        opened.keep("a", ENTRIES, reviewed)


def resume_review(folder: Path) -> None:
    """As `review --out` goes on."""
    with ReviewFolder(folder) as opened:
        opened.unwritten()
        for name in opened.documents:
            opened.last(name)


RECORDS = [*DOCUMENTS, *PAIRS, *TEXT_SAMPLES, *SAMPLES, *ENTRIES, *ANSWERS, Note("a", NOTE)]
RECORD_TYPES = list(dict.fromkeys(map(type, RECORDS)))


def record_values():
    """(class, JSON value): records with a few keys removed or of any value, and values of any shape."""
    names = sorted({field.name for cls in RECORD_TYPES for field in dataclasses.fields(cls)})
    keys = st.sampled_from(names) | st.text(max_size=5)
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["a", "I10"])
    )
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=12
    )

    def changed(record):
        content, own = record.to_dict(), st.sampled_from([field.name for field in dataclasses.fields(record)])
        removed = st.sets(own, max_size=1)
        others = st.dictionaries(own, scalars | values, max_size=2)
        return st.tuples(removed, others).map(
            lambda change: (
                type(record),
                {key: value for key, value in (content | change[1]).items() if key not in change[0]},
            )
        )

    return st.sampled_from(RECORDS).flatmap(changed) | st.tuples(st.sampled_from(RECORD_TYPES), values)


def read_record(value) -> None:
    """A record read from a JSON value is the same when it is written and read again."""
    cls, content = value
    record = cls.from_dict(content)
    text = json.dumps(record.to_dict(), ensure_ascii=False)
    text.encode()
    assert cls.from_dict(json.loads(text)) == record, "read again, it is another record"


KINDS = [
    FileKind("notes and evidence", write_notes, read_all_notes, share=2),
    records("coded documents", DOCUMENTS, read_and_check, share=2),
    records("resumed documents", DOCUMENTS, resume),
    records("span pairs", PAIRS, lambda path: read_pairs(path, book(), listed=True)),
    records("text samples", TEXT_SAMPLES, read_samples),
    records("token samples", SAMPLES, read_samples),
    records("answer log, stage 1", ANSWERS[:1] * 2, lambda path: read_log(path, StageOneAnswer)),
    records("answer log, stage 2", ANSWERS[1:2] * 2, lambda path: read_log(path, StageTwoAnswer)),
    records("answer log, synthetic", ANSWERS[2:] * 2, lambda path: read_log(path, SyntheticAnswer)),
    records("decisions", ENTRIES, lambda path: read_log(path, Entry)),
    FileKind("folder of a review", write_review, resume_review),
    FileKind("evaluation", write_evaluation, run_evaluation),
    ValueKind("records of any value", record_values, read_record, share=3),
]
