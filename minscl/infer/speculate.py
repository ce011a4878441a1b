"""Prompt-lookup speculation: draft tokens without a draft model.

    evidence is copied from the note   → the tokens that followed the last two before, in the prompt or the answer
    a code's description is known      → once the code is written, the rest of its line up to the next bracket

The model reads the draft in the same pass as the token before it and accepts the tokens that it would have chosen
itself (sequence.py), so the answer is that of greedy decoding, token for token. Source: Saxena, Prompt Lookup Decoding
(2023), github.com/apoorvumang/prompt-lookup-decoding.

Read next: sequence.py.
"""

import re

from minscl.data.icd import CodeBook
from minscl.data.parse_line import CANONICAL
from minscl.data.prompts import one_line

# (tokens to match, draft tokens), the more reliable first; with the token before, 8 or 4: a compiled pass
NGRAMS = ((2, 7), (1, 3))
CODE_TOKENS = 12  # a line break, or a bracket and a space, and a code have fewer tokens
# A code just written: "[1] I10" → "] I10", group 1 "] ", group 2 "I10"; in the earlier order "\nI10", group 1 "\n".
_CODE = re.compile(rf"(\n|\] )({CANONICAL}) ?\Z")


class Drafter:
    """Proposes draft tokens for one answer: called with its ids so far, returns the likely next ones, possibly none."""

    def __init__(self, tokenizer, prompt: list[int], codebook: CodeBook | None = None):
        self.tokenizer, self.prompt, self.codebook = tokenizer, prompt, codebook or CodeBook.load()

    def __call__(self, ids: list[int]) -> list[int]:
        """Draft token ids to follow `ids`, the answer so far."""
        return self.description(ids) or prompt_lookup(self.prompt + ids)

    def description(self, ids: list[int]) -> list[int]:
        """The rest of a code line, as ids, where its code has just been written; empty elsewhere."""
        code = _CODE.search(self.tokenizer.decode(ids[-CODE_TOKENS:]))
        description = self.codebook.description(code[2]) if code else None
        if code is None or description is None:
            return []
        beginning = code[0].lstrip("\n")  # after a line break the code begins its line
        bracket = "\n[" if code[1] == "] " else " ["
        whole = self.tokenizer.encode(f"{beginning.rstrip()} {one_line(description)}{bracket}")
        written = self.tokenizer.encode(beginning)
        return whole[len(written) :] if whole[: len(written)] == written else []


def prompt_lookup(ids: list[int]) -> list[int]:
    """The ids that followed the previous occurrence of the last two, else of the last one; empty if there is none."""
    for match_length, draft_length in NGRAMS:
        suffix = ids[-match_length:]
        for start in range(len(ids) - match_length - 1, -1, -1):
            end = start + match_length
            if ids[start:end] == suffix:
                return ids[end : end + draft_length]
    return []
