"""Several answers to one note as one text, the `output` of its document: sampled chains, or passages of the note.

    answers → "--- chain 1 of 3\\n<answer>\\n--- chain 2 of 3\\n…" → answers

Read next: infer/systems/cot.py and infer/passages.py, which join them; score/answer_quality.py, which splits them.
"""

import re
from collections.abc import Sequence

CHAIN, PASSAGE = "chain", "passage"  # what an answer is of
_HEADER = re.compile(rf"^--- (?:{CHAIN}|{PASSAGE}) \d+ of \d+\n", re.MULTILINE)


def join_answers(answers: Sequence[str], kind: str) -> str:
    """`answers` as one text, each preceded by a header line with `kind` and its 1-based number."""
    return "\n".join(f"--- {kind} {number} of {len(answers)}\n{answer}" for number, answer in enumerate(answers, 1))


def split_answers(output: str) -> list[str]:
    """The answers that join_answers made `output` of; `[output]` for the output of a single answer."""
    if not output.startswith((f"--- {CHAIN} 1 of ", f"--- {PASSAGE} 1 of ")):
        return [output]
    return [answer.removesuffix("\n") for answer in _HEADER.split(output)[1:]]
