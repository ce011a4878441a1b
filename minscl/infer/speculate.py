"""Drafts by look-up: a guess of the next tokens that costs nothing and is often right (prompt look-up decoding).

    evidence is copied from the note  → what followed, in the prompt or in the answer, when its last tokens were written before
    a code's description is known     → once the code is written, its line up to the bracket, whole

The model reads the guess in the same pass as the token before it and keeps what it would have written itself (answer.py), so the answer is plain
greedy's, token for token.

Read next: answer.py.
"""

import re

from minscl.data.icd import CodeBook
from minscl.data.parse_line import CANONICAL
from minscl.data.prompts import one_line

GUESSES = ((2, 8), (1, 4))  # tokens that must have stood together before, and tokens of the guess then; the surer first
_CODE = re.compile(rf"{CANONICAL}(?= ?$)")


class Drafter:
    """Guesses for one answer: called with its new ids, gives the next ones."""

    def __init__(self, tokenizer, prompt: list[int]):
        self.tokenizer, self.prompt = tokenizer, prompt

    def __call__(self, ids: list[int]) -> list[int]:
        return self.description(ids) or look_up(self.prompt + ids)

    def description(self, ids: list[int]) -> list[int]:
        """The rest of a code line whose code has just been written; empty elsewhere."""
        text = self.tokenizer.decode(ids[-12:])  # a code has fewer tokens
        line = text.rpartition("\n")[2]
        found = _CODE.fullmatch(line.rstrip()) if "\n" in text else None
        description = CodeBook.load().description(found[0]) if found else None
        if description is None:
            return []
        whole = self.tokenizer.encode(f"{found[0]} {one_line(description)} [")
        written = self.tokenizer.encode(line)
        return whole[len(written) :] if whole[: len(written)] == written else []


def look_up(ids: list[int]) -> list[int]:
    """What followed the last time that the last tokens stood together: the last two, else the last one; empty where even that is new."""
    for match, longest in GUESSES:
        last = ids[-match:]
        for place in range(len(ids) - match - 1, -1, -1):
            if ids[place : place + match] == last:
                return ids[place + match : place + match + longest]
    return []
