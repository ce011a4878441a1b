"""SCL, the paper's system: the evidence first, then the codes that it supports, in one generation (Eq. 1).

    x → E → C,  p(C, E | x) = p(E | x) p(C | x, E)

Read next: ../../data/prompts.py for the prompt and the answer's format; sft.py.
"""

from minscl.data.prompts import parse_document, render_document_prompt
from minscl.infer.systems.system import System

SCL = System("scl", render_document_prompt, parse_document, names_evidence=True)
