"""Answers out of a short list: a candidate's number, yes or no. The model cannot write anything else.

    options ("0", "1", "10")    written ""  → next "0" or "1";   "1" → "0" or the end

Decoding is greedy within the list: at each byte the most probable continuation that some option has. `read_choice` is
the counterpart for a server, whose tokens are not ours to forbid: an answer that names no option counts as the default.

Read next: constrained.py, which walks the vocabulary along these transitions; systems/questions.py.
"""

import re
from collections.abc import Sequence

from minscl.infer.automaton import Automaton
from minscl.infer.constrained import AutomatonGuide


class OneOf(Automaton):
    """The automaton of `options`; a state is what has been written, as bytes."""

    def __init__(self, options: Sequence[str]):
        self.options = [option.encode() for option in options]

    def transitions(self, written: bytes) -> dict[int, bytes]:
        """{next byte: state after it}; empty only where the answer must end."""
        longer = (option for option in self.options if option.startswith(written) and len(option) > len(written))
        return {option[len(written)]: option[: len(written) + 1] for option in longer}

    def may_end(self, written: bytes) -> bool:
        """Whether `written` is an option."""
        return written in self.options


def choice_guide(tokenizer, options: Sequence[str]) -> AutomatonGuide:
    """The guide of an answer that is one of `options`."""
    space = " " if tokenizer.chat.before_answer else ""  # the chat format puts a space before it, as Llama 2's does
    return AutomatonGuide(tokenizer, OneOf([space + option for option in options]), b"")


def read_choice(answer: str, options: Sequence[str]) -> str | None:
    """The option that a free answer names, in any case: the word that it begins with, else the last one; None: none.

    "Yes, there is no doubt" is yes; "Candidates 1 and 2 are too wide, so 3." is 3.
    """
    names = {option.casefold(): option for option in options}
    words = [names[word] for word in re.findall(r"[\w.]*\w", answer.casefold()) if word in names]
    first = re.match(r"\W*([\w.]*\w)", answer.casefold())
    if first and first[1] in names:
        return names[first[1]]
    return words[-1] if words else None
