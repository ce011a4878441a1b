"""What a system is to coder.py: a prompt, the answers drawn for a note, and a parser.

Read next: scl.py, sft.py, cot.py; ../coder.py, which runs them all.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minscl.data.icd import CodeBook
from minscl.data.prompts import Parsed
from minscl.infer.sampling import Sampler


def known_category(code: str) -> bool:
    """Whether the Tabular List has the three-character category of `code`."""
    return CodeBook.load().description(code[:3]) is not None


def greedy(note_id: str, chain: int) -> Sampler | None:
    """None, no sampler: the most probable token at each step."""
    return None


@dataclass(frozen=True)
class System:
    """A system that codes a note with the decoder.

    `render_prompt(text)` is what the model is asked about a note. `parse(output, known_category, truncated)` reads an
    answer. `names_evidence`: whether codes come with evidence. `chains` answers are drawn for a note, chain number n
    (from 0) by `sampler(note_id, n)`, or greedily where that is None.
    """

    name: str
    render_prompt: Callable[[str], str]
    parse: Callable[..., Parsed]
    names_evidence: bool = False
    chains: int = 1
    sampler: Callable[[str, int], Sampler | None] = greedy
