"""Span pairs, evidence phrase → code (Eq. 5): gold.py, silver.py, synthetic.py; coverage.py counts their codes."""

from minscl.data.spans.gold import gold_pairs

__all__ = ["gold_pairs"]
