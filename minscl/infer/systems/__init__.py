"""The systems of the paper's Table 1 that generate, all run by the same decoder (../coder.py), and a baseline.

    scl      evidence, then codes (Eq. 1)                              scl.py
    sft      codes only (Eq. 2)                                        sft.py
    cot      zero-shot chain of thought: reason, then list the codes   cot.py
    cot-sc   self-consistency: a vote among several sampled chains     cot.py

    clh      Code Like Humans: extract, locate, assign, verify         clh.py, retrieval.py
    mac      five roles by turns                                       mac.py
    --verify after any of them: expand to siblings, choose, verify     verify.py

    lookup   no generation: phrases of the training data word for word  lookup.py, lookup_notes.py

Of those with one answer, only SCL cites evidence. Read scl.py first; those of several questions begin at questions.py.
"""

from minscl.errors import InputError
from minscl.infer.systems.cot import COT, COT_SC, Sampling, count_votes, self_consistency, vote
from minscl.infer.systems.scl import CODE_FIRST, SCL
from minscl.infer.systems.sft import SFT
from minscl.infer.systems.system import System

__all__ = ["CODE_FIRST", "DIALOGUES", "SCL", "SYSTEMS", "Sampling", "System", "choose_system", "count_votes", "vote"]

SYSTEMS = ("scl", "sft", "cot", COT_SC)  # one answer, or several to one prompt
DIALOGUES = ("clh", "mac")  # several questions, one after another (questions.py)


def choose_system(name: str, sampling: Sampling | None = None) -> System:
    """The system called `name`; `sampling` is for cot-sc. Raises InputError for an unknown name."""
    for system in (SCL, SFT, COT, self_consistency(sampling or Sampling())):
        if system.name == name:
            return system
    raise InputError(f"--system {name}: use {', '.join(SYSTEMS)}")
