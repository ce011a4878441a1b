"""Scores of evidence: MDACE's four metrics (Cheng et al. 2023), CodiEsp-X, overlap matching instead of an LLM judge.

    gold, prediction → MatchCounts of each metric → summed over documents → precision, recall, F1

Only evidence of ICD-10-CM codes counts; codes are normalised. A missing prediction counts as empty.

MDACE: TP, FP and FN by set intersection of keys, here of (document, key): `span_exact_match` (begin, end, code),
`span_position_independent` (lower-cased text, code), `token_exact_match` (token begin, code) and
`token_position_independent` (token, code). P = TP / (TP + FP + 1e-6), R = TP / (TP + FN + 1e-6), F1 = 2PR / (P + R +
1e-6). deviates from MDACE's program, which crashes on a missing prediction and on `²`, truncates a merged span when a
nested one follows, and lets offsets drift on `İ`: here merging takes the larger end, tokens are found before they are
lower-cased, and numbers are what `isdecimal` accepts.

`codiesp_x`: CodiEsp's own score, defined in codiesp_x.py; it never merges or trims spans.

Overlap: `overlap_*` spans match if their token sequences are equal, or share a contiguous run of more than half of the
shorter one's tokens that contains a content token; `offset_*` spans match if they share a character. `agnostic` ignores
codes, `per_code` compares only spans of the same code. `one_to_one` is the size of a maximum bipartite matching,
`many_to_one` counts the spans of each side with any match, `exact` those with equal tokens. Any 0/0 is 0.
deviates: the paper's Table 4 asks GPT-5.1 and states no cardinality; these scores do not reproduce it.

Read next: systems.py, which counts a whole prediction file.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from minscl.data.types import CodedDocument, Evidence
from minscl.score.codes import read_code
from minscl.score.codiesp_x import CODIESP_X, codiesp_x_counts

FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "due", "for", "in", "is", "of", "on", "or", "p", "s", "the", "to", "was", "with")
)
PUNCTUATION = re.compile(r"[\s!-/:-@\[-`{-~]*")  # ASCII punctuation and white space
TRIMMED = "-.,/ \n\t"  # stripped at both ends of a span, with ")" at the start and "(" at the end
EPSILON = 1e-6  # MDACE adds it to denominators
MDACE = ("span_exact_match", "span_position_independent", "token_exact_match", "token_position_independent")
CODE_MODES = ("agnostic", "per_code")
OVERLAP = (
    *(f"overlap_{mode}_{matching}" for mode in CODE_MODES for matching in ("one_to_one", "many_to_one", "exact")),
    *(f"offset_{mode}_{matching}" for mode in CODE_MODES for matching in ("one_to_one", "many_to_one")),
)
METRICS = (*MDACE, CODIESP_X, *OVERLAP)

Tokens = tuple[str, ...]
Place = tuple[int, int] | str  # (start, end), or the text of a quotation that is not in the document
Item = TypeVar("Item", Tokens, Place)


class Span(NamedTuple):
    """A quotation with its code. `start` and `end` (half-open characters) are None where it is not in the document."""

    start: int | None
    end: int | None
    text: str
    code: str


class MatchCounts(NamedTuple):
    """How many spans (or keys) of each side there are, and how many of them match the other side."""

    gold_matched: int
    gold: int
    predicted_matched: int
    predicted: int


def spans_of(document: CodedDocument, *, merge: bool = False, trim: bool = False) -> list[Span]:
    """The evidence of each ICD-10-CM code, code by code, the code in canonical form.

    `merge`: spans of a code with nothing but ASCII punctuation or white space between them become one. `trim`: strip
    punctuation off both ends; an empty rest stays a span.
    deviates: MDACE merges within a note. A document that is a whole admission does not record where its notes begin, so
    a span that ends a note and one of the same code that begins the next are merged.
    """
    evidence_of: dict[str, list[Evidence]] = {}
    for assignment in document.codes:
        kind, code = read_code(assignment.code)
        if kind == "cm":
            evidence_of.setdefault(code, []).extend(assignment.evidence)
    spans: list[Span] = []
    for code, evidence in evidence_of.items():
        offsets = sorted(
            (quotation.start, quotation.end)
            for quotation in evidence
            if quotation.start is not None and quotation.end is not None
        )
        if merge:
            offsets = _merged(offsets, document.text)
        code_spans = [Span(start, end, document.text[start:end], code) for start, end in offsets]
        code_spans += [Span(None, None, quotation.text, code) for quotation in evidence if quotation.start is None]
        spans += map(_trimmed, code_spans) if trim else code_spans
    return spans


def _merged(offsets: Sequence[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """Sorted `offsets` with those that overlap, or have only punctuation between them, joined."""
    merged: list[tuple[int, int]] = []
    for start, end in offsets:
        if merged and (start <= merged[-1][1] or PUNCTUATION.fullmatch(text, merged[-1][1], start)):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _trimmed(span: Span) -> Span:
    rest = span.text.lstrip(TRIMMED + ")")
    text = rest.rstrip(TRIMMED + "(")
    if span.start is None:
        return Span(None, None, text, span.code)
    start = span.start + len(span.text) - len(rest)
    return Span(start, start + len(text), text, span.code)


def mdace_keys(spans: Iterable[Span]) -> dict[str, set[tuple]]:
    """The set of keys of each MDACE metric for one document. All codes are ICD-10-CM, so keys leave the system out."""
    keys: dict[str, set[tuple]] = {name: set() for name in MDACE}
    for start, end, text, code in spans:
        # a quotation that is not in the document gets a place that no gold key has
        keys["span_exact_match"].add((("not found", text) if start is None else start, end, code))
        keys["span_position_independent"].add((text.lower(), code))
        for match in re.finditer(r"\w+", text):
            token = match[0].lower()
            if token.isdecimal() and int(token) > 10:
                continue
            begin = ("not found", text, match.start()) if start is None else start + match.start()
            keys["token_exact_match"].add((begin, code))
            keys["token_position_independent"].add((token, code))
    return keys


def tokens_of(text: str) -> Tokens:
    """The tokens that overlap matching compares: NFKC, casefolded, `\\w+`."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def tokens_overlap(a: Tokens, b: Tokens) -> bool:
    """Whether spans match: equal tokens, or a shared run of min(len) // 2 + 1 tokens, one of them a content token."""
    if a == b:
        return True
    length = min(len(a), len(b)) // 2 + 1
    runs = {a[start : start + length] for start in range(len(a) - length + 1)}
    return any(
        b[start : start + length] in runs and any(map(_is_content, b[start : start + length]))
        for start in range(len(b) - length + 1)
    )


def _is_content(token: str) -> bool:
    return token not in FUNCTION_WORDS and any(character.isalpha() for character in token)


def offsets_overlap(a: Place, b: Place) -> bool:
    """Whether two (start, end) share a character; a quotation that is not in the document shares none."""
    return isinstance(a, tuple) and isinstance(b, tuple) and max(a[0], b[0]) < min(a[1], b[1])


def maximum_matching(neighbours: Sequence[Sequence[int]]) -> int:
    """The size of a maximum bipartite matching; neighbours[i]: the right nodes that left node i may be matched with.

    Augmenting paths (Kuhn 1955), without recursion.
    """
    match_of: dict[int, int] = {}  # right node → its left node
    for root in range(len(neighbours)):
        reached_from: dict[int, int] = {}  # right node → the left node that the search came from
        stack, free = [root], None
        while stack and free is None:
            left = stack.pop()
            for right in neighbours[left]:
                if right not in reached_from:
                    reached_from[right] = left
                    if right not in match_of:
                        free = right
                        break
                    stack.append(match_of[right])
        right_of = {left: right for right, left in match_of.items()}
        while free is not None:  # flip the edges of the augmenting path, back to its root
            left = reached_from[free]
            match_of[free], free = left, right_of.get(left)
    return len(match_of)


def overlap_counts(gold: Sequence[Span], predicted: Sequence[Span]) -> dict[str, MatchCounts]:
    """The counts of each metric of OVERLAP for one document.

    Spans are de-duplicated by tokens (spans without tokens are discarded) or by offsets, with the code in `per_code`.
    """
    counts: dict[str, MatchCounts] = {}
    for mode in CODE_MODES:

        def key_code(span: Span, mode=mode) -> str:
            return span.code if mode == "per_code" else ""

        gold_tokens, predicted_tokens = (
            list(dict.fromkeys((tokens, key_code(span)) for span in spans if (tokens := tokens_of(span.text))))
            for spans in (gold, predicted)
        )
        equal = len(set(gold_tokens) & set(predicted_tokens))
        counts |= _match_counts(f"overlap_{mode}", gold_tokens, predicted_tokens, tokens_overlap)
        counts[f"overlap_{mode}_exact"] = MatchCounts(equal, len(gold_tokens), equal, len(predicted_tokens))
        gold_places, predicted_places = (
            list(dict.fromkeys((_place(span), key_code(span)) for span in spans)) for spans in (gold, predicted)
        )
        counts |= _match_counts(f"offset_{mode}", gold_places, predicted_places, offsets_overlap)
    return counts


def _place(span: Span) -> Place:
    return span.text if span.start is None or span.end is None else (span.start, span.end)


def _match_counts(
    name: str,
    gold: Sequence[tuple[Item, str]],
    predicted: Sequence[tuple[Item, str]],
    is_match: Callable[[Item, Item], bool],
) -> dict[str, MatchCounts]:
    """The counts NAME_one_to_one and NAME_many_to_one of two lists of (item, code)."""
    neighbours = [
        [index for index, (b, b_code) in enumerate(predicted) if a_code == b_code and is_match(a, b)]
        for a, a_code in gold
    ]
    matching = maximum_matching(neighbours)
    gold_matched, predicted_matched = sum(map(bool, neighbours)), len({index for row in neighbours for index in row})
    return {
        f"{name}_one_to_one": MatchCounts(matching, len(gold), matching, len(predicted)),
        f"{name}_many_to_one": MatchCounts(gold_matched, len(gold), predicted_matched, len(predicted)),
    }


def document_counts(
    gold: CodedDocument, predicted: CodedDocument | None, *, merge: bool = False, trim: bool = False
) -> dict[str, MatchCounts]:
    """The counts of every metric for one document; `merge` and `trim` as for spans_of."""
    gold_spans = spans_of(gold, merge=merge, trim=trim)
    predicted_spans = spans_of(predicted, merge=merge, trim=trim) if predicted is not None else []
    gold_keys, predicted_keys = mdace_keys(gold_spans), mdace_keys(predicted_spans)
    counts = {}
    for name in MDACE:
        shared = len(gold_keys[name] & predicted_keys[name])
        counts[name] = MatchCounts(shared, len(gold_keys[name]), shared, len(predicted_keys[name]))
    right, in_gold, in_prediction = codiesp_x_counts(gold, predicted)
    counts[CODIESP_X] = MatchCounts(right, in_gold, right, in_prediction)
    return counts | overlap_counts(gold_spans, predicted_spans)


def evidence_ratios(name: str, counts: Iterable[float]) -> dict[str, float]:
    """Precision, recall and F1 of summed MatchCounts: with EPSILON for MDACE's metrics alone; 0/0 is 0."""
    gold_matched, gold, predicted_matched, predicted = map(float, counts)
    epsilon = EPSILON if name in MDACE else 0.0
    precision = predicted_matched / (predicted + epsilon) if predicted else 0.0
    recall = gold_matched / (gold + epsilon) if gold else 0.0
    total = precision + recall
    f1 = 2 * precision * recall / (total + epsilon) if total else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def evidence_scores(
    gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument], *, merge: bool = False, trim: bool = False
) -> dict[str, dict[str, float]]:
    """{metric: {"precision", "recall", "f1"}} over all documents, matched by id; `merge` and `trim` as for spans_of."""
    predictions = {document.id: document for document in predicted}
    totals: dict[str, Counter[int]] = {name: Counter() for name in METRICS}
    for document in gold:
        rows = document_counts(document, predictions.get(document.id), merge=merge, trim=trim)
        for name, counts in rows.items():
            totals[name].update(dict(enumerate(counts)))
    return {name: evidence_ratios(name, [total[field] for field in range(4)]) for name, total in totals.items()}
