"""SCL, the paper's system: the evidence first, then the codes that it supports, in one generation (Eq. 1).

    x → E → C,  p(C, E | x) = p(E | x) p(C | x, E)

Theirs: the factorisation, and human evidence in the place of E. Ours: the format of the answer, grounded decoding,
passages and calibrated scores (docs/decoding.md).

Read next: ../../data/prompts.py for the prompt and the answer's format; sft.py.
"""

from minscl.data.prompts import parse_document, render_document_prompt
from minscl.infer.systems.system import System

SCL = System("scl", render_document_prompt, parse_document, names_evidence=True)


def render_code_first_prompt(text: str) -> str:
    """The instruction that asks for a code's evidence numbers after its description, then the note."""
    return render_document_prompt(text, reference_first=False)


# For adapters that were trained on the earlier order of a code line; not offered by --system.
CODE_FIRST = System("scl", render_code_first_prompt, parse_document, names_evidence=True, reference_first=False)
