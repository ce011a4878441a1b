"""Scores of codes, as set arithmetic over counts. Any 0/0 is 0; every macro names its label set.

    documents → sets of normalised codes → a Tally of true positives, false positives, false negatives → counts a code → scores

`micro` sums over all documents and codes. A macro is the unweighted mean of per-code values over `union` (codes in gold or predictions, what scikit-learn
does) or `gold` (codes with gold occurrences). `micro_gold_restricted` leaves out predictions of codes that gold never has, as Edin et al. (2023)
do; only `macro_union` charges codes that are made up. The bootstrap resamples documents, and with them the macro label sets.
deviates: the SCL paper does not say over which codes its macro-F1 is taken.

Read next: evidence.py; evaluate.py, which prints them.
"""

import functools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np

from minscl.data.icd import CodeBook
from minscl.errors import InputError
from minscl.evidence import evidence_scores

__all__ = ["Tally", "bootstrap_rows", "code_scores", "code_sets", "evidence_scores", "per_chapter", "ratios", "score_names", "scores_of", "tally"]

_PCS = re.compile(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}")
NAMES = ("micro", "macro_union", "macro_gold", "micro_gold_restricted")


def ratios(true_positive: float, false_positive: float, false_negative: float) -> dict[str, float]:
    """Precision, recall and F1 of three counts; 0 where a denominator is 0."""
    predicted, actual = true_positive + false_positive, true_positive + false_negative
    precision = true_positive / predicted if predicted else 0.0
    recall = true_positive / actual if actual else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / total if total else 0.0}


@functools.cache
def read_code(text: str) -> tuple[str, str]:
    """(kind, code): "cm" with the canonical code, or "pcs" or "malformed". A well-formed code that the List lacks is kept as it is."""
    code = CodeBook.load().normalise(text)
    if code:
        return "cm", code
    bare = re.sub(r"[\s.]", "", unicodedata.normalize("NFKC", text)).upper()
    return ("pcs" if _PCS.fullmatch(bare) else "malformed"), ""


def code_sets(gold, predicted, dropped: Counter | None = None) -> list[tuple[frozenset[str], frozenset[str]]]:
    """(gold codes, predicted codes) a gold document, matched by id; a gold document without prediction counts as empty.

    PCS and malformed codes are left out, and counted in `dropped`. Raises InputError for a prediction whose document gold does not know.
    """
    answers, dropped = {one.id: one for one in predicted}, Counter() if dropped is None else dropped
    unknown = sorted(answers.keys() - {one.id for one in gold})
    if unknown:
        raise InputError(f"prediction for document {unknown[0]!r}, which gold does not have; score against the gold file it was made for")

    def codes(document, side: str) -> frozenset[str]:
        read = [read_code(one.code) for one in document.codes] if document else []
        dropped.update(f"{side} {kind}" for kind, _ in read if kind != "cm")
        return frozenset(code for kind, code in read if kind == "cm")

    return [(codes(one, "gold"), codes(answers.get(one.id), "predicted")) for one in gold]


@dataclass(frozen=True)
class Tally:
    """Where the true positives, false positives and false negatives are: for each kind, parallel arrays of document and label numbers."""

    labels: tuple[str, ...]
    documents: int
    events: tuple[tuple[np.ndarray, np.ndarray], ...]

    def counts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(3, labels): how often each label was right, wrong and missed; `weights`: how often each document counts."""
        return np.stack([np.bincount(labels, None if weights is None else weights[documents], len(self.labels)) for documents, labels in self.events])


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
    return np.stack([_ratios(right.sum(), wrong.sum(), missed.sum()), _mean(each, union), _mean(each, in_gold),
                     _ratios(right.sum(), wrong[in_gold].sum(), missed.sum())])


def _ratios(right, wrong, missed) -> np.ndarray:
    """`ratios` of arrays: (3, ...) float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.nan_to_num(right / (right + wrong)), np.nan_to_num(right / (right + missed))
        return np.stack([precision, recall, np.nan_to_num(2 * precision * recall / (precision + recall))])


def _mean(each: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return each[:, kept].mean(axis=1) if kept.any() else np.zeros(3)


def score_names(scores: np.ndarray) -> dict[str, dict[str, float]]:
    """{metric: {precision, recall, f1}} of scores_of's array."""
    return {name: dict(zip(("precision", "recall", "f1"), map(float, row), strict=True)) for name, row in zip(NAMES, scores, strict=True)}


def code_scores(gold, predicted, *, fixed=None, unlisted: bool = True, f1_of_averages: bool = False) -> dict[str, dict[str, float]]:
    """Scores of `predicted` (CodedDocuments) against `gold`: micro, macro_union, macro_gold, micro_gold_restricted.

    For comparison with older work, on request: `fixed`, a list of codes, adds macro_fixed, the macro over that list; `f1_of_averages` adds
    macro_f1_of_averages, whose F1 is that of macro_union's precision and recall; unlisted=False leaves out predictions that the List lacks.
    """
    sets = code_sets(gold, predicted)
    if not unlisted:
        book = CodeBook.load()
        sets = [(actual, frozenset(code for code in found if book.description(code) is not None)) for actual, found in sets]
    found = score_names(scores_of(tally(sets).counts()))
    if fixed is not None:
        labels = frozenset(fixed)
        table = tally(restricted(sets, labels))
        sums = _ratios(*table.counts()).sum(axis=1) if table.labels else np.zeros(3)  # a label that never occurs adds 0
        found["macro_fixed"] = dict(zip(("precision", "recall", "f1"), map(float, sums / max(1, len(labels))), strict=True))
    if f1_of_averages:
        precision, recall = found["macro_union"]["precision"], found["macro_union"]["recall"]
        found["macro_f1_of_averages"] = {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0}
    return found


def bootstrap_rows(documents: int, rounds: int, seed: int) -> np.ndarray:
    """(rounds, documents): which documents each round draws, with replacement. The same for every system, so that differences are paired."""
    return np.random.RandomState(seed).randint(documents, size=(rounds, documents))


def mapped(sets, level: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The sets at a higher `level`, "category" or "chapter", each label once a document."""
    up = (lambda code: code[:3]) if level == "category" else chapter_of
    return [(frozenset(map(up, gold)), frozenset(map(up, found))) for gold, found in sets]


def restricted(sets, labels) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The sets with the codes of one group alone, on both sides."""
    labels = frozenset(labels)
    return [(gold & labels, found & labels) for gold, found in sets]


@functools.cache
def chapter_of(code: str) -> str:
    """The official chapter range that the category lies in, compared as text; "?" outside all."""
    return next((number for number, first, last in chapter_ranges() if first <= code[:3] <= last), "?")


@functools.cache
def chapter_ranges() -> tuple[tuple[str, str, str], ...]:
    """(number, first category, last category) of each chapter, from its sections."""
    book, found = CodeBook.load(), []
    for number in range(1, 23):
        sections = [name.removeprefix("section ").split("-") for name in book.children(str(number))]
        ends = sorted(end for section in sections for end in (section[0], section[-1]))
        found.append((str(number), ends[0], ends[-1]))
    return tuple(found)


def per_chapter(sets) -> dict[str, dict[str, float]]:
    """Micro precision, recall and F1 of the full codes of each chapter that occurs."""
    table = tally(sets)
    counts, chapters = table.counts(), [chapter_of(label) for label in table.labels]
    order = sorted(set(chapters), key=lambda one: (not one.isdigit(), int(one) if one.isdigit() else 0))
    return {one: ratios(*(float(row[[chapter == one for chapter in chapters]].sum()) for row in counts)) for one in order}
