"""Scores of evidence: MDACE's four metrics (Cheng et al. 2023), CodiEsp-X, overlap matching instead of an LLM judge.

    gold, prediction → MatchCounts of each metric → summed over documents → precision, recall, F1

Only evidence of ICD-10-CM codes counts; codes are normalised. A missing prediction counts as empty.

MDACE: TP, FP and FN by set intersection of keys, here of (document, key): `span_exact_match` (begin, end, code),
`span_position_independent` (lower-cased text, code), `token_exact_match` (token begin, code) and
`token_position_independent` (token, code). P = TP / (TP + FP + 1e-6), R = TP / (TP + FN + 1e-6), F1 = 2PR / (P + R +
1e-6). deviates from MDACE's program, which crashes on a missing prediction and on `²`, truncates a merged span when a
nested one follows, and lets offsets drift on `İ`: here merging takes the larger end, tokens are found before they are
lower-cased, and numbers are what `isdecimal` accepts.

`codiesp_x`: CodiEsp's own score, defined in codiesp_x.py; it never merges or trims spans.

Overlap metrics: defined in overlap.py.

Read next: evidence_spans.py, overlap.py; systems.py, which counts a whole prediction file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from minscl.data.types import CodedDocument
from minscl.score.codiesp_x import CODIESP_X, codiesp_x_counts
from minscl.score.evidence_spans import MatchCounts, Span, spans_of
from minscl.score.overlap import OVERLAP, overlap_counts

EPSILON = 1e-6  # MDACE adds it to denominators
MDACE = ("span_exact_match", "span_position_independent", "token_exact_match", "token_position_independent")
METRICS = (*MDACE, CODIESP_X, *OVERLAP)


def mdace_keys(spans: Iterable[Span]) -> dict[str, set[tuple]]:
    """The set of keys of each MDACE metric for one document. All codes are ICD-10-CM, so keys leave the system out."""
    keys: dict[str, set[tuple]] = {name: set() for name in MDACE}
    for start, end, text, code in spans:
        # a quotation that is not in the document gets a place that no gold key has
        keys["span_exact_match"].add((("not found", text) if start is None else start, end, code))
        keys["span_position_independent"].add((text.lower(), code))
        for match in re.finditer(r"\w+", text):
            token = match[0].lower()
            if token.isdecimal() and int(token) > 10:
                continue
            begin = ("not found", text, match.start()) if start is None else start + match.start()
            keys["token_exact_match"].add((begin, code))
            keys["token_position_independent"].add((token, code))
    return keys


def document_counts(
    gold: CodedDocument, predicted: CodedDocument | None, *, merge: bool = False, trim: bool = False
) -> dict[str, MatchCounts]:
    """The counts of every metric for one document; `merge` and `trim` as for spans_of."""
    gold_spans = spans_of(gold, merge=merge, trim=trim)
    predicted_spans = spans_of(predicted, merge=merge, trim=trim) if predicted is not None else []
    gold_keys, predicted_keys = mdace_keys(gold_spans), mdace_keys(predicted_spans)
    counts = {}
    for name in MDACE:
        shared = len(gold_keys[name] & predicted_keys[name])
        counts[name] = MatchCounts(shared, len(gold_keys[name]), shared, len(predicted_keys[name]))
    right, in_gold, in_prediction = codiesp_x_counts(gold, predicted)
    counts[CODIESP_X] = MatchCounts(right, in_gold, right, in_prediction)
    return counts | overlap_counts(gold_spans, predicted_spans)


def evidence_ratios(name: str, counts: Iterable[float]) -> dict[str, float]:
    """Precision, recall and F1 of summed MatchCounts: with EPSILON for MDACE's metrics alone; 0/0 is 0."""
    gold_matched, gold, predicted_matched, predicted = map(float, counts)
    epsilon = EPSILON if name in MDACE else 0.0
    precision = predicted_matched / (predicted + epsilon) if predicted else 0.0
    recall = gold_matched / (gold + epsilon) if gold else 0.0
    total = precision + recall
    f1 = 2 * precision * recall / (total + epsilon) if total else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def evidence_scores(
    gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument], *, merge: bool = False, trim: bool = False
) -> dict[str, dict[str, float]]:
    """{metric: {"precision", "recall", "f1"}} over all documents, matched by id; `merge` and `trim` as for spans_of."""
    predictions = {document.id: document for document in predicted}
    totals: dict[str, Counter[int]] = {name: Counter() for name in METRICS}
    for document in gold:
        rows = document_counts(document, predictions.get(document.id), merge=merge, trim=trim)
        for name, counts in rows.items():
            totals[name].update(dict(enumerate(counts)))
    return {name: evidence_ratios(name, [total[field] for field in range(4)]) for name, total in totals.items()}
