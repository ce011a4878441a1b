"""Several answers to one note as one text, the `output` of its document: sampled chains, passages, or steps.

    answers → "--- chain 1 of 3\\n<answer>\\n--- chain 2 of 3\\n…" → answers
    (stage, question and answer) → "--- step 1: extract\\n<question>\\n> <answer>\\n--- step 2: assign\\n…"

Read next: infer/systems/cot.py, infer/passages.py and infer/systems/questions.py, which join them;
score/answer_quality.py, which splits them.
"""

import re
from collections.abc import Sequence

CHAIN, PASSAGE = "chain", "passage"  # what an answer is of
_STEP = "--- step "
_STEP_HEADER = re.compile(rf"^{_STEP}\d+: (.*)\n", re.MULTILINE)
_HEADER = re.compile(rf"^--- (?:{CHAIN}|{PASSAGE}) \d+ of \d+\n", re.MULTILINE)


def join_answers(answers: Sequence[str], kind: str) -> str:
    """`answers` as one text, each preceded by a header line with `kind` and its 1-based number."""
    return "\n".join(f"--- {kind} {number} of {len(answers)}\n{answer}" for number, answer in enumerate(answers, 1))


def split_answers(output: str) -> list[str]:
    """The answers that join_answers made `output` of; `[output]` for the output of a single answer."""
    if not output.startswith((f"--- {CHAIN} 1 of ", f"--- {PASSAGE} 1 of ")):
        return [output]
    return [answer.removesuffix("\n") for answer in _HEADER.split(output)[1:]]


def append_steps(output: str | None, steps: Sequence[tuple[str, str]]) -> str:
    """`output`, then each (stage, text) after a header line with its number; an output without steps is the first.

    A line of a text that looks like a header is indented by a space, so that no answer can pass for a step.
    """
    if output is None:
        before = []
    elif has_steps(output):
        before = [output]
    else:
        before = [f"{_STEP}1: generate\n{_indent_headers(output)}"]
    first = len(_STEP_HEADER.findall("\n".join(before))) + 1
    texts = ((number, stage, _indent_headers(text)) for number, (stage, text) in enumerate(steps, first))
    return "\n".join([*before, *(f"{_STEP}{number}: {stage}\n{text}" for number, stage, text in texts)])


def _indent_headers(text: str) -> str:
    return re.sub(rf"^(?={_STEP})", " ", text, flags=re.MULTILINE)


def split_steps(output: str) -> list[tuple[str, str]]:
    """The (stage, text) that append_steps made `output` of; [] for any other output."""
    if not has_steps(output):
        return []
    stages_and_texts = _STEP_HEADER.split(output)[1:]
    texts = [text.removesuffix("\n") for text in stages_and_texts[1::2]]
    return list(zip(stages_and_texts[::2], texts, strict=True))


def has_steps(output: str) -> bool:
    """Whether append_steps made `output`."""
    return output.startswith(f"{_STEP}1: ")
