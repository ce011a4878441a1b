"""Which English characters are the evidence: projection, completion, and look-up where the alignment fails.

An annotation is carried where the span translates all its content words; where it translates some of them, if those
words alone are annotated elsewhere with a code of the same category ("hipertensión" of "hipertensión arterial", but not
"lesión" of "lesión hepática"); or where a common translation of the phrase stands in the English sentence.

Read next: build.py.
"""

from study.codiesp_en.corpus import Annotation
from study.codiesp_en.lexicon import Lexicon, Neighbours
from study.codiesp_en.phrases import Categories, Translations, complete, content_stems
from study.codiesp_en.projection import (
    Pair,
    Projection,
    annotated_words,
    best_window,
    gains,
    measure,
    strengths,
)
from study.codiesp_en.words import stem

CONFIDENT = 0.8  # projections that need no completion
DOUBTFUL = 0.5  # projections that a common translation elsewhere in the sentence replaces
MOST_WORDS = 12  # of the smallest window over a discontinuous annotation's translation
MOSTLY = 0.75  # of four or more content words, the first among them

Span = tuple[int, int]


class Carrier:
    """Carries annotations over, with what was learned from the aligned corpus."""

    def __init__(self, lexicon: Lexicon, neighbours: Neighbours, categories: Categories):
        self.lexicon = lexicon
        self.neighbours = neighbours
        self.categories = categories
        self.translations = Translations()

    def project(self, pair: Pair, annotation: Annotation) -> Projection | None:
        """The completed projection, accepted or not; None where nothing is translated."""
        inside = annotated_words(pair, annotation)
        within, outside = strengths(pair, self.lexicon, inside)
        window = best_window(gains(pair, within, outside), pair) if inside else None
        if window is None:
            return None
        projection = measure(pair, inside, within, *window)
        if len(annotation.parts) > 1 and len(projection.covered) < len(inside):
            projection = self._widened(pair, inside, within, outside, projection)
        if len(projection.covered) < len(inside) or projection.confidence < CONFIDENT:
            first, last = complete(pair, projection, outside, self.neighbours)
            new = frozenset(inside) if last > projection.last else projection.covered
            projection = Projection(first, last, new, projection.confidence)
        return projection

    def _widened(self, pair, inside, within, outside, projection):
        """The smallest window over all translated words of a discontinuous annotation, where it is short enough."""
        values = gains(pair, within, outside)
        places = [j for j, value in enumerate(values) if value > 0 and pair.english_content[j]]
        first, last = min(places), max(places)
        if last - first >= MOST_WORDS or any(pair.clause_ends[first + 1 : last + 1]):
            return projection
        return measure(pair, inside, within, first, last)

    def names_finding(self, pair: Pair, annotation: Annotation, projection: Projection) -> bool:
        """Whether the translated words suffice."""
        stems = content_stems(annotation.phrase)
        covered = frozenset(stem(pair.spanish[i].text) for i in projection.covered)
        if covered >= stems or self.categories.named_by(covered, annotation.code):
            return True
        inside = annotated_words(pair, annotation)
        return len(stems) >= 4 and len(covered) >= MOSTLY * len(stems) and inside[0] in projection.covered

    def learn(self, pair: Pair, annotation: Annotation) -> None:
        """Counts the translation of an annotation whose every content word is translated."""
        projection = self.project(pair, annotation)
        if projection and len(annotation.parts) == 1 and len(projection.covered) == len(annotated_words(pair, annotation)):
            start, end = self.characters(pair, projection)
            self.translations.add(annotation.phrase, pair.case.english[start:end])

    def carry(self, pair: Pair, annotation: Annotation) -> tuple[Span | None, str]:
        """Half-open characters of the English text, and by what they were found."""
        projection = self.project(pair, annotation)
        common = self.translations.find(pair, annotation)
        if projection and self.names_finding(pair, annotation, projection):
            span = self.characters(pair, projection)
            phrase = pair.case.english[slice(*span)].lower()
            if not common or phrase in self.translations.common(annotation.phrase):
                return span, "projection"
            if overlap(span, common) or projection.confidence < DOUBTFUL:
                return common, "common translation"
            return span, "projection"
        return (common, "look-up") if common else (None, "none")

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
        return start, end


def overlap(first: Span, second: Span) -> bool:
    """Whether two half-open spans share a character."""
    return first[0] < second[1] and second[0] < first[1]
