"""minscl: Span-Centric Learning for evidence-based ICD-10-CM coding, from scratch in PyTorch.

Two ways through the house: `train.py` (samples, packs, loss, adapter) and `generate.py` (note, text, codes).
"""

__version__ = "0.2.0"
