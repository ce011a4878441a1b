"""The codes that an invented note is built around: those of a real chart, with some dropped and some added.

Training notes never have a code that occurs in validation or test charts but not in train charts (`held_out`): such
codes are learned from spans alone, as in the paper.

Read next: plan.py.
"""

import functools
import random

from minscl.data.icd import CodeBook
from minscl.data.spans.gold import gold_pairs
from study.charts import read_charts
from study.phrases import PhraseBook
from study.plan import consistent


@functools.cache
def codebook() -> CodeBook:
    """The bundled edition."""
    return CodeBook.load()


@functools.cache
def phrase_book() -> PhraseBook:
    """The phrases of all codes, gold pairs included."""
    return PhraseBook(codebook(), gold_pairs(codebook()))


@functools.cache
def held_out() -> frozenset[str]:
    """Codes of validation and test charts that no train chart has. No training note mentions them."""
    seen = {code for chart in read_charts("train") for code in consistent(dict(chart.codes))}
    evaluated = {
        code for split in ("val", "test") for chart in read_charts(split) for code in consistent(dict(chart.codes))
    }
    return frozenset(evaluated - seen)


@functools.cache
def _train_lists():
    """(consistent code lists of the train charts, their distinct codes, codes with hand-written phrases, all billable
    codes by chapter and category), without held-out codes.

    Drawing a chapter, then a category, then a code keeps the many injury codes from dominating.
    """
    lists = [consistent(code for code, _ in chart.codes) for chart in read_charts("train")]
    hidden = held_out()
    seen = sorted({code for codes in lists for code in codes})
    hand = sorted(set(phrase_book().hand) - hidden)
    chapters: dict[str, dict[str, list[str]]] = {}
    for code in codebook().billable:
        if code not in hidden:
            letter = "injury" if code[0] in "ST" else "cause" if code[0] in "VWXY" else code[0]
            chapters.setdefault(letter, {}).setdefault(code[:3], []).append(code)
    return lists, seen, hand, [list(categories.values()) for categories in chapters.values()]


def random_codes(rng: random.Random, size: str = "note") -> list[str]:
    """Codes for a training note: those of a train chart, some dropped and some added; fewer for a short note."""
    lists, seen, hand, billable = _train_lists()

    def random_code():
        chance = rng.random()
        if chance < 0.35:
            return rng.choice(rng.choice(lists))
        if chance < 0.65:
            return rng.choice(seen)
        return rng.choice(hand) if chance < 0.97 else rng.choice(rng.choice(rng.choice(billable)))

    if size == "sentence":
        codes = [random_code() for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3)))]
    elif size == "paragraph":
        codes = [random_code() for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 4, 5, 6)))]
    else:
        keep = rng.choice((0.3, 0.6, 0.8, 0.9, 1.0))
        codes = [code for code in rng.choice(lists) if rng.random() < keep]
        codes += [random_code() for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4, 6)))]
        if rng.random() < 0.03:
            codes = []
    hidden = held_out()
    return [code for code in consistent(codes) if code not in hidden][:30]
