"""Scores of evidence: MDACE's four (Cheng et al. 2023), and matching by overlap in place of a judge. Set arithmetic, documents summed.

    counts(document) → (true positives, false positives, false negatives) of each metric → summed over documents → precision, recall, F1

MDACE compares sets of keys, never by overlap: spans or tokens, at their place or wherever they stand, always with the code. Codes are normalised, and
evidence of ICD-10-CM codes alone is counted, here and below.
deviates from MDACE's program: it crashes or miscounts in four corners (an absent prediction, nested spans when merging, `İ`, `²`); here an
absent prediction is empty, merging takes the larger end, tokens are found before they are lower-cased, and a number is what `isdecimal` says.

Overlap (deviates: the paper's Table 4 asks GPT-5.1): two spans match if their tokens are equal, or if they share a run of more than half of the shorter
one's tokens with a content word in it. The paper gives no cardinality, so both are here: `one_to_one` is a maximum matching, `many_to_one` counts
the spans of each side that have any match. Never a reproduction of Table 4. `offset_*`: the same, where a shared character of the text is a match.

Read next: metrics.py for the codes, evaluate.py for the table.
"""

import re
import unicodedata
from collections import Counter

from minscl.score.code_groups import read_code

NOT_CONTENT = frozenset("a an and at by due for in is of on or p s the to was with".split())
PUNCTUATION = r"[\s!-/:-@\[-`{-~]*"  # ASCII's, and white space
TRIMMED = "-.,/ \n\t"  # at both ends of a span; and ")" before, "(" after
SMALL = 1e-6  # MDACE adds it to denominators
MDACE = ("span_exact_match", "span_position_independent", "token_exact_match", "token_position_independent")
WHO = ("agnostic", "per_code")
OVERLAP = (
    *(f"overlap_{who}_{how}" for who in WHO for how in ("one_to_one", "many_to_one", "exact")),
    *(f"offset_{who}_{how}" for who in WHO for how in ("one_to_one", "many_to_one")),
)


def spans_of(document, *, merge: bool = False, trim: bool = False) -> list[tuple]:
    """(start, end, text, code) of each quotation of each ICD-10-CM code, the code normalised; start and end None where it was not found in the text.

    `merge`: spans of a code with nothing but punctuation or white space between them become one. `trim`: punctuation off both ends.
    deviates: MDACE merges within a note. A document that is a whole admission does not say where its notes begin, so a span that ends a note and one
    of the same code that begins the next become one.
    """
    quoted: dict[str, list] = {}
    for one in document.codes:
        kind, code = read_code(one.code)
        if kind == "cm":
            quoted.setdefault(code, []).extend(one.evidence)
    found = []
    for code, evidence in quoted.items():
        placed = sorted((one.start, one.end) for one in evidence if one.start is not None)
        spans = [
            (start, end, document.text[start:end])
            for start, end in (_merged(placed, document.text) if merge else placed)
        ]
        spans += [(None, None, one.text) for one in evidence if one.start is None]
        found += [(*(_trimmed(*span) if trim else span), code) for span in spans]
    return found


def _merged(places, text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in places:
        if found and (start <= found[-1][1] or re.fullmatch(PUNCTUATION, text[found[-1][1] : start])):
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _trimmed(start: int | None, end: int | None, text: str) -> tuple[int | None, int | None, str]:
    rest = text.lstrip(TRIMMED + ")")
    kept = rest.rstrip(TRIMMED + "(")
    if start is None:
        return None, None, kept
    start += len(text) - len(rest)
    return start, start + len(kept), kept


def mdace_keys(spans) -> dict[str, set]:
    """The four sets of keys of one document's spans; all are ICD-10-CM, so the system is left out."""
    keys: dict[str, set] = {name: set() for name in MDACE}
    for start, end, text, code in spans:
        place = ("not found", text) if start is None else start
        keys["span_exact_match"].add((place, end, code))
        keys["span_position_independent"].add((text.lower(), code))
        for match in re.finditer(r"\w+", text):
            token = match[0].lower()
            if token.isdecimal() and int(token) > 10:
                continue
            keys["token_exact_match"].add(
                (place + match.start() if start is not None else (*place, match.start()), code)
            )
            keys["token_position_independent"].add((token, code))
    return keys


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def overlaps(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether two spans' tokens match; see the module."""
    if a == b:
        return True
    length = min(len(a), len(b)) // 2 + 1
    runs = {a[place : place + length] for place in range(len(a) - length + 1)}
    return any(
        b[place : place + length] in runs and any(map(_content, b[place : place + length]))
        for place in range(len(b) - length + 1)
    )


def _content(token: str) -> bool:
    return token not in NOT_CONTENT and any(letter.isalpha() for letter in token)


def maximum_matching(neighbours: list[list[int]]) -> int:
    """Size of a maximum matching: neighbours[i] are the right-hand nodes that left node i may take (augmenting paths, no recursion)."""
    owner: dict[int, int] = {}
    for node in range(len(neighbours)):
        came_from, waiting, free = {}, [node], None
        while waiting and free is None:
            left = waiting.pop()
            for right in neighbours[left]:
                if right not in came_from:
                    came_from[right] = left
                    if right not in owner:
                        free = right
                        break
                    waiting.append(owner[right])
        taken = {left: right for right, left in owner.items()}
        while free is not None:  # turn the path around
            left = came_from[free]
            owner[free], free = left, taken.get(left)
    return len(owner)


def overlap_counts(gold, found) -> dict[str, tuple[int, int, int, int]]:
    """(gold spans matched, gold spans, predicted spans matched, predicted spans) of one document in each mode."""
    counts = {}
    for who in WHO:
        sides = [
            list(
                dict.fromkeys(
                    (words(text), code if who == "per_code" else "") for _, _, text, code in spans if words(text)
                )
            )
            for spans in (gold, found)
        ]
        same = len(set(sides[0]) & set(sides[1]))
        counts |= _matched(f"overlap_{who}", sides, overlaps)
        counts[f"overlap_{who}_exact"] = (same, len(sides[0]), same, len(sides[1]))
        # a quotation that was not found in the text is told apart by its words, and touches nothing
        places = [
            list(
                dict.fromkeys(
                    ((start, end) if start is not None else text, code if who == "per_code" else "")
                    for start, end, text, code in spans
                )
            )
            for spans in (gold, found)
        ]
        counts |= _matched(f"offset_{who}", places, touch)
    return counts


def touch(a, b) -> bool:
    """Whether two (start, end) share a character; a text, which has no place, shares none."""
    return isinstance(a, tuple) and isinstance(b, tuple) and max(a[0], b[0]) < min(a[1], b[1])


def _matched(name: str, sides, match) -> dict[str, tuple[int, int, int, int]]:
    """The counts `name`_one_to_one and _many_to_one of two lists of (span, code)."""
    matches = [[j for j, (b, other) in enumerate(sides[1]) if code == other and match(a, b)] for a, code in sides[0]]
    paired, gold, found = maximum_matching(matches), len(sides[0]), len(sides[1])
    return {
        f"{name}_one_to_one": (paired, gold, paired, found),
        f"{name}_many_to_one": (sum(map(bool, matches)), gold, len({j for row in matches for j in row}), found),
    }


def document_counts(
    gold, predicted, *, merge: bool = False, trim: bool = False
) -> dict[str, tuple[int, int, int, int]]:
    """One document's (gold matched, gold, predicted matched, predicted) of every metric; `predicted` may be None."""
    actual = spans_of(gold, merge=merge, trim=trim)
    answer = spans_of(predicted, merge=merge, trim=trim) if predicted is not None else []
    keys, other = mdace_keys(actual), mdace_keys(answer)
    both = {name: len(keys[name] & other[name]) for name in MDACE}
    return {name: (both[name], len(keys[name]), both[name], len(other[name])) for name in MDACE} | overlap_counts(
        actual, answer
    )


def evidence_ratios(name: str, counts) -> dict[str, float]:
    """Precision, recall and F1 of summed counts: MDACE's with its small constant, overlap's plain with 0/0 = 0."""
    matched, gold, right, found = (float(one) for one in counts)
    small = SMALL if name in MDACE else 0.0
    precision = right / (found + small) if found else 0.0
    recall = matched / (gold + small) if gold else 0.0
    both = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (both + small) if both else 0.0}


def evidence_scores(gold, predicted, *, merge: bool = False, trim: bool = False) -> dict[str, dict[str, float]]:
    """Every metric over lists of CodedDocuments, matched by id; a gold document without prediction counts as empty."""
    answers, total = {one.id: one for one in predicted}, {name: Counter() for name in (*MDACE, *OVERLAP)}
    for one in gold:
        for name, counts in document_counts(one, answers.get(one.id), merge=merge, trim=trim).items():
            total[name].update(dict(enumerate(counts)))
    return {name: evidence_ratios(name, [total[name][place] for place in range(4)]) for name in total}
