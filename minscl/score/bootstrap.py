"""The paired bootstrap: documents are resampled with replacement and every score is recomputed, label sets included.

    rows (rounds, documents) → how often each document counts → {Metric: (rounds, 3)} → 95% intervals

All systems get the same rows, so that the difference of two systems is paired.

Read next: systems.py for the scores of one round; report.py, which writes the intervals.
"""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from minscl.score.systems import Metric, System

ROUNDS = 1000
PERCENTILES = (2.5, 97.5)  # of a 95% interval; linear interpolation between ranks

Samples = dict[Metric, np.ndarray]  # (rounds, 3): precision, recall, F1 of each round


def bootstrap_rows(documents: int, rounds: int, seed: int) -> np.ndarray:
    """(rounds, documents) int64: the indices of the documents that each round draws."""
    return np.random.RandomState(seed).randint(documents, size=(rounds, documents))


def bootstrap(systems: Sequence[System], rows: np.ndarray) -> list[Samples]:
    """The samples of each system. `rows` (rounds, documents): indices of gold's documents, sorted by id."""
    rounds: list[dict[Metric, list[np.ndarray]]] = [{} for _ in systems]
    for drawn in tqdm(rows, desc="bootstrap", unit="round", leave=False):
        weights = np.bincount(drawn, minlength=rows.shape[1]).astype(np.float64)
        for system, samples in zip(systems, rounds, strict=True):
            for metric, row in system.scores(weights).items():
                samples.setdefault(metric, []).append(row)
    return [{metric: np.stack(values) for metric, values in samples.items()} for samples in rounds]


def percentile_interval(samples: np.ndarray) -> list[list[float]]:
    """[low, high] of precision, recall and F1, from `samples` (rounds, 3)."""
    return np.percentile(samples, PERCENTILES, axis=0).T.tolist()
