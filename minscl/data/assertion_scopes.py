"""Cues in the words of a sentence, and the words that each of them governs: the scopes of assertion.py.

One pass over the words finds the cues (the longest at each word), one forward pass the scopes of cues that stand before
what they govern, one backward pass those of cues that stand after it. Each takes time linear in the words.

Read next: assertion_cues.py, for the cues and the words that end a scope.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from minscl.data.assertion_cues import (
    AFFIRMED,
    AFTER,
    BEFORE,
    CLAUSE,
    CONTRAST,
    DENIED,
    FAMILY,
    FINITE_VERBS,
    GROUPS,
    HISTORY_OF,
    HYPOTHETICAL,
    LIST,
    MAIN_CLAUSE,
    NOUN,
    PATIENT,
    PHRASE,
    POSITIVE,
    PREPOSITIONS,
    SUBORDINATORS,
    WORD_CLASSES,
    Cue,
)

PHRASE_WORDS = 5  # the reach of PHRASE
CLAUSE_WORDS = 6  # how far from a comma its clause's verb may be
_STOPS = frozenset({",", ";", "and", "or", "nor", "(", ")"})
_CUES = ""  # the key of a trie's node for the cues that end there; no word is empty
_OPENERS = WORD_CLASSES["BE"] | WORD_CLASSES["HAVE"] | {":", "reports", "reported", "with", "shows", "patient", "pt"}


@dataclass(frozen=True)
class FoundCue:
    """A cue at the words `start` to `end` (half-open)."""

    cue: Cue
    start: int
    end: int

    def with_effect(self, effect: str) -> "FoundCue":
        """This with another effect."""
        return replace(self, cue=replace(self.cue, effect=effect))


def _classes() -> dict[str, tuple[str, ...]]:
    """The classes of each word that has any."""
    classes: dict[str, tuple[str, ...]] = {}
    for name, words in WORD_CLASSES.items():
        for word in words:
            classes[word] = (*classes.get(word, ()), name)
    return classes


def _trie() -> dict:
    """The cues by their words: node[word] is the node after it, node[_CUES] the cues of the phrase that ends there."""
    root: dict = {}
    for phrases, cue in GROUPS:
        for phrase in phrases.split("|"):
            node = root
            for word in phrase.split():
                node = node.setdefault(word, {})
            node.setdefault(_CUES, []).append(cue)
    return root


_WORD_CLASSES, _TRIE = _classes(), _trie()


def _keys(word: str) -> tuple[str, ...]:
    """What a trie's node may have for `word`: the word itself and its classes; "3-week" is as "week"."""
    if word[:1].isdigit():
        return word, *_WORD_CLASSES.get(word.lstrip("0123456789-"), ())
    return word, *_WORD_CLASSES.get(word, ())


def cues_in(words: Sequence[str]) -> list[FoundCue]:
    """The cues in `words`, in order; they do not overlap, but a phrase may be a cue of both directions."""
    found: list[FoundCue] = []
    word = 0
    while word < len(words):
        cues, end = _longest(words, word)
        found += [FoundCue(cue, word, end) for cue in cues]
        word = max(end, word + 1)
    return found


def _longest(words: Sequence[str], start: int) -> tuple[Sequence[Cue], int]:
    """The cues of the longest phrase at `start`, and where it ends."""
    best: tuple[Sequence[Cue], int] = (), start
    nodes = [(_TRIE, start)]
    word = start
    while nodes:
        keys = _keys(words[word]) if word < len(words) else ("STOP",)
        nodes = [
            (node[key], word if key == "STOP" else word + 1) for node, _ in nodes for key in keys if key in node and key
        ]
        word += 1
        best = next(((node[_CUES], end) for node, end in nodes if _CUES in node), best)
        if word > len(words):
            break
    return best


def _clause_starts(words: Sequence[str]) -> list[bool]:
    """For each word, whether it is a comma or "and" that begins a clause with a verb or a label of its own."""
    starts = [False] * len(words)
    for index, word in enumerate(words):
        if word not in (",", "and", "which", "while"):
            continue
        for following in words[index + 1 : index + 1 + CLAUSE_WORDS]:
            if following in FINITE_VERBS or following == ":":
                starts[index] = True
            if starts[index] or following in _STOPS or following in SUBORDINATORS:
                break
    return starts


def _or_ahead(words: Sequence[str], clause_starts: Sequence[bool], ends: set[int]) -> list[bool]:
    """For each word, whether "or" follows before its clause ends (`ends`: where contrasts and affirmations begin)."""
    ahead = [False] * len(words)
    is_ahead = False
    for index in range(len(words) - 1, -1, -1):
        ahead[index] = is_ahead
        if words[index] in ("or", "nor"):
            is_ahead = True
        elif clause_starts[index] or words[index] == ";" or index in ends:
            is_ahead = False
    return ahead


@dataclass
class _Scope:
    """An open scope: its effect, reach, the word before which it ends, and whether a comma or "and" came in it."""

    effect: str
    reach: str
    end: int
    is_first: bool = False
    has_items: bool = False


def scopes_before(
    words: Sequence[str], cues: Sequence[FoundCue], inherited: Iterable[str]
) -> tuple[list[frozenset[str]], tuple[str, ...]]:
    """The effects that cues before each word have on it, and those still open at the end, for a list that follows."""
    clause_starts = _clause_starts(words)
    closing = {found.start: found for found in cues if found.cue.place == BEFORE}
    opening: dict[int, list[_Scope]] = {}
    for found in cues:
        if found.cue.place == BEFORE and found.cue.effect in (DENIED, FAMILY, HYPOTHETICAL, HISTORY_OF, "historical"):
            is_first = found.start == 0 or words[found.start - 1] in _OPENERS
            end = found.end + PHRASE_WORDS if found.cue.reach == PHRASE else len(words) + 1
            opening.setdefault(found.end, []).append(_Scope(found.cue.effect, found.cue.reach, end, is_first))
    ends = {start for start, found in closing.items() if found.cue.effect in (AFFIRMED, CONTRAST)}
    or_ahead = _or_ahead(words, clause_starts, ends)

    scopes = [_Scope(effect, LIST, len(words) + 1) for effect in inherited]
    outside: list[list[_Scope]] = []  # the scopes to return to after each open parenthesis
    effects: list[frozenset[str]] = []
    for index, word in enumerate(words):
        scopes = _merge(scopes, opening.get(index, ()))
        if word == "(":
            outside.append(list(scopes))
        elif word == ")" and outside:
            scopes = outside.pop()
        elif scopes:
            scopes = _after_word(scopes, words, index, clause_starts[index], or_ahead[index])
        if scopes and index in closing:
            scopes = _after_cue(scopes, closing[index], words)
        effects.append(frozenset(scope.effect for scope in scopes))
    scopes = _merge(scopes, opening.get(len(words), ()))
    return effects, tuple(scope.effect for scope in scopes if scope.reach != PHRASE)


def _merge(scopes: list[_Scope], opened: Iterable[_Scope]) -> list[_Scope]:
    """`scopes` and those `opened`, which replace scopes of the same effect and reach: there are never many."""
    for new in opened:
        scopes = [scope for scope in scopes if (scope.effect, scope.reach) != (new.effect, new.reach)] + [new]
    return scopes


def _after_word(
    scopes: list[_Scope], words: Sequence[str], index: int, starts_clause: bool, or_ahead: bool
) -> list[_Scope]:
    """The scopes that `words[index]` leaves open."""
    word = words[index]
    following = words[index + 1] if index + 1 < len(words) else ""
    starts_main = word in (",", "but", "because") and (following in MAIN_CLAUSE or word != ",")
    starts_main |= word in ("we", "i") and following in ("will", "would", "can", "may")
    starts_main |= word == "," and words[index + 1 : index + 3] == ["the", "patient"]
    kept = []
    for scope in scopes:
        if index >= scope.end:
            continue
        if scope.reach == CLAUSE:
            if (starts_main and scope.effect == HYPOTHETICAL) or (word == ";" and scope.effect == FAMILY):
                continue
        elif starts_clause or word == ";":
            continue
        elif scope.reach == PHRASE:
            if word == "," or word in PREPOSITIONS:
                continue
        elif word == "," and not or_ahead:
            if (scope.reach == NOUN and not scope.is_first) or following in POSITIVE:
                continue
        scope.has_items |= word in (",", "and")
        kept.append(scope)
    return kept


def _after_cue(scopes: list[_Scope], found: FoundCue, words: Sequence[str]) -> list[_Scope]:
    """The scopes that the cue `found` leaves open."""
    effect, start = found.cue.effect, found.start
    subjects = WORD_CLASSES["SUBJECT"] - {"who"}
    has_subject = effect in (AFFIRMED, DENIED) and (words[start] in subjects or words[max(0, start - 1)] in subjects)
    if effect == PATIENT or has_subject:
        scopes = [scope for scope in scopes if scope.effect != FAMILY]
    if effect == CONTRAST:
        return [scope for scope in scopes if scope.reach == CLAUSE and scope.effect == HYPOTHETICAL]
    if effect == AFFIRMED:
        return [scope for scope in scopes if scope.reach == CLAUSE]
    if effect == HYPOTHETICAL:  # "denies fever, possible sinusitis", but "no concern for sinusitis"
        return [scope for scope in scopes if not (scope.effect == DENIED and scope.has_items)]
    return scopes


def scopes_after(words: Sequence[str], cues: Sequence[FoundCue]) -> list[frozenset[str]]:
    """The effects that cues after each word have on it."""
    by_start: dict[int, list[FoundCue]] = {}
    in_cue = [False] * len(words)
    for found in cues:
        by_start.setdefault(found.start, []).append(found)
        in_cue[found.start : found.end] = [True] * (found.end - found.start)
    has_verb = False  # whether a clause before this word has a verb: then "and" begins another clause
    verb_before = []
    for index, word in enumerate(words):
        verb_before.append(has_verb)
        has_verb |= word in FINITE_VERBS and not any(found.cue.place == AFTER for found in by_start.get(index, ()))

    scopes: list[_Scope] = []
    effects: list[frozenset[str]] = [frozenset()] * len(words)
    for index in range(len(words) - 1, -1, -1):
        word = words[index]
        scopes = [scope for scope in scopes if index > scope.end]
        effects[index] = frozenset(scope.effect for scope in scopes)
        found_here = by_start.get(index, ())
        if scopes:
            ends_clause = word in (";", ":") or (word in (",", "and") and verb_before[index])
            if any(found.cue.place == BEFORE and found.cue.effect in _CLOSING for found in found_here) or ends_clause:
                scopes = []
            elif word in FINITE_VERBS and not in_cue[index]:
                scopes = []
            elif word == "," or word in PREPOSITIONS:
                scopes = [scope for scope in scopes if scope.reach != PHRASE]
        for found in found_here:
            if found.cue.place == AFTER and found.cue.effect:
                end = index - PHRASE_WORDS - 1 if found.cue.reach == PHRASE else -1
                scopes = _merge(scopes, [_Scope(found.cue.effect, found.cue.reach, end)])
    return effects


_CLOSING = (AFFIRMED, CONTRAST, DENIED, HISTORY_OF, FAMILY, PATIENT)
