"""Kinds of inputs: what models and servers answer, parsed, located in the note, checked against the Tabular List.

Read next: harness.py.
"""

import json
from pathlib import Path

from hypothesis import strategies as st

from minscl.data.chains import append_steps, join_answers, split_answers, split_steps
from minscl.data.checks import check_document
from minscl.data.parse import parse_document, parse_span
from minscl.data.prompts import render_document_target
from minscl.data.spans.asking import answer_lines
from minscl.data.spans.silver import locate_quotations
from minscl.data.types import Assignment, CodedDocument
from minscl.infer.answer import answer_warnings, locate_all
from minscl.infer.choices import read_choice
from minscl.infer.endpoint import read_completion
from minscl.infer.systems import SCL
from tests.fuzz.kinds import NOTE, FileKind, ValueKind
from tests.fuzz.mutations import STRANGE, WORDS
from tests.fuzz.records import DOCUMENTS, book

FREE = """<think>The patient has HTN.</think>
**Supporting evidence:**
- "Hypertension" -> I10
2. A1c of 9.4
## ICD-10-CM Codes:
| E11.65 | Type 2 diabetes mellitus with hyperglycemia [1, 2] |
I10, `E11.9` and J18.9 (see I15-I16)<|eot_id|> more"""
AS_JSON = json.dumps(
    {
        "evidence": ["Hypertension", {"text": "A1c of 9.4"}],
        "codes": [{"code": "I10", "description": "x", "evidence": ["Hypertension", 2]}, "E11.65"],
    }
)
COMPLETION = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": FREE}, "finish_reason": "stop"}],
}


def read_answer(text: str) -> None:
    """All that is done with an answer's text, whole and cut off."""
    for truncated in (False, True):
        parsed = parse_document(text, book().has_category, truncated=truncated)
        quotations = locate_all(NOTE, parsed.evidence)
        for quotation in quotations:
            assert not quotation.grounded or NOTE[quotation.start : quotation.end] == quotation.text
        codes = tuple(
            Assignment(item.code, item.description, tuple(quotations[n - 1] for n in item.references))
            for item in parsed.codes
        )
        list(answer_warnings(parsed, quotations, codes, SCL))
        check_document(CodedDocument("a", NOTE, codes), book())
    parse_span(text, book().has_category)
    locate_quotations(NOTE, answer_lines(text))
    read_choice(text, ("0", "1", "yes", "no"))
    answers = split_answers(text)
    assert answers == [text] or join_answers(answers, "chain").count("--- chain") >= 1
    split_steps(append_steps(text, [("extract", text)]))


def write_answers(folder: Path) -> None:
    """A rendered answer, one as chat models write them, one as JSON."""
    (folder / "rendered.txt").write_text(render_document_target(DOCUMENTS[0]))
    (folder / "free.txt").write_text(FREE)
    (folder / "object.txt").write_text(AS_JSON)


def read_answers(folder: Path) -> None:
    """Each file as an answer. A decoder's text is whole characters."""
    for path in folder.iterdir():
        read_answer(path.read_bytes().decode("utf-8", "replace"))


def write_completion(folder: Path) -> None:
    """A server's reply."""
    (folder / "reply.json").write_text(json.dumps(COMPLETION))


def read_reply(folder: Path) -> None:
    """The reply as the endpoint's client reads it, then its text."""
    text, _ = read_completion((folder / "reply.json").read_bytes(), 2000)
    read_answer(text)


def answer_texts():
    """Texts of the words that the parser looks for, and of any characters."""
    strange = [text for text in STRANGE if not any("\ud800" <= letter <= "\udfff" for letter in text)]
    words = st.sampled_from([*WORDS, *strange, "\n", "1. ", "- ", " ", "hypertension", "I10-I16", "(", ")", "**", "|"])
    return st.lists(words | st.text(max_size=8), max_size=40).map("".join)


KINDS = [
    FileKind("answers", write_answers, read_answers, share=3),
    FileKind("replies of a server", write_completion, read_reply),
    ValueKind("answers of any text", answer_texts, read_answer, share=3),
]
