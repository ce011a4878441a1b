"""Overlap matching of evidence, in place of an LLM judge.

`overlap_*` spans match if their token sequences are equal, or share a contiguous run of more than half of the
shorter one's tokens that contains a content token; `offset_*` spans match if they share a character. `agnostic` ignores
codes, `per_code` compares only spans of the same code. `one_to_one` is the size of a maximum bipartite matching,
`many_to_one` counts the spans of each side with any match, `exact` those with equal tokens. Any 0/0 is 0.
deviates: the paper's Table 4 asks GPT-5.1 and states no cardinality; these scores do not reproduce it.

Read next: evidence.py.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeVar

from minscl.score.evidence_spans import MatchCounts, Span

FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "due", "for", "in", "is", "of", "on", "or", "p", "s", "the", "to", "was", "with")
)
CODE_MODES = ("agnostic", "per_code")
OVERLAP = (
    *(f"overlap_{mode}_{matching}" for mode in CODE_MODES for matching in ("one_to_one", "many_to_one", "exact")),
    *(f"offset_{mode}_{matching}" for mode in CODE_MODES for matching in ("one_to_one", "many_to_one")),
)

Tokens = tuple[str, ...]
Place = tuple[int, int] | str  # (start, end), or the text of a quotation that is not in the document
Item = TypeVar("Item", Tokens, Place)


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
