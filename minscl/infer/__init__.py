"""Inference: a note coded with its evidence (coder.py), many sequences at once (engine.py) with a KV cache."""

from minscl.infer.coder import code_note, code_notes
from minscl.infer.decode import generate, greedy
from minscl.infer.sequence import Generation

__all__ = ["Generation", "code_note", "code_notes", "generate", "greedy"]
