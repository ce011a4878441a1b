"""The answer to a note on the terminal, as it is written.

Of several passages the first that is not finished grows; those decoded beside it follow when it is their turn.

Read next: generate.py.
"""

from collections.abc import Iterable, Iterator

from minscl.data.types import CodedDocument
from minscl.errors import printable


class LiveAnswer:
    """Prints what is new in the answers; `on_tokens` as for infer.engine.Engine."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self._answers: dict[int, list[int]] = {}  # number of the passage → its ids so far
        self._passage, self._printed = 0, 0  # the one that grows; characters of it that are on the terminal
        self._reported: set[int] = set()  # passages reported since the growing one was last reported

    def on_tokens(self, passage: int, ids: list[int]) -> None:
        """Print what is new, if it is this passage's turn."""
        is_new = passage not in self._answers  # reported by the prefill, between two decoding passes
        self._answers[passage] = ids
        if passage == self._passage:
            self._reported.clear()
            self._print()
        elif passage in self._reported:  # twice, and the growing one not once: that one is finished
            self._next()
        elif not is_new:
            self._reported.add(passage)

    def until_finished(self, documents: Iterable[CodedDocument]) -> Iterator[CodedDocument]:
        """`documents`, the first one after all its answers are on the terminal."""
        try:
            for document in documents:
                while self._passage < len(self._answers):
                    self._next()
                print()
                yield document
        finally:
            if self._printed:  # an error, in the middle of a line
                print()

    def _next(self) -> None:
        self._print()
        print()
        self._passage, self._printed = self._passage + 1, 0
        self._reported.clear()
        self._print()

    def _print(self) -> None:
        # the bytes of a character may be several tokens; until the last, decode shows U+FFFD
        text = self.tokenizer.decode(self._answers.get(self._passage, [])).rstrip("\ufffd")
        new = text[self._printed :]
        print("\n".join(map(printable, new.split("\n"))), end="", flush=True)
        self._printed += len(new)
