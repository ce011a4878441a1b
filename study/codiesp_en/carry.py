"""Which English characters are the evidence: projection, completion, and look-up where the alignment fails.

An annotation is carried where the span translates all its content words; where it translates some of them, if those
words alone are annotated elsewhere with a code of the same category ("hipertensión" of "hipertensión arterial", but not
"lesión" of "lesión hepática"), or the English words are a term of the Alphabetic Index for it, or what other such
annotations become; or where a common translation of the phrase, or a phrase that elsewhere means just this code, stands
in the English sentence. The parts of a discontinuous annotation ("piel ... lesiones") become one span, where all of it
is within a clause and a dozen words, or else a span each.

Read next: build.py.
"""

import re

from study.codiesp_en.corpus import Annotation
from study.codiesp_en.lexicon import Lexicon, Neighbours
from study.codiesp_en.phrases import (
    MOSTLY_SAME,
    PREMODIFIER,
    SAME_CATEGORY,
    TWICE,
    Categories,
    CodeNames,
    Span,
    Translations,
    complete,
    content_roots,
    ends_noun_phrase,
    is_privative,
    joined,
)
from study.codiesp_en.projection import (
    Pair,
    Projection,
    annotated_words,
    best_window,
    gains,
    measure,
    strengths,
)
from study.codiesp_en.words import ENGLISH_FUNCTION_WORDS, ENGLISH_VERBS, SPANISH_FUNCTION_WORDS, root

DOUBTFUL = 0.5  # confidence below which a common translation elsewhere in the sentence replaces the projection
TOO_DOUBTFUL = 0.4  # confidence below which it is given up, unless the English phrase is known for such codes
ADJECTIVE = 0.85  # share of occurrences before a content word from which a word is no noun even at a phrase's end
STRONGLY = 0.6  # strength from which a word certainly belongs to something outside
NOUN = 0.4  # share of occurrences before a content word up to which a word is a noun
COORDINATION = re.compile(r",|\b(?:and|or)\b")
CLAUSE_WORDS = frozenset(["is", "are", "was", "were", "has", "had", "which", "that", "who"])
PARTICIPLES = frozenset(["affecting", "associated", "extending", "involving", "located"])  # "stones located in the ..."
MOST_WORDS = 12  # of the smallest window over all that a discontinuous annotation is translated to
MOST_WORDS_CONTINUOUS = 7  # "pulmonary and inguinal lymph nodes" for "adenopatías pulmonares"
SUFFIXES = ("like", "mute", "dependent", "diosis", "zoster", "infectious")  # of hyphenated words
MOSTLY = 0.75  # of four or more content words, the first among them


class Carrier:
    """Carries annotations over, with what was learned from the aligned corpus."""

    def __init__(self, lexicon: Lexicon, neighbours: Neighbours, categories: Categories, index: Categories):
        """`categories` knows the annotated Spanish phrases, `index` the terms of the Alphabetic Index."""
        self.lexicon = lexicon
        self.neighbours = neighbours
        self.categories = categories
        self.index = index
        self.translations = Translations()
        self.english_categories = Categories(ENGLISH_FUNCTION_WORDS)
        self.namings = CodeNames()

    def project(self, pair: Pair, annotation: Annotation) -> Projection | None:
        """The completed projection, accepted or not; None where nothing is translated."""
        inside = annotated_words(pair, annotation)
        within, outside = strengths(pair, self.lexicon, inside)
        window = best_window(gains(pair, within, outside), pair) if inside else None
        if window is None:
            return None
        projection = measure(pair, inside, within, *window)
        if len(projection.covered) < len(inside):
            most = MOST_WORDS if len(annotation.parts) > 1 else MOST_WORDS_CONTINUOUS
            projection = widen(pair, inside, within, gains(pair, within, outside), projection, most)
        return measure(pair, inside, within, *complete(pair, projection, outside, self.neighbours))

    def names_finding(self, pair: Pair, annotation: Annotation, projection: Projection) -> bool:
        """Whether the English words suffice as evidence of the annotation's code."""
        start, end = self.characters(pair, projection)
        phrase = pair.case.english[start:end]
        if is_privative(phrase, annotation) or self.swallows(pair, annotation, projection):
            return False
        english = content_roots(phrase, ENGLISH_FUNCTION_WORDS)
        roots = content_roots(annotation.phrase, SPANISH_FUNCTION_WORDS)
        covered = frozenset(root(pair.spanish[i].text) for i in projection.covered)
        first = annotated_words(pair, annotation)[0]
        mostly = len(roots) >= 4 and len(covered) >= MOSTLY * len(roots) and first in projection.covered
        mostly = mostly and all(touches(pair, projection.covered, part) for part in annotation.parts)
        if len(annotation.parts) > 1 and not covered >= roots:
            return mostly or self.categories.share(covered, annotation.code) >= MOSTLY_SAME
        if self.english_categories.include(english, annotation.code, TWICE):
            return True
        if self.index.include(english, annotation.code, 1):
            return True
        recurs = self.translations.recurs(annotation.phrase, phrase)
        if recurs and len(english) >= len(roots) and ends_noun_phrase(pair, projection.last, self.neighbours):
            return True
        if projection.confidence < TOO_DOUBTFUL:
            return False
        return mostly or covered >= roots or self.categories.share(covered, annotation.code) >= SAME_CATEGORY

    def swallows(self, pair: Pair, annotation: Annotation, projection: Projection) -> bool:
        """Whether the span holds a second finding: a conjunction or comma, and a noun that is not the annotation's."""
        start, end = self.characters(pair, projection)
        if not COORDINATION.search(pair.case.english[start:end]):
            return False
        _, outside = strengths(pair, self.lexicon, annotated_words(pair, annotation))
        return any(
            outside[j] >= STRONGLY and self.neighbours.premodifier(pair.english[j].text.lower()) < NOUN
            for j in range(projection.first + 1, projection.last)
        )

    def learn(self, pairs: list[Pair], annotation: Annotation) -> None:
        """Counts the translation of a continuous annotation, unless it ends before the noun."""
        pair = find_pair(pairs, annotation)
        projection = self.project(pair, annotation) if pair and len(annotation.parts) == 1 else None
        if not projection or not projection.covered or not ends_noun_phrase(pair, projection.last, self.neighbours):
            return
        start, end = self.characters(pair, projection)
        whole = len(projection.covered) == len(annotated_words(pair, annotation))
        self.translations.add(annotation.phrase, pair.case.english[start:end], whole=whole)
        if whole and projection.confidence >= DOUBTFUL:
            self.english_categories.add(pair.case.english[start:end], annotation.code)
            self.namings.add(pair.case.english[start:end], annotation.code)

    def carry(self, pairs: list[Pair], annotation: Annotation) -> tuple[list[Span], str]:
        """Half-open characters of the English text: no span, one, or one a part; and how they were found.

        `pairs` are the case's.
        """
        pair = find_pair(pairs, annotation)
        span, method = self._carry_whole(pair, annotation) if pair else (None, "no sentence")
        if len(annotation.parts) == 1 or method == "projection" or not pairs:
            return [span] if span else [], method
        text = pairs[0].case.spanish
        parts = [Annotation(annotation.code, text[start:end], ((start, end),)) for start, end in annotation.parts]
        spans = [self._carry_part(pairs, part) for part in parts]
        if all(spans):
            return sorted(set(spans)), "parts"
        return [span] if span else [], method

    def _carry_whole(self, pair: Pair, annotation: Annotation) -> tuple[Span | None, str]:
        """One span for the annotation."""
        projection = self.project(pair, annotation)
        common = self.translations.find(pair, annotation)
        if not projection or not self.names_finding(pair, annotation, projection):
            if common:
                return common, "look-up"
            named = self.namings.find(pair, annotation)
            return named, "named by code" if named else "none"
        span = self.translations.containing(pair, annotation, self.characters(pair, projection))
        phrase = pair.case.english[slice(*span)].lower()
        uncommon = common is not None and phrase not in self.translations.common(annotation.phrase)
        if uncommon and (overlap(span, common) or projection.confidence < DOUBTFUL):
            return common, "common translation"
        whole = len(projection.covered) == len(annotated_words(pair, annotation))
        whole = whole and all(touches(pair, projection.covered, part) for part in annotation.parts)
        return span, "projection" if whole else "part of the words"

    def _carry_part(self, pairs: list[Pair], part: Annotation) -> Span | None:
        """The span of one part, if all of it is translated and a noun is last: not "right" of "right ... mass"."""
        pair = find_pair(pairs, part)
        projection = pair and self.project(pair, part)
        if not projection or len(projection.covered) < len(annotated_words(pair, part)):
            return None
        share = self.neighbours.premodifier(pair.english[projection.last].text.lower())
        if share >= (PREMODIFIER if joined(pair, projection.last + 1) else ADJECTIVE):
            return None
        return self.characters(pair, projection)

    def characters(self, pair: Pair, projection: Projection) -> Span:
        """The characters of a projection, with the rest of a hyphenated word and a bracket that it opens or closes."""
        text = pair.case.english
        start, end = pair.english[projection.first].start, pair.english[projection.last].end
        inner = text[start:end]
        if inner.count("(") > inner.count(")") and text[end : end + 1] == ")":
            end += 1
        if projection.first and text[start - 1] == "-" and pair.english_content[projection.first - 1]:
            before = pair.english[projection.first - 1]
            if before.end == start - 1 and before.text.isalpha() and before.text.lower() != "year":
                start = before.start
        after = projection.last + 1
        if after < len(pair.english) and pair.gap(after) == "-" and pair.english[after].text in SUFFIXES:
            end = pair.english[after].end
        return start, end


def find_pair(pairs: list[Pair], annotation: Annotation) -> Pair | None:
    """The pair that holds the longest part of the annotation; None where its sentence is not translated."""
    start = max(annotation.parts, key=lambda part: (part[1] - part[0], part))[0]
    return next((pair for pair in pairs if pair.spanish[0].start <= start < pair.spanish[-1].end), None)


def touches(pair: Pair, covered: frozenset[int], part: Span) -> bool:
    """Whether one of the covered Spanish words is in a part of the annotation."""
    return any(part[0] <= pair.spanish[i].start < part[1] for i in covered)


def widen(pair: Pair, inside, within, values, projection: Projection, most: int) -> Projection:
    """The smallest window over all translated words of an annotation, if it is within a clause and `most` words."""
    places = [j for j, value in enumerate(values) if value > 0 and pair.english_content[j]]
    first, last = min(places), max(places)
    if last - first >= most or any(pair.clause_ends[first + 1 : last + 1]):
        return projection
    if any(word.text.lower() in CLAUSE_WORDS | ENGLISH_VERBS - PARTICIPLES for word in pair.english[first : last + 1]):
        return projection
    wide = measure(pair, inside, within, first, last)
    return wide if len(wide.covered) > len(projection.covered) else projection


def overlap(first: Span, second: Span) -> bool:
    """Whether two half-open spans share a character."""
    return first[0] < second[1] and second[0] < first[1]
