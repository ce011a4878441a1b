"""Rendering and parsing are inverses for any text of a note; free-form answers are parsed as models write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.data import Assignment, CodedDocument, Evidence
from minscl.data.icd import CodeBook
from minscl.data.prompts import (
    CODE_FIRST_INSTRUCTION,
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


def known_category(category: str) -> bool:
    return BOOK.description(category) is not None


EXAMPLE = """Evidence:
1. acute on chronic systolic heart failure
2. DM2
3. A1c of 9.4
Codes:
[1] I50.23 Acute on chronic systolic (congestive) heart failure
[2, 3] E11.65 Type 2 diabetes mellitus with hyperglycemia"""

CODE_FIRST_EXAMPLE = """Evidence:
1. acute on chronic systolic heart failure
2. DM2
3. A1c of 9.4
Codes:
I50.23 Acute on chronic systolic (congestive) heart failure [1]
E11.65 Type 2 diabetes mellitus with hyperglycemia [2, 3]"""


def document(*codes) -> CodedDocument:
    """A coded document with `codes`: (code, description, [(evidence, start), ...])."""
    return CodedDocument(
        "x",
        "",
        tuple(
            Assignment(code, description, tuple(Evidence(text, start, start + len(text)) for text, start in evidence))
            for code, description, evidence in codes
        ),
    )


def test_the_format_is_the_published_one():
    """Guards: a change of the training target, after which the answers of trained models would not be parsed."""
    coded = document(
        ("E11.65", "Type 2 diabetes mellitus with hyperglycemia", [("DM2", 50), ("A1c of 9.4", 90)]),
        (
            "I50.23",
            "Acute on chronic systolic (congestive) heart failure",
            [("acute on chronic systolic heart failure", 3)],
        ),
    )
    assert render_document_target(coded) == EXAMPLE
    assert render_document_target(coded, reference_first=False) == CODE_FIRST_EXAMPLE
    assert render_document_target(document()) == "Evidence:\nnone\nCodes:\nnone"
    headache = ("R51.9", "Headache, unspecified", [])
    assert render_document_target(document(headache)) == "Evidence:\nnone\nCodes:\n[] R51.9 Headache, unspecified"
    assert render_document_target(coded, evidence_first=False) == (
        "Codes:\nI50.23 Acute on chronic systolic (congestive) heart failure\n"
        "E11.65 Type 2 diabetes mellitus with hyperglycemia"
    )
    assert render_span_target("I10", "Essential (primary) hypertension") == "I10 Essential (primary) hypertension"


def test_repeated_evidence_is_one_line():
    """Guards: a text that occurs twice, or supports two codes, numbered twice."""
    coded = document(
        ("I10", "a", [("HTN", 9), ("HTN", 1)]), ("N18.9", "b", [("HTN", 1), ("CKD", 20)]), ("I10", "a", [("CKD", 20)])
    )
    assert render_document_target(coded) == "Evidence:\n1. HTN\n2. CKD\nCodes:\n[1, 2] I10 a\n[1, 2] N18.9 b"


def test_prompts_start_with_their_instruction():
    """Guards: a note before its instruction, which leaves samples without a common prefix; a note that is altered."""
    assert render_document_prompt(" a\r\n\tb ") == DOCUMENT_INSTRUCTION + "\n\n" + " a\r\n\tb "
    assert render_document_prompt("x", evidence_first=False) == CODES_INSTRUCTION + "\n\nx"
    assert render_document_prompt("x", reference_first=False) == CODE_FIRST_INSTRUCTION + "\n\nx"
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
    "[2] I10",
    "[]",
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
@given(documents(), st.booleans())
@pytest.mark.slow
def test_rendered_documents_are_parsed_back(coded, reference_first):
    """Guards: quotations or descriptions that look like the format itself: headings, numbers, codes, references."""
    parsed = parse_document(render_document_target(coded, reference_first=reference_first), known_category)
    texts = {
        assignment.code: frozenset(filter(None, (one_line(evidence.text) for evidence in assignment.evidence)))
        for assignment in coded.codes
    }
    assert {
        (code.code, code.description, frozenset(parsed.evidence[number - 1] for number in code.references))
        for code in parsed.codes
    } == {(assignment.code, one_line(assignment.description), texts[assignment.code]) for assignment in coded.codes}
    assert set(parsed.evidence) == frozenset().union(*texts.values())
    assert not parsed.sectionless and not parsed.malformed


@settings(max_examples=300, deadline=None)
@given(documents())
def test_codes_only_are_parsed_back(coded):
    """Guards: a description that looks like numbers or another code, in an answer without an evidence section."""
    parsed = parse_document(render_document_target(coded, evidence_first=False), known_category)
    expected = {(item.code, one_line(item.description)) for item in coded.codes}
    assert {(code.code, code.description) for code in parsed.codes} == expected and not parsed.evidence
    assert all(code.references == () for code in parsed.codes)


@settings(max_examples=300, deadline=None)
@given(documents(), st.data())
def test_lines_in_both_orders_are_parsed_alike(coded, data):
    """Guards: answers of older models, and answers that mix the two orders."""
    new, old = (render_document_target(coded, reference_first=order).split("\n") for order in (True, False))
    mixed = "\n".join(map(data.draw, map(st.sampled_from, zip(new, old, strict=True))))

    def codes(text):
        return [(code.code, code.description, code.references) for code in parse_document(text, known_category).codes]

    assert codes(mixed) == codes("\n".join(new))


@settings(max_examples=300, deadline=None)
@given(documents())
def test_codes_are_where_the_parser_says(coded):
    """Guards: scores computed on the wrong tokens."""
    text = render_document_target(coded)
    for code in parse_document(text, known_category).codes:
        assert text[code.start : code.end] == code.code


@settings(max_examples=300, deadline=None)
@given(CODES, TEXT)
def test_a_span_target_is_parsed_back(code, description):
    """Guards: a description parsed as another code."""
    assert parse_span(render_span_target(code, description), known_category) == (code, one_line(description))


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=5))
def test_supplied_evidence_is_parsed_back(texts):
    """Guards: human evidence renumbered or lost between prompt and answer ("+ Evid.")."""
    parsed = parse_document(render_evidence(texts) + "[1] I10 x", known_category)
    assert list(parsed.evidence) == list(dict.fromkeys(filter(None, map(one_line, texts))))


@settings(max_examples=400, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*TRICKY, "\n", "Codes:\n", "Evidence:\n", "I10 "]), max_size=12).map("".join),
    st.booleans(),
)
def test_any_text_is_parsed_without_failing(text, truncated):
    """Guards: a crash on something a model writes; codes that are not in the text."""
    parsed = parse_document(text, known_category, truncated)
    for code in parsed.codes:
        assert BOOK.normalise(text[code.start : code.end]) == code.code
        assert all(1 <= number <= len(parsed.evidence) for number in code.references)


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
        ("Codes:\n- [1] **I10**: Hypertension\n**[2, 3]** E11.9\n[1][2]: N18.9", ["I10", "E11.9", "N18.9"]),
        ("Codes:\n[1] Hypertension (I10)\n[250] diabetes", ["I10"]),
        ("Codes:\nI10<|eot_id|>E11.9", ["I10"]),
    ],
)
def test_free_form_answers(text, codes):
    """Guards: the habits of chat models, by the rules for parsing generated text."""
    assert [code.code for code in parse_document(text, known_category).codes] == codes


def test_links_after_quotations():
    """Guards: a link that a model wrote after the quotation instead of after the code."""
    parsed = parse_document('Evidence:\n- "HTN" -> I10\n- DM2 (E11.9)\n- None\nCodes:\nI10\nE11.9', known_category)
    assert parsed.evidence == ("HTN", "DM2")
    assert [code.references for code in parsed.codes] == [(1,), (2,)]


@pytest.mark.parametrize(
    "cut, codes",
    [
        (len(EXAMPLE), ["I50.23", "E11.65"]),
        (EXAMPLE.index("E11.65") + 6, ["I50.23"]),
        (EXAMPLE.index("E11.65") - 3, ["I50.23"]),
        (EXAMPLE.index("I50.23") + 4, []),
    ],
)
def test_a_truncated_answer_loses_only_what_is_incomplete(cut, codes):
    """Guards: part of a code parsed as a code (E11.6 of E11.65)."""
    parsed = parse_document(EXAMPLE[:cut], known_category, truncated=True)
    assert parsed.truncated and [code.code for code in parsed.codes] == codes


def test_malformed_and_sectionless_answers_are_flagged():
    """Guards: malformed or sectionless answers that look like proper empty ones."""
    parsed = parse_document("250.00 diabetes\nE1Q x", known_category)
    assert parsed.sectionless and parsed.malformed == 2 and parsed.empty
