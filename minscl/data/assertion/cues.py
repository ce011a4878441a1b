"""Cues: what the phrases of phrases.py and denials.py say of the words before or after them, and how far they reach.

Read next: matching.py, which finds them, the longest that fits; scopes.py, which applies them.
"""

from dataclasses import dataclass

from minscl.data.assertion import denials, phrases

AFFIRMED, DENIED, FAMILY, HYPOTHETICAL, HISTORICAL = "affirmed", "denied", "family", "hypothetical", "historical"
# "history of", which a chronic condition outlives; not a status that anyone is told.
HISTORY_OF = "history of"

# What a cue does that gives no status.
PSEUDO = "pseudo"  # nothing: it only keeps its words from being a cue
NEGATIVE_FINDING = "negative finding"  # contains a negation: its own parts are denied, not the whole or what follows
CONTRAST = "contrast"  # ends every scope
PATIENT = "patient"  # ends the scope of a relative
AGO = "ago"  # as HISTORICAL, unless the finding only began then: words.ONSET
BARE_NOT = "not"  # as DENIED, after "is" or "was" or at the start of its sentence
NON = "non"  # as DENIED, where its phrase has one word more
SHOULD = "should"  # as HYPOTHETICAL, at the start of its sentence
WHEN = "when"  # as SHOULD, where a main clause in the imperative follows
BOX = "box"  # an empty check box: as DENIED, for what follows it, or what is before it where boxes end their items
REMOVED = "removed"  # as HISTORY_OF, where an operation follows that removes an organ
RELATIVE_LABEL = "relative"  # as FAMILY, unless the relative is the source: "per mother: …"

# How far a scope reaches.
LIST = "list"  # over commas, to a contrast, a new clause or an affirmation
PHRASE = "phrase"  # a few words, within one noun phrase
NOUN = "noun"  # as LIST, but over a comma only where "or" follows it or the cue begins its sentence
ITEM = "item"  # as NOUN, but over "and" only in a list with a comma
NEAREST = "nearest"  # for cues after the finding: as LIST, but over a comma only in a list with "and" or "or"
CLAUSE = "clause"  # as LIST, and over affirmations and new clauses

BEFORE, AFTER = "before", "after"  # where the cue stands: before the finding, or after it


@dataclass(frozen=True)
class Cue:
    """What a phrase does: its status or effect, where it stands, and how far it reaches."""

    effect: str
    place: str = BEFORE
    reach: str = LIST


GROUPS: tuple[tuple[str, Cue], ...] = (
    (denials.DENIED_BEFORE, Cue(DENIED)),
    (denials.DENIED_DETERMINERS, Cue(DENIED, reach=NOUN)),
    (denials.DENIED_WITHOUT, Cue(DENIED, reach=ITEM)),
    (denials.DENIED_ADJECTIVES, Cue(DENIED, reach=PHRASE)),
    ("[]", Cue(BOX, reach=PHRASE)),
    ("not | not currently | not actively", Cue(BARE_NOT, reach=PHRASE)),
    ("non", Cue(NON, reach=PHRASE)),
    (denials.DENIED_ANSWERS, Cue(DENIED, AFTER, NEAREST)),
    (denials.DENIED_AFTER, Cue(DENIED, AFTER, NEAREST)),
    (denials.DENIED_AFTER_WORD, Cue(DENIED, AFTER, PHRASE)),
    (phrases.FAMILY_BEFORE, Cue(FAMILY, reach=CLAUSE)),
    (phrases.FAMILY_CELLS, Cue(FAMILY, reach=CLAUSE)),
    (phrases.FAMILY_CELLS, Cue(FAMILY, AFTER)),
    (phrases.FAMILY_LABELS, Cue(RELATIVE_LABEL, reach=CLAUSE)),
    (phrases.FAMILY_PHRASES, Cue(FAMILY, reach=PHRASE)),
    (phrases.FAMILY_AFTER, Cue(FAMILY, AFTER)),
    (phrases.CONDITION_BEFORE, Cue(HYPOTHETICAL, reach=CLAUSE)),
    (phrases.SHOULD, Cue(SHOULD, reach=CLAUSE)),
    (phrases.WHEN, Cue(WHEN, reach=CLAUSE)),
    (phrases.PLAN_BEFORE, Cue(HYPOTHETICAL)),
    (phrases.UNCERTAIN_BEFORE, Cue(HYPOTHETICAL, reach=NOUN)),
    (phrases.UNCERTAIN_ADJECTIVES, Cue(HYPOTHETICAL, reach=PHRASE)),
    (phrases.HYPOTHETICAL_AFTER, Cue(HYPOTHETICAL, AFTER, NEAREST)),
    (phrases.HYPOTHETICAL_AFTER_WORD, Cue(HYPOTHETICAL, AFTER, PHRASE)),
    (phrases.HISTORY_BEFORE, Cue(HISTORY_OF)),
    (phrases.HISTORICAL_BEFORE, Cue(HISTORICAL)),
    (phrases.HISTORICAL_ADJECTIVES, Cue(HISTORICAL, reach=PHRASE)),
    (phrases.HISTORICAL_AFTER, Cue(HISTORICAL, AFTER, NEAREST)),
    (phrases.REMOVED_AFTER, Cue(REMOVED, AFTER, NEAREST)),
    (phrases.YEARS_AGO, Cue(AGO, AFTER, NEAREST)),
    (denials.PASSING_NOUNS, Cue(PSEUDO)),
    (denials.PSEUDO_CUES, Cue(PSEUDO)),
    (denials.NEGATIVE_FINDINGS, Cue(NEGATIVE_FINDING)),
    (phrases.CONTRASTS, Cue(CONTRAST)),
    (phrases.AFFIRMATIONS, Cue(AFFIRMED)),
    (phrases.PATIENT_CUES, Cue(PATIENT)),
)
