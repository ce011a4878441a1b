"""The grammar of an answer that quotes a note and assigns no code (systems/clh.py).

Read next: constrained.py.
"""

from minscl.infer.answer_grammar import MAX_LINES, Grammar
from minscl.infer.answer_states import Closed, Evidence, Quote, State, Transitions, spell


class QuotationGrammar(Grammar):
    """The automaton for an evidence section alone: `Evidence:`, then its lines or `none`, and no codes."""

    @staticmethod
    def may_end(state: State) -> bool:
        """After an evidence line, and after `none`."""
        return isinstance(state, Closed) or isinstance(state, Evidence) and bool(state.quotations)

    def _after_evidence_line(self, state: Evidence) -> Transitions:
        options: list[tuple[bytes, State]] = [] if state.quotations else [(b"none", Closed())]
        count = len(state.quotations)
        if self.note.starts and count < MAX_LINES and not self.closing:
            options.append((b"%d. " % (count + 1), Quote(state.quotations, self.note.starts, 0)))
        return spell(*options)
