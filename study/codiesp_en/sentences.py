"""Sentences of both languages and their alignment, by dynamic programming over shared stems and lengths.

A translation is one line a sentence, but its sentences are not always the Spanish ones: they were merged after an
abbreviation, and "1." stands for an empty line. After Gale and Church (1993), with shared stems and numbers as
Melamed's and Moore's aligners have them.

Read next: alignment.py.
"""

import math
import re
from collections import Counter

from study.codiesp_en.words import stem, words

SPANISH_END = re.compile(r"(?<=[^\s.]{2}[.!?])[\"”»)]*\s+(?=[\"“«(¿¡]*[A-ZÁÉÍÓÚÑ])|\n+")
ENGLISH_END = re.compile(r"\n+")

# (Spanish sentences, English sentences) of a pair, with what it costs to choose it; shared stems earn up to 1
MOVES = {(1, 1): 0.0, (2, 1): 0.1, (3, 1): 0.2, (1, 2): 0.15, (1, 3): 0.3, (2, 2): 0.4, (1, 0): 0.05, (0, 1): 0.05}
LENGTH_WEIGHT = 0.25
BAND = 25  # sentences off the diagonal

Span = tuple[int, int]


def split_sentences(text: str, boundary: re.Pattern) -> list[Span]:
    """Half-open character offsets of the sentences; stretches of white space are left out."""
    edges = [0]
    for match in boundary.finditer(text):
        edges += [match.start(), match.end()]
    edges.append(len(text))
    spans = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in spans if text[start:end].strip()]


def stem_counts(text: str, span: Span) -> Counter:
    """The stems of a sentence that may recur in its translation: of numbers and of words of four letters or more."""
    return Counter(stem(word.text) for word in words(text, *span) if len(word.text) > 3 or word.text[0].isdigit())


def rarity(documents: list[set[str]]) -> dict[str, float]:
    """log(1 + documents / documents with the stem): how much a shared stem says."""
    frequency = Counter(stem for document in documents for stem in document)
    return {stem: math.log(1 + len(documents) / count) for stem, count in frequency.items()}


def align_sentences(spanish, english, weight) -> list[tuple[Span, Span]]:
    """The best-scoring sequence of pairs ((first, last), (first, last)) of half-open sentence numbers.

    `spanish` and `english` list (stem counts, length in characters) of the sentences in order, `weight` maps a stem to
    its rarity. Sentences without a counterpart are in no pair.
    """
    size = len(spanish), len(english)
    totals = [[_prefix_sums(mass(side, weight)), _prefix_sums(length for _, length in side)]
              for side in (spanish, english)]  # fmt: skip
    (mass_s, length_s), (mass_e, length_e) = totals
    ratio = length_e[-1] / max(length_s[-1], 1)
    shared: dict[Span, float] = {}

    def overlap(i, j):
        if (i, j) not in shared:
            small, large = sorted((spanish[i][0], english[j][0]), key=len)
            shared[i, j] = sum(weight[key] * min(n, large[key]) for key, n in small.items() if key in large)
        return shared[i, j]

    def gain(i, a, j, b):
        both = mass_s[a] - mass_s[i], mass_e[b] - mass_e[j]
        common = min(sum(overlap(k, m) for k in range(i, a) for m in range(j, b)), *both)
        lengths = (length_e[b] - length_e[j] + 5) / ((length_s[a] - length_s[i]) * ratio + 5)
        return 2 * common / (sum(both) + 1e-9) - LENGTH_WEIGHT * abs(math.log(lengths)) + 0.1

    best = {(0, 0): (0.0, (0, 0))}  # state: (score, state before)
    for i in range(size[0] + 1):
        diagonal = i * size[1] // max(size[0], 1)
        for j in range(max(0, diagonal - BAND), min(size[1], diagonal + BAND) + 1):
            if (i, j) not in best:
                continue
            for (rows, columns), cost in MOVES.items():
                a, b = i + rows, j + columns
                if a > size[0] or b > size[1]:
                    continue
                score = best[i, j][0] - cost + (gain(i, a, j, b) if rows and columns else 0)
                if (a, b) not in best or score > best[a, b][0]:
                    best[a, b] = score, (i, j)
    if size not in best:
        return [((0, size[0]), (0, size[1]))]  # far off the diagonal: one pair
    pairs, state = [], size
    while state != (0, 0):
        before = best[state][1]
        pairs.append(((before[0], state[0]), (before[1], state[1])))
        state = before
    return [pair for pair in reversed(pairs) if all(first < last for first, last in pair)]


def mass(side, weight):
    """The weight of the stems of each sentence."""
    return (sum(weight[key] * n for key, n in counts.items()) for counts, _ in side)


def _prefix_sums(values):
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return sums
