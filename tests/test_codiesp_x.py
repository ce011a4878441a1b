"""CodiEsp's evidence score against a naive count of rows, as its program counts them, and examples by hand."""

import random

import pytest

from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.score.codiesp_x import codiesp_x_counts
from minscl.score.evidence import evidence_scores

TEXT = "x" * 400
CODES = ("I10", "E11.9", "J18.9", "R69", "N20.0")


def document(id="1", **spans):
    """A document; `spans`: code, dot or not → (start, end) of its evidence, None for a quotation without a place."""
    codes = [Assignment(code, "", tuple(map(evidence, places))) for code, places in spans.items()]
    return CodedDocument(id, TEXT, tuple(codes))


def evidence(place):
    """The evidence at `place`, (start, end) or None."""
    return Evidence(TEXT[slice(*place)], *place) if place else Evidence("not in the text", None, None)


@pytest.mark.parametrize(
    "place, right",
    [
        ((100, 120), 1),
        ((90, 130), 1),  # ten characters more on each side
        ((89, 120), 0),
        ((100, 131), 0),
        ((101, 120), 0),  # a character of gold's is missing: the program's tolerance is for longer spans alone
        ((100, 119), 0),
        ((99, 119), 0),
    ],
)
def test_a_span_covers_golds_with_ten_characters_to_spare(place, right):
    """Guards: tolerance on the inner side, a limit of 9 or 11, the two sides added up."""
    assert codiesp_x_counts(document(I10=[(100, 120)]), document(I10=[place])) == (right, 1, 1)


def test_pairs_of_document_and_code_are_counted_not_spans():
    """Guards: a code counted once per span, a right span of another code, codes compared with their dots and case."""
    gold = document(I10=[(0, 10), (50, 60)], E119=[(20, 30)], R69=[(70, 80)])
    predicted = document(i10=[(48, 62), (300, 310)], E119=[(0, 10)], J189=[(20, 30)])
    assert codiesp_x_counts(gold, predicted) == (1, 3, 3)
    scores = evidence_scores([gold, document("2", N200=[(5, 9)])], [predicted])["codiesp_x"]
    assert scores == {"precision": 1 / 3, "recall": 1 / 4, "f1": pytest.approx(2 / 7)}


def test_codes_without_a_place():
    """Guards: a code without evidence that costs no precision, and gold that nothing can reach."""
    gold = document(I10=[(0, 10)], E119=[])
    assert codiesp_x_counts(gold, document(I10=[])) == (0, 1, 1)
    assert codiesp_x_counts(gold, document(I10=[None])) == (0, 1, 1)
    assert codiesp_x_counts(gold, document(I10=[(0, 10)], E119=[(20, 30)])) == (1, 1, 1)
    assert codiesp_x_counts(gold, None) == (0, 1, 0)
    assert codiesp_x_counts(document(**{"0BH17EZ": [(0, 10)]}), document(**{"0BH17EZ": [(0, 10)]})) == (0, 0, 0)


def test_spans_are_neither_merged_nor_trimmed():
    """Guards: --merge and --trim, which are MDACE's, in a score that has neither."""
    text = "HTN, DM."
    gold = CodedDocument("1", text, (Assignment("I10", "", (Evidence("HTN,", 0, 4), Evidence("DM.", 5, 8))),))
    short = CodedDocument("1", text, (Assignment("I10", "", (Evidence("HTN", 0, 3),)),))
    for options in ({}, {"trim": True}, {"merge": True, "trim": True}):
        assert evidence_scores([gold], [short], **options)["codiesp_x"]["f1"] == 0.0


def test_random_documents_score_as_rows_that_are_joined():
    """Guards: counts that differ from a plain join of rows by document and code, as the program makes it."""
    generator = random.Random(0)

    def rows():
        for number in range(30):
            for _ in range(generator.randint(0, 6)):
                start = generator.randint(0, 60)
                yield f"{number}", generator.choice(CODES), start, start + generator.randint(1, 25)

    def documents(table):
        spans = {str(number): {} for number in range(30)}
        for id, code, *place in table:
            spans[id].setdefault(code, []).append(place)
        return [document(id, **spans_by_code) for id, spans_by_code in spans.items()]

    all_right = 0
    for _ in range(20):
        gold, predicted = list(rows()), list(rows())
        right = {
            row[:2]
            for row in predicted
            for other in gold
            if row[:2] == other[:2] and other[2] - row[2] in range(11) and row[3] - other[3] in range(11)
        }
        counts = [codiesp_x_counts(*pair) for pair in zip(documents(gold), documents(predicted), strict=True)]
        pairs = {row[:2] for row in gold}, {row[:2] for row in predicted}
        assert tuple(map(sum, zip(*counts, strict=True))) == (len(right), *map(len, pairs))
        all_right += len(right)
    assert all_right > 40
