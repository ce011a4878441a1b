"""Variety for the training notes: the words around a mention must not decide whether it is recognised.

With a few hundred sentence shapes a small model learns the shapes: it finds a disease in them and nowhere else (F1 0.55
on notes of the training shapes, 0.25 on others). So in part of the training notes the words of affirming sentences are
replaced by words or runs of words from ACI-Bench's training notes, fillers by its sentences, headings by its words, and
sections are shuffled. What remains is the phrase itself and its negation: sentences that deny, warn or speak of
relatives keep their words, and no foreign run has a word that could negate or that belongs to the name of a disease.

Read next: render.py.
"""

import functools
import random
import re
from dataclasses import dataclass
from pathlib import Path

from minscl.data.jsonl import read_jsonl
from minscl.data.types import Note
from study.lexicon import words

SOURCE = Path(__file__).parent / "resources" / "aci_bench_train.jsonl"
# Words that may deny, doubt, warn or refer to somebody else; none is inserted next to a mention.
CUES = frozenset(
    words(
        """
        no not non never none nor nothing nobody neither cannot can't cant don't doesn't didn't isn't wasn't aren't
        weren't hasn't haven't won't wouldn't without denies denied deny denying declines declined negative neg
        absence absent free lack lacks lacking exclude excluded excludes rule ruled rules unlikely rather fails
        failed if unless should risk risks concern watch prevent avoid return call monitor family mother father mom
        dad brother sister aunt uncle son daughter cousin grandmother grandfather parents parent sibling siblings
        maternal paternal wife husband relatives relative history hx h/o former prior previous past versus vs
        possible possibly suspect suspected resolved unremarkable normal
        """
    )
)
COMMON = frozenset(
    words(
        """
        a an the of in on at to for by with and or is was were are has had he she his her him it its this that from
        as be been be who which also then today now
        """
    )
)
WORD = re.compile(r"[A-Za-z][A-Za-z'/-]*")


@dataclass(frozen=True)
class Source:
    """Text of ACI-Bench's training notes: `runs` without CUES and disease words; `sentences` without diseases."""

    runs: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]


@functools.cache
def source(phrases: frozenset[str]) -> Source:
    """The source text. `phrases`: the lower-cased phrases that may be coded (phrases.py)."""
    runs, sentences = [], []
    disease_words = {word for phrase in phrases for word in WORD.findall(phrase)} - COMMON
    for note in read_jsonl(SOURCE, Note):
        for sentence in re.split(r"(?<=[.:?!])\s+|\n+", note.text):
            tokens = WORD.findall(sentence)
            lower = [token.lower() for token in tokens]
            if sentence.isupper():
                continue  # a heading
            if 3 <= len(tokens) <= 30 and phrases.isdisjoint(
                " ".join(lower[a:b]) for a in range(len(tokens)) for b in range(a + 1, a + 8)
            ):
                sentences.append(sentence.strip())
            run: list[str] = []
            for word, low in zip(tokens, lower, strict=True):
                if low in CUES or low in disease_words:
                    runs.append(tuple(run))
                    run = []
                else:
                    run.append(word)
            runs.append(tuple(run))
    return Source(tuple(run for run in runs if run), tuple(dict.fromkeys(sentences)))


@dataclass(frozen=True)
class Variety:
    """How far a note departs from its shapes.

    Shares that are replaced: `runs` of whole literals, `words` of the words of other literals, `fillers` of filler
    sentences, `headings` of headings. `shuffled`: whether sections are.
    """

    rng: random.Random
    source: Source
    words: float
    runs: float
    fillers: float
    headings: float
    shuffled: bool

    @classmethod
    def draw(cls, rng: random.Random, phrases: frozenset[str]) -> "Variety":
        """Random shares for a note; `phrases` as for `source`."""
        return cls(
            rng,
            source(phrases),
            words=rng.choice((0.0, 0.2, 0.5)),
            runs=rng.choice((0.1, 0.4, 0.8)),
            fillers=rng.choice((0.0, 0.3, 0.7)),
            headings=rng.choice((0.0, 0.3, 0.8)),
            shuffled=rng.random() < 0.5,
        )

    def run(self, longest: int) -> str:
        """One to `longest` consecutive words."""
        run = self.rng.choice(self.source.runs)
        number = self.rng.randint(1, longest)
        first = self.rng.randrange(max(1, len(run) - number + 1))
        return " ".join(run[first : first + number])

    def literal(self, text: str) -> str:
        """The literal text of an affirming shape with words replaced; white space and punctuation at its ends stay."""
        if not WORD.search(text):
            return text
        if self.rng.random() < self.runs:
            before, after = re.match(r"[^A-Za-z]*", text).group(), re.search(r"[^A-Za-z]*$", text).group()
            return before + self.run(7) + after
        return WORD.sub(lambda match: self.run(1) if self.rng.random() < self.words else match.group(), text)

    def filler(self) -> str | None:
        """A sentence to replace a filler, or None to keep it."""
        return self.rng.choice(self.source.sentences) if self.rng.random() < self.fillers else None

    def opening(self) -> str:
        """A few words to precede a sentence that denies, or none."""
        if self.rng.random() >= 0.5 * self.runs:
            return ""
        return self.run(5) + self.rng.choice((", ", "; ", " - ", ". ", ": "))

    def heading(self, text: str) -> str:
        """`text`, or other words to replace it."""
        return self.run(3).capitalize() if self.rng.random() < self.headings else text
