"""Inference: greedy answers (decode.py) with keys and values kept (cache.py), and a note coded with its evidence (coder.py)."""

from minscl.infer.coder import code_note, code_notes
from minscl.infer.decode import Generation, generate, greedy

__all__ = ["Generation", "code_note", "code_notes", "generate", "greedy"]
