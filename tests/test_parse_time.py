"""Parsing takes time linear in the answer: a model that is stuck repeats one thing until its length limit."""

import json
import time

import pytest

from minscl.data.parse import parse_document, parse_span

# (beginning, what is repeated, end) of an answer. Each was quadratic or worse.
STUCK = {
    "blanks after a list number": ("Evidence:\n1.", " ", "x\nCodes:\nI10 [1]"),
    "blank lines of another kind after a list number": ("Codes:\n1.", "\v", "x"),
    "blanks before cut references": ("Codes:\nI10 x", " ", "y"),
    "references inside a line": ("Codes:\nI10 ", "[1]", "x"),
    "references before no code": ("Codes:\n", "[1, 2] ", "x"),
    "numbers of references that never close": ("Codes:\n[1", ", 2", "x"),
    "references with blanks": ("Codes:\nHypertension ", "[Evidence: 1, 2] ", "x"),
    "thinking that is closed again and again": ("", "</think>", "I10"),
}


def growth(parse, beginning: str, repeated: str, end: str) -> float:
    """How much longer `parse` takes for eight times as many characters: 8 where it is linear, 64 where quadratic."""

    def seconds(characters: int) -> float:
        text = beginning + repeated * (characters // len(repeated)) + end
        times = []
        for _ in range(5):
            start = time.process_time()
            parse(text)
            times.append(time.process_time() - start)
        return min(times)

    return seconds(6_400) / seconds(800)


@pytest.mark.parametrize("parts", STUCK.values(), ids=STUCK)
def test_a_document_is_parsed_in_linear_time(parts):
    """Guards: minutes for one answer of a model that is stuck on blanks (9 s for 8,000) or on brackets."""
    assert growth(lambda text: parse_document(text, truncated=True), *parts) < 24


def test_a_span_is_parsed_in_linear_time():
    """Guards: a description of blanks, which could end at any of them."""
    assert growth(parse_span, "I10 ", " ", "\nx") < 24


def test_json_with_many_quotations_is_parsed_in_linear_time():
    """Guards: each quotation looked for among all those before it."""

    def parse(text: str) -> None:
        items = [{"code": "I10", "evidence": [f"finding {number}"]} for number in range(len(text))]
        parse_document(json.dumps({"codes": items}))

    assert growth(parse, "", "x", "") < 24
