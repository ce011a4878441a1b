"""What the aligned corpus says about its words: how well two of them translate each other, and which go before a noun.

Read next: projection.py.
"""

import math
from collections import Counter
from collections.abc import Iterable

from study.codiesp_en.words import cognates, root

DISCOUNT = 0.7  # of each count, so that a pair linked once is hardly known
RELIABLE = 2 / 3  # share of the votes that makes a link count


class Lexicon:
    """Translation probabilities of roots, from the links that most runs agree on."""

    def __init__(self, sentences: Iterable[tuple[list[str], list[str], dict]]):
        """`sentences` yields Spanish words, English words and their links."""
        self.pairs: Counter = Counter()
        self.spanish: Counter = Counter()
        self.english: Counter = Counter()
        for spanish, english, links in sentences:
            for (i, j), votes in links.items():
                if votes >= RELIABLE:
                    pair = root(spanish[i]), root(english[j])
                    self.pairs[pair] += 1
                    self.spanish[pair[0]] += 1
                    self.english[pair[1]] += 1

    def probability(self, spanish: str, english: str) -> float:
        """The geometric mean of p(English | Spanish) and p(Spanish | English), discounted; 1 for cognates, numbers."""
        if cognates(spanish, english):
            return 1.0
        pair = root(spanish), root(english)
        count = self.pairs[pair] - DISCOUNT
        return max(0.0, count / (1 + math.sqrt(self.spanish[pair[0]] * self.english[pair[1]])))


class Neighbours:
    """How often a content word follows directly on an English word, and on which word."""

    def __init__(self, texts: Iterable[list[tuple[str, bool]]]):
        """`texts` yields (word in lower case, whether a content word follows it directly) of each text in order."""
        self.seen: Counter = Counter()
        self.followed: Counter = Counter()
        self.together: Counter = Counter()
        for text in texts:
            for (word, followed), (following, _) in zip(text, [*text[1:], ("", False)], strict=True):
                self.seen[word] += 1
                if followed:
                    self.followed[word] += 1
                    self.together[word, following] += 1

    def premodifier(self, word: str) -> float:
        """The share of occurrences that a content word follows: near 1 for "abdominal", near 0 for "fever"."""
        return self.followed[word] / (self.seen[word] + 2)

    def attached(self, word: str, following: str) -> float:
        """The share of occurrences of `following` that come after `word`: near 1 for "basal" and "cell"."""
        return self.together[word, following] / (self.seen[following] + 2)
