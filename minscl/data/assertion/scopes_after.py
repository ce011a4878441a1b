"""The words of a sentence that the cues after them govern, in one backward pass: "chest pain is denied".

Read next: status.py, which asks for the effects on a word.
"""

from collections.abc import Sequence

from minscl.data.assertion.cues import (
    AFFIRMED,
    AFTER,
    BEFORE,
    CONTRAST,
    DENIED,
    FAMILY,
    HISTORY_OF,
    NEAREST,
    PATIENT,
    PHRASE,
)
from minscl.data.assertion.matching import CueMatch
from minscl.data.assertion.scopes import NOTHING, PHRASE_WORDS, Scope, merge, words_in
from minscl.data.assertion.words import BORDERS, FINITE_VERBS, PREPOSITIONS


def scopes_after(words: Sequence[str], cues: Sequence[CueMatch]) -> list[frozenset[str]]:
    """The effects that the cues after each word have on it."""
    if not any(match.cue.place == AFTER and match.cue.effect for match in cues):
        return [NOTHING] * len(words)
    cues_at: dict[int, list[CueMatch]] = {}
    in_cue = words_in(cues, len(words))
    for match in cues:
        cues_at.setdefault(match.start, []).append(match)
    has_verb = False  # whether a clause before this word has a verb: then "and" begins another clause
    after_for = False  # whether it is in "for …": in "coverage for asthma was denied" the asthma is not
    verb_before, purpose = [], []
    for index, word in enumerate(words):
        verb_before.append(has_verb)
        purpose.append(after_for)
        after_for = (word == "for" and not in_cue[index]) or (after_for and word not in (",", ";", ":"))
        has_verb |= word in FINITE_VERBS and all(match.cue.place == BEFORE for match in cues_at.get(index, ()))

    scopes: list[Scope] = []
    effects = [NOTHING] * len(words)
    for index in range(len(words) - 1, -1, -1):
        word = words[index]
        scopes = [scope for scope in scopes if index > scope.end]
        if scopes:
            effects[index] = frozenset(scope.effect for scope in scopes if not (purpose[index] and scope.is_process))
        matches_here = cues_at.get(index, ())
        if scopes:
            ends_clause = word == ";" or (word in (",", "and") and verb_before[index])
            if ends_clause or any(map(_ends_backward, matches_here)) or (word in FINITE_VERBS and not in_cue[index]):
                scopes = [scope for scope in scopes if word == "," and scope.start == index + 1]  # ", resolved"
            else:
                scopes = [scope for scope in scopes if not _ends_at(scope, word, index)]
        for match in matches_here:
            if match.cue.place == AFTER and match.cue.effect:
                end = index - PHRASE_WORDS - 1 if match.cue.reach == PHRASE else -1
                scope = Scope(match.cue.effect, match.cue.reach, index, end)
                scope.is_process = "denied" in words[match.start : match.end]  # a claim may be, not only a finding
                scopes = merge(scopes, [scope])
    return effects


def _ends_at(scope: Scope, word: str, index: int) -> bool:
    """Whether `scope`, which began after the word `index + 1` or later, ends at `word`; else notes what it is."""
    if scope.reach == PHRASE:
        return word in (",", ":") or word in PREPOSITIONS
    if scope.reach == NEAREST:
        scope.has_items |= word in ("and", "or", "nor")
        is_mark = word == ":" or word in BORDERS or (word == "," and not scope.has_items)
        return is_mark and index + 1 != scope.start  # "chest pain, resolved"
    return word == ":" or word in BORDERS


def _ends_backward(match: CueMatch) -> bool:
    """Whether a cue after `match` governs nothing before it."""
    return match.cue.place == BEFORE and match.cue.effect in (AFFIRMED, CONTRAST, DENIED, HISTORY_OF, FAMILY, PATIENT)
