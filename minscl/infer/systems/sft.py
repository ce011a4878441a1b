"""SFT, the baseline of supervised fine-tuning on codes only (Eq. 2): x → C.

It needs an adapter trained with `train --no-evidence`. Theirs: Eq. 2, the same trainer and prompt without evidence.
Ours: the format of the answer, and a threshold where the adapter has a calibration.json.

Read next: cot.py.
"""

from minscl.data.prompts import parse_codes, render_document_prompt
from minscl.infer.systems.system import System


def render_prompt(text: str) -> str:
    """The instruction that asks for codes only, then the note."""
    return render_document_prompt(text, evidence_first=False)


SFT = System("sft", render_prompt, parse_codes)
