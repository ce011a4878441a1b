"""study.passages: which score a code has of several runs, and the best threshold."""

import pytest

from study.passages import best_micro_f1, highest


def test_a_code_has_its_highest_score():
    """Guards: a code lost that only one run found, the last run's score."""
    runs = [{("a", "I10"): 0.9, ("a", "J45.909"): 0.1}, {("a", "I10"): 0.3, ("b", "I10"): 0.2}]
    assert highest(runs) == {("a", "I10"): 0.9, ("a", "J45.909"): 0.1, ("b", "I10"): 0.2}


def test_the_best_threshold():
    """Guards: gold codes that no run found not counted as missed, a threshold that leaves its own score out."""
    gold = {("a", "I10"), ("b", "I10"), ("b", "E11.9")}
    scores = {("a", "I10"): 0.6, ("b", "I10"): 0.5, ("a", "J45.909"): 0.4}
    f1, threshold = best_micro_f1(gold, scores)
    assert (f1, threshold) == (pytest.approx(2 * 2 / (2 + 3)), 0.5)
    assert best_micro_f1(gold, {("c", "R51.9"): 0.9})[0] == 0
