"""Decoding: greedy answers (decode.py) with keys and values kept (cache.py)."""

from minscl.infer.decode import Generation, generate, greedy

__all__ = ["Generation", "generate", "greedy"]
