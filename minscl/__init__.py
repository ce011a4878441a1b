"""minscl: Span-Centric Learning for evidence-based ICD-10-CM coding, from scratch in PyTorch.

Two entry points: `train.py` (samples, packs, loss, adapter) and `generate.py` (note, tokens, text, codes).
"""

__version__ = "0.2.0"
