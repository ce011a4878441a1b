"""The words of a sentence that the cues before them govern: their scopes, as in ConText.

One forward pass, in time linear in the words: of scopes with the same effect and reach only the last is kept.

A denial ends at a preposition or a relative pronoun that no cue contains: in "no hospitalizations for asthma" what is
absent is not the asthma. After most of them it goes on with the next item: "no pain in the chest, cough or fever".

Read next: cues.py, for what effects and reaches mean; scopes_after.py, for cues that stand after the finding;
status.py, which asks for the effects on a word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minscl.data.assertion.clauses import Border, borders
from minscl.data.assertion.cues import (
    AFFIRMED,
    BEFORE,
    CLAUSE,
    CONTRAST,
    DENIED,
    FAMILY,
    HISTORICAL,
    HISTORY_OF,
    HYPOTHETICAL,
    ITEM,
    LIST,
    NOUN,
    PATIENT,
    PHRASE,
)
from minscl.data.assertion.matching import CueMatch
from minscl.data.assertion.words import (
    BORDERS,
    CLAUSE_WORDS,
    FINITE_VERBS,
    OWNERS,
    POSITIVE,
    PREPOSITIONS,
    RELATIONS,
    WORD_CLASSES,
)

PHRASE_WORDS = 5  # the reach of PHRASE
NOTHING: frozenset[str] = frozenset()
_SCOPED = (DENIED, FAMILY, HYPOTHETICAL, HISTORICAL, HISTORY_OF)
_SUBJECTS = WORD_CLASSES["SUBJECT"] - {"who"}
# A cue after one of these begins its sentence: "CV: no edema, murmurs", "there is no edema, erythema".
_OPENERS = WORD_CLASSES["BE"] | WORD_CLASSES["HAVE"] | {":", "reports", "reported", "shows", "patient", "pt"}


@dataclass
class Scope:
    """An open scope: its effect and reach, its first word, the word before which it ends, and facts for its end.

    `is_first`: its cue begins the sentence. `has_items`: a comma or "and" came in it. `has_borders`: its items stand
    between borders ("Denies: - cough - fever"). `is_interrupted`: a preposition came after its last item. That one
    `is_process`: "denies changes in vision or hearing, diplopia" goes on with the comma, not with "or".
    """

    effect: str
    reach: str
    start: int
    end: int
    is_first: bool = False
    has_items: bool = False
    has_borders: bool = False
    is_interrupted: bool = False
    is_process: bool = False


def scopes_before(
    words: Sequence[str], cues: Sequence[CueMatch], inherited: Iterable[str]
) -> tuple[list[frozenset[str]], tuple[str, ...]]:
    """The effects that the cues before each word have on it, and those still open at the end, for a list that follows.

    `inherited` are the effects that are open at the first word.
    """
    scopes = [Scope(effect, LIST, 0, len(words) + 1) for effect in inherited]
    opened_at = _opened_at(words, cues)
    if not (scopes or opened_at):
        return [NOTHING] * len(words), ()
    cue_at = {match.start: match for match in cues if match.cue.place == BEFORE}
    in_cue = words_in(cues, len(words))
    border_at = borders(words, [*cue_at.values()])
    outside: list[list[Scope]] = []  # the scopes to return to after each open parenthesis
    effects = []
    for index, word in enumerate(words):
        scopes = merge(scopes, opened_at.get(index, ()))
        if word == "(" and not in_cue[index]:
            outside.append(scopes)
        elif word == ")" and outside and not in_cue[index]:
            scopes = outside.pop()
        elif scopes:
            scopes = [scope for scope in scopes if index < scope.end and not _ends_at(scope, border_at[index])]
            if not in_cue[index]:
                scopes = [scope for scope in scopes if not _ends_at_mark(scope, words, index)]
            for scope in scopes:
                scope.has_items |= word in (",", "and")
        if scopes and index in cue_at:
            scopes = _after_cue(scopes, cue_at[index], words)
        effects.append(_effects(scopes))
    scopes = merge(scopes, opened_at.get(len(words), ()))
    return effects, tuple(_effects(scope for scope in scopes if scope.reach != PHRASE))


def _effects(scopes: Iterable[Scope]) -> frozenset[str]:
    return frozenset(scope.effect for scope in scopes if not scope.is_interrupted) if scopes else NOTHING


def words_in(cues: Sequence[CueMatch], count: int) -> list[bool]:
    """For each of a sentence's `count` words, whether a cue has it."""
    inside = [False] * count
    for match in cues:
        inside[match.start : match.end] = [True] * (match.end - match.start)
    return inside


def _opened_at(words: Sequence[str], cues: Sequence[CueMatch]) -> dict[int, list[Scope]]:
    """The scopes of the cues that stand before what they govern, by their first word."""
    opened: dict[int, list[Scope]] = {}
    for match in cues:
        cue = match.cue
        if cue.place == BEFORE and cue.effect in _SCOPED:
            before = words[match.start - 1] if match.start else ":"
            is_first = before in _OPENERS or (cue.effect == FAMILY and before in OWNERS)
            end = match.end + PHRASE_WORDS if cue.reach == PHRASE else len(words) + 1
            opened.setdefault(match.end, []).append(Scope(cue.effect, cue.reach, match.end, end, is_first))
    return opened


def merge(scopes: list[Scope], opened: Iterable[Scope]) -> list[Scope]:
    """`scopes` and those `opened`, which replace scopes of the same effect and reach: there are never many."""
    for new in opened:
        scopes = [scope for scope in scopes if (scope.effect, scope.reach) != (new.effect, new.reach)] + [new]
    return scopes


def _ends_at(scope: Scope, border: Border) -> bool:
    """Whether `scope` ends at the word of `border`, apart from cues and marks."""
    word = border.word
    if scope.reach == CLAUSE and scope.effect == HYPOTHETICAL:
        return border.starts_main_clause or (word == "," and border.starts_clause and scope.is_first)
    if scope.reach == CLAUSE:
        is_other = border.following in FINITE_VERBS and not scope.is_first  # "…, whose mother had GBS, has sepsis"
        return word == ";" or (word == "," and (border.following in WORD_CLASSES["PRONOUN"] or is_other))
    if border.starts_clause or word == ";":
        return True
    if word == "for" and scope.effect == HYPOTHETICAL and scope.reach == NOUN:
        return True  # "likely due to opioids for chronic pain"
    if scope.reach == PHRASE:
        return word == "," or word in PREPOSITIONS
    if word == "and" and scope.reach == ITEM and not scope.has_items:
        return True
    if word != "," or border.or_ahead:
        return False
    is_new = border.starts_finding or (border.starts_located and scope.reach != LIST)
    ends_noun = scope.reach in (NOUN, ITEM) and not scope.is_first
    return border.following in POSITIVE or ends_noun or (is_new and not scope.has_items)


def _ends_at_mark(scope: Scope, words: Sequence[str], index: int) -> bool:
    """Whether `scope` ends at `words[index]`, which no cue has, as a border or a preposition; else notes what it is."""
    word = words[index]
    if word in BORDERS:
        if scope.start == index:
            scope.has_borders = True
        return not scope.has_borders and scope.reach != CLAUSE
    if word == ":":
        if scope.start != index and scope.reach in (NOUN, ITEM):
            return words[index - 1] != "following"
        scope.start += scope.start == index
    if scope.effect != DENIED:
        return False
    if word in CLAUSE_WORDS:
        return True
    if word in RELATIONS:
        scope.is_interrupted = True
        scope.is_process |= bool(index) and words[index - 1] in WORD_CLASSES["ISSUE"]
        return word == "for" or (scope.is_process and scope.reach != LIST)
    if word == "," or (word in ("or", "nor", "and", "/", "including", "such") and not scope.is_process):
        scope.is_interrupted = scope.is_process = False
    return False


def _after_cue(scopes: list[Scope], match: CueMatch, words: Sequence[str]) -> list[Scope]:
    """The scopes that the cue `match` leaves open."""
    effect, start = match.cue.effect, match.start
    has_subject = words[start] in _SUBJECTS or words[max(0, start - 1)] in _SUBJECTS
    if effect == PATIENT or (effect in (AFFIRMED, DENIED) and has_subject):
        scopes = [scope for scope in scopes if scope.effect != FAMILY]
    if effect == CONTRAST:
        return [scope for scope in scopes if scope.reach == CLAUSE and scope.effect == HYPOTHETICAL]
    if effect == AFFIRMED:
        is_sign = words[start] in ("+", "(", "[", "[x]")  # else "no c/o …", "denies known …"
        return [
            scope
            for scope in scopes
            if scope.reach == CLAUSE or (scope.effect == DENIED and scope.start == start and not is_sign)
        ]
    if effect == HYPOTHETICAL:  # "denies fever, possible sinusitis", but "no concern for sinusitis"
        return [scope for scope in scopes if not (scope.effect == DENIED and scope.has_items)]
    return scopes
