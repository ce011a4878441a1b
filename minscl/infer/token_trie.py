"""The vocabulary as a trie over bytes, and where the tokens of a text fall apart whatever follows.

    tokens   "he" "heart" "hot"    h ─┬─ e* ── a ── r ── t*
                                      └─ o ── t*

Read next: constrained.py, which walks the trie along an automaton; retokenise.py.
"""

import functools
import re
from array import array
from bisect import bisect_left
from collections.abc import Hashable

Node = tuple[int, int, int]  # tokens first..last of the sorted vocabulary, which share their first `depth` bytes

_SAMPLE = "Evidence:\n1. DM2 (type 2),\n2. no pain\nCodes:\n[1, 2] E11.9 Type 2\n"


class TokenTrie:
    """A node is a range of sorted tokens; children are computed on demand.

    `token_bytes[id]` is a token's bytes, or None for a special token, which is not in the trie. `longest`: bytes of the
    longest token. `within_words`: no token has text on both sides of white space.
    """

    def __init__(self, tokenizer) -> None:
        self.token_bytes: list[bytes | None] = tokenizer.pieces()
        self.sorted_tokens = sorted((piece, token) for token, piece in enumerate(self.token_bytes) if piece)
        self._pieces = [piece for piece, _ in self.sorted_tokens]
        self.root: Node = (0, len(self._pieces), 0)
        self.children = functools.cache(self._children)
        self.memory: dict[Hashable, tuple[array, int]] = {}  # what constrained.Guide has found for any note
        self.longest = max(map(len, self._pieces), default=0)
        spaced = [piece for piece in self._pieces if piece.find(b" ", 1) > 0 or b"\n" in piece]
        self.within_words = not any(re.search(rb"\S\s+\S", piece) for piece in spaced)
        self._joined = {pair for piece in spaced for pair in re.findall(rb"(?s)(?=(.[ \n]))", piece)}
        self._splits_at_spaces = b"a " not in self._joined and _splits_sample(tokenizer)

    def _children(self, node: Node) -> tuple[list[int], dict[int, Node]]:
        """(ids of the tokens that end at `node`, {next byte: child})."""
        first, last, depth = node
        ending: list[int] = []
        while first < last and len(self._pieces[first]) == depth:
            ending.append(self.sorted_tokens[first][1])
            first += 1
        children: dict[int, Node] = {}
        while first < last:
            piece = self._pieces[first]
            byte = piece[depth]
            after = bisect_left(self._pieces, piece[:depth] + bytes([byte + 1]), first, last) if byte < 255 else last
            children[byte] = (first, after, depth + 1)
            first = after
        return ending, children

    def fall_apart(self, before: int, after: int) -> bool:
        """Whether two bytes always belong to two tokens: the second is white space, and no token has both in a row.

        The tokens of a text with such a place are those of its two parts. For BPE this follows, since a merge across
        the place would make a token that spans it; the regular expressions that split texts into words first, split
        before white space too. Tokenizers that do otherwise with a sample are told apart by it.
        """
        return self._splits_at_spaces and after in b" \n" and bytes([before, after]) not in self._joined


def _splits_sample(tokenizer) -> bool:
    """Whether a sample's tokens are those of its two parts, at whichever space it is split, and so are its lines'."""
    for place in re.finditer(r"\S(?=\s\S)", _SAMPLE):
        start, rest = _SAMPLE[: place.end()], _SAMPLE[place.end() :]
        ids = tokenizer.encode_answer_start(start)
        if tokenizer.encode_answer_start(start + rest[0])[: len(ids)] != ids and start[-1].isalnum():
            return False
        for text in (rest[0], rest) if rest[0] == " " else ():
            if tokenizer.encode_answer_start(start + text) != ids + tokenizer.encode_inside(text):
                return False
    return True


@functools.lru_cache(maxsize=2)
def token_trie(tokenizer) -> TokenTrie:
    """The trie of `tokenizer`, cached together with the children computed so far."""
    return TokenTrie(tokenizer)
