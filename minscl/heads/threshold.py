"""One threshold for the probabilities of all codes, the one with the best micro-F1 on validation notes.

    micro-F1 = 2 TP / (assigned codes + gold codes), over all notes

Source: Edin et al. tune one decision boundary, the best of 100 from 0 to 1; PLM-ICD reports several. Ours: every
division of the probabilities that occur is tried, so none is missed, and the threshold lies midway between the two at
the best one, so that rounding moves no code across it. Gold codes outside the head's labels count as not assigned.

Read next: train.py, which calls it once, after the last step.
"""

from collections.abc import Iterable

import torch

DEFAULT = 0.5  # without validation notes


def best_threshold(scored: Iterable[tuple[float, bool]], gold_codes: int) -> tuple[float, float]:
    """(the threshold, its micro-F1): codes with a probability of at least the threshold are assigned.

    `scored`: (probability, whether gold has it) of each code of each note. `gold_codes`: codes of gold. Of equal
    values the highest threshold; (DEFAULT, 0.0) where none assigns a right code.
    """
    ranked = sorted(scored, reverse=True)
    best, best_f1, right = DEFAULT, 0.0, 0
    for assigned, (score, is_right) in enumerate(ranked, 1):
        right += is_right
        following = ranked[assigned][0] if assigned < len(ranked) else 0.0
        if assigned < len(ranked) and following == score:  # a threshold cannot divide equal scores
            continue
        f1 = 2 * right / (assigned + gold_codes)
        if f1 > best_f1:
            best, best_f1 = (score + following) / 2, f1
    return best, best_f1


def scored_codes(probabilities: torch.Tensor, rows: Iterable[int]) -> list[tuple[float, bool]]:
    """(probability, whether it is one of `rows`) of every code of a note; probabilities (L,)."""
    gold = set(rows)
    return [(score, row in gold) for row, score in enumerate(probabilities.tolist())]
