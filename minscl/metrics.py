"""Scores of codes, written out as set arithmetic. Any 0/0 is 0.

Each document is a *set* of codes on both sides. `micro` sums over all documents and codes; a macro is the unweighted mean of
per-code values over a named label set: `union` (codes in gold or predictions, what scikit-learn does) or `gold`
(codes with gold occurrences). `micro_gold_restricted` ignores predictions of codes that gold never has.

Read next: data/types.py for the documents.
"""

from collections import Counter

from minscl.errors import InputError


def ratios(true_positive: float, false_positive: float, false_negative: float) -> dict[str, float]:
    """Precision, recall and F1 of three counts; 0 where a denominator is 0."""
    predicted, actual = true_positive + false_positive, true_positive + false_negative
    precision = true_positive / predicted if predicted else 0.0
    recall = true_positive / actual if actual else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / total if total else 0.0}


def code_sets(gold, predicted) -> list[tuple[set[str], set[str]]]:
    """(gold codes, predicted codes) a document, matched by id; a gold document without prediction counts as empty.

    Raises InputError for a prediction whose document gold does not know.
    """
    answers = {one.id: {code.code for code in one.codes} for one in predicted}
    unknown = sorted(answers.keys() - {one.id for one in gold})
    if unknown:
        raise InputError(f"prediction for document {unknown[0]!r}, which gold does not have; score against the gold file it was made for")
    return [({code.code for code in one.codes}, answers.get(one.id, set())) for one in gold]


def code_scores(gold, predicted) -> dict[str, dict[str, float]]:
    """Scores of `predicted` (CodedDocuments) against `gold`: micro, macro_union, macro_gold, micro_gold_restricted."""
    pairs = code_sets(gold, predicted)
    counts = {"tp": Counter(), "fp": Counter(), "fn": Counter()}
    for actual, answer in pairs:
        counts["tp"].update(actual & answer)
        counts["fp"].update(answer - actual)
        counts["fn"].update(actual - answer)
    in_gold = set(counts["tp"]) | set(counts["fn"])
    union = in_gold | set(counts["fp"])

    def micro(labels):
        return ratios(*(sum(counts[kind][code] for code in labels) for kind in ("tp", "fp", "fn")))

    def macro(labels):
        each = [ratios(counts["tp"][code], counts["fp"][code], counts["fn"][code]) for code in labels]
        return {name: sum(one[name] for one in each) / len(each) if each else 0.0 for name in ("precision", "recall", "f1")}

    return {"micro": micro(union), "macro_union": macro(union), "macro_gold": macro(in_gold), "micro_gold_restricted": micro(in_gold)}
