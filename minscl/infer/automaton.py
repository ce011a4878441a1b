"""What says which bytes may come next in an answer: a grammar as an automaton over bytes, whose states are its own.

Read next: answer_grammar.py, the automaton of grounded answers; choices.py, that of a few fixed ones.
"""

from typing import Any


class Automaton:
    """`only` and `after` follow from `transitions`; a subclass may compute them faster."""

    def transitions(self, state: Any) -> dict[int, Any]:
        """{next byte: state after it}; empty only where the answer must end."""
        raise NotImplementedError

    def may_end(self, state: Any) -> bool:
        """Whether the answer may end in `state`."""
        raise NotImplementedError

    def only(self, state: Any) -> tuple[bytes, Any] | None:
        """(bytes that must come next, state after them); None where several may, or none."""
        transitions = self.transitions(state)
        if len(transitions) != 1:
            return None
        [(byte, after)] = transitions.items()
        return bytes([byte]), after

    def after(self, state: Any, text: bytes) -> Any:
        """The state after `text`, which may follow `state`."""
        for byte in text:
            state = self.transitions(state)[byte]
        return state
