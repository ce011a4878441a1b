"""Which tokens of the vocabulary go on with a quotation, from each offset of a note.

    note "DM2 and DM1"      from offset 8: "D" "DM" "DM1"

A token goes on with a quotation if it does from one of the offsets that the quotation has come to, so the sets of
several offsets are united. A token with a line break ends the quotation: it is for the grammar to say whether it may.

Read next: constrained.py.
"""

import functools
from array import array

from minscl.infer.quotable import QuotableNote
from minscl.infer.token_trie import Node, TokenTrie

NEWLINE = ord("\n")
Offsets = tuple[int, ...]


class NoteTokens:
    """The tokens of one note, each set computed when it is first asked for, and kept."""

    def __init__(self, trie: TokenTrie, note: QuotableNote):
        self.trie, self.note = trie, note
        self.below, self._from = functools.cache(self._below), functools.cache(self._walk)

    def _below(self, node: Node, offsets: Offsets) -> tuple[array, list[tuple[bytes, Node]]]:
        """(the tokens below `node` of the trie whose bytes from there on are the note's at one of `offsets`, ends).

        ends: (bytes, node they lead to) after which a line break may be in a token, and a quotation end in the note.
        """
        tokens: set[int] = set()
        ends: dict[bytes, Node] = {}
        for offset in offsets:
            own_tokens, own_ends = self._from(node, offset)
            tokens.update(own_tokens)
            ends.update(own_ends)
        return array("q", sorted(tokens)), list(ends.items())

    def _walk(self, node: Node, start: int) -> tuple[list[int], dict[bytes, Node]]:
        """As _below, from one offset."""
        tokens: list[int] = []
        ends: dict[bytes, Node] = {}
        note, offset = self.note, start
        while True:
            ending, children = self.trie.children(node)
            tokens += ending
            if NEWLINE in children and offset in note.ends:
                ends[note.bytes[start:offset]] = node
            if not note.may_continue(offset) or note.bytes[offset] not in children:
                return tokens, ends
            node, offset = children[note.bytes[offset]], offset + 1
