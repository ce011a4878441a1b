"""Every regular expression of the parser, by example; and the line functions built of them."""

import re

import pytest

from minscl.data import answer_sections, parse, parse_line
from minscl.data.icd import CodeBook
from minscl.data.parse_line import (
    canonical,
    every_category,
    looks_like_code,
    read_code_line,
    read_quotation,
    read_token,
)

BOOK = CodeBook.load()


def known_category(category: str) -> bool:
    return BOOK.description(category) is not None


# (module, expression, method, text, what matches: the whole match and its non-empty groups, or None for no match).
# Expressions that may be empty have a row that matches "" in place of None.
EXAMPLES = [
    (parse_line, "CODE_TOKEN", "match", "E11.65 Type 2", ("E11.65",)),
    (parse_line, "CODE_TOKEN", "match", "e1165, x", ("e1165",)),
    (parse_line, "CODE_TOKEN", "match", "I10. Next", ("I10",)),
    (parse_line, "CODE_TOKEN", "match", "I10_", ("I10",)),
    (parse_line, "CODE_TOKEN", "match", "QA0.1", ("QA0.1",)),
    (parse_line, "CODE_TOKEN", "match", "T81.719A", ("T81.719A",)),
    (parse_line, "CODE_TOKEN", "match", "E11.65789", None),
    (parse_line, "CODE_TOKEN", "match", "E11.6.5", None),
    (parse_line, "CODE_TOKEN", "match", "250.00", None),
    (parse_line, "CODE_TOKEN", "match", "I10é", None),
    (parse_line, "RANGE_SIGN", "match", "-I16", ("-",)),
    (parse_line, "RANGE_SIGN", "match", " – I16", (" – ",)),
    (parse_line, "RANGE_SIGN", "match", " through I16", (" through ",)),
    (parse_line, "RANGE_SIGN", "match", ", I16", None),
    (parse_line, "RANGE_SIGN", "match", " together", None),
    (parse_line, "CODE_ATTEMPT", "match", "250.00 diabetes", ("250.00",)),
    (parse_line, "CODE_ATTEMPT", "match", "E1Q", ("E1Q",)),
    (parse_line, "CODE_ATTEMPT", "match", "heart failure 3", None),
    (parse_line, "CODE_ATTEMPT", "match", "A1", None),
    (parse_line, "NUMBER", "search", "[12, 3]", ("12",)),
    (parse_line, "NUMBER", "search", "[none]", None),
    (parse_line, "NUMBER", "search", "[²]", None),
    (
        parse_line,
        "REFERENCE_FIRST_LINE",
        "fullmatch",
        "[2, 3] E11.65 Type 2 diabetes",
        ("[2, 3] E11.65 Type 2 diabetes", "2, 3", "E11.65", " Type 2 diabetes"),
    ),
    (parse_line, "REFERENCE_FIRST_LINE", "fullmatch", "[] I10", ("[] I10", "I10")),
    (parse_line, "REFERENCE_FIRST_LINE", "fullmatch", "[1] I10 x [2]", ("[1] I10 x [2]", "1", "I10", " x [2]")),
    (parse_line, "REFERENCE_FIRST_LINE", "fullmatch", "[1] Hypertension", None),
    (parse_line, "REFERENCE_FIRST_LINE", "fullmatch", "[1] i10 Hypertension", None),
    (parse_line, "REFERENCE_FIRST_LINE", "fullmatch", "[1,2] I10 Hypertension", None),
    (
        parse_line,
        "CODE_FIRST_LINE",
        "fullmatch",
        "E11.65 Type 2 diabetes [2, 3]",
        ("E11.65 Type 2 diabetes [2, 3]", "E11.65", " Type 2 diabetes", "2, 3"),
    ),
    (parse_line, "CODE_FIRST_LINE", "fullmatch", "I10 []", ("I10 []", "I10")),
    (parse_line, "CODE_FIRST_LINE", "fullmatch", "I10 x [1] []", ("I10 x [1] []", "I10", " x [1]")),
    (parse_line, "CODE_FIRST_LINE", "fullmatch", "I10 Hypertension", None),
    (parse_line, "CODE_FIRST_LINE", "fullmatch", "i10 Hypertension [1]", None),
    (parse_line, "CODE_FIRST_LINE", "fullmatch", "I10 Hypertension [1,2]", None),
    (parse_line, "LEADING_REFERENCES", "match", "**[1][3]**: I10", ("**[1][3]**:", "[1][3]")),
    (parse_line, "LEADING_REFERENCES", "match", "[Evidence: 1 and 3] I10", ("[Evidence: 1 and 3] ",) * 2),
    (parse_line, "LEADING_REFERENCES", "match", "[] I10", ("[] ", "[] ")),
    (parse_line, "LEADING_REFERENCES", "match", "[I10] x", None),
    (parse_line, "LEADING_REFERENCES", "match", "I10 [1]", None),
    (parse_line, "CODE_LINE_PREFIX", "match", "2. **Code: I10** x", ("2. **Code: ",)),
    (parse_line, "CODE_LINE_PREFIX", "match", "- (3) ICD-10-CM code 1: I10", ("- (3) ICD-10-CM code 1: ",)),
    (parse_line, "CODE_LINE_PREFIX", "match", "| `I10` |", ("| `",)),
    (parse_line, "CODE_LINE_PREFIX", "match", "I10", ("",)),
    (parse_line, "CODE_LINE_PREFIX", "match", "2.5 mg", ("",)),
    (parse_line, "CLOSING_MARKUP", "match", "**: x", ("**",)),
    (parse_line, "CLOSING_MARKUP", "match", "`) x", ("`)",)),
    (parse_line, "CLOSING_MARKUP", "match", ": x", ("",)),
    (parse_line, "CODE_SEPARATOR", "match", ", E11.9", (", ",)),
    (parse_line, "CODE_SEPARATOR", "match", " and `E11.9`", (" and `",)),
    (parse_line, "CODE_SEPARATOR", "match", "/E11.9", ("/",)),
    (parse_line, "CODE_SEPARATOR", "match", " (E11.9)", (" (",)),
    (parse_line, "CODE_SEPARATOR", "match", ": x", None),
    (parse_line, "CODE_SEPARATOR", "match", "android", None),
    (parse_line, "CODE_AT_END", "search", "Hypertension [I10]", ("[I10]", "I10")),
    (parse_line, "CODE_AT_END", "search", "Diabetes (ICD-10: E11.9).", ("(ICD-10: E11.9).", "E11.9")),
    (parse_line, "CODE_AT_END", "search", "Diabetes (E11.9) today", None),
    (parse_line, "CODE_AT_END", "search", "Diabetes E11.9", None),
    (parse_line, "REFERENCE", "search", "Hypertension [1, 3]", ("[1, 3]",)),
    (parse_line, "REFERENCE", "search", "x [Evidence: 1 and 3]**", ("[Evidence: 1 and 3]",)),
    (parse_line, "REFERENCE", "search", "x [12345]", None),
    (parse_line, "REFERENCE", "search", "x []", None),
    (parse_line, "AFTER_REFERENCES", "match", ".** y", (".** ",)),
    (parse_line, "AFTER_REFERENCES", "match", "y", ("",)),
    (parse_line, "LIST_MARK", "match", "- 2. DM2", ("- 2. ", "2")),
    (parse_line, "LIST_MARK", "match", "(2) DM2", ("(2) ", "2")),
    (parse_line, "LIST_MARK", "match", "10.", ("10.", "10")),
    (parse_line, "LIST_MARK", "match", "• DM2", ("• ",)),
    (parse_line, "LIST_MARK", "match", "2.5 mg", ("",)),
    (parse_line, "LIST_MARK", "match", "DM2", ("",)),
    (parse_line, "LINKED_CODE", "search", "HTN -> I10", ("-> I10", "I10")),
    (parse_line, "LINKED_CODE", "search", "HTN ⇒ [I10].", ("⇒ [I10].", "I10")),
    (parse_line, "LINKED_CODE", "search", "chest pain (R07.9)", ("(R07.9)", "R07.9")),
    (parse_line, "LINKED_CODE", "search", "HTN I10", None),
    (parse_line, "LINKED_CODE", "search", "HTN -> I10 today", None),
    (parse_line, "HEADING", "fullmatch", "## Final ICD-10-CM Codes", ("## Final ICD-10-CM Codes", "Codes")),
    (
        parse_line,
        "HEADING",
        "fullmatch",
        "Supporting evidence: HTN",
        ("Supporting evidence: HTN", "evidence", ":", "HTN"),
    ),
    (parse_line, "HEADING", "fullmatch", "2) **Codes (ICD-10):**", ("2) **Codes (ICD-10):**", "2)", "Codes", ":")),
    (parse_line, "HEADING", "fullmatch", "The codes are", ("The codes are", "codes", "are")),
    (parse_line, "HEADING", "fullmatch", "Assessment:", None),
    (parse_line, "HEADING", "fullmatch", "no codes", None),
    (parse, "CUT_REFERENCES", "search", "I10 Hypertension [1, 2", (" [1, 2", "1, ")),
    (parse, "CUT_REFERENCES", "search", "I10 x [", (" [",)),
    (parse, "CUT_REFERENCES", "search", "I10 Hypertension [1, 2]", None),
    (answer_sections, "THINKING", "search", "<think>I21.4?</think>Codes:", ("<think>I21.4?</think>",)),
    (answer_sections, "THINKING", "search", "Codes: I10\n<THINK>a\nb", ("<THINK>a\nb",)),
    (answer_sections, "THINKING", "search", "I think", None),
    (answer_sections, "UNOPENED_THINKING", "search", "I21.4?\n</think>Codes:", ("I21.4?\n</think>",)),
    (answer_sections, "UNOPENED_THINKING", "search", "<think>I21.4?", None),
    (answer_sections, "END_OF_TURN", "search", "I10<|eot_id|>x", ("<|eot_id|>",)),
    (answer_sections, "END_OF_TURN", "search", "I10</s>", ("</s>",)),
    (answer_sections, "END_OF_TURN", "search", "<s>I10 <|begin_of_text|>", None),
    (answer_sections, "REMOVED", "search", "a </think> b", ("</think>",)),
    (answer_sections, "REMOVED", "search", "a <end_of_turn>", ("<end_of_turn>",)),
    (answer_sections, "REMOVED", "search", "a < b", None),
    (answer_sections, "FENCE", "fullmatch", "```json", ("```json",)),
    (answer_sections, "FENCE", "fullmatch", "  ``` ", ("  ``` ",)),
    (answer_sections, "FENCE", "fullmatch", "```x y", None),
    (parse, "OUTER_FENCES", "search", "```json\n{}", ("```json",)),
    (parse, "OUTER_FENCES", "search", "{}\n```", ("```",)),
    (parse, "OUTER_FENCES", "search", "{} ``` {}", None),
    (
        parse,
        "RENDERED_SPAN",
        "match",
        "I10 Essential hypertension",
        ("I10 Essential hypertension", "I10", "Essential hypertension"),
    ),
    (parse, "RENDERED_SPAN", "match", "I10\n", ("I10\n", "I10")),
    (parse, "RENDERED_SPAN", "match", "I10: Essential hypertension", None),
    (parse, "RENDERED_SPAN", "match", "I10 x\ny", None),
    (
        answer_sections,
        "RENDERED_DOCUMENT",
        "fullmatch",
        "Evidence:\n1. HTN\nCodes:\n[1] I10 x",
        ("Evidence:\n1. HTN\nCodes:\n[1] I10 x", "[1] I10 x"),
    ),
    (answer_sections, "RENDERED_DOCUMENT", "fullmatch", "Codes:\nnone", ("Codes:\nnone", "none")),
    (answer_sections, "RENDERED_DOCUMENT", "fullmatch", "Evidence:\nHTN\nCodes:\n[1] I10 x", None),
    (answer_sections, "RENDERED_DOCUMENT", "fullmatch", "Evidence:\n1. HTN", None),
    (answer_sections, "_NOT_NEWLINE", "search", "\nx", ("x",)),
    (answer_sections, "_NOT_NEWLINE", "search", "\n\n", None),
]


@pytest.mark.parametrize("module, name, method, text, expected", EXAMPLES)
def test_expressions_match_their_examples(module, name, method, text, expected):
    """Guards: an expression that is loosened or tightened while another is mended."""
    match = getattr(getattr(module, name), method)(text)
    assert (match and (match[0], *filter(None, match.groups()))) == expected


def test_every_expression_has_a_match_and_a_non_match():
    """Guards: an expression added without examples."""
    for module in (parse_line, answer_sections, parse):
        # Modules import names of parse_line: an expression belongs to the module that defines it.
        names = {name for name, value in vars(module).items() if isinstance(value, re.Pattern)}
        names -= set(vars(parse_line)) if module is not parse_line else set()
        for name in names:
            expected = [row[4] for row in EXAMPLES if row[:2] == (module, name)]
            assert any(match and match[0] for match in expected), f"{name}: no example that matches"
            assert any(match in (None, ("",)) for match in expected), f"{name}: no example that does not match"


@pytest.mark.parametrize(
    "token, code", [("e1165", "E11.65"), ("E11.65", "E11.65"), ("i10", "I10"), ("c7a00", "C7A.00")]
)
def test_canonical(token, code):
    """Guards: codes that differ from the code book's only in spelling."""
    assert canonical(token) == code


@pytest.mark.parametrize(
    "line, position, token",
    [
        ("I10 x", 0, "I10"),
        ("x I10", 2, "I10"),
        ("B12 deficiency", 0, None),
        ("B12.9 x", 0, "B12.9"),
        ("I10-I16", 0, None),
        ("I10 to I16", 0, None),
        ("I10-B12", 0, "I10"),
        ("I10 - x", 0, "I10"),
    ],
)
def test_tokens(line, position, token):
    """Guards: one end of a range, or a vitamin, taken for a code."""
    match = read_token(line, position, known_category)
    assert (match and match[0]) == token


@pytest.mark.parametrize(
    "line, expected",
    [
        ("1. HTN", ("HTN", None)),
        ('- "HTN" -> I10', ("HTN", "I10")),
        ("2) HTN → i10", ("HTN", "I10")),
        ("“chest pain” (R07.9)", ("chest pain", "R07.9")),
        ('1. "none"', ("none", None)),
        ("chest pain (B12)", ("chest pain (B12)", None)),
        ("1. (I10)", ("(I10)", None)),
        ("1. None.", None),
        ("* ", None),
    ],
)
def test_evidence_lines(line, expected):
    """Guards: list marks and quotation marks kept as part of a quotation, links lost or invented."""
    assert read_quotation(line, known_category) == expected


@pytest.mark.parametrize(
    "line, codes, description, references",
    [
        ("I10 Hypertension [1, 2]", ["I10"], "Hypertension", (1, 2)),
        ("I10 x [1] []", ["I10"], "x [1]", ()),
        ("[1, 2] I10 Hypertension", ["I10"], "Hypertension", (1, 2)),
        ("[] I10 Hypertension", ["I10"], "Hypertension", ()),
        ("[1] I10 x [2]", ["I10"], "x [2]", (1,)),
        ("[1] B12 deficiency", [], "deficiency", (1,)),
        ("- 1. **[2] [3]** `i10`: Hypertension", ["i10"], "Hypertension", (2, 3)),
        ("[Evidence: 1 and 3] → Code: I10, E11.9", ["I10", "E11.9"], "", (1, 3)),
        ("[2]: Hypertension (I10)", ["I10"], "Hypertension", (2,)),
        ("[I10] Hypertension [2]", ["I10"], "Hypertension", (2,)),
        ("- **I10**: Hypertension [1]", ["I10"], "Hypertension", (1,)),
        ("Code: e119 - diabetes", ["e119"], "diabetes", ()),
        ("I10, E11.9; N18.9", ["I10", "E11.9", "N18.9"], "", ()),
        ("Hypertension (I10) [3]", ["I10"], "Hypertension", (3,)),
        ("I10 unlike E11.9", ["I10"], "unlike E11.9", ()),
        ("Hypertension [1]", [], "", (1,)),
        ("I10-I16 hypertensive diseases", [], "", ()),
        ("I10 x [1] [3] y [2] [4].**", ["I10"], "x [1] [3] y", (2, 4)),
        ("I10 x [Evidence: 1 and 3][2]", ["I10"], "x", (1, 3, 2)),
        ("I10 x [1] y", ["I10"], "x [1] y", ()),
        ("I10 x [12345]", ["I10"], "x [12345]", ()),
        ("I10 x [1][]", ["I10"], "x [1][]", ()),
    ],
)
def test_code_lines(line, codes, description, references):
    """Guards: a code inside a description counted, a reference read as part of the description."""
    places, parsed_description, numbers = read_code_line(line, known_category)
    assert ([line[start:end] for start, end in places], parsed_description, numbers) == (codes, description, references)


@pytest.mark.parametrize(
    "line, attempt",
    [
        ("250.00 diabetes", True),
        ("- **E1Q** x", True),
        ("I10-I16", True),
        ("[1] 250.00 diabetes", True),
        ("[123] heart failure", False),
        ("Code: 99", False),
        ("heart failure 3", False),
    ],
)
def test_attempts_at_a_code(line, attempt):
    """Guards: words counted as malformed codes, malformed codes counted as words."""
    assert looks_like_code(line) == attempt
    assert every_category("B12") and not known_category("B12")
