"""Self-consistency chains as one text: the `output` of a document that several sampled answers voted on.

    answers → "--- chain 1 of 3\\n<answer>\\n--- chain 2 of 3\\n…" → answers

Read next: infer/systems/cot.py, which joins them; score/answer_quality.py, which splits them again.
"""

import re
from collections.abc import Sequence

_HEADER = re.compile(r"^--- chain \d+ of \d+\n", re.MULTILINE)


def join_chains(answers: Sequence[str]) -> str:
    """`answers` as one text, each preceded by a header line with its 1-based number."""
    return "\n".join(f"--- chain {number} of {len(answers)}\n{answer}" for number, answer in enumerate(answers, 1))


def split_chains(output: str) -> list[str]:
    """The answers that join_chains made `output` of; `[output]` for the output of a single answer."""
    if not output.startswith("--- chain 1 of "):
        return [output]
    return [answer.removesuffix("\n") for answer in _HEADER.split(output)[1:]]
