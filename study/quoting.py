"""Quoting tasks without codes, for a base that has never seen one: what an instruction-tuned LLM can do before SCL.

    any        n passages of the note, chosen at random, word for word and in note order
    findings   every passage that the Alphabetic Index names, longest first: "Alveolitis, lung, allergic" without J67.9

And one without a note: random identifiers in the shape of codes, in alphabetical order.

Read next: stream.py.
"""

import random
import re
import string
from collections import Counter
from collections.abc import Sequence

from minscl.data.prompts import render_evidence
from minscl.data.sample_types import TextSample

ANY = "Quote {} passages of this note word for word, numbered, in note order."
FINDINGS = "Quote each finding of this note word for word, numbered, in note order."
SORT = "Write these identifiers in alphabetical order, numbered."
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
LONGEST_PHRASE = 7  # words


class Vocabulary:
    """The phrases that may be quoted as findings."""

    def __init__(self, phrases: Sequence[str], texts: Sequence[str], common_share: float = 0.35):
        """`phrases` of the Index; single words that `common_share` of the `texts` have are no findings."""
        words = Counter(word for text in texts for word in {match[0].lower() for match in WORD.finditer(text)})
        self.phrases: set[tuple[str, ...]] = set()
        for phrase in phrases:
            parts = [match[0].lower() for match in WORD.finditer(phrase)]
            if len(parts) > 1 or (parts and len(parts[0]) > 3 and words[parts[0]] < common_share * len(texts)):
                self.phrases.add(tuple(parts))

    def findings(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of the longest phrases, from left to right, without overlap."""
        words, spans, index = list(WORD.finditer(text)), [], 0
        lower = [word[0].lower() for word in words]
        while index < len(words):
            for length in range(min(LONGEST_PHRASE, len(words) - index), 0, -1):
                if tuple(lower[index : index + length]) in self.phrases:
                    spans.append((words[index].start(), words[index + length - 1].end()))
                    index += length - 1
                    break
            index += 1
        return spans


def quote_findings(text: str, vocabulary: Vocabulary) -> TextSample:
    """The task "findings" for `text`."""
    quotations = [text[start:end] for start, end in vocabulary.findings(text)]
    return TextSample(f"{FINDINGS}\n\n{text}", render_evidence(quotations).removesuffix("\nCodes:\n"), "quote")


def quote_any(text: str, rng: random.Random) -> TextSample:
    """The task "any" for `text`: one to eight passages of one to six words."""
    words = list(WORD.finditer(text)) or [next(re.finditer(r"(?s).*", text))]  # without a word: all of it
    number = min(rng.randint(1, 8), max(1, len(words) // 8))
    starts = sorted(rng.sample(range(len(words)), number))
    passages = []
    for start in starts:
        end = min(start + rng.randint(1, 6), len(words))
        passages.append(text[words[start].start() : words[end - 1].end()])
    return TextSample(f"{ANY.format(number)}\n\n{text}", render_evidence(passages).removesuffix("\nCodes:\n"), "quote")


def sort_identifiers(rng: random.Random) -> TextSample:
    """The task of three to twelve identifiers."""
    identifiers = dict.fromkeys(identifier(rng) for _ in range(rng.randint(3, 12)))  # each once, in this order
    prompt = f"{SORT}\n\n{', '.join(identifiers)}"
    return TextSample(prompt, render_evidence(sorted(identifiers)).removesuffix("\nCodes:\n"), "quote")


def identifier(rng: random.Random) -> str:
    """A letter, two digits, and mostly a point and one to four more: the shape of a code, drawn without a code set."""
    tail = "".join(rng.choices("0123456789", k=rng.choice((0, 1, 1, 2, 2, 3, 3))))
    letter = rng.choice(("", "", "", "A", "D", "S")) if len(tail) == 3 else ""
    return rng.choice(string.ascii_uppercase) + f"{rng.randrange(100):02}" + (f".{tail}{letter}" if tail else "")
