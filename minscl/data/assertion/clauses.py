"""Where the words of a sentence begin another clause or finding, at which a scope may end.

Read next: scopes.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from minscl.data.assertion.cues import AFFIRMED, CONTRAST
from minscl.data.assertion.matching import CueMatch
from minscl.data.assertion.words import (
    FINITE_VERBS,
    GENERAL_STATES,
    MAIN_CLAUSE,
    PREDICATES,
    RELATIONAL_NOUNS,
    RELATIONS,
    SHOWN,
    SUBORDINATORS,
    WORD_CLASSES,
)

CLAUSE_LENGTH = 6  # how far from a comma the verb of its clause may be
_ITEM_MARKS = (",", ";", "and", "or", "nor", "(", ")")
_NO_VERBS = RELATIONS | SUBORDINATORS | {"and", "or", "nor", "side", "members"}


@dataclass(frozen=True)
class Border:
    """What begins at a word: a clause with a verb or a label of its own, one finding that is present or has a
    place, the main clause.

    `or_ahead`: "or" follows before the clause ends. `following` is the next word, "" at the end.
    """

    word: str
    following: str
    starts_clause: bool
    starts_finding: bool
    starts_located: bool
    starts_main_clause: bool
    or_ahead: bool


def borders(words: Sequence[str], cues: Sequence[CueMatch]) -> list[Border]:
    """The border at each word."""
    clause_starts = _clause_starts(words)
    columns = clause_starts, *_finding_starts(words), _main_starts(words), _or_ahead(words, clause_starts, cues)
    return [Border(*row) for row in zip(words, [*words[1:], ""], *columns, strict=True)]


def _clause_starts(words: Sequence[str]) -> list[bool]:
    """For each word, whether it is a comma or "and" that begins a clause with a verb or a label of its own."""
    starts = [False] * len(words)
    for index, word in enumerate(words):
        if word not in (",", "and", "which", "while"):
            continue
        if words[index + 1 : index + 2] and words[index + 1] in WORD_CLASSES["RELATIVE"]:
            starts[index] = _is_subject(words, index + 1)  # ", mother found vapes"
        for following in words[index + 1 : index + 1 + CLAUSE_LENGTH]:
            starts[index] |= following in FINITE_VERBS or following in PREDICATES or following == ":"
            if starts[index] or following in _ITEM_MARKS or following in SUBORDINATORS:
                break
    return starts


def _is_subject(words: Sequence[str], index: int) -> bool:
    """Whether a word that may be a verb follows the relative at `index`: no mark, preposition or "'s"."""
    following = words[index + 1 : index + 2]
    return bool(following) and following[0].isalpha() and following[0] not in _NO_VERBS


def _finding_starts(words: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """For each word, whether it is a comma before one finding that is present (", edema noted", ", cough x 2 days").

    And whether it is one before a finding that has a place or circumstances (", cellulitis of the leg").
    """
    starts, located = [False] * len(words), [False] * len(words)
    for index, word in enumerate(words):
        if word != ",":
            continue
        starts[index] = index > 0 and words[index - 1] in GENERAL_STATES
        for after in range(index + 1, min(len(words), index + 1 + CLAUSE_LENGTH)):
            following = words[after + 1] if after + 1 < len(words) else "."
            is_end = following in WORD_CLASSES["STOP"]
            starts[index] |= (words[after] in SHOWN and is_end) or (words[after] == "x" and following[0].isdigit())
            located[index] |= words[after] in RELATIONS and words[after - 1] not in RELATIONAL_NOUNS
            if starts[index] or words[after] in _ITEM_MARKS:
                break
    return starts, located


def _main_starts(words: Sequence[str]) -> list[bool]:
    """For each word, whether the main clause after "if …" begins there: ", we", ", the patient", "we will"."""
    starts = [False] * len(words)
    for index, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
        if word == ",":
            starts[index] = following in MAIN_CLAUSE or words[index + 1 : index + 3] == ["the", "patient"]
        else:
            is_subject = word in ("we", "i") and following in ("will", "would", "can", "may")
            starts[index] = is_subject or word in ("but", "because")
    return starts


def _or_ahead(words: Sequence[str], clause_starts: Sequence[bool], cues: Sequence[CueMatch]) -> list[bool]:
    """For each word, whether "or" follows before its clause ends."""
    ends = {match.start for match in cues if match.cue.effect in (AFFIRMED, CONTRAST)}
    ahead = [False] * len(words)
    is_ahead = False
    for index in range(len(words) - 1, -1, -1):
        ahead[index] = is_ahead
        if words[index] in ("or", "nor"):
            is_ahead = True
        elif clause_starts[index] or words[index] == ";" or index in ends:
            is_ahead = False
    return ahead
