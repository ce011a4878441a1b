"""The words of a sentence, and the cues in them: at each word the longest phrase that fits.

Read next: scopes.py, for the words that each cue governs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minscl.data.assertion.cues import AGO, BARE_NOT, DENIED, GROUPS, HISTORICAL, Cue
from minscl.data.assertion.words import ONSET, WORD_CLASSES

# A word, with its hyphens and apostrophes, or one other character.
_TOKEN = re.compile(r"[^\W_]+(?:['’‐‑-][^\W_]+)*|[^\w\s]|_+")
_IRREGULAR = {"ca": "can", "wo": "will"}  # can't, won't
_CUES = ""  # the key of a trie's node for the cues that end there; no word is empty
ONSET_WORDS = 12  # how far before "years ago" a word like "began" may be


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


def tokenize(text: str, start: int, end: int) -> Tokens:
    """The words of `text[start:end]`; "doesn't" and "mother's" are two words each."""
    words, starts, ends = [], [], []
    for match in _TOKEN.finditer(text, start, end):
        word_start, word_end = match.span()
        word = match[0].lower().replace("’", "'")
        if word in ("-", "?") and text[word_end : word_end + 1].isalpha() and _begins_word(text, word_start):
            word += "x"
        parts = [word]
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
    return Tokens(words, starts, ends)


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
    """`match` with the effect that it has after the words before it.

    "Five years ago" is the past, unless they say that the finding began then; a bare "not" needs "is" or "was".
    """
    cue, start = match.cue, match.start
    if cue.effect == AGO:
        began = not ONSET.isdisjoint(words[max(0, start - ONSET_WORDS) : start])
        return replace(match, cue=replace(cue, effect="" if began else HISTORICAL))
    if cue.effect == BARE_NOT:
        denies = start > 0 and words[start - 1] in WORD_CLASSES["BE"]
        return replace(match, cue=replace(cue, effect=DENIED if denies else ""))
    return match
