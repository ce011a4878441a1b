"""Rendering and parsing are inverses for whatever text a note may hold; free-form answers are read as people and models write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.data import Assignment, CodedDocument, Evidence
from minscl.data.icd import CodeBook
from minscl.data.prompts import (
    CODES_INSTRUCTION,
    DOCUMENT_INSTRUCTION,
    one_line,
    parse_document,
    parse_span,
    render_document_prompt,
    render_document_target,
    render_evidence,
    render_span_prompt,
    render_span_target,
)

BOOK = CodeBook.load()
KNOWN = lambda category: BOOK.description(category) is not None  # noqa: E731

EXAMPLE = """Evidence:
1. acute on chronic systolic heart failure
2. DM2
3. A1c of 9.4
Codes:
I50.23 Acute on chronic systolic (congestive) heart failure [1]
E11.65 Type 2 diabetes mellitus with hyperglycemia [2, 3]"""


def document(*codes) -> CodedDocument:
    """codes: (code, description, [(text, start), ...])."""
    return CodedDocument(
        "x",
        "",
        tuple(
            Assignment(code, description, tuple(Evidence(text, start, start + len(text)) for text, start in evidence))
            for code, description, evidence in codes
        ),
    )


def test_the_format_is_the_published_one():
    """Guards: any drift of the training target: models trained with it would no longer be read."""
    made = document(
        ("E11.65", "Type 2 diabetes mellitus with hyperglycemia", [("DM2", 50), ("A1c of 9.4", 90)]),
        (
            "I50.23",
            "Acute on chronic systolic (congestive) heart failure",
            [("acute on chronic systolic heart failure", 3)],
        ),
    )
    assert render_document_target(made) == EXAMPLE
    assert render_document_target(document()) == "Evidence:\nnone\nCodes:\nnone"
    assert render_document_target(made, evidence_first=False) == (
        "Codes:\nI50.23 Acute on chronic systolic (congestive) heart failure\n"
        "E11.65 Type 2 diabetes mellitus with hyperglycemia"
    )
    assert render_span_target("I10", "Essential (primary) hypertension") == "I10 Essential (primary) hypertension"


def test_repeated_evidence_is_one_line():
    """Guards: a text quoted twice, or shared by two codes, numbered twice."""
    made = document(
        ("I10", "a", [("HTN", 9), ("HTN", 1)]), ("N18.9", "b", [("HTN", 1), ("CKD", 20)]), ("I10", "a", [("CKD", 20)])
    )
    assert render_document_target(made) == "Evidence:\n1. HTN\n2. CKD\nCodes:\nI10 a [1, 2]\nN18.9 b [1, 2]"


def test_prompts_begin_alike():
    """Guards: a note before its instruction, so that samples share no prefix; a note that is altered."""
    assert render_document_prompt(" a\r\n\tb ") == DOCUMENT_INSTRUCTION + "\n\n" + " a\r\n\tb "
    assert render_document_prompt("x", evidence_first=False) == CODES_INSTRUCTION + "\n\nx"
    assert render_span_prompt("two\n lines").endswith(":\ntwo lines")


TRICKY = [
    "none",
    "None.",
    "Codes:",
    "Evidence: x",
    "1. HTN",
    "I10",
    "HTN -> I10",
    "chest pain (R07.9)",
    '"quoted"',
    "**bold**",
    "[1]",
    "I10-I16",
    "<think>",
    "</s>",
    "a\nb",
    " \t",
    "- x",
    "B12 deficiency",
    "Final ICD-10-CM Codes",
    "é 🙂",
    '{"codes": []}',
    "```",
    "x [2]",
    "Code: I10",
    "’",
    "none [1]",
    "1)",
    "10. ",
    "<|eot_id|>",
]
TEXT = st.one_of(
    st.sampled_from(TRICKY),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
    st.lists(st.sampled_from(TRICKY), max_size=3).map(" ".join),
)
CODES = st.sampled_from(BOOK.billable[::997])


@st.composite
def documents(draw):
    codes = draw(st.lists(CODES, max_size=6, unique=True))
    return document(
        *(
            (code, draw(TEXT), [(text, draw(st.integers(0, 500))) for text in draw(st.lists(TEXT, max_size=3))])
            for code in codes
        )
    )


@settings(max_examples=600, deadline=None)
@given(documents())
def test_what_is_rendered_is_read_back(made):
    """Guards: quotations or descriptions that look like the format itself: headings, numbers, codes, references."""
    parsed = parse_document(render_document_target(made), KNOWN)
    want = {
        (one.code, one_line(one.description), frozenset(one_line(e.text) for e in one.evidence if one_line(e.text)))
        for one in made.codes
    }
    found = {
        (one.code, one.description, frozenset(parsed.evidence[n - 1] for n in one.references)) for one in parsed.codes
    }
    assert found == want
    assert set(parsed.evidence) == {one_line(e.text) for one in made.codes for e in one.evidence if one_line(e.text)}
    assert not parsed.sectionless and not parsed.malformed


@settings(max_examples=300, deadline=None)
@given(documents())
def test_places_of_codes_are_their_places(made):
    """Guards: scores computed on the wrong tokens."""
    text = render_document_target(made)
    for one in parse_document(text, KNOWN).codes:
        assert text[one.start : one.end] == one.code


@settings(max_examples=300, deadline=None)
@given(CODES, TEXT)
def test_a_span_target_is_read_back(code, description):
    """Guards: a description that is taken for another code."""
    assert parse_span(render_span_target(code, description), KNOWN) == (code, one_line(description))


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=5))
def test_given_evidence_is_read_back(texts):
    """Guards: human evidence renumbered or lost between prompt and answer ("+ Evid.")."""
    parsed = parse_document(render_evidence(texts) + "I10 x [1]", KNOWN)
    assert list(parsed.evidence) == list(dict.fromkeys(filter(None, map(one_line, texts))))


@settings(max_examples=400, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*TRICKY, "\n", "Codes:\n", "Evidence:\n", "I10 "]), max_size=12).map("".join),
    st.booleans(),
)
def test_any_text_is_read_without_failing(text, truncated):
    """Guards: a crash on what a model may write; codes that do not stand in the text."""
    parsed = parse_document(text, KNOWN, truncated)
    for one in parsed.codes:
        assert BOOK.normalise(text[one.start : one.end]) == one.code
        assert all(1 <= n <= len(parsed.evidence) for n in one.references)


@pytest.mark.parametrize(
    "text, codes",
    [
        ("<think>I21.4?</think>Codes:\nI10", ["I10"]),
        ("Codes: I10\n<think>E11.9", ["I10"]),
        ("The codes are\nI10 because", ["I10"]),
        ('```json\n{"codes": ["I10", {"code": "e119"}]}\n```', ["I10", "E11.9"]),
        ("## Final ICD-10-CM Codes\n- **I10**: Hypertension\n2. `E11.9` - diabetes", ["I10", "E11.9"]),
        ("Codes:\nI10, E11.9; N18.9 & J44.9", ["I10", "E11.9", "N18.9", "J44.9"]),
        ("Codes:\nHypertension [I10]\nDiabetes (ICD-10: E11.9)", ["I10", "E11.9"]),
        ("Codes:\nB12 deficiency\nE53.8 B12 deficiency", ["E53.8"]),
        ("Codes:\nI10-I16 hypertensive diseases", []),
        ("Codes:\nI99.99 unlisted counts", ["I99.99"]),
        ("Codes:\nI10\nCodes:\nE11.9", ["E11.9"]),
        ("Evidence:\n1. HTN", []),
        ("I10\nI10\ni10", ["I10"]),
        ("Codes:\nI10<|eot_id|>E11.9", ["I10"]),
    ],
)
def test_free_form_answers(text, codes):
    """Guards: the habits of chat models, by the rules for reading generated text."""
    assert [one.code for one in parse_document(text, KNOWN).codes] == codes


def test_links_after_quotations():
    """Guards: support that a model wrote behind the quotation instead of behind the code."""
    parsed = parse_document('Evidence:\n- "HTN" -> I10\n- DM2 (E11.9)\n- None\nCodes:\nI10\nE11.9', KNOWN)
    assert parsed.evidence == ("HTN", "DM2")
    assert [one.references for one in parsed.codes] == [(1,), (2,)]


@pytest.mark.parametrize(
    "cut, codes",
    [
        (len(EXAMPLE), ["I50.23", "E11.65"]),
        (EXAMPLE.index("E11.65") + 6, ["I50.23"]),
        (EXAMPLE.index("I50.23") + 4, []),
    ],
)
def test_an_answer_cut_short_loses_only_what_is_unfinished(cut, codes):
    """Guards: half a code taken for a whole one (E11.6 of E11.65)."""
    parsed = parse_document(EXAMPLE[:cut], KNOWN, truncated=True)
    assert parsed.truncated and [one.code for one in parsed.codes] == codes


def test_rates_are_told():
    """Guards: malformed or sectionless answers that look like good empty ones."""
    parsed = parse_document("250.00 diabetes\nE1Q x", KNOWN)
    assert parsed.sectionless and parsed.malformed == 2 and parsed.empty
