"""Scores of codes: set arithmetic over counts of true positives (TP), false positives (FP) and false negatives (FN).

    documents → sets of normalised codes → Tally of TP, FP, FN → counts per code → precision, recall, F1

For a code or a sum over codes, P = TP / (TP + FP), R = TP / (TP + FN), F1 = 2PR / (P + R); any 0/0 is 0. Metrics and
their label sets:

- `micro`: TP, FP, FN summed over all documents and codes.
- `macro_union`: unweighted mean of per-code P, R and F1 over the codes in gold or predictions, as scikit-learn does.
  The only macro that penalises hallucinated codes.
- `macro_gold`: the same mean over the codes that occur in gold. False positives of these codes count.
- `micro_gold_restricted`: micro over the codes that occur in gold, as Edin et al. (2023) score.
- `macro_fixed`, on request: the mean over a supplied list, in which a code that never occurs scores 0 (older work).
- `macro_f1_of_averages`, on request, as in older work: the F1 of macro_union's mean precision and mean recall.

deviates: the SCL paper does not state the label set of its macro-F1, so both macros are reported.

Read next: code_groups.py for seen and unseen codes; evidence.py; systems.py, which applies both to a prediction file.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minscl.data.icd import CodeBook
from minscl.data.icd.codebook import is_procedure
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument
from minscl.errors import InputError

COLUMNS = ("precision", "recall", "f1")

LabelSets = list[tuple[frozenset[str], frozenset[str]]]  # (gold labels, predicted labels) of each document


@functools.cache
def read_code(text: str) -> tuple[str, str]:
    """(kind, code): ("cm", canonical code), ("pcs", "") or ("malformed", "").

    A well-formed ICD-10-CM code that the Tabular List lacks is "cm" too: predicting it is a false positive.
    """
    code = CodeBook.load().normalise(text)
    if code:
        return "cm", code
    return ("pcs" if is_procedure(text) else "malformed"), ""


def cm_codes(texts: Iterable[str]) -> frozenset[str]:
    """The ICD-10-CM codes among `texts`, in canonical form."""
    return frozenset(code for kind, code in map(read_code, texts) if kind == "cm")


@functools.cache
def chapter_of(code: str) -> str:
    """The number of the chapter whose official range holds the code's category; "?" outside all 22 ranges."""
    return next((number for number, first, last in chapter_ranges() if first <= code[:3] <= last), "?")


@functools.cache
def chapter_ranges() -> tuple[tuple[str, str, str], ...]:
    """(number, first category, last category) of each chapter, from its sections; categories compare as strings."""
    book, ranges = CodeBook.load(), []
    for number in range(1, 23):
        sections = [name.removeprefix("section ").split("-") for name in book.children(str(number))]
        ends = sorted(end for section in sections for end in (section[0], section[-1]))
        ranges.append((str(number), ends[0], ends[-1]))
    return tuple(ranges)


def code_sets(gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument]) -> LabelSets:
    """(gold codes, predicted codes) of each gold document, matched by id; canonical ICD-10-CM only.

    A gold document without prediction has an empty predicted set. Raises InputError for a prediction whose document
    gold does not have.
    """
    predictions = {document.id: document for document in predicted}
    unknown = sorted(predictions.keys() - {document.id for document in gold})
    if unknown:
        raise InputError(
            f"prediction for document {show_id(unknown[0])}, which gold does not have; "
            "score against the gold file it was made for, or add --gold-notes-only"
        )

    def codes(document: CodedDocument | None) -> frozenset[str]:
        return cm_codes(assignment.code for assignment in document.codes) if document else frozenset()

    return [(codes(document), codes(predictions.get(document.id))) for document in gold]


def dropped_codes(gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument]) -> dict[str, int]:
    """How many codes code_sets leaves out, by side and kind: "gold pcs", "predicted malformed", …"""
    predictions = {document.id: document for document in predicted}
    dropped: Counter[str] = Counter()
    for gold_document in gold:
        for side, document in (("gold", gold_document), ("predicted", predictions.get(gold_document.id))):
            kinds = [read_code(assignment.code)[0] for assignment in document.codes] if document else []
            dropped.update(f"{side} {kind}" for kind in kinds if kind != "cm")
    return dict(dropped)


def drop_unlisted(sets: LabelSets, codebook: CodeBook | None = None) -> LabelSets:
    """The sets without predicted codes that the code set (None: the default edition) lacks. Gold is never filtered."""
    book = codebook or CodeBook.load()
    return [
        (gold, frozenset(code for code in predicted if book.description(code) is not None)) for gold, predicted in sets
    ]


def to_level(sets: LabelSets, level: str) -> LabelSets:
    """The sets with each code replaced by its "category" (three characters) or "chapter", once per document."""
    ancestor = (lambda code: code[:3]) if level == "category" else chapter_of
    return [(frozenset(map(ancestor, gold)), frozenset(map(ancestor, predicted))) for gold, predicted in sets]


@dataclass(frozen=True)
class Tally:
    """Every TP, FP and FN. `events`: for each of the three, parallel int64 arrays of document and label indices."""

    labels: tuple[str, ...]
    events: tuple[tuple[np.ndarray, np.ndarray], ...]

    def counts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(3, labels): TP, FP, FN of each label. `weights` (documents,): how often each document counts."""
        return np.stack(
            [
                np.bincount(labels, None if weights is None else weights[documents], len(self.labels))
                for documents, labels in self.events
            ]
        )

    @functools.cached_property
    def chapters(self) -> tuple[list[str], np.ndarray]:
        """The chapters that occur, in order, and for each label the index of its chapter among them (int64)."""
        chapters = [chapter_of(label) for label in self.labels]
        order = sorted(set(chapters), key=lambda chapter: (not chapter.isdigit(), chapter.zfill(2)))
        return order, np.array([order.index(chapter) for chapter in chapters], dtype=np.int64)


def tally(sets: LabelSets) -> Tally:
    """The events of (gold, predicted) label sets, one pair per document."""
    labels = sorted(frozenset().union(*(side for pair in sets for side in pair)))
    index_of = {label: index for index, label in enumerate(labels)}
    events = []
    for kind in (
        [gold & predicted for gold, predicted in sets],
        [predicted - gold for gold, predicted in sets],
        [gold - predicted for gold, predicted in sets],
    ):
        rows = [(document, index_of[label]) for document, members in enumerate(kind) for label in members]
        documents, indices = (np.array([row[column] for row in rows], dtype=np.int64) for column in range(2))
        events.append((documents, indices))
    return Tally(tuple(labels), tuple(events))


def scores_from_counts(
    counts: np.ndarray,
    labels: Sequence[str] = (),
    *,
    fixed: frozenset[str] | None = None,
    f1_of_averages: bool = False,
) -> dict[str, np.ndarray]:
    """{metric: (precision, recall, F1)} of `counts` (3, labels): the metrics listed at the top of this file.

    `fixed`: canonical codes; adds macro_fixed, in which a code that is not among `labels` scores 0. `f1_of_averages`:
    adds macro_f1_of_averages.
    """
    tp, fp, fn = counts
    in_gold = tp + fn > 0
    per_code = _ratios(tp, fp, fn)  # (3, labels)
    scores = {
        "micro": _ratios(tp.sum(), fp.sum(), fn.sum()),
        "macro_union": _mean(per_code, in_gold | (fp > 0)),
        "macro_gold": _mean(per_code, in_gold),
        "micro_gold_restricted": _ratios(tp.sum(), fp[in_gold].sum(), fn.sum()),
    }
    if fixed is not None:
        in_list = np.array([label in fixed for label in labels], dtype=bool)
        scores["macro_fixed"] = per_code[:, in_list].sum(axis=1) / max(1, len(fixed))
    if f1_of_averages:
        precision, recall, _ = map(float, scores["macro_union"])
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores["macro_f1_of_averages"] = np.array([precision, recall, f1])
    return scores


def _ratios(tp, fp, fn) -> np.ndarray:
    """(3, ...) float64: precision, recall and F1 of counts; 0 where a denominator is 0."""
    precision, recall = _divide(tp, tp + fp), _divide(tp, tp + fn)
    return np.stack([precision, recall, _divide(2 * precision * recall, precision + recall)])


def _divide(numerator, denominator) -> np.ndarray:
    """float64: the quotient; 0 where the denominator is 0, as every numerator here is 0 then."""
    return numerator / (denominator + (denominator == 0))


def _mean(per_code: np.ndarray, label_set: np.ndarray) -> np.ndarray:
    """(3,): means of `per_code` (3, labels) over the boolean mask `label_set`; 0 where it is empty."""
    return per_code @ label_set / max(1, np.count_nonzero(label_set))


def per_chapter(table: Tally, counts: np.ndarray) -> dict[str, np.ndarray]:
    """{chapter: (precision, recall, F1)}: micro over the full codes of each chapter that occurs.

    `counts` (3, labels) are those of `table`.
    """
    order, chapter_indices = table.chapters
    sums = [np.bincount(chapter_indices, row, len(order)) for row in counts]
    return dict(zip(order, _ratios(*sums).T, strict=True))


def named_columns(row: Iterable[float]) -> dict[str, float]:
    """(precision, recall, F1) as {"precision", "recall", "f1"} of plain floats."""
    return dict(zip(COLUMNS, map(float, row), strict=True))


def code_scores(
    gold: Sequence[CodedDocument],
    predicted: Sequence[CodedDocument],
    *,
    fixed: Iterable[str] | None = None,
    unlisted: bool = True,
    f1_of_averages: bool = False,
) -> dict[str, dict[str, float]]:
    """{metric: {"precision", "recall", "f1"}} of `predicted` against `gold`, documents matched by id.

    `fixed`: codes in any spelling, adds macro_fixed, the macro over them. `unlisted=False` drops predicted codes that
    the Tabular List lacks; `f1_of_averages` adds macro_f1_of_averages.
    Raises InputError for a prediction whose document gold does not have.
    """
    sets = code_sets(gold, predicted)
    table = tally(sets if unlisted else drop_unlisted(sets))
    label_set = None if fixed is None else cm_codes(fixed)
    scores = scores_from_counts(table.counts(), table.labels, fixed=label_set, f1_of_averages=f1_of_averages)
    return {name: named_columns(row) for name, row in scores.items()}
