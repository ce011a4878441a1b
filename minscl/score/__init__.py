"""Scores of predictions against gold: codes (codes.py), evidence (evidence.py), and how well-formed the answers are."""

from minscl.score.codes import code_scores
from minscl.score.evidence import evidence_scores

__all__ = ["code_scores", "evidence_scores"]
