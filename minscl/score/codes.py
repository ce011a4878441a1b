"""Scores of codes, as set arithmetic over counts. Any 0/0 is 0; every macro names its label set.

    documents → sets of normalised codes → a Tally of true positives, false positives, false negatives → counts a code → scores

`micro` sums over all documents and codes. A macro is the unweighted mean of per-code values over `union` (codes in gold or predictions, what scikit-learn
does) or `gold` (codes with gold occurrences). `micro_gold_restricted` leaves out predictions of codes that gold never has, as Edin et al. (2023)
do; only `macro_union` charges codes that are made up. The bootstrap resamples documents, and with them the macro label sets.
deviates: the SCL paper does not say over which codes its macro-F1 is taken.

Read next: evidence.py; evaluate.py, which prints them.
"""

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np

from minscl.data.icd import CodeBook
from minscl.errors import InputError
from minscl.score.code_groups import chapter_of, cm_codes, read_code
from minscl.score.evidence import evidence_scores

__all__ = [
    "NAMES",
    "Tally",
    "all_scores",
    "bootstrap_rows",
    "chapter_of",
    "code_scores",
    "code_sets",
    "evidence_scores",
    "listed",
    "mapped",
    "per_chapter",
    "read_code",
    "scores_of",
    "tally",
]

NAMES = ("micro", "macro_union", "macro_gold", "micro_gold_restricted")


def code_sets(gold, predicted, dropped: Counter | None = None) -> list[tuple[frozenset[str], frozenset[str]]]:
    """(gold codes, predicted codes) a gold document, matched by id; a gold document without prediction counts as empty.

    PCS and malformed codes are left out, and counted in `dropped`. Raises InputError for a prediction whose document gold does not know.
    """
    answers, dropped = {one.id: one for one in predicted}, Counter() if dropped is None else dropped
    unknown = sorted(answers.keys() - {one.id for one in gold})
    if unknown:
        raise InputError(
            f"prediction for document {unknown[0]!r}, which gold does not have; score against the gold file it was made for"
        )

    def codes(document, side: str) -> frozenset[str]:
        read = [read_code(one.code) for one in document.codes] if document else []
        dropped.update(f"{side} {kind}" for kind, _ in read if kind != "cm")
        return frozenset(code for kind, code in read if kind == "cm")

    return [(codes(one, "gold"), codes(answers.get(one.id), "predicted")) for one in gold]


def listed(sets) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The sets without the predictions that the Tabular List lacks. Gold is never filtered."""
    book = CodeBook.load()
    return [(gold, frozenset(code for code in found if book.description(code) is not None)) for gold, found in sets]


@dataclass(frozen=True)
class Tally:
    """Where the true positives, false positives and false negatives are: for each kind, parallel arrays of document and label numbers."""

    labels: tuple[str, ...]
    documents: int
    events: tuple[tuple[np.ndarray, np.ndarray], ...]

    def counts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(3, labels): how often each label was right, wrong and missed; `weights`: how often each document counts."""
        return np.stack(
            [
                np.bincount(labels, None if weights is None else weights[documents], len(self.labels))
                for documents, labels in self.events
            ]
        )

    @functools.cached_property
    def chapters(self) -> tuple[list[str], np.ndarray]:
        """The chapters that occur, in order, and for each label the place of its own among them."""
        each = [chapter_of(label) for label in self.labels]
        order = sorted(set(each), key=lambda one: (not one.isdigit(), one.zfill(2)))
        return order, np.array([order.index(one) for one in each], dtype=np.int64)


def tally(sets) -> Tally:
    """The events of (gold, predicted) sets of labels, one pair a document."""
    labels = sorted(frozenset().union(*(one for pair in sets for one in pair)))
    number = {label: place for place, label in enumerate(labels)}
    events = []
    for pick in (lambda gold, found: gold & found, lambda gold, found: found - gold, lambda gold, found: gold - found):
        rows = [(document, number[label]) for document, pair in enumerate(sets) for label in pick(*pair)]
        events.append(tuple(np.array([row[column] for row in rows], dtype=np.int64) for column in range(2)))
    return Tally(tuple(labels), len(sets), tuple(events))


def scores_of(counts: np.ndarray) -> np.ndarray:
    """(4, 3): precision, recall and F1 in the order of NAMES, from counts (3, labels)."""
    right, wrong, missed = counts
    in_gold = right + missed > 0
    each = _ratios(right, wrong, missed)  # (3, labels)
    union = in_gold | (wrong > 0)
    return np.stack(
        [
            _ratios(right.sum(), wrong.sum(), missed.sum()),
            _mean(each, union),
            _mean(each, in_gold),
            _ratios(right.sum(), wrong[in_gold].sum(), missed.sum()),
        ]
    )


def _ratios(right, wrong, missed) -> np.ndarray:
    """(3, ...) float64: precision, recall and F1 of counts; 0 where a denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.nan_to_num(right / (right + wrong)), np.nan_to_num(right / (right + missed))
        return np.stack([precision, recall, np.nan_to_num(2 * precision * recall / (precision + recall))])


def _mean(each: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return each[:, kept].mean(axis=1) if kept.any() else np.zeros(3)


def all_scores(counts: np.ndarray, labels, fixed=None, f1_of_averages: bool = False) -> dict[str, np.ndarray]:
    """{metric: (precision, recall, F1)} of `counts` (3, labels): NAMES, and on request, for comparison with older work,

    macro_fixed, the macro over the codes of `fixed`, one that never occurs being 0; and macro_f1_of_averages, whose F1 is that of macro_union's
    precision and recall.
    """
    found = dict(zip(NAMES, scores_of(counts), strict=True))
    if fixed is not None:
        inside = np.array([label in fixed for label in labels], dtype=bool)
        found["macro_fixed"] = _ratios(*counts[:, inside]).sum(axis=1) / max(1, len(fixed))
    if f1_of_averages:
        precision, recall, _ = map(float, found["macro_union"])
        found["macro_f1_of_averages"] = np.array(
            [precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0]
        )
    return found


def code_scores(
    gold, predicted, *, fixed=None, unlisted: bool = True, f1_of_averages: bool = False
) -> dict[str, dict[str, float]]:
    """Scores of `predicted` (CodedDocuments) against `gold`: {metric: {precision, recall, f1}}; see all_scores for what `fixed` (codes as people
    write them) and `f1_of_averages` add. unlisted=False leaves out predictions that the Tabular List lacks.
    """
    sets = code_sets(gold, predicted)
    table = tally(sets if unlisted else listed(sets))
    found = all_scores(table.counts(), table.labels, None if fixed is None else cm_codes(fixed), f1_of_averages)
    return {name: dict(zip(("precision", "recall", "f1"), map(float, row), strict=True)) for name, row in found.items()}


def bootstrap_rows(documents: int, rounds: int, seed: int) -> np.ndarray:
    """(rounds, documents): which documents each round draws, with replacement. The same for every system, so that differences are paired."""
    return np.random.RandomState(seed).randint(documents, size=(rounds, documents))


def mapped(sets, level: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The sets at a higher `level`, "category" or "chapter", each label once a document."""
    up = (lambda code: code[:3]) if level == "category" else chapter_of
    return [(frozenset(map(up, gold)), frozenset(map(up, found))) for gold, found in sets]


def per_chapter(table: Tally, counts: np.ndarray) -> dict[str, np.ndarray]:
    """{chapter: (precision, recall, F1)}, micro over the full codes of each chapter that occurs; `counts` (3, labels) are those of `table`."""
    order, places = table.chapters
    sums = [np.bincount(places, row, len(order)) for row in counts]
    return dict(zip(order, _ratios(*sums).T, strict=True))
