"""CodiEsp-X, the evidence score of CLEF eHealth 2020: codes with a place in the text, ten characters of tolerance.

    gold, prediction → pairs of document and code: right, gold's, predicted → summed → precision, recall, F1

A predicted code is right if gold assigns it and one of its predicted spans covers one of gold's spans with at most 10
characters more on each side: 0 ≤ start(gold) − start ≤ 10 and 0 ≤ end − end(gold) ≤ 10. A span that lacks a character
of gold's, or leans over to one side by 11, is wrong. One right span is enough: each side counts (document, code) pairs,
however many spans a code has. P = right / predicted, R = right / gold, over all documents; any 0/0 is 0.

Source: codiespX_evaluation.py of github.com/TeMU-BSC/codiesp-evaluation-script (Miranda-Escalada et al. 2020), which
takes a discontinuous span as the smallest that covers its parts, as our documents do.

Ours, where the program has no rule: a predicted code without a located quotation counts as predicted and is not right
(a row of CodiEsp's submissions has offsets); a code that gold assigns without evidence, as where it could not be
carried over to a translation, is left out on both sides.
deviates: procedures are left out on both sides; a predicted code that the list of codes lacks counts, as it does in the
scores of codes; a prediction for a document that gold does not have is an error.

Read next: evidence.py, the other scores of evidence.
"""

from minscl.data.types import CodedDocument
from minscl.score.codes import read_code

CODIESP_X = "codiesp_x"
TOLERANCE = 10  # characters
Place = tuple[int, int]  # half-open characters


def codiesp_x_counts(gold: CodedDocument, predicted: CodedDocument | None) -> tuple[int, int, int]:
    """(right, gold's, predicted) codes of one document."""
    gold_places = places_by_code(gold)
    predicted_places = places_by_code(predicted) if predicted is not None else {}
    judged = {code: places for code, places in gold_places.items() if places}
    right = sum(
        any(is_right(place, gold_place) for place in predicted_places.get(code, ()) for gold_place in places)
        for code, places in judged.items()
    )
    return right, len(judged), sum(code in judged or code not in gold_places for code in predicted_places)


def places_by_code(document: CodedDocument) -> dict[str, list[Place]]:
    """ICD-10-CM code in canonical form → its located evidence, perhaps none."""
    places: dict[str, list[Place]] = {}
    for assignment in document.codes:
        kind, code = read_code(assignment.code)
        if kind == "cm":
            places.setdefault(code, []).extend(
                (quotation.start, quotation.end)
                for quotation in assignment.evidence
                if quotation.start is not None and quotation.end is not None
            )
    return places


def is_right(predicted: Place, gold: Place) -> bool:
    """Whether `predicted` covers `gold` with at most TOLERANCE characters more on each side."""
    return 0 <= gold[0] - predicted[0] <= TOLERANCE and 0 <= predicted[1] - gold[1] <= TOLERANCE
