"""Inference: a note coded with its evidence (coder.py), many sequences at once (engine.py) with a KV cache."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minscl.infer.coder import code_note, code_notes
    from minscl.infer.decode import generate, greedy
    from minscl.infer.sequence import Generation

__all__ = ["BATCH_SIZE", "MAX_ANSWER_TOKENS", "Generation", "code_note", "code_notes", "generate", "greedy"]

BATCH_SIZE = 16  # sequences decoded together; the one default of inference
MAX_ANSWER_TOKENS = 256  # of an answer to data expansion, by any LLM

_MODULES = {
    "code_note": "coder",
    "code_notes": "coder",
    "generate": "decode",
    "greedy": "decode",
    "Generation": "sequence",
}


def __getattr__(name: str):
    """Import a public name on first use: it loads torch, which takes seconds and which `expand` seldom needs."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"minscl.infer.{_MODULES[name]}"), name)
