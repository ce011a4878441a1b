"""Are scores probabilities? Reliability, calibration error and Brier score of predictions; isotonic regression.

    gold + predictions → (score, right) of each predicted code → ten bins, ECE, Brier     (`evaluate`)
                                                               → Calibration, min_score   (`evaluate --calibrate`)

Isotonic regression (Zadrozny and Elkan, 2002): the non-descending function of the score with the least squared error,
by pooling adjacent violators (Barlow et al., 1972).

deviates: the paper has no scores of codes.

Read next: ../data/calibration.py, which applies the function; plots.py, the reliability diagram.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minscl.data.calibration import DIGITS, Calibration
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.score.codes import code_sets, read_code

BINS = 10


class Bin(NamedTuple):
    """Codes of similar score: how many, their mean score, and the share of them that is right."""

    codes: int
    score: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """How far scores are from frequencies.

    `brier`: mean of (score - right)², right being 0 or 1. `ece`, the expected calibration error: mean over `bins`,
    weighted by their codes, of |score - right|. `bins`: BINS of equal count, by score.
    """

    codes: int
    brier: float
    ece: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict:
        """The JSON object of a report."""
        bins = [part._asdict() for part in self.bins]
        return {"codes": self.codes, "brier": self.brier, "ece": self.ece, "bins": bins}


def scored_codes(gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument]) -> tuple[np.ndarray, np.ndarray]:
    """(scores, right): float64 and bool, one for each predicted ICD-10-CM code that has a score.

    A code is right if its document's gold has it; of a code predicted twice for a document, the higher score counts.
    """
    gold_codes = {document.id: codes for document, (codes, _) in zip(gold, code_sets(gold, predicted), strict=True)}
    rows = []
    for document in predicted:
        scores: dict[str, float] = {}
        for item in document.codes:
            kind, code = read_code(item.code)
            if kind == "cm" and item.score is not None:
                scores[code] = max(item.score, scores.get(code, 0.0))
        rows += [(score, code in gold_codes[document.id]) for code, score in scores.items()]
    return np.array([score for score, _ in rows], dtype=np.float64), np.array([right for _, right in rows], dtype=bool)


def reliability(scores: np.ndarray, right: np.ndarray) -> Reliability | None:
    """The reliability of `scores` (codes,), 0 to 1, of codes that are `right` (codes,) or wrong; None without codes.

    Codes of equal score are alike: where a bin ends among them, both sides get their share of right ones.
    """
    if not len(scores):
        return None
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    share_right = (np.bincount(group, right) / sizes)[group]  # (codes,): of the codes with the same score
    order = np.argsort(scores, kind="stable")
    bins = tuple(
        Bin(len(part), float(scores[part].mean()), float(share_right[part].mean()))
        for part in np.array_split(order, BINS)
        if len(part)
    )
    ece = sum(part.codes * abs(part.score - part.right) for part in bins) / len(scores)
    return Reliability(len(scores), float(np.mean((scores - right) ** 2)), ece, bins)


def isotonic(scores: np.ndarray, right: np.ndarray) -> list[tuple[float, float]]:
    """Points of the non-descending function of `scores` that is nearest to `right` by squared error.

    It is a staircase: each step is a block of codes, at the share of right ones among them. The points are the lowest
    and the highest score of each block.
    """
    values, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    blocks: list[list[float]] = []  # [codes, right ones, lowest score, highest score]
    for value, size, rights in zip(values.tolist(), sizes.tolist(), np.bincount(group, right).tolist(), strict=True):
        blocks.append([size, rights, value, value])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:  # descends: pool both
            size, rights, _, highest = blocks.pop()
            blocks[-1] = [blocks[-1][0] + size, blocks[-1][1] + rights, blocks[-1][2], highest]
    points = [(score, rights / size) for size, rights, lowest, highest in blocks for score in (lowest, highest)]
    return list(dict.fromkeys(points))  # a block of one score has one point


def best_min_score(scores: np.ndarray, right: np.ndarray, gold_codes: int) -> float:
    """The threshold, of 0, 0.01 … 1, with the best micro-F1; the lowest of several. `gold_codes`: how many gold has."""

    def micro_f1(threshold: float) -> float:
        kept = scores >= threshold
        return 2 * int(np.sum(right & kept)) / max(1, int(np.sum(kept)) + gold_codes)

    return max((step / 100 for step in range(101)), key=micro_f1)


def fit(gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument], fitted_on: str) -> Calibration:
    """The calibration of the scores of `predicted`, and the threshold with the best micro-F1 on the same documents.

    `fitted_on`: a name of the documents. Raises InputError for a prediction without gold, where most of gold has no
    prediction, and where no code has a score.
    """
    if 2 * len(predicted) < len(gold):  # codes of notes that are not there count as missed, as in evaluate
        raise InputError(
            f"has {len(predicted):,} of the {len(gold):,} gold documents; code the others too (the same generate "
            "command goes on), or fit on the gold of these"
        )
    scores, right = scored_codes(gold, predicted)
    if not len(scores):
        raise InputError("no predicted code has a score; code the notes with generate --no-calibration")
    points = tuple((score, round(share, DIGITS)) for score, share in isotonic(scores.round(DIGITS), right))
    calibration = Calibration(points, 0.0, fitted_on, len(predicted), len(scores))
    calibrated = np.array([calibration(score) for score in scores])
    gold_codes = sum(len(codes) for codes, _ in code_sets(gold, predicted))
    return dataclasses.replace(calibration, min_score=best_min_score(calibrated, right, gold_codes))
