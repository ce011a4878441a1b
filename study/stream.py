"""The samples of each pretraining step: text, coded documents and span pairs, in shares that change over the run.

    text      a passage of a note, every token a target: language modelling
    document  note → evidence → codes (prompts.py), the note whole or an excerpt (augment.py)
    span      phrase → code

The samples of a step are a pure function of (seed, step), so an interrupted run resumes as if it had not stopped.

Read next: augment.py; pretrain.py.
"""

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Callable, Sequence

from minscl.data.icd import CodeBook
from minscl.data.prompts import render_document_prompt, render_document_target
from minscl.data.sample_types import Sample, TextSample
from minscl.data.samples import encode_sample, span_sample
from minscl.data.types import CodedDocument, Pair
from study.augment import evidence_spans, excerpt, join_documents, join_lines, replace_findings
from study.error_injection import inject_line_errors, mark_unlabelled
from study.evidence_tags import mark_note
from study.quoting import Vocabulary, quote_any, quote_findings, sort_identifiers

WHOLE = 0.15  # of the documents; the others are excerpts, as a small model codes a note (passages in docs/decoding.md)
JOINED = 0.3  # of the excerpts, with an excerpt of another document before or after
PASSAGE = 512  # tokens of a text sample at most
DESCRIPTIONS_UNLABELLED = 0.7  # of the samples: a description follows from its code, and the grammar writes it
DESCRIPTION = re.compile(r"^(?:\[[\d, ]*\] )?[A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?( .+?)(?: \[[\d, ]+\])?$", re.MULTILINE)
LONGEST = 3500  # tokens; a longer document is cut to an excerpt


@dataclasses.dataclass(frozen=True)
class Source:
    """Coded documents of one origin. `weight`: their share of the document tokens; `replaced`: of their documents, how
    many get other findings."""

    name: str
    documents: Sequence[CodedDocument]
    weight: float
    replaced: float = 0.0


class PairPool:
    """Span pairs to draw from. `groups`: (pairs, weight); a code weighs the root of its number of pairs."""

    def __init__(self, groups: Sequence[tuple[Sequence[Pair], float]]):
        self.groups = []
        for pairs, weight in groups:
            by_code: dict[str, list[Pair]] = {}
            for pair in pairs:
                by_code.setdefault(pair.code, []).append(pair)
            roots = itertools.accumulate(math.sqrt(len(pairs_of_code)) for pairs_of_code in by_code.values())
            self.groups.append((list(by_code.values()), list(roots), weight))

    def draw(self, rng: random.Random) -> Pair:
        """A group by weight, one of its codes, one of that code's pairs."""
        [(by_code, roots, _)] = rng.choices(self.groups, weights=[weight for *_, weight in self.groups])
        return rng.choice(rng.choices(by_code, cum_weights=roots)[0])


class Stream:
    """`shares(progress)` → {kind: share of a step's tokens}; kinds: the methods text, quote, identifiers, document,
    span."""

    def __init__(
        self,
        tokenizer,
        texts: Sequence[str],
        sources: Sequence[Source],
        pairs: PairPool,
        shares: Callable[[float], dict[str, float]],
        seed: int,
        *,
        phrases: frozenset[str] = frozenset(),
        step_tokens: int = 6144,
        reference_first: bool = True,
        vocabulary: Vocabulary | None = None,
    ):
        self.tokenizer, self.sources, self.pairs, self.shares, self.seed = tokenizer, sources, pairs, shares, seed
        self.phrases, self.step_tokens, self.reference_first = phrases, step_tokens, reference_first
        self.vocabulary, self.texts = vocabulary, texts
        self.pieces = tokenizer.pieces()
        self.codebook = CodeBook.load()
        self.token_ids = [tuple(tokenizer.encode(text)) for text in texts]

    def samples(self, step: int, progress: float) -> list[Sample]:
        """Samples of about `step_tokens` tokens; `progress`: 0 to 1."""
        rng = random.Random(f"{self.seed}-{step}")
        samples: list[Sample] = []
        for kind, share in self.shares(progress).items():
            tokens, budget = 0, share * self.step_tokens
            while tokens < budget:
                sample = getattr(self, kind)(rng, progress)
                if tokens + len(sample) / 2 > budget and rng.random() < 0.5 and samples:
                    break
                samples.append(sample)
                tokens += len(sample)
        return samples

    def text(self, rng: random.Random, progress: float) -> Sample:
        """Up to PASSAGE consecutive tokens of a text; all but the first are targets."""
        tokens = rng.choice(self.token_ids)
        first = rng.randrange(max(1, len(tokens) - PASSAGE // 2))
        tokens = tokens[first : first + PASSAGE]
        return Sample(tokens[:1], tokens[1:] or tokens[:1], "text")

    def quote(self, rng: random.Random, progress: float) -> Sample:
        """A quoting task on up to 25 lines of a text."""
        assert self.vocabulary, "the kind quote needs a vocabulary"
        lines = rng.choice(self.texts).split("\n")
        number = rng.choice((1, 2, 3, 5, 8, 12, 25))
        first = rng.randrange(max(1, len(lines) - number + 1))
        text = rng.choice((" ", "\n")).join(lines[first : first + number])
        task = quote_findings(text, self.vocabulary) if rng.random() < 0.7 else quote_any(text, rng)
        return encode_sample(self.tokenizer, task)

    def identifiers(self, rng: random.Random, progress: float) -> Sample:
        """Random identifiers to sort."""
        return encode_sample(self.tokenizer, sort_identifiers(rng))

    def span(self, rng: random.Random, progress: float) -> Sample:
        """A span pair."""
        text = span_sample(self.pairs.draw(rng), self.codebook)
        return self.encode(text, text.target, [], rng)

    def document(self, rng: random.Random, progress: float) -> Sample:
        """A coded document, changed as augment.py says, with wrong evidence lines marked as unlabelled."""
        source = rng.choices(self.sources, weights=[source.weight for source in self.sources])[0]
        document = rng.choice(source.documents)
        if rng.random() >= WHOLE:
            document = excerpt(document, rng.choice((1, 2, 3, 5, 8, 12)), rng)
            if rng.random() < JOINED:
                other = excerpt(rng.choice(source.documents), rng.choice((1, 2, 3)), rng)
                document = join_documents(*rng.sample((document, other), 2))
        if rng.random() < 0.5:
            document = join_lines(document, rng.choice((0.5, 1.0)), rng)
        if rng.random() < source.replaced:
            share = rng.choice((0.2, 0.5, 1.0))
            document = replace_findings(document, share, lambda: self.pairs.draw(rng), self.codebook.description, rng)
        sample = self.encode_document(document, rng)
        return sample if len(sample) <= LONGEST else self.encode_document(excerpt(document, 12, rng), rng)

    def encode_document(self, document: CodedDocument, rng: random.Random) -> Sample:
        """The sample of a document: wrong evidence lines have no label, note tokens have tags (evidence_tags.py)."""
        prompt = render_document_prompt(document.text, reference_first=self.reference_first)
        target = render_document_target(document, reference_first=self.reference_first)
        target, offsets = inject_line_errors(target, document.text, self.phrases, rng)
        sample = self.encode(TextSample(prompt, target, "document"), target, offsets, rng)
        spans = {(start, end) for start, end, _ in evidence_spans(document)}
        return mark_note(sample, self.pieces, document.text, prompt, spans)

    def encode(self, text: TextSample, target: str, offsets: list[tuple[int, int]], rng: random.Random) -> Sample:
        """`text` with `target`, unlabelled at `offsets`; so are, mostly, descriptions, which follow from codes."""
        if rng.random() < DESCRIPTIONS_UNLABELLED:
            offsets = offsets + [match.span(1) for match in DESCRIPTION.finditer(target)]
        sample = encode_sample(self.tokenizer, dataclasses.replace(text, target=target))
        return mark_unlabelled(sample, self.pieces, target, offsets)
