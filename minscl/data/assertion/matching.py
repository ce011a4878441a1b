"""The words of a sentence, and the cues in them: at each word the longest phrase that fits.

Read next: scopes.py, for the words that each cue governs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minscl.data.assertion.cues import (
    AFTER,
    AGO,
    BARE_NOT,
    BEFORE,
    BOX,
    DENIED,
    FAMILY,
    GROUPS,
    HISTORICAL,
    HISTORY_OF,
    HYPOTHETICAL,
    NEAREST,
    NON,
    RELATIVE_LABEL,
    REMOVED,
    SHOULD,
    WHEN,
    Cue,
)
from minscl.data.assertion.patients import with_patients
from minscl.data.assertion.words import ADVERBS, FILLERS, IMPERATIVES, KEPT, MEASURES, ONSET, SOURCES, WORD_CLASSES

# A check box, a border between a table's cells, a word with its hyphens and apostrophes, or one other character.
_TOKEN = re.compile(
    r"(?P<checked>[\[(] ?[xX✓✔] ?[\])]|[☑☒✓✔])|(?P<unchecked>\[ {0,3}\]|\( {0,3}\)|[☐✗✘])|"
    r"(?P<border>\||(?<=\S)\t+(?=\S))|"
    r"[^\W_]+(?:['’‐‑-][^\W_]+)*|[^\w\s]|_+"
)
_MARKS = {"checked": "[x]", "unchecked": "[]", "border": "¦"}
_BOXES = ("[]", "[x]")
_BEFORE_NOT = WORD_CLASSES["BE"] | {"", ":", ",", "pt", "patient", '"', "“"}
_NEGATIONS_ALONE = frozenset(("not", "never", "longer", "neither", "nor"))
_NEGATIONS = _NEGATIONS_ALONE | WORD_CLASSES["HAVE"] | {"a", "an", "currently", "actively"}  # "never had", "is not a"
_ENDS = [[], *([mark] for mark in WORD_CLASSES["STOP"])]
_AFTER_NON = [*_ENDS, ["and"], ["or"], ["patient"], ["pt"]]
_IRREGULAR = {"ca": "can", "wo": "will"}  # can't, won't
_CUES = ""  # the key of a trie's node for the cues that end there; no word is empty
ADVERBS_BEFORE = 3  # how many adverbs may stand between "not" and "controlled"
ONSET_WORDS = 12  # how far before "years ago" a word like "began" may be, and how far after "when" a main clause


@dataclass(frozen=True)
class Tokens:
    """A sentence's words in lower case, marks included, and where each starts and ends in the note."""

    words: list[str]
    starts: list[int]
    ends: list[int]


@dataclass(frozen=True)
class CueMatch:
    """A cue at the words `start` to `end` (half-open)."""

    cue: Cue
    start: int
    end: int


def tokenize(text: str, start: int, end: int, is_obstetric: bool = False) -> Tokens:
    """The words of `text[start:end]`; "doesn't" and "mother's" are two words each, a relative who is the patient one.

    `is_obstetric` is what patients.is_obstetric_note says of the note.
    """
    words, starts, ends = [], [], []
    for match in _TOKEN.finditer(text, start, end):
        word_start, word_end = match.span()
        word = match[0].lower().replace("’", "'")
        if word in ("-", "?") and text[word_end : word_end + 1].isalpha() and _begins_word(text, word_start):
            word += "x"
        parts = [_MARKS.get(match.lastgroup or "", word)]
        if word.endswith("n't"):
            parts = [_IRREGULAR.get(word[:-3], word[:-3]), "not"]
        elif word == "cannot":
            parts = ["can", "not"]
        elif word.endswith("'s"):
            parts = [word[:-2], "'s"]
        for part in parts:
            words.append(part)
            starts.append(word_start)
            ends.append(word_end)
    if "+" in words:  # "+ anxiety, - hallucinations"
        words = ["-x" if word == "-" and words[index - 1] in ",;:" else word for index, word in enumerate(words)]
        for index, word in enumerate(words):  # "nausea +, vomiting -"
            if word == "-" and index and words[index - 1].isalpha() and words[index + 1 : index + 2] in _ENDS:
                words[index] = "absent"
    return Tokens(with_patients(words, is_obstetric), starts, ends)


def _begins_word(text: str, offset: int) -> bool:
    return offset == 0 or text[offset - 1].isspace() or text[offset - 1] in "(,"


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


_CLASSES_OF, _TRIE = _classes(), _trie()


def _keys(word: str) -> tuple[str, ...]:
    """What a trie's node may have for `word`: the word itself and its classes; "3-week" is as "week"."""
    return word, *_CLASSES_OF.get(word.lstrip("0123456789-") if word[:1].isdigit() else word, ())


def cues_in(words: Sequence[str]) -> list[CueMatch]:
    """The cues in `words`, in order; no two phrases overlap, but one phrase may be a cue of both directions."""
    matches: list[CueMatch] = []
    word = 0
    while word < len(words):
        cues, end = _longest(words, word)
        matches += [_in_context(words, CueMatch(cue, word, end)) for cue in cues]
        word = max(end, word + 1)
    return matches


def _longest(words: Sequence[str], start: int) -> tuple[Sequence[Cue], int]:
    """The cues of the longest phrase at `start`, and where it ends."""
    longest: tuple[Sequence[Cue], int] = (), start
    nodes = [(_TRIE, start)]
    for index in range(start, len(words) + 1):
        keys = _keys(words[index]) if index < len(words) else ("STOP",)
        nodes = [(node[key], index + (key != "STOP")) for node, _ in nodes for key in keys if key in node]
        if not nodes:
            break
        longest = next(((node[_CUES], end) for node, end in nodes if _CUES in node), longest)
    return longest


def _in_context(words: Sequence[str], match: CueMatch) -> CueMatch:
    """`match` with the effect and place that it has after the words before it; the effect is "" where it has none."""
    cue, start = match.cue, match.start
    before = words[start - 1] if start else ""
    if cue.effect == AGO:  # the past, unless the finding only began then
        applies, effect = ONSET.isdisjoint(words[max(0, start - ONSET_WORDS) : start]), HISTORICAL
    elif cue.effect == BOX:
        is_after = words[-1] in _BOXES and words[0] not in _BOXES
        return replace(match, cue=Cue(DENIED, AFTER, NEAREST) if is_after else replace(cue, effect=DENIED))
    elif cue.effect == BARE_NOT:
        applies, effect = before in _BEFORE_NOT and not _says_how_kept(words, match.end), DENIED
    elif cue.effect == NON:  # "non diabetic", not "non small cell lung cancer"
        applies, effect = words[match.end + 1 : match.end + 2] in _AFTER_NON, DENIED
    elif cue.effect in (DENIED, HISTORICAL) and cue.place == BEFORE and words[match.end - 1] in _NEGATIONS:
        is_negation = not _NEGATIONS_ALONE.isdisjoint(words[start : match.end])
        applies, effect = not (is_negation and _says_how_kept(words, match.end)), cue.effect
    elif cue.effect == HISTORICAL and words[start] not in _NEGATIONS and _is_negated(words, start):
        applies, effect = False, HISTORICAL  # "not fully resolved"
    elif cue.effect == SHOULD:
        applies, effect = not before and IMPERATIVES.isdisjoint(words[1:2]), HYPOTHETICAL
    elif cue.effect == WHEN:
        commas = [index for index, word in enumerate(words[:ONSET_WORDS]) if word == ","]
        has_main_clause = any(not IMPERATIVES.isdisjoint(words[index + 1 : index + 2]) for index in commas)
        applies, effect = not before and has_main_clause, HYPOTHETICAL
    elif cue.effect == REMOVED:
        applies, effect = match.end < len(words) and words[match.end] in WORD_CLASSES["REMOVAL"], HISTORY_OF
    elif cue.effect == RELATIVE_LABEL:
        owner = before in WORD_CLASSES["POSSESSIVE"] or before in WORD_CLASSES["SIDE"]
        applies, effect = words[max(0, start - 1 - owner)] not in SOURCES, FAMILY
    elif cue.place == AFTER and match.end == len(words) and all(word in FILLERS for word in words[:start]):
        return replace(match, cue=replace(cue, place=BEFORE))  # "Patient denies", above a list
    else:
        return match
    return replace(match, cue=replace(cue, effect=effect if applies else ""))


def _says_how_kept(words: Sequence[str], index: int) -> bool:
    """Whether `words[index:]` begin with what a negation says of a disease that is there: "(not) yet treated"."""
    is_measured = False  # "(not) sufficiently": then any participle tells of care
    for word in words[index : index + ADVERBS_BEFORE + 1]:
        measure, _, last = word.rpartition("-")
        if last in KEPT or ((is_measured or measure in MEASURES) and last.endswith("ed")):
            return True
        if not _is_adverb(word):
            return False
        is_measured |= word in MEASURES
    return False


def _is_negated(words: Sequence[str], index: int) -> bool:
    """Whether "not" or "never", and adverbs only, stand before `words[index]`, which may be "has"."""
    for word in reversed(words[max(0, index - ADVERBS_BEFORE - 1) : index]):
        if word in ("not", "never"):
            return True
        if not _is_adverb(word):
            return False
    return False


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") or word in ADVERBS
