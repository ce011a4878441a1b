"""Inference: a note coded with its evidence (coder.py), by many answers at once (engine.py) with keys and values kept (cache.py)."""

from minscl.infer.coder import code_note, code_notes
from minscl.infer.decode import generate, greedy
from minscl.infer.sequence import Generation

__all__ = ["Generation", "code_note", "code_notes", "generate", "greedy"]
