"""Which tokens the tokenizer gives a text that continues an answer, without encoding the answer again.

    written    Evidence:\\n1. acute heart fail         text    "ure"
               encoded before ──────┘└ encoded with the text

Up to its last space an answer's tokens no longer depend on what follows (TokenTrie.fall_apart), so they are compared
with those written once.

Read next: constrained.py.
"""

from minscl.infer.sequence import common_prefix_length
from minscl.infer.token_trie import token_trie


class WrittenAnswer:
    """An answer so far: its `ids`, and `text`, the bytes of these. `prefix`: its part that is already in the prompt."""

    def __init__(self, tokenizer, prefix: str = "") -> None:
        self.tokenizer, self.trie = tokenizer, token_trie(tokenizer)
        self._space = " " if tokenizer.chat.before_answer else ""  # put before an answer, as Llama 2's format does
        self.ids: list[int] = tokenizer.encode_answer_start(prefix) if prefix else []
        self.text = (self._space + prefix).encode() if prefix else b""
        # The first _bytes of the text, of _tokens tokens, are as the tokenizer gives them, whatever follows.
        self._bytes = self._tokens = 0
        self._differs = False  # whether the model has split a word otherwise than the tokenizer does

    def append(self, token: int) -> None:
        """Append `token`."""
        self.ids.append(token)
        self.text += self.trie.token_bytes[token] or b""

    def tokenise(self, text: bytes) -> list[int]:
        """The tokens of `text` after the answer so far; empty where the tokenizer would split the two differently."""
        if self._differs:
            return []
        try:
            unsettled = (self.text[self._bytes :] + text).decode("utf-8")
        except UnicodeDecodeError:  # ends inside a character
            return []
        if self._bytes:
            ids = self.tokenizer.encode_inside(unsettled)
        else:
            ids = self.tokenizer.encode_answer_start(unsettled[len(self._space) :])
        written = self.ids[self._tokens :]
        tokens = ids[len(written) :]
        same = ids[: len(written)] == written
        self._settle(ids, written)
        return tokens if same and b"".join(self.trie.token_bytes[token] or b"" for token in tokens) == text else []

    def settled(self, text: bytes, tokens: list[int], byte: int) -> int:
        """How many of `tokens`, those of `text`, stay as they are where `byte` follows `text`."""
        if self.trie.fall_apart(text[-1], byte):
            return len(tokens)
        longer = self.tokenise(text + bytes([byte]))
        return common_prefix_length(tokens, longer) if longer else len(tokens) - 1

    def _settle(self, ids: list[int], written: list[int]) -> None:
        """Compare the tokens up to the last space with those `written`; `ids` are the tokenizer's since _bytes."""
        place = self.text.rfind(b" ", self._bytes + 1)
        while place > self._bytes and not self.trie.fall_apart(self.text[place - 1], self.text[place]):
            place = self.text.rfind(b" ", self._bytes + 1, place)
        if place <= self._bytes:
            return
        count, length = 0, self._bytes
        while length < place and count < len(ids):
            length += len(self.trie.token_bytes[ids[count]] or b"")
            count += 1
        if length != place:  # the tokenizer's normaliser changes the text: encode it as a whole each time
            return
        self._differs = ids[:count] != written[:count]
        self._bytes, self._tokens = place, self._tokens + count
