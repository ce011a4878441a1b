"""The interface of a system to coder.py: a prompt, the number of answers per note, a sampler, and a parser.

Read next: scl.py, sft.py, cot.py; ../coder.py, which runs them all.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minscl.data.prompts import Parsed
from minscl.infer.sampling import Sampler


def greedy(note_id: str, chain: int) -> Sampler | None:
    """None, no sampler: the most probable token at each step."""
    return None


@dataclass(frozen=True)
class System:
    """A system that codes a note with the decoder.

    `render_prompt(text)`: the prompt for a note. `parse(output, known_category, truncated)`: the parser of an answer.
    `names_evidence`: whether codes have evidence. `chains` answers are drawn for a note, chain number n
    (from 0) by `sampler(note_id, n)`, or greedily where that is None. `reference_first`: whether the prompt asks for a
    code's evidence numbers before the code; grounded decoding forces that order.
    """

    name: str
    render_prompt: Callable[[str], str]
    parse: Callable[..., Parsed]
    names_evidence: bool = False
    chains: int = 1
    sampler: Callable[[str, int], Sampler | None] = greedy
    reference_first: bool = True
